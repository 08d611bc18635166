//! Reading data files: a file or folder of any supported format ─► rows.
//!
//! ```text
//! folder ──────────────────────────────────► science_qa: one row per problem
//! file ─ text ─┬─ JSON list or values ─┬─► records, each by its fields:
//!              └─ table ───────────────┘     ├─ turns ────────────► conversation_record: one row, or one per response
//!                                            ├─ prompt, response ─► instruction_record: one row
//!                                            ├─ chosen, rejected ─► preference_record: the chosen one
//!                                            ├─ image, caption ───► caption_record: one row
//!                                            └─ text ─────────────► text_record: one row
//! ```
//!
//! The content of a file decides its format, not its name alone.

mod caption_record;
mod conversation_record;
mod conversation_turn;
mod instruction_record;
mod json_records;
mod preference_record;
mod read_options;
mod record_fields;
mod record_kind;
mod record_origin;
mod record_reader;
mod row_counts;
mod row_report;
mod science_qa;
mod science_qa_problem;
mod table;
mod text_file;
mod text_record;
mod turns;

use std::path::Path;

use super::instruction::Instruction;
use super::shorten::join_first;
use crate::error::{Error, Result};
use json_records::{require_rows, strip_bom};
use record_reader::RecordReader;

pub use read_options::{ConversationRows, EmptyOutputPolicy, LoadedRows, ReadOptions};
pub use record_kind::RecordKind;
pub use row_counts::{RowCounts, RunRowCounts};
pub use row_report::{DropReason, Occurrences, RowAdjustment, RowReport};
pub use science_qa::ScienceQa;
pub use science_qa_problem::SCIENCE_QA_TAGS;

/// Reads the rows of a file or folder. Supported formats:
///
/// - A JSON list, or a sequence of JSON values such as JSON lines, or an object that contains one
///   list. Each record is an [instruction](Instruction), a conversation in the format of LLaVA,
///   ShareGPT or OpenAI, a preference pair, of which the chosen answer is used, or plain `text`. Each
///   response of a conversation becomes a row; the turns before it become lines of its input that begin
///   with `System: `, `Human: `, `Assistant: ` and `Tool: `. With [`ConversationRows::Whole`] a
///   conversation is one row.
/// - A table with a header, separated by commas, tabs or semicolons: instructions, or captions with
///   the columns `url` (or `image`, or `path`) and `caption`.
/// - A [ScienceQA](ScienceQa) folder.
///
/// Relative image paths are relative to [`ReadOptions::image_folder`], or to the folder of the file.
/// Nothing is downloaded, and no image is opened.
///
/// # Errors
/// [`Error::UnsupportedFile`], [`Error::UnknownFormat`], [`Error::Read`], [`Error::Record`] with the
/// location of the record, [`Error::RemoteImage`], [`Error::UnknownSplit`], [`Error::NoRows`].
///
/// ```
/// use train::data::{DropReason, ReadOptions, read_rows};
///
/// # fn main() -> train::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("chat.json");
/// # let text = r#"[{"id": "1", "image": "cat.png", "conversations": [
/// #     {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]},
/// #     {"instruction": "Say nothing.", "output": ""}]"#;
/// # std::fs::write(&path, text).unwrap();
/// let image_folder = Some("/images".as_ref());
/// let loaded = read_rows(&path, &ReadOptions { image_folder, ..Default::default() })?;
/// assert_eq!(loaded.rows[0].instruction, "What is this?");
/// assert_eq!(loaded.rows[0].output, "A cat.");
/// assert_eq!(loaded.rows[0].image.as_deref(), Some("/images/cat.png"));
/// assert_eq!(loaded.report.dropped[&DropReason::EmptyOutput].count, 1);
/// # Ok(())
/// # }
/// ```
pub fn read_rows(path: &Path, options: &ReadOptions) -> Result<LoadedRows> {
    if path.is_dir() {
        return read_folder(path, options);
    }
    let text = text_file::read_text(path)?;
    let image_folder = options.image_folder.or(path.parent());
    parse_rows(path, &text, &ReadOptions { image_folder, ..*options })
}

