//! A curve as text: dots of braille characters between two axes.

/// Width and height of the plot in characters.
const SIZE: (usize, usize) = (64, 12);
/// Dots in a character.
const DOTS: (usize, usize) = (2, 4);

/// Draws points with finite coordinates. `x_label` writes a value on the horizontal axis.
pub fn plot(points: &[(f64, f64)], x_label: &dyn Fn(f64) -> String) -> String {
    let range = |values: &dyn Fn(&(f64, f64)) -> f64| {
        let values = || points.iter().map(values);
        Some((values().reduce(f64::min)?, values().reduce(f64::max)?))
    };
    let (Some((left, right)), Some((bottom, top))) =
        (range(&|point| point.0), range(&|point| point.1))
    else {
        return String::new();
    };
    let ((width, height), (columns, rows)) = (SIZE, DOTS);
    let mut cells = vec![vec![0_u8; width]; height];
    // The dot of a value between `low` and `high`, of `count` dots.
    let dot = |value: f64, low: f64, high: f64, count: usize| {
        let part = if high > low { (value - low) / (high - low) } else { 0.5 };
        (part * (count - 1) as f64).round() as usize
    };
    let dots = points.iter().map(|&(x, y)| {
        let from_bottom = dot(y, bottom, top, height * rows);
        (dot(x, left, right, width * columns), height * rows - 1 - from_bottom)
    });
    let dots = dots.collect::<Vec<_>>();
    for (index, &end) in dots.iter().enumerate() {
        for (x, y) in line(dots[index.saturating_sub(1)], end) {
            cells[y / rows][x / columns] |= braille_bit(x % columns, y % rows);
        }
    }
    let labels = [format!("{top:.3}"), format!("{bottom:.3}")];
    let margin = labels.iter().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (row, cells) in cells.iter().enumerate() {
        let label = match row {
            0 => &labels[0],
            row if row + 1 == height => &labels[1],
            _ => "",
        };
        let cells = cells
            .iter()
            .map(|&bits| char::from_u32(0x2800 + u32::from(bits)).expect("a braille character"));
        text += &format!("{label:>margin$} │{}\n", cells.collect::<String>());
    }
    let (from, to) = (x_label(left), x_label(right));
    let gap = width.saturating_sub(from.len() + to.len());
    text += &format!("{:margin$} └{}\n", "", "─".repeat(width));
    text + &format!("{:margin$}  {from}{}{to}", "", " ".repeat(gap))
}

/// The dots of a line between two dots, both included.
fn line(from: (usize, usize), to: (usize, usize)) -> impl Iterator<Item = (usize, usize)> {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
    let between = move |a: usize, b: usize, step: usize| {
        (a as f64 + (b as f64 - a as f64) * step as f64 / steps as f64).round() as usize
    };
    (0..=steps).map(move |step| (between(from.0, to.0, step), between(from.1, to.1, step)))
}

/// The bit of a dot in a braille character, column and row counted from the top left.
fn braille_bit(column: usize, row: usize) -> u8 {
    [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]][column][row]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_falling_line_goes_from_the_top_left_to_the_bottom_right() {
        let points = [(0.0, 2.0), (1.0, 1.0), (2.0, 0.0)];
        let text = plot(&points, &|x| format!("{x}"));
        let lines = text.lines().collect::<Vec<_>>();
        assert_eq!(lines.len(), SIZE.1 + 2);
        assert!(lines[0].starts_with("2.000 │⠉") || lines[0].starts_with("2.000 │⠑"), "{text}");
        assert!(lines[SIZE.1 - 1].starts_with("0.000 │⠀"), "{text}");
        assert!(!lines[SIZE.1 - 1].ends_with('⠀'), "{text}");
        let axis = lines[SIZE.1 + 1].split_whitespace().collect::<Vec<_>>();
        assert_eq!(axis, ["0", "2"]);
    }

    #[test]
    fn a_constant_and_no_points_at_all_can_be_drawn() {
        assert_eq!(plot(&[], &|x| x.to_string()), "");
        assert!(plot(&[(1.0, 3.0)], &|x| x.to_string()).contains("3.000 │"));
    }
}
