//! Pages: self-contained HTML that loads nothing

mod facts;

use std::path::PathBuf;

use minijinja::Environment;
use minijinja::value::Serde;
use serde::Serialize;

use crate::compare::Comparison;
use crate::error::{Error, Result};
use crate::files;
use crate::plot::{Ink, Plot, Size, Table, Use, of_run};
use crate::run::{Run, Sample};
use facts::{Fact, Status, Tile, config_facts, data_facts, status, tiles};

/// The page in the folder of a run.
pub const REPORT_FILE: &str = "report.html";
/// The folder of its plots as files.
pub const PLOTS_FOLDER: &str = "plots";

/// A plot in a page.
#[derive(Serialize)]
struct Figure {
    name: &'static str,
    title: String,
    description: String,
    /// `None` for a plot that is never as wide as the page.
    wide: Option<String>,
    narrow: String,
    table: Table,
}

/// What every page has.
#[derive(Serialize)]
struct Shared {
    /// Colors by role.
    light: String,
    dark: String,
    ink_rules: String,
    style: &'static str,
    script: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct ReportPage<'a> {
    title: &'a str,
    model: Option<&'a str>,
    status: Status,
    unreadable_lines: usize,
    tiles: Vec<Tile>,
    loss: Vec<Figure>,
    gates: Vec<Figure>,
    small: Vec<Figure>,
    samples: &'a [Sample],
    data: Vec<Fact>,
    config: Vec<Fact>,
    #[serde(flatten)]
    shared: Shared,
}

#[derive(Serialize)]
struct ComparisonPage {
    title: String,
    /// The color of each run.
    classes: Vec<&'static str>,
    results: Table,
    settings: Table,
    figures: Vec<Figure>,
    #[serde(flatten)]
    shared: Shared,
}

