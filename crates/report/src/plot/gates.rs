//! Gates by layer and head over time: the method's own story. A gate of 0 is closed.

use super::axis::Axis;
use super::ink::Ink;
use super::line_plot::draw_steps;
use super::sheet::{Anchor, Sheet};
use super::{Size, Table};
use crate::format::{format_count, format_number};
use crate::run::{GateEntry, LayerGates};

const TICK_SIZE: f64 = 12.0;
const LEFT: f64 = 48.0;
const RIGHT: f64 = 16.0;

/// The gates of one layer over time: of each entry step and gates.
#[derive(Debug, Clone)]
struct LayerHistory {
    layer: usize,
    entries: Vec<(f64, LayerGates)>,
}

/// The histories of at most `max` entries, by ascending layer.
fn histories(entries: &[GateEntry], max: usize) -> Vec<LayerHistory> {
    let every = entries.len().div_ceil(max).max(1);
    // Backwards, so that the end is among them.
    let mut kept = entries.iter().rev().step_by(every).collect::<Vec<_>>();
    kept.reverse();
    let mut histories: Vec<LayerHistory> = Vec::new();
    for entry in kept {
        for own in &entry.layers {
            let at = histories.binary_search_by_key(&own.layer, |history| history.layer);
            let at = at.unwrap_or_else(|at| {
                histories.insert(at, LayerHistory { layer: own.layer, entries: Vec::new() });
                at
            });
            histories[at].entries.push((entry.step as f64, own.clone()));
        }
    }
    histories
}

fn last_step(histories: &[LayerHistory]) -> f64 {
    let ends = histories.iter().filter_map(|history| Some(history.entries.last()?.0));
    ends.fold(1.0, f64::max)
}

/// Every how many of `count` rows or columns of a size a label fits.
fn label_every(count: usize, size: f64, needed: f64) -> usize {
    let every = (needed / size.max(1e-3)).ceil().max(1.0) as usize;
    // 1, 2, 5, 10, ...: layers are counted in tens.
    [1, 2, 5, 10, 20, 50, 100].into_iter().find(|nice| *nice >= every).unwrap_or(count.max(1))
}

/// How far each layer is open over time: the mean of the gates' absolute values, as the strength of a color.
#[derive(Debug, Clone)]
pub struct GateMap(Vec<LayerHistory>);

impl GateMap {
    /// The map of a run's gates.
    pub fn new(entries: &[GateEntry]) -> Self {
        Self(histories(entries, 100))
    }

    fn row_height(&self, size: Size) -> f64 {
        let height = if size == Size::Wide { 420.0 } else { 330.0 };
        (height / self.0.len().max(1) as f64).clamp(6.0, 30.0)
    }

    const TOP: f64 = 34.0;

    pub(super) fn height(&self, size: Size) -> f64 {
        Self::TOP + self.row_height(size) * self.0.len() as f64 + 40.0
    }

