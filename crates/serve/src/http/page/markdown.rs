//! An answer's Markdown ─► events ─► HTML ─► only harmless tags and attributes.
//!
//! Answers come from a model that may repeat what anyone has written into a prompt. HTML in them stays text, so the
//! sanitizer has nothing left to do; it is there in case that a renderer's escaping has an error.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use ammonia::{Builder, UrlRelative};
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd, html};

/// Largest Markdown text that is rendered, in bytes.
pub(super) const MAX_BYTES: usize = 256 * 1024;

/// Elements within elements. What is nested deeper is shown on this level: browsers, and the sanitizer, take quadratic
/// time for deeper trees.
const MAX_DEPTH: usize = 24;

/// Elements of an answer.
const TAGS: &[&str] = &[
    "a",
    "blockquote",
    "br",
    "code",
    "del",
    "em",
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "hr",
    "li",
    "ol",
    "p",
    "pre",
    "strong",
    "table",
    "tbody",
    "td",
    "th",
    "thead",
    "tr",
    "ul",
];

/// Markdown as HTML that is safe to insert into a page.
///
/// Tables, strikethrough and task lists are supported. A line break stays one, as models expect. Images become
/// links: loading one would tell its server that the answer was read.
pub(super) fn render(markdown: &str) -> String {
    let options =
        Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut depth = 0;
    let events = Parser::new_ext(markdown, options).flat_map(move |event| {
        let [first, second] = match event {
            Event::Start(tag) => {
                depth += 1;
                [(depth <= MAX_DEPTH).then(|| Event::Start(shown_as(tag))), None]
            }
            Event::End(tag) => {
                depth -= 1;
                [(depth < MAX_DEPTH).then(|| Event::End(end_shown_as(tag))), None]
            }
            Event::Html(line) => {
                let line = line.into_string();
                [
                    Some(Event::Text(line.trim_end_matches('\n').to_owned().into())),
                    Some(Event::HardBreak),
                ]
            }
            Event::InlineHtml(html) => [Some(Event::Text(html)), None],
            Event::SoftBreak => [Some(Event::HardBreak), None],
            Event::TaskListMarker(done) => {
                [Some(Event::Text(if done { "☑ " } else { "☐ " }.into())), None]
            }
            other => [Some(other), None],
        };
        first.into_iter().chain(second)
    });
    let mut html = String::with_capacity(markdown.len() * 3 / 2);
    html::push_html(&mut html, events);
    // The page allows no `style`. In text, `<` is escaped, so this is a cell's alignment.
    for cell in ["td", "th"] {
        html = html.replace(&format!("<{cell} style=\"text-align: "), &format!("<{cell} align=\""));
    }
    SANITIZER.clean(&html).to_string()
}

fn shown_as(tag: Tag<'_>) -> Tag<'_> {
    match tag {
        Tag::HtmlBlock => Tag::Paragraph,
        Tag::Image { link_type, dest_url, title, id } => {
            Tag::Link { link_type, dest_url, title, id }
        }
        tag => tag,
    }
}

fn end_shown_as(tag: TagEnd) -> TagEnd {
    match tag {
        TagEnd::HtmlBlock => TagEnd::Paragraph,
        TagEnd::Image => TagEnd::Link,
        tag => tag,
    }
}

static SANITIZER: LazyLock<Builder<'static>> = LazyLock::new(|| {
    let mut builder = Builder::empty();
    builder
        .tags(TAGS.iter().copied().collect())
        .tag_attributes(HashMap::from([
            ("a", HashSet::from(["href"])),
            ("code", HashSet::from(["class"])),
            ("ol", HashSet::from(["start"])),
            ("td", HashSet::from(["align"])),
            ("th", HashSet::from(["align"])),
        ]))
        .generic_attributes(HashSet::new())
        .attribute_filter(|tag, name, value| {
            if (tag, name) == ("code", "class") {
                language_class(value)
            } else {
                Some(value.into())
            }
        })
        .url_schemes(HashSet::from(["http", "https", "mailto"]))
        .url_relative(UrlRelative::Deny)
        .set_tag_attribute_value("a", "target", "_blank")
        .link_rel(Some("noopener nofollow"));
    builder
});

/// `language-rust` of `language-rust,ignore`; no other classes, which could look like parts of the page.
fn language_class(class: &str) -> Option<Cow<'_, str>> {
    let language = class.strip_prefix("language-")?;
    let end = language
        .find(|c: char| !(c.is_ascii_alphanumeric() || "+#-_.".contains(c)))
        .unwrap_or(language.len());
    (1..=32).contains(&end).then(|| class[.."language-".len() + end].into())
}

#[cfg(test)]
mod tests;
