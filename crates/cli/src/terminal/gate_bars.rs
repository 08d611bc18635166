//! The gates of an adapter: a bar for each layer, and a column for each head.
//!
//! ```text
//! layer  gate                          heads
//!     2   0.0312  ██▌                  ▁ ▂▁▃ ▁▁
//!     3  -0.1827        ▐████          ▃▂▁█▅▂▁▁
//! ```

use ratatui::style::Color;

use super::Paint;

/// Gates that add what the prompts contribute, and gates that subtract it.
const POSITIVE: Color = Color::Cyan;
const NEGATIVE: Color = Color::Magenta;
/// Eighths of a character from the left, and from below.
const FROM_LEFT: [char; 9] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];
const FROM_BELOW: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A line as texts with their colors.
pub type ColoredLine = Vec<(String, Color)>;

/// Draws the gates of layers, `(layer, gates)` with one gate or one per head. A bar is the mean of a layer; all
/// bars have one scale and one zero.
pub fn gate_bars(layers: &[(usize, &[f32])], paint: Paint) -> String {
    let lines = gate_lines(layers, paint.width);
    let lines = lines.iter().map(|line| {
        let parts = line.iter().map(|(text, color)| paint.color(text, *color));
        parts.collect::<String>().trim_end().to_owned() + "\n"
    });
    lines.collect()
}

/// The lines of [`gate_bars`], at most `width` wide: a title, and one for each layer.
pub fn gate_lines(layers: &[(usize, &[f32])], width: usize) -> Vec<ColoredLine> {
    /// Columns of the layer and its number, and of the gaps.
    const FIXED: usize = 5 + 2 + 7 + 2 + 2;
    /// The title of the heads.
    const HEADS: &str = "heads";
    /// The longest bar that is easy to read.
    const MAX_BAR: usize = 60;
    let heads = layers.iter().map(|(_, gates)| gates.len()).max().unwrap_or(0);
    let title = if heads > 1 { "mean" } else { "gate" };
    let room = width.saturating_sub(FIXED);
    // Heads are drawn if a bar of some length fits beside them and their title.
    let heads = if heads > 1 { heads.max(HEADS.len()) } else { 0 };
    let heads = if room >= heads + 12 { heads } else { 0 };
    let width = room.saturating_sub(heads).clamp(8, MAX_BAR);
    let means = layers.iter().map(|(_, gates)| mean(gates)).collect::<Vec<_>>();
    let highest = means.iter().copied().fold(0.0, f32::max);
    let lowest = means.iter().copied().fold(0.0, f32::min);
    let span = highest - lowest;
    // The column of zero.
    let zero = if span > 0.0 { (-lowest / span * width as f32).round() as usize } else { 0 };
    let all = layers.iter().flat_map(|(_, gates)| gates.iter());
    let largest = all.fold(0.0, |max: f32, gate| max.max(gate.abs()));

    let mut head = format!("layer  {title:>7}");
    if heads > 0 {
        head += &format!("  {:width$}  {HEADS}", "");
    }
    let mut lines = vec![vec![(head, Color::Reset)]];
    for ((layer, gates), mean) in layers.iter().zip(means) {
        let length = if span > 0.0 { mean / span * width as f32 } else { 0.0 };
        let (left, bar) = bar(length, zero, width);
        let right = width.saturating_sub(left.chars().count() + bar.chars().count()) + 2;
        let mut line = vec![
            (format!("{layer:5}  {}  {left}", number(mean)), Color::Reset),
            (bar, color(mean)),
        ];
        if heads > 0 {
            line.push((" ".repeat(right), Color::Reset));
            line.extend(gates.iter().map(|gate| {
                let part = if largest > 0.0 { gate.abs() / largest } else { 0.0 };
                let eighths = (part * 8.0).round().clamp(0.0, 8.0) as usize;
                (FROM_BELOW[eighths].to_string(), color(*gate))
            }));
        }
        lines.push(line);
    }
    lines
}

fn color(gate: f32) -> Color {
    if gate < 0.0 { NEGATIVE } else { POSITIVE }
}

/// A number in seven columns.
fn number(value: f32) -> String {
    if value.abs() < 100.0 { format!("{value:7.4}") } else { format!("{value:7.0e}") }
}

fn mean(gates: &[f32]) -> f32 {
    let mean = gates.iter().sum::<f32>() / gates.len().max(1) as f32;
    if mean.is_finite() { mean } else { 0.0 }
}

/// A bar of signed `length` from column `zero`: the blanks before it, and the bar.
fn bar(length: f32, zero: usize, width: usize) -> (String, String) {
    if length < 0.0 {
        // There are no eighths from the right, but halves.
        let halves = ((-length * 2.0).round() as usize).min(zero * 2);
        let bar = if halves % 2 == 1 { "▐" } else { "" }.to_owned() + &"█".repeat(halves / 2);
        return (" ".repeat(zero - bar.chars().count()), bar);
    }
    let eighths = ((length * 8.0).round() as usize).min((width - zero.min(width)) * 8);
    let mut bar = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        bar.push(FROM_LEFT[eighths % 8]);
    }
    (" ".repeat(zero), bar)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_gate_per_layer_is_a_bar_on_a_common_scale() {
        let text = gate_bars(&[(2, &[0.1]), (3, &[0.2]), (4, &[0.0])], Paint::plain(38));
        let expected = "layer     gate\n    2   0.1000  ██████████\n    3   0.2000  ████████████████████\n    4   0.0000\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn negative_gates_are_left_of_zero() {
        let text = gate_bars(&[(7, &[-0.1]), (8, &[0.3])], Paint::plain(38));
        assert_eq!(
            text,
            "layer     gate\n    7  -0.1000  █████\n    8   0.3000       ███████████████\n"
        );
    }

    #[test]
    fn heads_are_columns_if_they_fit() {
        let gates: &[f32] = &[0.0, 0.5, -1.0, 0.25];
        let text = gate_bars(&[(0, gates)], Paint::plain(60));
        assert!(text.ends_with(" ▄█▂\n") && text.contains("heads"), "{text}");
        let narrow = gate_bars(&[(0, &[0.1; 200])], Paint::plain(60));
        assert!(!narrow.contains("heads"), "{narrow}");
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let gates = [0.3, -0.2, f32::NAN, f32::INFINITY, f32::MIN_POSITIVE];
        for width in [40, 80, 200] {
            let text = gate_bars(&[(1, &gates), (31, &[-4e30]), (2, &[])], Paint::plain(width));
            assert!(text.lines().all(|line| line.chars().count() <= width), "{text}");
        }
    }
}
