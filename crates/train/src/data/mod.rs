//! A file or folder of data in any known format ─► rows.
//!
//! ```text
//! JSON list or lines ─┬─ a record with `conversations` ─► conversation: a row for each answer
//!                     └─ any other record ──────────────► instruction: one row
//! table of captions ────────────────────────────────────► captions: a row for each line
//! folder ───────────────────────────────────────────────► science_qa: a row for each problem
//! ```
//!
//! What a file holds decides, not only what it is called.

mod captions;
mod conversation;
mod science_problem;
mod science_qa;

use std::path::Path;

use serde::de::IgnoredAny;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::instruction::{FORM, Instruction};
use crate::origin::Origin;
use crate::records::{records, some, without_mark};

pub use science_problem::SCIENCE_QA_TAGS;
pub use science_qa::ScienceQa;

/// Reads rows of whatever format the path holds.
///
/// - A JSON list, or JSON lines, of [instructions](Instruction), of LLaVA's conversations, or of
///   both mixed. Each answer of a conversation becomes a row; earlier turns are its input, as lines
///   that begin with `Human: ` and `Assistant: `.
/// - A table of captions with a header: `url` (or `image`, or `path`) and `caption`, separated by
///   commas or by tabs, whatever the file is called.
/// - A [ScienceQA](ScienceQa) folder: its split `train`.
///
/// Relative paths of images are joined to `image_folder`, or else to the file's own folder.
/// Nothing is fetched, and no picture is opened.
///
/// # Errors
/// [`Error::UnknownFormat`], [`Error::Read`], [`Error::Record`] with the record's place,
/// [`Error::RemoteImage`], [`Error::Empty`].
///
/// ```
/// # fn main() -> train::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("chat.json");
/// # let text = r#"[{"id": "1", "image": "cat.png", "conversations": [
/// #     {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]}]"#;
/// # std::fs::write(&path, text).unwrap();
/// let rows = train::read_rows(&path, Some("/pictures".as_ref()))?;
/// assert_eq!(rows[0].instruction, "What is this?");
/// assert_eq!(rows[0].output, "A cat.");
/// assert_eq!(rows[0].image.as_deref(), Some("/pictures/cat.png"));
/// # Ok(())
/// # }
/// ```
pub fn read_rows(path: &Path, image_folder: Option<&Path>) -> Result<Vec<Instruction>> {
    read_split(path, image_folder, "train")
}

/// As [`read_rows`], with another split of a ScienceQA folder. Files have no splits.
///
/// # Errors
/// As [`read_rows`], and [`Error::NoSplit`].
pub fn read_split(
    path: &Path,
    image_folder: Option<&Path>,
    split: &str,
) -> Result<Vec<Instruction>> {
    if path.is_dir() {
        if !ScienceQa::is_at(path) {
            return Err(unknown(path, "a folder without problems.json"));
        }
        let data = ScienceQa::open(path)?;
        let data = if let Some(folder) = image_folder { data.images_in(folder) } else { data };
        return data.rows(split);
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.into(), source })?;
    parse_rows(path, &text, image_folder.or(path.parent()))
}

/// The rows of a file's text.
fn parse_rows(path: &Path, text: &str, images: Option<&Path>) -> Result<Vec<Instruction>> {
    let text = without_mark(text);
    let rows = match text.trim_start().chars().next() {
        None => Vec::new(),
        Some('{') if is_one_object(text) => {
            return Err(unknown(path, "one JSON object over several lines"));
        }
        Some('[' | '{') => json_rows(path, text, images)?,
        Some(_) => match captions::Table::of(path, text) {
            Some(table) => table.rows(path, images)?,
            None => return Err(unknown(path, "neither JSON nor a table of captions")),
        },
    };
    some(rows, path)
}

fn unknown(path: &Path, reason: &str) -> Error {
    Error::UnknownFormat { path: path.into(), reason: reason.into() }
}

/// Whether a text is no JSON line by line, but one JSON value as a whole.
fn is_one_object(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or("");
    serde_json::from_str::<IgnoredAny>(first).is_err()
        && serde_json::from_str::<IgnoredAny>(text).is_ok()
}