    pub(super) fn draw(&self, sheet: &Sheet, size: Size) {
        /// Shades that are distinguished; neighbors of one shade are one rectangle.
        const SHADES: f64 = 32.0;
        let (width, height) = sheet.size;
        let low_end = height - 40.0;
        let row = self.row_height(size);
        let openness =
            |gates: &LayerGates| Some(gates.openness()).filter(|value| value.is_finite());
        let all = self.0.iter().flat_map(|history| &history.entries);
        let max = all.filter_map(|(_, gates)| openness(gates)).fold(0.0, f64::max);
        let steps = Axis::steps(last_step(&self.0), if size == Size::Wide { 8 } else { 4 });
        let x = |at: f64| LEFT + at * (width - RIGHT - LEFT);
        let shade = |value: f64| if max > 0.0 { (value / max * SHADES).ceil() } else { 0.0 };

        draw_scale(sheet, max);
        sheet.text((LEFT - 8.0, Self::TOP - 17.0), "layer", Ink::Muted, TICK_SIZE, Anchor::End);
        let every = label_every(self.0.len(), row, 14.0);
        for (index, history) in self.0.iter().rev().enumerate() {
            let (top, bottom) =
                (Self::TOP + index as f64 * row, Self::TOP + (index + 1) as f64 * row);
            if history.layer.is_multiple_of(every) {
                let at = (LEFT - 8.0, f64::midpoint(top, bottom));
                sheet.text(at, &history.layer.to_string(), Ink::Muted, TICK_SIZE, Anchor::End);
            }
            // What an entry shows holds since the previous one.
            let mut from = 0.0;
            let mut entries = history.entries.iter().peekable();
            while let Some((step, gates)) = entries.next() {
                let own = shade(openness(gates).unwrap_or(0.0));
                let next = entries.peek().map(|(_, gates)| shade(openness(gates).unwrap_or(0.0)));
                if next == Some(own) {
                    continue;
                }
                let to = steps.position(*step).unwrap_or(1.0);
                if own > 0.0 && to > from {
                    let gap = if row > 9.0 { 1.0 } else { 0.0 };
                    let corners = ((x(from), top), (x(to), bottom - gap));
                    sheet.rect(corners.0, corners.1, Ink::Gate, own / SHADES);
                }
                from = to;
            }
        }
        draw_steps(sheet, &steps, low_end, x);
    }

    /// Layers by some steps.
    pub(crate) fn table(&self) -> Table {
        const COLUMNS: usize = 5;
        let count = self.0.iter().map(|history| history.entries.len()).max().unwrap_or(0);
        let columns = COLUMNS.min(count);
        let at =
            |column: usize| column * count.saturating_sub(1) / columns.saturating_sub(1).max(1);
        let indices = (0..columns).map(at).collect::<Vec<_>>();
        let longest = self.0.iter().find(|history| history.entries.len() == count);
        let step = |index: &usize| {
            let step = longest.and_then(|history| history.entries.get(*index)).map(|entry| entry.0);
            format!("step {}", format_count(step.unwrap_or(0.0) as u64))
        };
        let row = |history: &LayerHistory| {
            let cell = |index: &usize| {
                let entry = history.entries.get(*index);
                entry.map_or(String::new(), |(_, gates)| format_number(gates.openness()))
            };
            let name = history.layer.to_string();
            std::iter::once(name).chain(indices.iter().map(cell)).collect()
        };
        let columns = indices.iter().map(step);
        Table {
            columns: std::iter::once("layer".to_owned()).chain(columns).collect(),
            rows: self.0.iter().rev().map(row).collect(),
        }
    }
}

/// What the shades of a map mean.
fn draw_scale(sheet: &Sheet, max: f64) {
    let (parts, part, top) = (12, 10.0, 10.0);
    let label = format_number(max);
    let right = sheet.size.0 - RIGHT - label.chars().count() as f64 * 7.0 - 6.0;
    let left = right - f64::from(parts) * part;
    sheet.text((left - 6.0, top + 6.0), "closed 0", Ink::Muted, TICK_SIZE, Anchor::End);
    for index in 0..parts {
        let from = (left + f64::from(index) * part, top);
        let opacity = f64::from(index + 1) / f64::from(parts);
        sheet.rect(from, (from.0 + part, top + 12.0), Ink::Gate, opacity);
    }
    sheet.text((right + 6.0, top + 6.0), &label, Ink::Muted, TICK_SIZE, Anchor::Start);
}

/// A small picture for each layer with a curve for each head, all with the same axes.
#[derive(Debug, Clone)]
pub struct GateGrid(Vec<LayerHistory>);

impl GateGrid {
    /// The grid of a run's gates.
    pub fn new(entries: &[GateEntry]) -> Self {
        Self(histories(entries, 32))
    }

    const PANEL_HEIGHT: f64 = 104.0;

    fn columns(size: Size) -> usize {
        if size == Size::Wide { 6 } else { 3 }
    }

    pub(super) fn height(&self, size: Size) -> f64 {
        self.0.len().div_ceil(Self::columns(size)) as f64 * Self::PANEL_HEIGHT + 8.0
    }

