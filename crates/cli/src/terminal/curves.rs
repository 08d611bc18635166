//! Curves as text, drawn by ratatui.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::{Alignment, Rect};
use ratatui::style::{Color, Style};
use ratatui::symbols::Marker;
use ratatui::widgets::{Axis, Chart, Dataset, GraphType, Widget};
use report::{LinePlot, downsample, format_number};

use super::Paint;

/// The color of a curve.
pub fn series_color(index: usize) -> Color {
    const COLORS: [Color; 6] =
        [Color::Blue, Color::Yellow, Color::Green, Color::Magenta, Color::Cyan, Color::Red];
    COLORS[index % COLORS.len()]
}

/// The lines of a chart that is as wide as the terminal and `height` lines high.
pub fn chart_lines(plot: &LinePlot, paint: Paint, height: u16) -> Vec<String> {
    let curves = plot.lines.iter().map(|line| downsample(&line.points, 400)).collect::<Vec<_>>();
    let width = u16::try_from(paint.width.min(100)).unwrap_or(100);
    let curves = curves.iter().enumerate();
    let curves = curves.map(|(index, points)| (points.as_slice(), series_color(index)));
    lines(chart(&curves.collect::<Vec<_>>(), plot.last_step), (width, height), paint)
}

/// A chart of curves over steps. The vertical axis begins at 0 unless values are negative.
pub fn chart<'a>(curves: &[(&'a [(f64, f64)], Color)], last_step: f64) -> Chart<'a> {
    let values = curves.iter().flat_map(|(points, _)| points.iter().map(|point| point.1));
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((0.0_f64, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
    let middle = f64::midpoint(low, high);
    let last_step = last_step.max(1.0);
    let steps = Axis::default().labels(["0".to_owned(), format_number(last_step)]);
    let values = Axis::default().labels([low, middle, high].map(format_number));
    chart_with_axes(curves, steps.bounds([0.0, last_step]), values.bounds([low, high]))
}

/// Draws one curve of finite points between its lowest and highest values; empty without points. `x_label`
/// writes a value on the horizontal axis.
pub fn plot(points: &[(f64, f64)], x_label: &dyn Fn(f64) -> String) -> String {
    /// Width and height of the curve in characters.
    const SIZE: (u16, u16) = (64, 12);
    let range = |value: fn(&(f64, f64)) -> f64| {
        let values = || points.iter().map(value);
        Some([values().reduce(f64::min)?, values().reduce(f64::max)?])
    };
    let (Some(x), Some(y)) = (range(|point| point.0), range(|point| point.1)) else {
        return String::new();
    };
    let labels = y.map(|value| format!("{value:.3} "));
    let margin = labels.iter().map(String::len).max().unwrap_or(0) as u16;
    let axis = |[low, high]: [f64; 2], labels: [String; 2]| {
        // A constant is in the middle.
        let bounds = if high > low { [low, high] } else { [low - 0.5, high + 0.5] };
        Axis::default().bounds(bounds).labels(labels).labels_alignment(Alignment::Right)
    };
    let chart =
        chart_with_axes(&[(points, Color::Reset)], axis(x, x.map(x_label)), axis(y, labels));
    // Beside the curve are the labels and the line of an axis, below it the line and the labels.
    lines(chart, (margin + 1 + SIZE.0, SIZE.1 + 2), Paint::plain(0)).join("\n")
}

fn chart_with_axes<'a>(
    curves: &[(&'a [(f64, f64)], Color)],
    x_axis: Axis<'a>,
    y_axis: Axis<'a>,
) -> Chart<'a> {
    let datasets = curves.iter().map(|&(points, color)| {
        Dataset::default()
            .data(points)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
    });
    let gray = Style::new().fg(Color::DarkGray);
    Chart::new(datasets.collect()).x_axis(x_axis.style(gray)).y_axis(y_axis.style(gray))
}

/// The lines of a chart of this width and height.
fn lines(chart: Chart, (width, height): (u16, u16), paint: Paint) -> Vec<String> {
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    chart.render(area, &mut buffer);
    buffer.content.chunks(usize::from(width)).map(|cells| line(cells, paint)).collect()
}

/// A line of a buffer without blanks at its end.
fn line(cells: &[Cell], paint: Paint) -> String {
    let end = cells.iter().rposition(|cell| cell.symbol() != " ").map_or(0, |last| last + 1);
    let same_color = |a: &Cell, b: &Cell| a.fg == b.fg;
    let runs = cells[..end].chunk_by(same_color);
    let runs = runs.map(|run| {
        let text = run.iter().map(Cell::symbol).collect::<String>();
        paint.color(&text, run[0].fg)
    });
    runs.collect()
}

#[cfg(test)]
mod tests {
    use report::{Ink, Line, LineStyle};

    use super::*;

    #[test]
    fn a_chart_has_its_axes_and_fits() {
        let points = (0..=50).map(|x| (f64::from(x), 4.0 - f64::from(x) / 20.0)).collect();
        let line =
            Line { label: "a".into(), ink: Ink::Series(0), points, style: LineStyle::Strong };
        let plot = LinePlot { lines: vec![line], last_step: 50.0, ..LinePlot::default() };
        let lines = chart_lines(&plot, Paint::plain(60), 8);
        assert_eq!(lines.len(), 8);
        assert!(lines.iter().all(|line| line.chars().count() <= 60));
        assert!(lines[0].starts_with('4') && lines[7].ends_with("50"), "{lines:?}");
        assert!(lines.iter().any(|line| line.contains(|c| ('\u{2801}'..='\u{28ff}').contains(&c))));
    }

    #[test]
    fn a_falling_line_goes_from_the_top_left_to_the_bottom_right() {
        let points = [(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)];
        let text = plot(&points, &|x| format!("{x}"));
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), 14);
        assert!(lines[0].starts_with("2.000 │⠉") || lines[0].starts_with("2.000 │⠑"), "{text}");
        assert!(lines[11].starts_with("0.000 │ "), "{text}");
        // The line has no blanks at its end.
        assert_eq!(lines[11].chars().count(), "0.000 │".chars().count() + 64, "{text}");
        let axis = lines[13].split_whitespace().collect::<Vec<_>>();
        assert_eq!(axis, ["0", "2"]);
    }

    #[test]
    fn a_constant_and_no_points_at_all_can_be_drawn() {
        assert_eq!(plot(&[], &|x| x.to_string()), "");
        assert!(plot(&[(1.0, 3.0)], &|x| x.to_string()).contains("3.000 │"));
    }
}