/// Rows of JSON records, each of which may be of either kind.
fn json_rows(path: &Path, text: &str, images: Option<&Path>) -> Result<Vec<Instruction>> {
    let mut rows = Vec::new();
    for record in records(path, text)? {
        let (place, value) = record?;
        match &value {
            Value::Object(fields) if fields.contains_key("conversations") => {
                let origin = Origin { path, place, form: conversation::FORM, images };
                rows.extend(conversation::rows(fields, &origin)?);
            }
            _ => rows
                .push(Instruction::of_record(&value, &Origin { path, place, form: FORM, images })?),
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Vec<Instruction>> {
        parse_rows(Path::new(name), text, Some(Path::new("/pictures")))
    }

    #[test]
    fn a_list_may_mix_instructions_and_conversations() {
        let text = r#"[
            {"instruction": "Name a colour.", "output": "Red."},
            {"image": "a.png", "conversations": [
                {"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A cat."}]}
        ]"#;
        let rows = read("mixed.json", text).unwrap();
        assert_eq!(rows[0], Instruction::new("Name a colour.", "", "Red."));
        assert_eq!(rows[1].image.as_deref(), Some("/pictures/a.png"));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn the_content_decides_not_the_name() {
        let row = r#"{"instruction": "a", "output": "b"}"#;
        assert_eq!(read("rows.txt", row).unwrap(), [Instruction::new("a", "", "b")]);
        assert_eq!(read("rows.csv", &format!("\u{feff}[{row}]")).unwrap().len(), 1);
        assert_eq!(read("rows.txt", "image,caption\na.png,A cat.\n").unwrap()[0].output, "A cat.");
    }

    #[test]
    fn an_unknown_format_is_told_what_is_read() {
        for text in ["hello\n", "name,size\na,1\n", "{\n \"1\": {}\n}\n"] {
            let error = read("rows.txt", text).unwrap_err();
            assert!(matches!(error, Error::UnknownFormat { .. }), "{error}");
            assert!(error.to_string().contains("conversations, .csv and .tsv"), "{error}");
        }
        let folder = tempfile::tempdir().unwrap();
        let error = read_rows(folder.path(), None).unwrap_err();
        assert!(error.to_string().contains("a folder without problems.json"), "{error}");
    }

    #[test]
    fn broken_lines_stay_named_by_their_line() {
        let error = read("rows.jsonl", "{\"instruction\": \"a\"\n").unwrap_err();
        assert!(error.to_string().contains("rows.jsonl, line 1: not valid JSON"), "{error}");
    }

    #[test]
    fn images_are_beside_the_file_unless_a_folder_is_given() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, "\u{feff}url,caption\na.png,A cat.\n").unwrap();
        let image =
            |given: Option<&Path>| read_rows(&path, given).unwrap().remove(0).image.unwrap();
        assert_eq!(Path::new(&image(None)), folder.path().join("a.png"));
        assert_eq!(Path::new(&image(Some(Path::new("/p")))), Path::new("/p/a.png"));
    }

    #[test]
    fn nothing_to_read_is_an_error() {
        for text in ["", " \n", "[]", "url,caption\n"] {
            assert!(matches!(read("rows.csv", text), Err(Error::Empty { .. })), "{text}");
        }
        assert!(matches!(read_rows(Path::new("/no/where.json"), None), Err(Error::Read { .. })));
    }

    #[test]
    fn a_text_cut_anywhere_is_read_or_refused() {
        let turns =
            r#"[{"from": "human", "value": "<image>\nWas?"}, {"from": "gpt", "value": "Ü"}]"#;
        for text in [
            format!(r#"[{{"image": "ä.png", "conversations": {turns}}}]"#),
            r#"{"instruction": "a", "output": "é", "options": ["é"], "image": "data:,"}"#.into(),
            "url,caption\n\"ä\".png,\"A \"\"cat\"\", grey.\"\r\nb.png,x\n".into(),
        ] {
            assert!(read("rows.csv", &text).is_ok(), "{text}");
            for (at, _) in text.char_indices() {
                for part in [&text[..at], &text[at..]] {
                    let read = read("rows.csv", part);
                    assert!(
                        read.map_or_else(|error| error.to_string().len(), |rows| rows.len()) > 0
                    );
                }
            }
        }
    }
}
