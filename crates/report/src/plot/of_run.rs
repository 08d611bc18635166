//! The plots of one run.

use super::{Drawing, FinalGates, GateGrid, GateMap, Ink, Line, LinePlot, LineStyle, Plot};
use crate::format::{byte_unit, format_number};
use crate::run::{Eval, Run, Step};
use crate::series::{Point, extent, smooth};

/// Rows of a table below a plot.
const TABLE_ROWS: usize = 12;
/// A curve of fewer points is shown as it is.
const MIN_SMOOTHED: usize = 50;
/// Values that differ by more than this factor are shown by their orders of magnitude.
const LOGARITHMIC_FROM: f64 = 100.0;

/// The plots that the log has numbers for, the most important first.
pub(crate) fn plots(run: &Run) -> Vec<Plot> {
    let plots = [
        loss(run),
        gate_map(run),
        final_gates(run),
        gate_grid(run),
        learning_rate(run),
        gradient_norm(run),
        throughput(run),
        memory(run),
    ];
    plots.into_iter().flatten().collect()
}

/// Step and value of the steps that have one.
pub(crate) fn curve(run: &Run, value: impl Fn(&Step) -> f64) -> Vec<Point> {
    let points = run.metrics.steps.iter().map(|step| (step.step as f64, value(step)));
    points.filter(|point| point.1.is_finite()).collect()
}

/// Step and held-out loss of the evaluations.
pub(crate) fn held_out(run: &Run) -> Vec<Point> {
    let points = run.metrics.evals.iter().map(|eval: &Eval| (eval.step as f64, eval.loss));
    points.filter(|point| point.1.is_finite()).collect()
}

/// Step and mean openness of all layers.
pub(crate) fn openness(run: &Run) -> Vec<Point> {
    let points = run.metrics.gates.iter().map(|entry| {
        let sum: f64 = entry.layers.iter().map(crate::run::LayerGates::openness).sum();
        (entry.step as f64, sum / entry.layers.len().max(1) as f64)
    });
    points.filter(|point| point.1.is_finite()).collect()
}

/// Labels per second of each step.
pub(crate) fn label_rate(run: &Run) -> Vec<Point> {
    curve(run, |step| if step.seconds > 0.0 { step.labels as f64 / step.seconds } else { f64::NAN })
}

/// A plot of curves with the axes of a run.
fn line_plot(run: &Run, lines: Vec<Line>) -> LinePlot {
    let last_step = run.completed_steps() as f64;
    let every = run.metrics.start.map_or(0, |start| start.steps_per_epoch);
    let epochs = run.completed_steps().checked_div(every).unwrap_or(0);
    // Many lines would be a pattern.
    let epoch_ends = if epochs > 20 { 0 } else { epochs };
    let epoch_ends = (1..=epoch_ends).map(|epoch| (epoch * every) as f64).collect();
    LinePlot { lines, last_step, epoch_ends, from_zero: true, ..LinePlot::default() }
}

/// A curve as it is, or in the background and smoothed in the foreground. Its name ends with its last value.
fn lines(name: &str, ink: Ink, points: Vec<Point>) -> Vec<Line> {
    let line = |label, points, style| Line { label, ink, points, style };
    let label = |points: &[Point]| {
        let end = points.last().map_or(String::new(), |point| format_number(point.1));
        format!("{name} {end}").trim_start().to_owned()
    };
    if points.len() < MIN_SMOOTHED {
        return vec![line(label(&points), points, LineStyle::Strong)];
    }
    let smoothed = smooth(&points);
    vec![
        line(String::new(), points, LineStyle::Faint),
        line(label(&smoothed), smoothed, LineStyle::Strong),
    ]
}

fn line_drawing(name: &'static str, title: &str, description: String, plot: LinePlot) -> Plot {
    let table = plot.table(TABLE_ROWS);
    Plot { name, title: title.into(), description, drawing: Drawing::Lines(plot), table }
}

