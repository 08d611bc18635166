//! Shortened text for messages: files may contain names of any length and number.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// The first `max` characters of a text.
pub fn first_chars(text: &str, max: usize) -> &str {
    text.char_indices().nth(max).map_or(text, |(end, _)| &text[..end])
}

/// The first `max` characters of a text, followed by `...` if there are more.
pub fn ellipsize(text: &str, max: usize) -> Cow<'_, str> {
    let start = first_chars(text, max);
    if start.len() == text.len() { text.into() } else { format!("{start}...").into() }
}

/// The first `max` items separated by commas, followed by `, ...` if there are more.
pub fn join_first(items: impl IntoIterator<Item = String>, max: usize) -> String {
    let mut items = items.into_iter();
    let shown = items.by_ref().take(max).collect::<Vec<_>>().join(", ");
    if items.next().is_some() { shown + ", ..." } else { shown }
}

/// Names from a file, quoted.
pub fn name_list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    const MAX_NAMES: usize = 8;
    const MAX_NAME_CHARS: usize = 40;
    let quoted = |name| format!("`{}`", first_chars(name, MAX_NAME_CHARS).escape_debug());
    join_first(names.into_iter().map(quoted), MAX_NAMES)
}

/// The names of all fields of an object.
pub fn field_names(values: &Map<String, Value>) -> String {
    name_list(values.keys().map(String::as_str))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(first_chars("äöü", 2), "äö");
        assert_eq!(ellipsize("äöü", 2), "äö...");
        assert_eq!(ellipsize("äöü", 3), "äöü");
    }

    #[test]
    fn long_lists_are_cut_after_the_last_shown_item() {
        let items = || ["a", "b", "c"].map(String::from);
        assert_eq!(join_first(items(), 2), "a, b, ...");
        assert_eq!(join_first(items(), 3), "a, b, c");
    }
}
