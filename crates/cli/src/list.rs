//! `llama-adapter list`: folders of adapters ─► a table

use std::path::{Path, PathBuf};

use adaption_prompt::AdapterSummary;
use adaption_prompt::files::{self, Format};
use serde::Serialize;

use crate::error::Error;
use crate::failure::Result;
use crate::output;
use crate::text_table::text_table;

/// List adapters with their methods, sizes and base models.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Adapters, or folders that contain adapters [default: adapters].
    paths: Vec<PathBuf>,
    /// Print one line of JSON per adapter.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct AdapterRow {
    #[serde(serialize_with = "output::serialize_path_lossy")]
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
        rows.extend(scan(path)?);
    }
    if args.json {
        return Ok(rows.iter().try_for_each(output::json)?);
    }
    Ok(output::print(&table(&rows))?)
}

/// The row of an adapter, or the rows of all adapters in a folder.
fn scan(path: &Path) -> Result<Vec<AdapterRow>> {
    if let Ok(format) = Format::detect(path) {
        return Ok(vec![row(path, format)?]);
    }
    if !path.exists() {
        return Err(Error::usage_with_hint(
            format!("{}: no such file or folder", path.display()),
            "`list` takes adapters or folders that contain them; `train` writes to adapters/ by \
             default",
        )
        .into());
    }
    let entries = std::fs::read_dir(path).map_err(Error::file(path, "read"))?;
    let mut inside = entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
    inside.sort();
    let found = inside.iter().filter_map(|path| Some((path, Format::detect(path).ok()?)));
    // A damaged adapter does not hide the others.
    let rows = found.filter_map(|(path, format)| {
        row(path, format).map_err(|error| output::note(&format!("skipped: {error}"))).ok()
    });
    let rows = rows.collect::<Vec<_>>();
    if rows.is_empty() {
        output::note(&format!("no adapters in {}", path.display()));
    }
    Ok(rows)
}

fn row(path: &Path, format: Format) -> Result<AdapterRow> {
    let format_name = format.name();
    let new = |parts, layers, parameters, base| AdapterRow {
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

fn table(rows: &[AdapterRow]) -> String {
    let head = ["adapter", "method", "layers", "parameters", "base model"];
    let mut cells = vec![head.map(str::to_owned)];
    cells.extend(rows.iter().map(|row| {
        let base = row.base.as_deref().unwrap_or("unknown").escape_debug().to_string();
        let path = row.path.display().to_string();
        [path, row.parts.join(" + "), row.layers.clone(), row.parameters.to_string(), base]
    }));
    text_table(&cells, &[3])
}