/// Parses the text of a data file as [`read_rows`] does; `path` is only used in messages. Image
/// paths stay unchanged, unless [`ReadOptions::image_folder`] is set.
///
/// # Errors
/// As [`read_rows`].
pub fn parse_rows(path: &Path, text: &str, options: &ReadOptions) -> Result<LoadedRows> {
    let text = strip_bom(text);
    let mut reader = RecordReader { path, options, loaded: LoadedRows::default() };
    match text.trim_start().chars().next() {
        None => {}
        Some('[' | '{') => reader.read_json(text)?,
        Some(_) => reader.read_table(text)?,
    }
    let LoadedRows { rows, report } = reader.loaded;
    let reason = match report.messages() {
        _ if report.dropped.is_empty() => "the file has none".into(),
        messages => messages.join("; "),
    };
    Ok(LoadedRows { rows: require_rows(rows, path, &reason)?, report })
}

impl Instruction {
    /// Reads the rows of a file as [`read_rows`] does, with default options and without a report.
    ///
    /// # Errors
    /// As [`read_rows`].
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        Ok(read_rows(path, &ReadOptions::default())?.rows)
    }

    /// Parses the text of a data file as [`parse_rows`] does, with default options and without a
    /// report.
    ///
    /// # Errors
    /// As [`read_rows`].
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Self>> {
        Ok(parse_rows(path, text, &ReadOptions::default())?.rows)
    }
}

fn read_folder(path: &Path, options: &ReadOptions) -> Result<LoadedRows> {
    if !ScienceQa::is_science_qa_folder(path) {
        let reason = format!("a folder without problems.json, {}", describe_folder(path));
        let hint = Some("name the files in it that contain the rows");
        return Err(Error::UnknownFormat { path: path.into(), reason, hint });
    }
    let data = ScienceQa::open(path)?;
    let data =
        if let Some(folder) = options.image_folder { data.with_image_folder(folder) } else { data };
    let rows = data.rows(options.split.unwrap_or("train"))?;
    Ok(LoadedRows { rows, report: RowReport::default() })
}

