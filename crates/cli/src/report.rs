//! `llama-adapter report`: a run folder ─► report.html and plots in it

use std::path::{Path, PathBuf};

use crate::failure::Result;
use crate::output;

/// Write a page with plots of a training run.
///
/// `train` writes it at its end; this command writes it again, or for a run that is still training or was
/// stopped. The page is report.html in the run's folder and loads nothing from the network; its plots
/// are also in plots/ as SVG files. Prints the path of the page.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder of a training run.
    #[arg(required = true)]
    runs: Vec<PathBuf>,
}

pub fn run(args: &Args) -> Result {
    for folder in &args.runs {
        let page = write(folder)?;
        output::print(&format!("{}\n", page.display()))?;
    }
    Ok(())
}

/// Writes the report of a run and returns the path of the page.
pub fn write(folder: &Path) -> Result<PathBuf> {
    Ok(report::write_report(&report::Run::read(folder)?)?)
}