    pub(super) fn draw(&self, sheet: &Sheet, size: Size) {
        const GAP: f64 = 12.0;
        let columns = Self::columns(size);
        let width = (sheet.size.0 - LEFT - RIGHT + GAP) / columns as f64 - GAP;
        let values = self.0.iter().flat_map(|history| &history.entries);
        let values = values.flat_map(|(_, own)| own.gates.iter().copied());
        let axis = Axis::tight(values.chain([0.0]), 4);
        let steps = Axis::steps(last_step(&self.0), 2);
        for (index, history) in self.0.iter().enumerate() {
            let left = LEFT + (index % columns) as f64 * (width + GAP);
            let top = (index / columns) as f64 * Self::PANEL_HEIGHT + 22.0;
            let bottom = top + Self::PANEL_HEIGHT - 34.0;
            let y = |at: f64| bottom - at * (bottom - top);
            let name = format!("layer {}", history.layer);
            sheet.text((left, top - 11.0), &name, Ink::Text, TICK_SIZE, Anchor::Start);
            for (tick, label) in &axis.ticks {
                let at = y(axis.tick_position(*tick));
                let ink = if *tick == 0.0 { Ink::Muted } else { Ink::Grid };
                sheet.line(&[(left, at), (left + width, at)], ink, 1.0, 1.0);
                if index % columns == 0 {
                    sheet.text((left - 8.0, at), label, Ink::Muted, 11.0, Anchor::End);
                }
            }
            let heads = history.entries.iter().map(|entry| entry.1.gates.len()).max().unwrap_or(0);
            let (stroke, opacity) = if heads > 4 { (1.2, 0.7) } else { (2.0, 1.0) };
            for head in 0..heads {
                let place = |(step, own): &(f64, LayerGates)| {
                    let at = axis.position(*own.gates.get(head)?)?;
                    Some((left + steps.position(*step)? * width, y(at)))
                };
                let points = history.entries.iter().filter_map(place).collect::<Vec<_>>();
                let end = history.entries.last().and_then(|entry| entry.1.gates.get(head));
                let ink = if end.is_some_and(|end| *end < 0.0) { Ink::Negative } else { Ink::Gate };
                sheet.line(&points, ink, stroke, opacity);
            }
        }
    }
}

/// The gates of the last entry: a bar for each layer, a dot for each head.
#[derive(Debug, Clone)]
pub struct FinalGates(Vec<LayerGates>);

impl FinalGates {
    /// The last gates of a run.
    pub fn new(entries: &[GateEntry]) -> Self {
        let mut layers = entries.last().map_or(Vec::new(), |entry| entry.layers.clone());
        layers.sort_by_key(|own| own.layer);
        Self(layers)
    }

    pub(super) fn height(size: Size) -> f64 {
        if size == Size::Wide { 300.0 } else { 260.0 }
    }

    pub(super) fn draw(&self, sheet: &Sheet) {
        let (width, height) = sheet.size;
        let (top, bottom) = (14.0, height - 40.0);
        let values = self.0.iter().flat_map(|own| own.gates.iter().copied());
        let axis = Axis::tight(values.chain([0.0]), 6);
        let y = |at: f64| bottom - at * (bottom - top);
        for (tick, label) in &axis.ticks {
            let at = y(axis.tick_position(*tick));
            sheet.line(&[(LEFT, at), (width - RIGHT, at)], Ink::Grid, 1.0, 1.0);
            sheet.text((LEFT - 8.0, at), label, Ink::Muted, TICK_SIZE, Anchor::End);
        }
        let slot = (width - RIGHT - LEFT) / self.0.len().max(1) as f64;
        let every = label_every(self.0.len(), slot, 22.0);
        let zero = y(axis.position(0.0).unwrap_or(0.0));
        for (index, own) in self.0.iter().enumerate() {
            let middle = LEFT + (index as f64 + 0.5) * slot;
            if let Some(at) = axis.position(own.mean()) {
                let ink = if own.mean() < 0.0 { Ink::Negative } else { Ink::Gate };
                let half = (slot * 0.36).min(16.0);
                let (high, low) = (zero.min(y(at)), zero.max(y(at)));
                let opacity = if own.gates.len() > 1 { 0.55 } else { 1.0 };
                sheet.rect((middle - half, high), (middle + half, low), ink, opacity);
            }
            if own.gates.len() > 1 {
                for at in own.gates.iter().filter_map(|gate| axis.position(*gate)) {
                    sheet.dot((middle, y(at)), (slot * 0.12).clamp(1.2, 3.0), Ink::Text, 0.75);
                }
            }
            if own.layer.is_multiple_of(every) {
                let at = (middle, bottom + 14.0);
                sheet.text(at, &own.layer.to_string(), Ink::Muted, TICK_SIZE, Anchor::Middle);
            }
        }
        sheet.line(&[(LEFT, zero), (width - RIGHT, zero)], Ink::Muted, 1.0, 1.0);
        let middle = f64::midpoint(LEFT, width - RIGHT);
        sheet.text((middle, bottom + 31.0), "layer", Ink::Muted, TICK_SIZE, Anchor::Middle);
    }