/// The first entries of a folder, for messages.
fn describe_folder(path: &Path) -> String {
    /// A folder may have millions of entries.
    const MAX_ENTRIES: usize = 1000;
    const MAX_SHOWN: usize = 4;
    let entries = std::fs::read_dir(path).into_iter().flatten().take(MAX_ENTRIES);
    let mut names = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect::<Vec<_>>();
    names.sort_unstable();
    if names.is_empty() {
        return "with nothing in it".into();
    }
    format!("with {}", join_first(names, MAX_SHOWN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ImageRef;

    pub(super) fn read_with_report(name: &str, text: &str) -> Result<LoadedRows> {
        let image_folder = Some(Path::new("/images"));
        parse_rows(Path::new(name), text, &ReadOptions { image_folder, ..ReadOptions::default() })
    }

    pub(super) fn read(name: &str, text: &str) -> Result<Vec<Instruction>> {
        read_with_report(name, text).map(|loaded| loaded.rows)
    }

    /// Input, instruction and output of each row.
    pub(super) fn texts(text: &str) -> Vec<[String; 3]> {
        let rows = read("rows", text).unwrap().into_iter();
        rows.map(|row| [row.input, row.instruction, row.output]).collect()
    }

    #[test]
    fn a_list_may_mix_instructions_and_conversations() {
        let text = r#"[
            {"instruction": "Name a color.", "output": "Red."},
            {"image": "a.png", "conversations": [
                {"from": "human", "value": "What is it?"}, {"from": "gpt", "value": "A cat."}]}
        ]"#;
        let rows = read("mixed.json", text).unwrap();
        assert_eq!(rows[0], Instruction::new("Name a color.", "", "Red."));
        assert_eq!(rows[1].image.as_deref(), Some("/images/a.png"));
        assert_eq!(rows.len(), 2);
    }

    #[test]
    fn the_format_is_detected_from_content_not_from_the_name() {
        let row = r#"{"instruction": "a", "output": "b"}"#;
        assert_eq!(read("rows.txt", row).unwrap(), [Instruction::new("a", "", "b")]);
        assert_eq!(read("rows.csv", &format!("\u{feff}[{row}]")).unwrap().len(), 1);
        assert_eq!(read("rows.txt", "image,caption\na.png,A cat.\n").unwrap()[0].output, "A cat.");
    }

    #[test]
    fn an_unknown_format_lists_the_supported_ones() {
        for (text, expected) in [
            ("hello\n", "neither JSON nor a table of rows"),
            ("{\n \"1\": {}\n}\n", "one JSON object with `1`: no list of rows"),
            ("{\"a\": [{}], \"b\": [{}]}", "`a`, `b`: more than one list of rows"),
        ] {
            let error = read("rows.txt", text).unwrap_err();
            assert!(matches!(error, Error::UnknownFormat { .. }), "{error}");
            assert!(error.to_string().contains("conversations, .csv and .tsv"), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = read("rows.csv", "name,size\na,1\n").unwrap_err().to_string();
        assert!(error.contains("a table with the columns `name`, `size`"), "{error}");
        let long = read("rows.csv", &format!("{},b\na,1\n", "a".repeat(9999))).unwrap_err();
        assert!(long.to_string().len() < 2000, "{long}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.parquet"), "").unwrap();
        let error = read_rows(folder.path(), &ReadOptions::default()).unwrap_err();
        let expected = "a folder without problems.json, with a.parquet";
        assert!(error.to_string().contains(expected), "{error}");
    }

    #[test]
    fn a_single_list_inside_an_object_is_read() {
        let text = "{\n\"version\": 1, \"data\": [{\"instruction\": \"a\", \"output\": \"b\"}]\n}";
        let loaded = read_with_report("a", text).unwrap();
        assert_eq!(loaded.rows, [Instruction::new("a", "", "b")]);
        assert_eq!(loaded.report.messages(), ["read the list in data (1)"]);
    }

    #[test]
    fn prompt_messages_are_not_trained_on() {
        let message = |role: &str, text: &str| serde_json::json!({"role": role, "content": text});
        let record = serde_json::json!({
            "prompt": [message("user", "a"), message("assistant", "b"), message("user", "c")],
            "completion": [message("assistant", "d")]});
        assert_eq!(texts(&record.to_string()), [["Human: a\nAssistant: b", "c", "d"]]);
    }

    #[test]
    fn invalid_lines_are_reported_by_line() {
        let error = read("rows.jsonl", "{\"instruction\": \"a\"\n").unwrap_err();
        assert!(error.to_string().contains("rows.jsonl, line 1: not valid JSON"), "{error}");
    }

    #[test]
    fn image_paths_are_relative_to_the_file_or_to_the_image_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.csv");
        std::fs::write(&path, "\u{feff}url,caption\na.png,A cat.\n").unwrap();
        let image = |image_folder: Option<&Path>| {
            let options = ReadOptions { image_folder, ..ReadOptions::default() };
            read_rows(&path, &options).unwrap().rows.remove(0).image.unwrap()
        };
        assert_eq!(Path::new(&image(None)), folder.path().join("a.png"));
        assert_eq!(Path::new(&image(Some(Path::new("/p")))), Path::new("/p/a.png"));
    }

    #[cfg(unix)]
    #[test]
    fn non_utf8_paths_are_supported() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        let inside = folder.path().join(std::ffi::OsStr::from_bytes(b"d\xff"));
        std::fs::create_dir(&inside).unwrap();
        let path = inside.join("rows.jsonl");
        let row = r#"{"instruction": "a", "output": "b", "image": "c d.png"}"#;
        std::fs::write(&path, row).unwrap();
        let rows = read_rows(&path, &ReadOptions::default()).unwrap().rows;
        let image = ImageRef::parse(rows[0].image.as_ref().unwrap()).unwrap();
        assert_eq!(image, ImageRef::Path(inside.join("c d.png").into()));
    }

    #[test]
    fn empty_data_is_an_error() {
        for text in ["", " \n", "[]", "url,caption\n"] {
            assert!(matches!(read("rows.csv", text), Err(Error::NoRows { .. })), "{text}");
        }
        let nowhere = read_rows(Path::new("/no/where.json"), &ReadOptions::default());
        assert!(matches!(nowhere, Err(Error::Read { .. })));
    }

    #[test]
    fn truncated_input_is_read_or_rejected() {
        let turns =
            r#"[{"from": "human", "value": "<image>\nWas?"}, {"from": "gpt", "value": "Ü"}]"#;
        for text in [
            format!(r#"[{{"image": "ä.png", "conversations": {turns}}}]"#),
            r#"{"instruction": "a", "output": "é", "options": ["é"], "image": "data:,"}"#.into(),
            r#"{"data": [{"prompt": "ä", "completion": 1, "history": [["a", "ö"]]}]}"#.into(),
            "{\n\"messages\": [{\"role\": \"user\", \"content\": [{\"text\": \"ü\"}]},\n\
                {\"role\": \"assistant\", \"content\": \"b\"}]}\n"
                .into(),
            "question;answer\nä;\"b;\"\n".into(),
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
