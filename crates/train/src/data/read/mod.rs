//! Reading data files: a file or folder of any supported format ─► rows.
//!
//! ```text
//! ScienceQA folder ────► science_qa: one row per problem
//! file, folder of files ─► ::data ─► records, each by its fields:
//!                                            ├─ turns ────────────► conversation_record: one row, or one per response
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
mod text_record;
mod turn;
mod turns;

use std::path::Path;

use ::data::{OpenOptions, Opened};

use super::instruction::Instruction;
use crate::error::{Error, Result};
use record_reader::{RecordReader, RowSchema};

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
/// - A Parquet file with the same columns, or with lists of structs for conversations.
/// - A plain text, if [`ReadOptions::format`] says so.
/// - A [ScienceQA](ScienceQa) folder.
/// - A folder of files: the shards of a split.
///
/// Files may be compressed with gzip or zstd. None of them is in memory whole.
///
/// Relative image paths are relative to [`ReadOptions::image_folder`], or to the folder of the file.
/// Nothing is downloaded, and no image is opened.
///
/// # Errors
/// [`Error::Data`] with the file, and the location of the record if one is invalid;
/// [`Error::RemoteImage`], [`Error::NoRows`].
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
    let mut rows = Vec::new();
    let report = stream_rows(path, options, &mut |row| {
        rows.push(row);
        Ok(())
    })?;
    Ok(LoadedRows { rows, report })
}

/// Reads the rows of a file or folder as [`read_rows`] does, one at a time: `receive` is called with each.
///
/// # Errors
/// As [`read_rows`], and those of `receive`.
pub fn stream_rows(
    path: &Path,
    options: &ReadOptions,
    receive: &mut dyn FnMut(Instruction) -> Result<()>,
) -> Result<RowReport> {
    let mut report = RowReport::default();
    let mut count = 0;
    let mut rows = |row| {
        count += 1;
        receive(row)
    };
    let split = options.split.unwrap_or("train");
    if ScienceQa::is_science_qa_folder(path) {
        let data = ScienceQa::open(path)?;
        let data = match options.image_folder {
            Some(folder) => data.with_image_folder(folder),
            None => data,
        };
        data.rows(split)?.into_iter().try_for_each(rows)?;
        return Ok(report);
    }
    let files = if path.is_dir() { ::data::data_files(path, split)? } else { vec![path.into()] };
    for file in &files {
        let opened = ::data::open_file(file, &open_options(options))?;
        report.count_file(&opened.description);
        let image_folder = options.image_folder.or(file.parent());
        let options = ReadOptions { image_folder, ..*options };
        read_opened(file, opened, &options, &mut report, &mut rows)?;
    }
    require_rows(count, path, &report)?;
    Ok(report)
}

/// Parses the text of a data file as [`read_rows`] does; `path` is only used in messages. Image
/// paths stay unchanged, unless [`ReadOptions::image_folder`] is set.
///
/// # Errors
/// As [`read_rows`].
pub fn parse_rows(path: &Path, text: &str, options: &ReadOptions) -> Result<LoadedRows> {
    let opened = ::data::open_bytes(path, text.as_bytes(), &open_options(options))?;
    let mut loaded = LoadedRows::default();
    let LoadedRows { rows, report } = &mut loaded;
    let mut push = |row| {
        rows.push(row);
        Ok(())
    };
    read_opened(path, opened, options, report, &mut push)?;
    require_rows(loaded.rows.len(), path, &loaded.report)?;
    Ok(loaded)
}

fn open_options<'a>(options: &ReadOptions<'a>) -> OpenOptions<'a> {
    OpenOptions { schema: &RowSchema, format: options.format, columns: options.columns }
}

fn read_opened(
    path: &Path,
    opened: Opened,
    options: &ReadOptions,
    report: &mut RowReport,
    rows: &mut dyn FnMut(Instruction) -> Result<()>,
) -> Result<()> {
    RecordReader { path, options, report, rows }.read(opened)
}

