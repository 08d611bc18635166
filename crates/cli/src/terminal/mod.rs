//! Drawings in the terminal: bars of gates, curves

mod curves;
mod gate_bars;
mod paint;

pub use curves::{chart, chart_lines, plot, series_color};
pub use gate_bars::{gate_bars, gate_lines};
pub use paint::Paint;
