//! Curves as text, drawn by ratatui.

use ratatui::buffer::{Buffer, Cell};
use ratatui::layout::Rect;
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
    let area = Rect::new(0, 0, width, height);
    let mut buffer = Buffer::empty(area);
    let curves = curves.iter().enumerate();
    let curves = curves.map(|(index, points)| (points.as_slice(), series_color(index)));
    chart(&curves.collect::<Vec<_>>(), plot.last_step).render(area, &mut buffer);
    let lines = buffer.content.chunks(usize::from(width)).map(|cells| line(cells, paint));
    lines.collect()
}

/// A chart of curves over steps. The vertical axis begins at 0 unless values are negative.
pub fn chart<'a>(curves: &[(&'a [(f64, f64)], Color)], last_step: f64) -> Chart<'a> {
    let values = curves.iter().flat_map(|(points, _)| points.iter().map(|point| point.1));
    let (low, high) = values
        .filter(|value| value.is_finite())
        .fold((0.0_f64, f64::MIN_POSITIVE), |(low, high), value| (low.min(value), high.max(value)));
    let datasets = curves.iter().map(|&(points, color)| {
        Dataset::default()
            .data(points)
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(color))
    });
    let axis = || Axis::default().style(Style::new().fg(Color::DarkGray));
    let middle = f64::midpoint(low, high);
    let last_step = last_step.max(1.0);
    Chart::new(datasets.collect())
        .x_axis(axis().bounds([0.0, last_step]).labels(["0".to_owned(), format_number(last_step)]))
        .y_axis(axis().bounds([low, high]).labels([low, middle, high].map(format_number)))
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
}
