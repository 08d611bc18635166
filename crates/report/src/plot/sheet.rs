//! What plots are drawn on: shapes and texts in CSS pixels and in roles of colors ─► an SVG
//!
//! Plotters computes in whole pixels, so that a sheet has ten units a pixel. The finished SVG has classes in place
//! of colors: inside a page it has the page's colors, as a file it brings its own style sheet.

use plotters::backend::SVGBackend;
use plotters::coord::Shift;
use plotters::drawing::{DrawingArea, IntoDrawingArea};
use plotters::element::{Circle, Drawable, PathElement, PointCollection, Rectangle, Text};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, IntoFont, ShapeStyle, TextStyle};

use super::ink::Ink;

/// Units of a CSS pixel.
const UNITS: f64 = 10.0;

/// A drawing surface.
pub(crate) struct Sheet<'a> {
    area: DrawingArea<SVGBackend<'a>, Shift>,
    /// Width and height in CSS pixels.
    pub size: (f64, f64),
    /// Everything is drawn this much lower: below the title of a file.
    top: f64,
}

/// Where a text is in relation to its position.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Anchor {
    /// It starts there.
    Start,
    /// It is centered there.
    Middle,
    /// It ends there.
    End,
}

/// How an SVG is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Part of a page, which has the style sheet and the title.
    Page,
    /// A file of its own.
    File,
}

/// What an SVG shows, in words.
pub(crate) struct Caption<'a> {
    /// Unique in a page.
    pub id: &'a str,
    pub title: &'a str,
    pub description: &'a str,
}

/// Height of the title of a file.
const TITLE_HEIGHT: f64 = 36.0;

/// Draws an SVG of `width` by `height` CSS pixels; a file has a title above that.
pub(crate) fn draw(
    (width, height): (f64, f64),
    usage: Use,
    caption: &Caption,
    drawing: impl FnOnce(&Sheet),
) -> String {
    let top = if usage == Use::File { TITLE_HEIGHT } else { 0.0 };
    let total = height + top;
    let mut svg = String::new();
    {
        let backend = SVGBackend::with_string(&mut svg, (units(width) as u32, units(total) as u32));
        let sheet = Sheet { area: backend.into_drawing_area(), size: (width, height), top };
        if usage == Use::File {
            sheet.rect((0.0, -top), (width, height), Ink::Surface, 1.0);
            sheet.text((16.0, -14.0), caption.title, Ink::Text, 15.0, Anchor::Start);
        }
        drawing(&sheet);
    }
    let body = svg.split_once('\n').map_or("", |(_opening_tag, body)| body);
    format!("{}{}", opening_tag(width, total, usage, caption), with_classes(body))
}

fn opening_tag(width: f64, height: f64, usage: Use, caption: &Caption) -> String {
    let Caption { id, title, description } = caption;
    let (title, description) = (escape(title), escape(description));
    let view = format!("0 0 {} {}", units(width), units(height));
    let size = match usage {
        Use::Page => String::new(),
        Use::File => format!(" width=\"{width}\" height=\"{height}\""),
    };
    let style = match usage {
        Use::Page => String::new(),
        Use::File => format!(
            "<style>text{{font-family:system-ui,sans-serif}}polyline{{stroke-linejoin:round;\
             stroke-linecap:round}}rect{{shape-rendering:crispEdges}}{}@media(prefers-color-scheme:dark){{{}}}</style>\n",
            Ink::literal_rules(false),
            Ink::literal_rules(true)
        ),
    };
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\"{size} viewBox=\"{view}\" class=\"plot\" role=\"img\" \
         aria-labelledby=\"{id}-title {id}-desc\">\n<title id=\"{id}-title\">{title}</title>\n\
         <desc id=\"{id}-desc\">{description}</desc>\n{style}"
    )
}

/// Puts classes in place of the placeholder colors, and leaves out what a style sheet says anyway.
fn with_classes(svg: &str) -> String {
    let mut svg = svg.replace(" opacity=\"1\"", "").replace(" font-family=\"sans-serif\"", "");
    svg = svg.replace(" stroke=\"none\"", "").replace(" \"/>", "\"/>");
    for ink in Ink::all() {
        let (color, class) = (ink.placeholder(), ink.class());
        let color = format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2);
        for (attribute, prefix) in [("fill", "f"), ("stroke", "s")] {
            let with_color = format!("{attribute}=\"{color}\"");
            svg = svg.replace(&with_color, &format!("class=\"{prefix}-{class}\""));
        }
    }
    svg
}

/// A text between tags.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn units(pixels: f64) -> i32 {
    // The conversion saturates.
    (pixels * UNITS).round() as i32
}

impl Sheet<'_> {
    fn units(&self, (x, y): (f64, f64)) -> (i32, i32) {
        (units(x), units(y + self.top))
    }

    fn add<'b, E>(&'b self, element: &'b E)
    where
        &'b E: PointCollection<'b, (i32, i32)>,
        E: for<'c> Drawable<SVGBackend<'c>>,
    {
        self.area.draw(element).expect("a drawing in memory has no errors");
    }

    /// A filled rectangle.
    pub fn rect(&self, from: (f64, f64), to: (f64, f64), ink: Ink, opacity: f64) {
        let style = ink.placeholder().mix(opacity).filled();
        self.add(&Rectangle::new([self.units(from), self.units(to)], style));
    }

    /// A line through points.
    pub fn line(&self, points: &[(f64, f64)], ink: Ink, width: f64, opacity: f64) {
        let points = points.iter().map(|point| self.units(*point)).collect::<Vec<_>>();
        if points.len() > 1 {
            let stroke_width = units(width).max(1) as u32;
            let style = ShapeStyle { stroke_width, ..ink.placeholder().mix(opacity).into() };
            self.add(&PathElement::new(points, style));
        }
    }

    /// A filled circle.
    pub fn dot(&self, center: (f64, f64), radius: f64, ink: Ink, opacity: f64) {
        let style = ink.placeholder().mix(opacity).filled();
        self.add(&Circle::new(self.units(center), units(radius), style));
    }

    /// A line of text, vertically centered at its position.
    pub fn text(&self, at: (f64, f64), text: &str, ink: Ink, size: f64, anchor: Anchor) {
        /// Plotters' sizes are of the whole line.
        const LINE_HEIGHT: f64 = 1.24;
        let horizontal = match anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let color = ink.placeholder();
        let style = TextStyle::from(("sans-serif", size * UNITS * LINE_HEIGHT).into_font());
        let style = style.color(&color).pos(Pos::new(horizontal, VPos::Center));
        self.add(&Text::new(text, self.units(at), style));
    }
}
