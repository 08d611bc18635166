//! Training runs as plots, a report page, tables of comparison and TensorBoard event files.
//!
//! ```text
//! run folder ─► Run ─► plots ─► report.html, plots/*.svg
//! run folders ─► Runs ─► Comparison ─► a table, JSON, a page with overlays
//! events of a run ─► EventFile ─► TensorBoard
//! ```
//!
//! A run folder holds `run.json` (settings), `metrics.jsonl` (one JSON object per event) and, after training,
//! `samples.json` (rows with responses before and after). Only `metrics.jsonl` is needed: a report of a run that
//! was stopped, or that is not finished, shows what there is.
//!
//! ```
//! # fn main() -> report::Result<()> {
//! let folder = tempfile::tempdir().unwrap();
//! let log = r#"{"event":"step","step":1,"loss":3.5,"learning_rate":0.01,"gradient_norm":0.2,"labels":9,"seconds":1}"#;
//! std::fs::write(folder.path().join("metrics.jsonl"), log).unwrap();
//!
//! let run = report::Run::read(folder.path())?;
//! assert_eq!(run.metrics.steps[0].loss, 3.5);
//! let page = report::write_report(&run)?;
//! assert!(std::fs::read_to_string(page).unwrap().contains("<svg"));
//! # Ok(())
//! # }
//! ```

mod compare;
mod error;
mod files;
mod format;
mod page;
mod plot;
mod run;
mod series;
mod tensorboard;

pub use compare::{Comparison, RunRow, SettingRow, write_comparison};
pub use error::{Error, Result};
pub use format::{format_bytes, format_count, format_number, format_seconds};
pub use page::{PLOTS_FOLDER, REPORT_FILE, write_report};
pub use plot::{
    Drawing, FinalGates, GateGrid, GateMap, Ink, Line, LinePlot, LineStyle, Plot, Size, Table,
};
pub use run::{
    Eval, GateEntry, LayerGates, METRICS_FILE, Metrics, RUN_FILE, RowCounts, Run, SAMPLES_FILE,
    Sample, Start, Step, write_samples,
};
pub use series::{downsample, smooth};
pub use tensorboard::EventFile;
