//! Axes: a range of values, ticks with labels, and where a value is.

use crate::format::{format_count, format_number};
use crate::series::extent;

/// An axis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// Lowest and highest value; after the logarithm if the axis has one.
    range: (f64, f64),
    /// Position in the range, and label.
    pub ticks: Vec<(f64, String)>,
    logarithmic: bool,
}

/// Values beyond are drawn at the limit, so that no difference overflows.
const LIMIT: f64 = 1e100;

impl Axis {
    /// An axis for values, which begins at 0 if `from_zero` and no value is negative.
    pub fn linear(values: impl Iterator<Item = f64>, from_zero: bool, max_ticks: usize) -> Self {
        let (mut low, mut high) = extent(values).unwrap_or((0.0, 1.0));
        (low, high) = (low.clamp(-LIMIT, LIMIT), high.clamp(-LIMIT, LIMIT));
        if from_zero && low >= 0.0 {
            low = 0.0;
        }
        // A constant is in the middle.
        let least = (low.abs().max(high.abs()) * 1e-3).max(1e-9);
        if high - low < least {
            (low, high) = if low == 0.0 { (0.0, 1.0) } else { (low - least, high + least) };
        }
        let step = nice_step((high - low) / max_ticks.max(1) as f64);
        let (first, last) = ((low / step + 1e-6).floor(), (high / step - 1e-6).ceil());
        let ticks = (0..=(last - first).clamp(1.0, 50.0) as usize).map(|index| {
            let value = (first + index as f64) * step;
            (value, tick_label(value, step))
        });
        Self { range: (first * step, last * step), ticks: ticks.collect(), logarithmic: false }
    }

    /// As [`linear`](Self::linear), but it ends at the lowest and the highest value rather than at ticks.
    pub fn tight(values: impl Iterator<Item = f64>, max_ticks: usize) -> Self {
        let values = values.collect::<Vec<_>>();
        let mut axis = Self::linear(values.iter().copied(), false, max_ticks);
        if let Some((low, high)) = extent(values.into_iter()) {
            let (low, high) = (low.clamp(-LIMIT, LIMIT), high.clamp(-LIMIT, LIMIT));
            let margin = (high - low) * 0.04;
            let range = (low - margin, high + margin);
            // A constant keeps the range around it.
            if margin > 0.0 && range.0 < range.1 {
                axis.range = range;
                axis.ticks.retain(|(tick, _)| (range.0..=range.1).contains(tick));
            }
        }
        axis
    }

    /// An axis for positive values in orders of magnitude. Others are left out.
    pub fn logarithmic(values: impl Iterator<Item = f64>, max_ticks: usize) -> Self {
        let exponents = values.filter(|value| *value > 0.0).map(f64::log10);
        let (low, high) = extent(exponents).unwrap_or((0.0, 1.0));
        let (first, last) =
            (low.floor(), if high > low.floor() { high.ceil() } else { high + 1.0 });
        let every = ((last - first) / max_ticks.max(1) as f64).ceil().max(1.0);
        let ticks = (0..=((last - first) / every) as usize).map(|index| {
            let exponent = first + index as f64 * every;
            (exponent, format_number(10_f64.powf(exponent)))
        });
        Self { range: (first, last), ticks: ticks.collect(), logarithmic: true }
    }

    /// An axis of steps from 0 to `last`.
    pub fn steps(last: f64, max_ticks: usize) -> Self {
        let last = if last.is_finite() { last.clamp(1.0, LIMIT) } else { 1.0 };
        let step = nice_step(last / max_ticks.max(1) as f64).max(1.0);
        let ticks = (0..=(last / step).clamp(0.0, 50.0) as u64).map(|index| {
            let value = index as f64 * step;
            (value, format_count(value as u64))
        });
        Self { range: (0.0, last), ticks: ticks.collect(), logarithmic: false }
    }

