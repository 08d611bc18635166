//! Curves over the steps of a run, with their names at their ends.

use super::axis::Axis;
use super::ink::Ink;
use super::sheet::{Anchor, Sheet};
use super::{Size, Table};
use crate::format::{format_count, format_number};
use crate::series::{Point, downsample};

/// Curves over steps.
#[derive(Debug, Clone, Default)]
pub struct LinePlot {
    /// In the order in which they are drawn.
    pub lines: Vec<Line>,
    /// The last step of the axis.
    pub last_step: f64,
    /// Whether equal distances are equal factors.
    pub logarithmic: bool,
    /// Whether the axis begins at zero.
    pub from_zero: bool,
    /// Steps at which an epoch ends.
    pub epoch_ends: Vec<f64>,
    /// Whether it has the full height.
    pub tall: bool,
}

/// A curve.
#[derive(Debug, Clone)]
pub struct Line {
    /// The name at its end; may be empty.
    pub label: String,
    /// Its color.
    pub ink: Ink,
    /// Step and value.
    pub points: Vec<(f64, f64)>,
    /// How it is drawn.
    pub style: LineStyle,
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineStyle {
    /// In the background.
    Faint,
    /// In the foreground.
    Strong,
    /// In the foreground, with a dot at each point.
    Dots,
}

/// Space around the curves in CSS pixels; the right one depends on the labels.
const LEFT: f64 = 48.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 40.0;
const TICK_SIZE: f64 = 12.0;
const LABEL_SIZE: f64 = 12.5;
/// Distance of the names of two curves.
const LABEL_DISTANCE: f64 = 16.0;
/// A curve that ends at least this far from the others has its name there.
const LONG_WAY: f64 = 140.0;

impl LinePlot {
    pub(super) fn height(&self, size: Size) -> f64 {
        match (size, self.tall) {
            (Size::Wide, true) => 360.0,
            (Size::Narrow, true) => 300.0,
            (_, false) => 220.0,
        }
    }

    pub(super) fn draw(&self, sheet: &Sheet, size: Size) {
        let (width, height) = sheet.size;
        let wide = size == Size::Wide;
        let max_label = if wide { 24 } else { 16 };
        let labels = self.lines.iter().map(|line| shorten(&line.label, max_label));
        let labels = labels.collect::<Vec<_>>();
        let longest = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0);
        let right = if longest == 0 { 16.0 } else { (longest as f64 * 6.8 + 14.0).max(56.0) };
        let (left_end, right_end) = (LEFT, width - right);
        let (low_end, high_end) = (height - BOTTOM, TOP);

        let values = || self.lines.iter().flat_map(|line| line.points.iter().map(|point| point.1));
        let ticks = if self.tall { 5 } else { 4 };
        let y_axis = if self.logarithmic {
            Axis::logarithmic(values(), ticks)
        } else {
            Axis::linear(values(), self.from_zero, ticks)
        };
        let x_axis = Axis::steps(self.last_step, if wide { 8 } else { 4 });
        let x = |at: f64| left_end + at * (right_end - left_end);
        let y = |at: f64| low_end - at * (low_end - high_end);

        for (tick, label) in &y_axis.ticks {
            let at = y(y_axis.tick_position(*tick));
            sheet.line(&[(left_end, at), (right_end, at)], Ink::Grid, 1.0, 1.0);
            sheet.text((left_end - 8.0, at), label, Ink::Muted, TICK_SIZE, Anchor::End);
        }
        for end in &self.epoch_ends {
            let at = x_axis.position(*end).map_or(right_end, x);
            sheet.line(&[(at, high_end), (at, low_end)], Ink::Grid, 1.0, 1.0);
        }
        draw_steps(sheet, &x_axis, low_end, x);