impl Shared {
    fn new() -> Self {
        Self {
            light: Ink::variables(false),
            dark: Ink::variables(true),
            ink_rules: Ink::rules(),
            style: include_str!("style.css"),
            script: include_str!("theme.js"),
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

impl Figure {
    fn new(plot: Plot, wide: bool) -> Self {
        Self {
            wide: wide.then(|| plot.svg(Size::Wide, Use::Page)),
            narrow: plot.svg(Size::Narrow, Use::Page),
            name: plot.name,
            title: plot.title,
            description: plot.description,
            table: plot.table,
        }
    }
}

/// Whether a plot is as wide as the page.
fn is_wide(plot: &Plot) -> bool {
    plot.name == "loss" || plot.name.starts_with("gates")
}

/// Writes `report.html` and `plots/*.svg` into a run folder and returns the path of the page.
///
/// # Errors
/// [`Error::Write`]; each older file stays until its successor is complete.
pub fn write_report(run: &Run) -> Result<PathBuf> {
    let plots = of_run::plots(run);
    let folder = run.folder.join(PLOTS_FOLDER);
    if !plots.is_empty() {
        std::fs::create_dir_all(&folder).map_err(Error::write(&folder))?;
    }
    for plot in &plots {
        let size = if is_wide(plot) { Size::Wide } else { Size::Narrow };
        files::write(&folder.join(format!("{}.svg", plot.name)), &plot.to_svg_file(size))?;
    }
    let path = run.folder.join(REPORT_FILE);
    files::write(&path, &run_page(run, plots))?;
    Ok(path)
}

fn run_page(run: &Run, plots: Vec<Plot>) -> String {
    let (wide, small): (Vec<_>, Vec<_>) = plots.into_iter().partition(is_wide);
    let figures = |plots: Vec<Plot>, wide: bool| -> Vec<Figure> {
        plots.into_iter().map(|plot| Figure::new(plot, wide)).collect()
    };
    let (gates, loss): (Vec<_>, Vec<_>) =
        wide.into_iter().partition(|plot| plot.name.starts_with("gates"));
    let page = ReportPage {
        title: &run.name,
        model: run.model(),
        status: status(run),
        unreadable_lines: run.metrics.unreadable_lines,
        tiles: tiles(run),
        loss: figures(loss, true),
        gates: figures(gates, true),
        small: figures(small, false),
        samples: &run.samples,
        data: data_facts(run),
        config: config_facts(run),
        shared: Shared::new(),
    };
    render("report.html", page)
}

/// The page of a comparison.
pub(crate) fn comparison_page(comparison: &Comparison) -> String {
    let names = || comparison.runs.iter().map(|run| run.run.clone());
    let columns = |first: &str| std::iter::once(first.to_owned()).chain(names()).collect();
    let results = Table { columns: columns("result"), rows: comparison.result_rows() };
    let setting =
        |row: &crate::SettingRow| std::iter::once(row.key.clone()).chain(row.texts()).collect();
    let settings = Table {
        columns: columns("setting"),
        rows: comparison.differences.iter().map(setting).collect(),
    };
    let figures = comparison.plots().into_iter().map(|plot| Figure::new(plot, true));
    let classes = (0..comparison.runs.len()).map(|index| Ink::Series(index).class());
    let page = ComparisonPage {
        title: format!("{} runs", comparison.runs.len()),
        classes: classes.collect(),
        results,
        settings,
        figures: figures.collect(),
        shared: Shared::new(),
    };
    render("compare.html", page)
}

fn render(name: &str, page: impl Serialize) -> String {
    let mut environment = Environment::new();
    for (name, text) in [
        ("base.html", include_str!("base.html")),
        ("figure.html", include_str!("figure.html")),
        ("report.html", include_str!("report.html")),
        ("compare.html", include_str!("compare.html")),
    ] {
        environment.add_template(name, text).expect("the templates are part of the program");
    }
    let template = environment.get_template(name).expect("one of the templates");
    template.render(Serde(page)).expect("the templates use what they get")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::tests::example_folder;

    fn example_page() -> String {
        let folder = example_folder();
        let path = write_report(&Run::read(folder.path()).unwrap()).unwrap();
        std::fs::read_to_string(path).unwrap()
    }

    #[test]
    fn the_page_loads_nothing() {
        let page = example_page();
        for outside in ["src=\"http", "href=\"http", "url(", "@import", "<link", "<iframe"] {
            assert!(!page.contains(outside), "{outside}");
        }
        // The only address is the name of the SVG name space.
        assert_eq!(
            page.matches("http").count(),
            page.matches("http://www.w3.org/2000/svg").count()
        );
    }

    #[test]
    fn texts_of_the_run_are_escaped() {
        let page = example_page();
        assert!(!page.contains("<b>what</b>"));
        assert!(page.contains("Say &lt;b&gt;what&lt;&#x2f;b&gt; Ada does."), "{page}");
        assert!(page.contains("tiny &lt;llama&gt;"));
    }

    #[test]
    fn the_page_has_the_key_numbers_the_responses_and_the_settings() {
        let page = example_page();
        for text in ["3.5", "0.25", "75 %", "Ada is a farmer.", "rows.jsonl", "batch_size", "1,234"]
        {
            assert!(page.contains(text), "{text}");
        }
    }

    #[test]
    fn the_plots_are_files_too() {
        let folder = example_folder();
        write_report(&Run::read(folder.path()).unwrap()).unwrap();
        let files = std::fs::read_dir(folder.path().join(PLOTS_FOLDER)).unwrap();
        let mut names =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect::<Vec<_>>();
        names.sort();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], "gates-at-the-end.svg");
    }

    #[test]
    fn a_report_can_be_written_again_and_leaves_no_temporary_files() {
        let folder = example_folder();
        let run = Run::read(folder.path()).unwrap();
        write_report(&run).unwrap();
        let count = || std::fs::read_dir(folder.path()).unwrap().count();
        let before = count();
        write_report(&run).unwrap();
        assert_eq!(count(), before);
    }

    #[test]
    fn a_comparison_has_the_results_and_differences() {
        let folders = [example_folder(), example_folder()];
        let mut runs = folders.map(|folder| Run::read(folder.path()).unwrap());
        runs[1].settings["learning_rate"] = 0.02.into();
        let page = comparison_page(&Comparison::new(&runs));
        for text in ["2 runs", "learning_rate", "0.02", "Held-out loss", &runs[0].name] {
            assert!(page.contains(text), "{text}");
        }
    }
}