fn loss(run: &Run) -> Option<Plot> {
    let (train, held_out) = (curve(run, |step| step.loss), held_out(run));
    if train.is_empty() && held_out.is_empty() {
        return None;
    }
    let mut all = if train.is_empty() { Vec::new() } else { lines("train", Ink::Series(0), train) };
    let smoothed = all.len() > 1;
    let mut description = "Mean loss of a label, in nats".to_owned();
    if !held_out.is_empty() {
        let end = held_out.last().map_or(String::new(), |point| format_number(point.1));
        all.push(Line {
            label: format!("held-out {end}"),
            ink: Ink::Series(1),
            points: held_out,
            style: LineStyle::Dots,
        });
        description += ", of the training rows and of the held-out rows";
    }
    description += if smoothed { "; the training loss is smoothed." } else { "." };
    let plot = LinePlot { tall: true, ..line_plot(run, all) };
    Some(line_drawing("loss", "Loss", description, plot))
}

fn gate_map(run: &Run) -> Option<Plot> {
    let gates = &run.metrics.gates;
    if gates.last()?.layers.is_empty() {
        return None;
    }
    let map = GateMap::new(gates);
    Some(Plot {
        name: "gates-by-layer",
        title: "How far each layer opened".into(),
        description: "The gates decide how much the prompts contribute. All start closed, at 0, where the model \
                      is the base model. The color is the mean absolute gate of a layer; the last layer is on top."
            .into(),
        table: map.table(),
        drawing: Drawing::GateMap(map),
    })
}

fn final_gates(run: &Run) -> Option<Plot> {
    let last = run.metrics.gates.last()?;
    let heads = last.layers.iter().map(|own| own.gates.len()).max()?;
    let picture = FinalGates::new(&run.metrics.gates);
    let what = if heads > 1 {
        "A bar is the mean of a layer, a dot is a head."
    } else {
        "One gate per layer."
    };
    Some(Plot {
        name: "gates-at-the-end",
        title: format!("Gates after step {}", crate::format::format_count(last.step as u64)),
        description: format!("{what} A negative gate subtracts what the prompts contribute."),
        table: picture.table(),
        drawing: Drawing::FinalGates(picture),
    })
}

fn gate_grid(run: &Run) -> Option<Plot> {
    let gates = &run.metrics.gates;
    let heads = gates.last()?.layers.iter().map(|own| own.gates.len()).max()?;
    // Two points make a curve.
    if gates.len() < 2 {
        return None;
    }
    let (title, what) = match heads {
        1 => ("Gates over time", "the gate of a layer"),
        _ => ("Gates by head over time", "one curve per head"),
    };
    Some(Plot {
        name: "gates-over-time",
        title: title.into(),
        description: format!(
            "A picture per layer, all with the same axes: {what}, from step {} to step {}.",
            crate::format::format_count(gates[0].step as u64),
            crate::format::format_count(gates[gates.len() - 1].step as u64)
        ),
        table: FinalGates::new(gates).head_table(),
        drawing: Drawing::GateGrid(GateGrid::new(gates)),
    })
}

fn learning_rate(run: &Run) -> Option<Plot> {
    let points = curve(run, |step| step.learning_rate);
    let ink = Ink::Series(3);
    let line = Line { label: String::new(), ink, points, style: LineStyle::Strong };
    plot_of("learning-rate", "Learning rate", "Of each step.".into(), line_plot(run, vec![line]))
}

fn gradient_norm(run: &Run) -> Option<Plot> {
    let points = curve(run, |step| step.gradient_norm);
    let (low, high) = extent(points.iter().map(|point| point.1).filter(|norm| *norm > 0.0))?;
    let logarithmic = high / low > LOGARITHMIC_FROM;
    let mut plot = line_plot(run, lines("", Ink::Series(2), points));
    plot.logarithmic = logarithmic;
    let scale = if logarithmic { ", in orders of magnitude" } else { "" };
    let description = format!("Of all gradients together, before clipping{scale}.");
    plot_of("gradient-norm", "Gradient norm", description, plot)
}

fn throughput(run: &Run) -> Option<Plot> {
    let plot = line_plot(run, lines("", Ink::Series(4), label_rate(run)));
    let description = "Label tokens of a step by its duration, without evaluations.".into();
    plot_of("throughput", "Label tokens per second", description, plot)
}