        let mut ends = Vec::new();
        for (line, label) in self.lines.iter().zip(&labels) {
            let points = downsample(&line.points, if wide { 700 } else { 300 });
            let place = |&(step, value): &Point| {
                Some((x(x_axis.position(step)?), y(y_axis.position(value)?)))
            };
            let points = points.iter().filter_map(place).collect::<Vec<_>>();
            let (stroke, opacity) = match line.style {
                LineStyle::Faint => (1.0, 0.3),
                LineStyle::Strong | LineStyle::Dots => (2.2, 1.0),
            };
            sheet.line(&points, line.ink, stroke, opacity);
            if line.style == LineStyle::Dots || points.len() == 1 {
                // Many dots would be a band.
                for point in points.iter().rev().take(60) {
                    sheet.dot(*point, 3.5, line.ink, 1.0);
                }
            }
            let Some(&(end_x, end_y)) = points.last().filter(|_| !label.is_empty()) else {
                continue;
            };
            if end_x + LONG_WAY < right_end {
                let at = (end_x + 8.0, end_y);
                sheet.text(at, label, line.ink, LABEL_SIZE, Anchor::Start);
            } else {
                ends.push((end_y, label, line));
            }
        }
        // Names in the order of the curves' ends, without overlap.
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let places = spread(&ends.iter().map(|end| end.0).collect::<Vec<_>>(), high_end, low_end);
        for ((_, label, line), at) in ends.iter().zip(places) {
            sheet.text((right_end + 8.0, at), label, line.ink, LABEL_SIZE, Anchor::Start);
        }
    }

    /// About `rows` steps with the values of all named curves.
    pub(crate) fn table(&self, rows: usize) -> Table {
        let lines = self.lines.iter().filter(|line| !line.label.is_empty()).collect::<Vec<_>>();
        let mut steps = Vec::new();
        for line in &lines {
            let count = line.points.len();
            let every = count.div_ceil(rows.max(1)).max(1);
            let some = line.points.iter().rev().step_by(every).map(|point| point.0);
            steps.extend(some.chain(line.points.first().map(|point| point.0)));
        }
        steps.sort_by(f64::total_cmp);
        steps.dedup();
        let cell = |line: &Line, step: f64| {
            let found = line.points.iter().find(|point| point.0 == step);
            found.map_or(String::new(), |point| format_number(point.1))
        };
        let row = |step: &f64| {
            let step_cell = format_count(*step as u64);
            std::iter::once(step_cell).chain(lines.iter().map(|line| cell(line, *step))).collect()
        };
        let names = lines.iter().map(|line| line.label.clone());
        Table {
            columns: std::iter::once("step".to_owned()).chain(names).collect(),
            rows: steps.iter().map(row).collect(),
        }
    }
}

/// The ticks of an axis of steps, and its name.
pub(super) fn draw_steps(sheet: &Sheet, axis: &Axis, low_end: f64, x: impl Fn(f64) -> f64) {
    sheet.line(&[(x(0.0), low_end), (x(1.0), low_end)], Ink::Muted, 1.0, 1.0);
    for (tick, label) in &axis.ticks {
        let at = x(axis.tick_position(*tick));
        sheet.line(&[(at, low_end), (at, low_end + 4.0)], Ink::Muted, 1.0, 1.0);
        sheet.text((at, low_end + 14.0), label, Ink::Muted, TICK_SIZE, Anchor::Middle);
    }
    sheet.text((x(0.5), low_end + 31.0), "step", Ink::Muted, TICK_SIZE, Anchor::Middle);
}

/// Moves positions in ascending order apart, within limits.
fn spread(positions: &[f64], low: f64, high: f64) -> Vec<f64> {
    let mut places = positions.to_vec();
    for index in 1..places.len() {
        places[index] = places[index].max(places[index - 1] + LABEL_DISTANCE);
    }
    let mut limit = high;
    for place in places.iter_mut().rev() {
        *place = place.min(limit);
        limit = *place - LABEL_DISTANCE;
    }
    places.iter().map(|place| place.max(low)).collect()
}

/// A name of at most `max` characters.
fn shorten(text: &str, max: usize) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_at_the_ends_do_not_overlap() {
        assert_eq!(spread(&[10.0, 12.0, 100.0], 0.0, 200.0), [10.0, 26.0, 100.0]);
        assert_eq!(spread(&[190.0, 199.0, 200.0], 0.0, 200.0), [168.0, 184.0, 200.0]);
    }

    #[test]
    fn the_table_has_both_ends_and_all_curves() {
        let line = |label: &str, from: u32| Line {
            label: label.into(),
            ink: Ink::Series(0),
            points: (from..=100).map(|x| (f64::from(x), f64::from(x) / 2.0)).collect(),
            style: LineStyle::Strong,
        };
        let plot = LinePlot {
            lines: vec![line("a", 1), line("", 1), line("b", 99)],
            ..Default::default()
        };
        let table = plot.table(5);
        assert_eq!(table.columns, ["step", "a", "b"]);
        assert_eq!(table.rows[0], ["1", "0.5", ""]);
        assert_eq!(table.rows.last().unwrap(), &["100", "50", "50"]);
        assert!(table.rows.len() < 12);
    }
}