    /// Where a value is: 0 at the low end, 1 at the high end. `None` for a value that has no place.
    pub fn position(&self, value: f64) -> Option<f64> {
        let value = if self.logarithmic { value.log10() } else { value };
        value.is_finite().then(|| self.tick_position(value).clamp(0.0, 1.0))
    }

    /// Where a tick is.
    pub fn tick_position(&self, tick: f64) -> f64 {
        let (low, high) = self.range;
        (tick - low) / (high - low)
    }
}

/// The next number of the form 1, 2 or 5 times a power of ten.
fn nice_step(step: f64) -> f64 {
    let magnitude = 10_f64.powf(step.log10().floor());
    let digits = step / magnitude;
    let nice = [1.0, 2.0, 5.0].into_iter().find(|nice| digits <= nice * 1.000_001);
    nice.unwrap_or(10.0) * magnitude
}

fn tick_label(value: f64, step: f64) -> String {
    let value = if value.abs() < step * 1e-6 { 0.0 } else { value };
    if value == 0.0 || !(1e-3..1e6).contains(&step) {
        return format_number(value).replace('-', "−");
    }
    let decimals = (-step.log10() - 1e-6).ceil().max(0.0) as usize;
    if value.abs() >= 1e4 {
        let sign = if value < 0.0 { "−" } else { "" };
        return format!("{sign}{}", format_count(value.abs() as u64));
    }
    format!("{value:.decimals$}").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect()
    }

    #[test]
    fn ticks_are_round_numbers() {
        let axis = Axis::linear([0.09, 3.83].into_iter(), true, 4);
        assert_eq!(labels(&axis), ["0", "1", "2", "3", "4"]);
        let axis = Axis::linear([-0.12, 0.31].into_iter(), true, 4);
        assert_eq!(labels(&axis), ["−0.2", "0", "0.2", "0.4"]);
        let axis = Axis::linear([0.0, 2.5e-5].into_iter(), true, 3);
        assert_eq!(labels(&axis), ["0", "1e−5", "2e−5", "3e−5"]);
        assert_eq!(labels(&Axis::steps(450.0, 5)), ["0", "100", "200", "300", "400"]);
        assert_eq!(
            labels(&Axis::logarithmic([0.02, 3.0].into_iter(), 5)),
            ["0.01", "0.1", "1", "10"]
        );
    }

    #[test]
    fn positions_run_from_0_to_1() {
        let axis = Axis::linear([0.0, 4.0].into_iter(), true, 4);
        assert_eq!([0.0, 1.0, 4.0, 9.0].map(|x| axis.position(x).unwrap()), [0.0, 0.25, 1.0, 1.0]);
        assert_eq!(axis.position(f64::NAN), None);
        let axis = Axis::logarithmic([1.0, 100.0].into_iter(), 5);
        assert_eq!(axis.position(10.0), Some(0.5));
        assert_eq!([0.0, -1.0].map(|x| axis.position(x)), [None, None]);
    }

    #[test]
    fn any_values_give_a_finite_axis() {
        let cases: [&[f64]; 8] = [
            &[],
            &[f64::NAN, f64::INFINITY],
            &[f64::MAX, f64::MIN],
            &[5.0, 5.0],
            &[-3.0],
            &[1e-300, 2e-300],
            &[0.0],
            &[1e16, 1e16 + 2.0],
        ];
        for values in cases {
            for axis in [
                Axis::linear(values.iter().copied(), true, 5),
                Axis::linear(values.iter().copied(), false, 5),
                Axis::tight(values.iter().copied(), 5),
                Axis::logarithmic(values.iter().copied(), 5),
                Axis::steps(values.first().copied().unwrap_or(0.0), 5),
            ] {
                let (low, high) = axis.range;
                assert!(low.is_finite() && high.is_finite() && low < high, "{values:?}: {axis:?}");
                assert!((0..60).contains(&axis.ticks.len()), "{values:?}: {axis:?}");
                let positions = values.iter().filter_map(|value| axis.position(*value));
                assert!(positions.into_iter().all(|at| (0.0..=1.0).contains(&at)), "{axis:?}");
            }
        }
    }
}
