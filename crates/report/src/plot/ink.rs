//! The colors of plots by their role. A page decides what a role looks like; a file has a color for light and
//! for dark surroundings.
//!
//! The hues are far apart for people with any common color vision, and all of them are dark enough on white and
//! light enough on black to be read as text. Lines also have labels at their ends.

use plotters::style::RGBColor;

/// The role of a color.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// Titles and labels.
    Text,
    /// Ticks and notes.
    Muted,
    /// Grid lines.
    Grid,
    /// The background.
    Surface,
    /// Open gates.
    Gate,
    /// Negative gates.
    Negative,
    /// A curve; the colors repeat after [`N_SERIES`](Self::N_SERIES).
    Series(usize),
}

/// Class, color on a light background, color on a dark one.
type Colors = (&'static str, &'static str, &'static str);

const SERIES: [Colors; 6] = [
    ("series-0", "#0067b0", "#62b6f7"),
    ("series-1", "#c04a05", "#ff9f61"),
    ("series-2", "#00795c", "#45d0a3"),
    ("series-3", "#9a458a", "#e79fd6"),
    ("series-4", "#7d6400", "#dfc04e"),
    ("series-5", "#4b5363", "#b9c0cd"),
];

impl Ink {
    /// Number of different curves.
    pub const N_SERIES: usize = SERIES.len();

    /// All inks.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        let plain =
            [Self::Text, Self::Muted, Self::Grid, Self::Surface, Self::Gate, Self::Negative];
        plain.into_iter().chain((0..Self::N_SERIES).map(Self::Series))
    }

    fn colors(self) -> Colors {
        match self {
            Self::Text => ("text", "#1b1d23", "#eceef2"),
            Self::Muted => ("muted", "#5a606d", "#a3a9b6"),
            Self::Grid => ("grid", "#e2e5ea", "#2e333d"),
            Self::Surface => ("surface", "#ffffff", "#171a20"),
            Self::Gate => ("gate", "#0b6e69", "#53d3c6"),
            Self::Negative => ("negative", "#a8336b", "#f48bbb"),
            Self::Series(index) => SERIES[index % SERIES.len()],
        }
    }

    /// Its name in style sheets.
    pub(crate) fn class(self) -> &'static str {
        self.colors().0
    }

    /// A color that stands for the role while the plot is drawn.
    pub(crate) fn placeholder(self) -> RGBColor {
        let index = Self::all().position(|ink| ink.class() == self.class()).unwrap_or(0);
        RGBColor(0xf0, 0x0d, index as u8)
    }

    /// The style sheet of all inks as custom properties, light or dark.
    pub(crate) fn variables(dark: bool) -> String {
        let variable = |ink: Self| {
            let (class, on_light, on_dark) = ink.colors();
            format!("--{class}:{};", if dark { on_dark } else { on_light })
        };
        Self::all().map(variable).collect()
    }

    /// The rules that give the elements of plots the colors of the custom properties.
    pub(crate) fn rules() -> String {
        let rule = |ink: Self| {
            let class = ink.class();
            format!(".f-{class}{{fill:var(--{class})}}.s-{class}{{stroke:var(--{class})}}")
        };
        Self::all().map(rule).collect()
    }

    /// The same rules without custom properties, which many programs that show SVG files do not know.
    pub(crate) fn literal_rules(dark: bool) -> String {
        let rule = |ink: Self| {
            let (class, on_light, on_dark) = ink.colors();
            let color = if dark { on_dark } else { on_light };
            format!(".f-{class}{{fill:{color}}}.s-{class}{{stroke:{color}}}")
        };
        Self::all().map(rule).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.
    fn luminance(color: &str) -> f64 {
        let channel = |from: usize| {
            let value = u8::from_str_radix(&color[from..from + 2], 16).unwrap();
            let value = f64::from(value) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn every_ink_can_be_read_as_text_on_both_backgrounds() {
        let (_, light, dark) = Ink::Surface.colors();
        for ink in Ink::all().filter(|ink| !matches!(ink, Ink::Grid | Ink::Surface)) {
            let (class, on_light, on_dark) = ink.colors();
            assert!(contrast(on_light, light) >= 4.5, "{class}: {}", contrast(on_light, light));
            assert!(contrast(on_dark, dark) >= 4.5, "{class}: {}", contrast(on_dark, dark));
        }
    }

    #[test]
    fn every_role_has_its_own_class_and_placeholder() {
        let mut classes = Ink::all().map(Ink::class).collect::<Vec<_>>();
        let count = classes.len();
        classes.sort_unstable();
        classes.dedup();
        assert_eq!(classes.len(), count);
        let placeholders = Ink::all().map(|ink| ink.placeholder().2).collect::<Vec<_>>();
        assert_eq!(placeholders, (0..count as u8).collect::<Vec<_>>());
    }
}
