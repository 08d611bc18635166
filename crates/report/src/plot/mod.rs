//! Plots: data ─► an SVG for wide and for narrow pages, and a table of the same numbers

mod axis;
mod gates;
mod ink;
mod line_plot;
pub(crate) mod of_run;
mod sheet;

use serde::Serialize;

pub use gates::{FinalGates, GateGrid, GateMap};
pub use ink::Ink;
pub use line_plot::{Line, LinePlot, LineStyle};
pub(crate) use sheet::Use;
use sheet::{Caption, Sheet};

/// A plot.
#[derive(Debug, Clone)]
pub struct Plot {
    /// Unique in a page; the name of its file.
    pub name: &'static str,
    /// What it shows.
    pub title: String,
    /// A sentence for everybody, and for those who do not see the picture.
    pub description: String,
    /// The picture.
    pub drawing: Drawing,
    /// Some of the numbers.
    pub table: Table,
}

/// The picture of a plot.
#[derive(Debug, Clone)]
pub enum Drawing {
    /// Curves over the steps.
    Lines(LinePlot),
    /// How far each layer is open, over the steps.
    GateMap(GateMap),
    /// The gates of every layer and head, over the steps.
    GateGrid(GateGrid),
    /// The gates at the end.
    FinalGates(FinalGates),
}

/// The width of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// A whole page on a desk.
    Wide,
    /// A column, or a phone.
    Narrow,
}

impl Size {
    /// Width in CSS pixels.
    pub(crate) fn width(self) -> f64 {
        match self {
            Self::Wide => 880.0,
            Self::Narrow => 400.0,
        }
    }
}

/// Numbers in rows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Table {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// As many cells as columns.
    pub rows: Vec<Vec<String>>,
}

impl Plot {
    /// The picture as a file of its own, legible in light and dark surroundings.
    pub fn to_svg_file(&self, size: Size) -> String {
        self.svg(size, Use::File)
    }

    /// The picture as a part of a page.
    pub(crate) fn svg(&self, size: Size, usage: Use) -> String {
        let suffix = if size == Size::Wide { "wide" } else { "narrow" };
        let id = format!("{}-{suffix}", self.name);
        let caption = Caption { id: &id, title: &self.title, description: &self.description };
        let height = match &self.drawing {
            Drawing::Lines(plot) => plot.height(size),
            Drawing::GateMap(plot) => plot.height(size),
            Drawing::GateGrid(plot) => plot.height(size),
            Drawing::FinalGates(_) => FinalGates::height(size),
        };
        sheet::draw((size.width(), height), usage, &caption, |sheet: &Sheet| match &self.drawing {
            Drawing::Lines(plot) => plot.draw(sheet, size),
            Drawing::GateMap(plot) => plot.draw(sheet, size),
            Drawing::GateGrid(plot) => plot.draw(sheet, size),
            Drawing::FinalGates(plot) => plot.draw(sheet),
        })
    }
}