    /// Layers with their lowest, mean and highest gate.
    pub(crate) fn table(&self) -> Table {
        let row = |own: &LayerGates| {
            let low = own.gates.iter().copied().fold(f64::INFINITY, f64::min);
            let high = own.gates.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let numbers = [low, own.mean(), high].map(format_number);
            std::iter::once(own.layer.to_string()).chain(numbers).collect()
        };
        Table {
            columns: ["layer", "lowest", "mean", "highest"].map(str::to_owned).into(),
            rows: self.0.iter().map(row).collect(),
        }
    }

    /// Layers by heads.
    pub(crate) fn head_table(&self) -> Table {
        let heads = self.0.iter().map(|own| own.gates.len()).max().unwrap_or(0);
        let row = |own: &LayerGates| {
            let cell =
                |head: usize| own.gates.get(head).map_or(String::new(), |x| format_number(*x));
            std::iter::once(own.layer.to_string()).chain((0..heads).map(cell)).collect()
        };
        let names = (0..heads).map(|head| format!("head {head}"));
        Table {
            columns: std::iter::once("layer".to_owned()).chain(names).collect(),
            rows: self.0.iter().map(row).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(step: usize, layers: &[(usize, &[f64])]) -> GateEntry {
        let layers =
            layers.iter().map(|(layer, gates)| serde_json::json!({"layer": layer, "gates": gates}));
        let json = serde_json::json!({"step": step, "layers": layers.collect::<Vec<_>>()});
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_map_shows_the_mean_of_absolute_gates() {
        let entries = [entry(0, &[(3, &[0.0, 0.0])]), entry(9, &[(3, &[-0.5, 0.25])])];
        let table = GateMap::new(&entries).table();
        assert_eq!(table.columns, ["layer", "step 0", "step 9"]);
        assert_eq!(table.rows, [["3", "0", "0.375"]]);
    }

    #[test]
    fn the_last_entry_is_kept_when_there_are_many() {
        let entries = (0..1000).map(|step| entry(step, &[(0, &[1.0])])).collect::<Vec<_>>();
        let kept = &histories(&entries, 32)[0].entries;
        assert!(kept.len() <= 32);
        assert_eq!(kept.last().unwrap().0, 999.0);
    }

    #[test]
    fn layers_that_come_and_go_are_in_order() {
        let entries = [entry(0, &[(7, &[])]), entry(1, &[(2, &[1.0]), (7, &[1.0, 2.0])])];
        let found = histories(&entries, 100);
        assert_eq!(found.iter().map(|history| history.layer).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(found[1].entries.len(), 2);
    }

    #[test]
    fn final_gates_are_listed_by_layer_and_by_head() {
        let gates = FinalGates::new(&[entry(1, &[(2, &[1.0, -0.5])])]);
        assert_eq!(gates.table().rows, [["2", "-0.5", "0.25", "1"]]);
        assert_eq!(gates.head_table().rows, [["2", "1", "-0.5"]]);
    }
}
