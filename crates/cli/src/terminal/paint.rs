//! What a terminal can show: its width and whether it has colors.

use std::io::IsTerminal;

use ratatui::crossterm::terminal;
use ratatui::style::Color;

/// The width of text for stdout, and whether it is colored.
#[derive(Debug, Clone, Copy)]
pub struct Paint {
    /// Columns.
    pub width: usize,
    colors: bool,
}

/// The width where nobody tells one.
const DEFAULT_WIDTH: usize = 80;

impl Paint {
    /// For stdout: COLUMNS, or the terminal's width. Colors on terminals only, unless NO_COLOR is set.
    pub fn stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let columns = variable("COLUMNS").and_then(|columns| columns.parse().ok());
        let terminal_width = || {
            let size = if is_terminal { terminal::size().ok() } else { None };
            size.map(|(width, _height)| usize::from(width))
        };
        let width = columns.filter(|width| *width > 0).or_else(terminal_width);
        let dumb = variable("TERM").is_some_and(|term| term == "dumb");
        let colors = is_terminal && !dumb && variable("NO_COLOR").is_none();
        Self { width: width.unwrap_or(DEFAULT_WIDTH).clamp(40, 400), colors }
    }

    /// Text without colors.
    pub fn plain(width: usize) -> Self {
        Self { width, colors: false }
    }

    /// A text in a color, if there are colors.
    pub fn color(self, text: &str, color: Color) -> String {
        match ansi_code(color) {
            Some(code) if self.colors && !text.is_empty() => format!("\x1b[{code}m{text}\x1b[0m"),
            _ => text.to_owned(),
        }
    }
}

/// The code of a foreground color; `None` for the terminal's own.
fn ansi_code(color: Color) -> Option<String> {
    let index = match color {
        Color::Red => 31,
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Blue => 34,
        Color::Magenta => 35,
        Color::Cyan => 36,
        Color::DarkGray => 90,
        Color::Indexed(index) => return Some(format!("38;5;{index}")),
        _ => return None,
    };
    Some(index.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_colored_only_where_there_are_colors() {
        let colored = Paint { width: 80, colors: true };
        assert_eq!(colored.color("x", Color::Cyan), "\u{1b}[36mx\u{1b}[0m");
        assert_eq!(colored.color("x", Color::Reset), "x");
        assert_eq!(Paint::plain(80).color("x", Color::Cyan), "x");
    }
}