/// Rejects data without a row.
///
/// # Errors
/// [`Error::NoRows`].
fn require_rows(count: usize, path: &Path, report: &RowReport) -> Result<()> {
    if count > 0 {
        return Ok(());
    }
    let reason = if report.dropped.is_empty() {
        "the file has none".into()
    } else {
        report.messages().join("; ")
    };
    Err(Error::NoRows { name: path.display().to_string(), purpose: "train on", reason })
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
            assert!(matches!(error, Error::Data(::data::Error::UnknownFormat { .. })), "{error}");
            assert!(error.to_string().contains("conversations, .csv and .tsv"), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let error = read("rows.csv", "name,size\na,1\n").unwrap_err().to_string();
        assert!(error.contains("a table with the columns `name`, `size`"), "{error}");
        let long = read("rows.csv", &format!("{},b\na,1\n", "a".repeat(9999))).unwrap_err();
        assert!(long.to_string().len() < 2000, "{long}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.arrow"), "").unwrap();
        let error = read_rows(folder.path(), &ReadOptions::default()).unwrap_err();
        let expected = "a folder without data files and without problems.json, with a.arrow";
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
    fn the_shards_of_a_folder_are_one_set_of_rows() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("train-00001.jsonl", r#"{"instruction": "c", "output": "d"}"#),
            ("train-00000.csv", "instruction,output\na,b\n"),
            ("validation-00000.jsonl", r#"{"instruction": "e", "output": "f"}"#),
        ] {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        let read = |split| {
            let options = ReadOptions { split, ..ReadOptions::default() };
            read_rows(folder.path(), &options).map(|loaded| loaded.rows)
        };
        let train = [Instruction::new("a", "", "b"), Instruction::new("c", "", "d")];
        assert_eq!(read(None).unwrap(), train);
        assert_eq!(read(Some("val")).unwrap(), [Instruction::new("e", "", "f")]);
        assert!(read(Some("test")).unwrap_err().to_string().contains("no split `test`"));
    }

    #[test]
    fn invalid_records_are_set_aside_on_request() {
        let folder = tempfile::tempdir().unwrap();
        let rejects = ::data::RejectFile::new(&folder.path().join("rejected.jsonl")).unwrap();
        let options = ReadOptions { rejects: Some(&rejects), ..ReadOptions::default() };
        let text = "{\"instruction\": \"a\", \"output\": \"b\"}\n{oops\n\
            {\"instruction\": \"c\"}\n[1]\n\
            {\"instruction\": \"d\", \"output\": \"e\", \"image\": \"https://x.org/a.png\"}\n\
            {\"instruction\": \"f\", \"output\": \"g\"}";
        let loaded = parse_rows(Path::new("a.jsonl"), text, &options).unwrap();
        let expected = [Instruction::new("a", "", "b"), Instruction::new("f", "", "g")];
        assert_eq!(loaded.rows, expected);
        assert_eq!(loaded.report.dropped[&DropReason::InvalidRecord].count, 4);
        let message = "4 rows are left out: the record is invalid (line 2, line 3, line 4, line 5)";
        assert_eq!(loaded.report.messages()[0], message);
        rejects.finish().unwrap();
        let lines = std::fs::read_to_string(rejects.path()).unwrap();
        let reasons = lines
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["reason"].clone());
        let reasons = reasons.collect::<Vec<_>>();
        assert!(reasons[0].as_str().unwrap().starts_with("not valid JSON"), "{reasons:?}");
        assert_eq!(reasons[1], "`output` is missing; the record has `instruction`");
        assert_eq!(reasons[2], "expected an object");
        assert_eq!(reasons[3], "the image https://x.org/a.png is not a local file");
        // Without a file for them the first one is an error.
        assert!(parse_rows(Path::new("a.jsonl"), text, &ReadOptions::default()).is_err());
    }

    #[test]
    fn fields_may_have_other_names() {
        let columns = "instruction=q,output=a".parse().unwrap();
        let options = ReadOptions { columns: Some(&columns), ..ReadOptions::default() };
        let rows = |text: &str| parse_rows(Path::new("a"), text, &options).unwrap().rows;
        let expected = [Instruction::new("1 + 1?", "", "2")];
        assert_eq!(rows("q,a\n1 + 1?,2\n"), expected);
        assert_eq!(rows("Q,A,output\n1 + 1?,2,x\n"), expected);
        assert_eq!(rows(r#"{"q": "1 + 1?", "a": "2", "prompt": "no"}"#), expected);
        let error = parse_rows(Path::new("a.csv"), "q,b\n1,2\n", &options).unwrap_err();
        assert_eq!(error.to_string(), "a.csv: no column `a`; the file has `q`, `b`");
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
        assert!(matches!(nowhere, Err(Error::Data(::data::Error::Read { .. }))));
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
