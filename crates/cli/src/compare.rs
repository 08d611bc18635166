//! `llama-adapter compare`: run folders ─► a table and curves, JSON, a page

use std::path::PathBuf;

use report::{Comparison, Drawing, Run, format_number};

use crate::failure::Result;
use crate::output;
use crate::terminal::{Paint, chart_lines, series_color};
use crate::text_table::text_table;

/// Compare training runs: results, settings that differ, and curves.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folders of training runs, finished or not.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
    /// Print JSON instead of text: runs, and differences of their settings.
    #[arg(long)]
    json: bool,
    /// Also write a page with the curves of all runs in the same plots. It loads nothing from the
    /// network.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result {
    let runs = args.runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>, _>>()?;
    let comparison = Comparison::new(&runs);
    if let Some(path) = &args.html {
        report::write_comparison(&comparison, path)?;
        output::note(&format!("page written to {}", path.display()));
    }
    if args.json {
        return Ok(output::json(&comparison)?);
    }
    Ok(output::print(&text(&comparison, Paint::stdout()))?)
}

/// Tables and curves.
fn text(comparison: &Comparison, paint: Paint) -> String {
    let names = comparison.runs.iter().map(|run| run.run.clone());
    let mut rows = vec![std::iter::once(String::new()).chain(names).collect::<Vec<_>>()];
    rows.extend(comparison.result_rows());
    for cell in rows.iter_mut().flatten() {
        *cell = cell.escape_debug().to_string();
    }
    // All but the names are aligned on the right.
    let values = (1..=comparison.runs.len()).collect::<Vec<_>>();
    let mut text = text_table(&rows, &values);
    if comparison.runs.len() > 1 {
        text += "\nsettings that differ\n";
        let differences = comparison.differences.iter().map(|row| {
            let texts = row.texts().into_iter().map(|text| text.escape_debug().to_string());
            std::iter::once(format!("  {}", row.key.escape_debug()))
                .chain(texts)
                .collect::<Vec<_>>()
        });
        let differences = differences.collect::<Vec<_>>();
        text += &if differences.is_empty() {
            "  none\n".to_owned()
        } else {
            text_table(&differences, &values)
        };
    }
    for plot in comparison.plots().into_iter().take(3) {
        let Drawing::Lines(lines) = &plot.drawing else { continue };
        text += &format!("\n{}\n", plot.title);
        text.extend(chart_lines(lines, paint, 10).into_iter().map(|line| line + "\n"));
        let legend = lines.lines.iter().enumerate().map(|(index, line)| {
            let end = line.points.last().map_or(String::new(), |point| format_number(point.1));
            let name = format!("━ {} {end}", line.label.escape_debug());
            format!("  {}\n", paint.color(&name, series_color(index)))
        });
        text.extend(legend);
    }
    text
}
