//! `llama-adapter list`: folders of adapters ─► a table

use std::path::{Path, PathBuf};

use adaption_prompt::AdapterSummary;
use adaption_prompt::files::{self, Format};
use serde::Serialize;

use crate::error::Error;
use crate::failure::Result;
use crate::output;

/// List adapters: what they are made of, their size, and the model they are for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Adapters, or folders of some [default: adapters].
    paths: Vec<PathBuf>,
    /// Write one line of JSON for each.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Row {
    #[serde(serialize_with = "crate::output::lossy")]
    path: PathBuf,
    format: &'static str,
    parts: Vec<String>,
    layers: String,
    parameters: usize,
    base: Option<String>,
}

pub fn run(args: &Args) -> Result {
    let default = [PathBuf::from("adapters")];
    let paths = if args.paths.is_empty() { &default[..] } else { &args.paths };
    let mut rows = Vec::new();
    for path in paths {
        rows.extend(look(path)?);
    }
    if args.json {
        return rows.iter().try_for_each(output::json);
    }
    output::print(&table(&rows))
}

/// An adapter's row, or those of the adapters in a folder.
fn look(path: &Path) -> Result<Vec<Row>> {
    if let Ok(format) = Format::detect(path) {
        return Ok(vec![row(path, format)?]);
    }
    if !path.exists() {
        let message = format!("{}: there is no such file or folder", path.display());
        let hint = "`list` takes adapters, or folders with some in them; `train` makes one in \
                    adapters/ unless told otherwise";
        return Err(Error::Usage { message, hint: Some(hint.into()) }.into());
    }
    let entries = std::fs::read_dir(path).map_err(Error::file(path, "read"))?;
    let mut inside = entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    inside.sort();
    let found = inside.iter().filter_map(|path| Some((path, Format::detect(path).ok()?)));
    // One damaged adapter does not hide the others.
    let rows = found.filter_map(|(path, format)| {
        row(path, format).map_err(|error| output::note(&format!("left out: {error}"))).ok()
    });
    let rows = rows.collect::<Vec<_>>();
    if rows.is_empty() {
        output::note(&format!("no adapters in {}", path.display()));
    }
    Ok(rows)
}

fn row(path: &Path, format: Format) -> Result<Row> {
    let format_name = format.name();
    let new = |parts, layers, parameters, base| Row {
        path: path.into(),
        format: format_name,
        parts,
        layers,
        parameters,
        base,
    };
    if format == Format::LlamaAdapter
        && let Some(parts) = files::read_mix(path)?
    {
        let parameters = parts.iter().map(|(_, _, data)| data.n_parameters()).sum();
        let base = parts.first().and_then(|(_, _, data)| data.base.name.clone());
        let names = parts.iter().map(|(name, weight, _)| format!("{weight}*{name}"));
        return Ok(new(names.collect(), "-".into(), parameters, base));
    }
    let summary = AdapterSummary::read(path)?;
    let parts = summary.parts().into_iter().map(|(_, part)| part.short()).collect();
    let prompts = summary.prompts.as_ref();
    let ends = prompts.map(|own| (own.layers.len(), own.layers.first(), own.layers.last()));
    let layers = match ends {
        Some((count, Some(first), Some(last))) => {
            format!("{count} ({} to {})", first.layer, last.layer)
        }
        _ => "-".to_owned(),
    };
    Ok(new(parts, layers, summary.n_parameters, summary.base_model))
}

fn table(rows: &[Row]) -> String {
    let mut cells = vec![["adapter", "made of", "layers", "numbers", "model"].map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let base = row.base.as_deref().unwrap_or("not named").escape_debug().to_string();
        let path = row.path.display().to_string();
        [path, row.parts.join(" + "), row.layers.clone(), row.parameters.to_string(), base]
    }));
    let width =
        |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3].map(width);
    let line = |row: &[String; 5]| {
        let [path, parts, layers, numbers, base] = row;
        let [a, b, c, d] = widths;
        format!("{path:a$}  {parts:b$}  {layers:c$}  {numbers:>d$}  {base}\n")
    };
    cells.iter().map(line).collect()
}