fn memory(run: &Run) -> Option<Plot> {
    let bytes = curve(run, |step| step.memory.map_or(f64::NAN, |bytes| bytes as f64));
    let (_, max) = extent(bytes.iter().map(|point| point.1))?;
    let (unit, name) = byte_unit(max);
    let points = bytes.into_iter().map(|(step, bytes)| (step, bytes / unit)).collect();
    let line = Line { label: String::new(), ink: Ink::Series(5), points, style: LineStyle::Strong };
    let description = "Resident memory of the process at each step, the model included.".into();
    let title = format!("Memory in {name}");
    plot_of("memory", &title, description, line_plot(run, vec![line]))
}

/// A small plot; `None` without points.
fn plot_of(name: &'static str, title: &str, description: String, plot: LinePlot) -> Option<Plot> {
    if plot.lines.iter().all(|line| line.points.is_empty()) {
        return None;
    }
    // The only curve needs no name in the picture, but the table does.
    let mut named = plot.clone();
    named.lines.retain(|line| line.style != LineStyle::Faint);
    for line in &mut named.lines {
        line.label = title.to_lowercase();
    }
    let table = named.table(TABLE_ROWS);
    Some(Plot { name, title: title.into(), description, drawing: Drawing::Lines(plot), table })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::{Size, Use};
    use crate::run::tests::example_folder;

    fn example() -> Vec<Plot> {
        let folder = example_folder();
        plots(&Run::read(folder.path()).unwrap())
    }

    #[test]
    fn a_run_with_everything_has_all_plots() {
        let names = example().iter().map(|plot| plot.name).collect::<Vec<_>>();
        let expected = [
            "loss",
            "gates-by-layer",
            "gates-at-the-end",
            "gates-over-time",
            "learning-rate",
            "gradient-norm",
            "throughput",
            "memory",
        ];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_run_without_gates_has_no_plots_of_gates() {
        let folder = example_folder();
        let mut run = Run::read(folder.path()).unwrap();
        run.metrics.gates.clear();
        assert!(plots(&run).iter().all(|plot| !plot.name.starts_with("gates")));
    }

    #[test]
    fn the_text_of_a_picture_stays_text() {
        let svg = example()[0].to_svg_file(Size::Wide);
        for text in ["\nheld-out 0.25\n", "\nstep\n", "<title id=\"loss-wide-title\">Loss</title>"]
        {
            assert!(svg.contains(text), "{text}: {svg}");
        }
    }

    #[test]
    fn every_color_has_a_class_and_a_file_has_both_themes() {
        for plot in example() {
            for size in [Size::Wide, Size::Narrow] {
                let (file, part) = (plot.to_svg_file(size), plot.svg(size, Use::Page));
                assert!(!file.contains("#F00D") && !part.contains("#F00D"), "{}", plot.name);
                assert!(file.contains("prefers-color-scheme:dark") && file.contains(" width=\""));
                assert!(!part.contains("<style") && !part.contains(" width=\"880\""));
                assert!(
                    part.contains("class=\"s-") || part.contains("class=\"f-"),
                    "{}",
                    plot.name
                );
            }
        }
    }

    #[test]
    fn numbers_of_any_size_can_be_drawn() {
        let folder = example_folder();
        let mut run = Run::read(folder.path()).unwrap();
        let extreme = [f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, 1e-320, 0.0, -0.0];
        for (index, step) in run.metrics.steps.iter_mut().enumerate() {
            let at = |offset: usize| extreme[(index + offset) % extreme.len()];
            (step.loss, step.gradient_norm, step.learning_rate) = (at(0), at(1), at(2));
            (step.seconds, step.memory) = (at(3), Some(u64::MAX));
            if index == 39 {
                step.step = usize::MAX;
            }
        }
        for (index, entry) in run.metrics.gates.iter_mut().enumerate() {
            entry.layers[0].gates = extreme[..index % extreme.len()].to_vec();
            entry.layers[1].layer = usize::MAX;
        }
        for plot in plots(&run) {
            plot.to_svg_file(Size::Wide);
        }
    }
}
