//! A file or folder of data in any known format ─► rows.
//!
//! ```text
//! folder ───────────────────────────────► science_qa: a row for each problem
//! file ─ text ─┬─ JSON list, values ─┬─► records, each of them
//!              └─ table ─────────────┘     ├─ turns ─────────────► conversation: a row for each answer
//!                                          ├─ prompt, answer ────► flat: one row
//!                                          └─ picture, caption ──► captions: one row
//! ```
//!
//! What a file holds decides, not only what it is called.

mod captions;
mod conversation;
mod dialogue;
mod flat;
mod science_problem;
mod science_qa;
mod table;
mod text;

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::fields::{Fields, first_of, names};
use crate::instruction::{FORM, Instruction};
use crate::origin::Origin;
use crate::records::{of_list, records, some, without_mark};
use crate::row_report::RowReport;
use crate::rows::{ReadOptions, Rows};

use table::Table;

pub use science_problem::SCIENCE_QA_TAGS;
pub use science_qa::ScienceQa;

/// Reads rows of whatever format the path holds.
///
/// - A JSON list, or JSON values one behind the other, such as JSON lines, of
///   [instructions](Instruction), or of conversations in LLaVA's, ShareGPT's or OpenAI's form; or an
///   object with one such list in it. Each answer of a conversation becomes a row; what was said
///   before is its input, as lines that begin with `System: `, `Human: `, `Assistant: ` and `Tool: `.
/// - A table with a header, separated by commas, tabs or semicolons, of instructions, or of captions:
///   `url` (or `image`, or `path`) and `caption`.
/// - A [ScienceQA](ScienceQa) folder.
///
/// Relative paths of images are joined to the options' folder of images, or else to the file's own.
/// Nothing is fetched, and no picture is opened.
///
/// # Errors
/// [`Error::OtherKind`], [`Error::UnknownFormat`], [`Error::Read`], [`Error::Record`] with the
/// record's place, [`Error::RemoteImage`], [`Error::NoSplit`], [`Error::Empty`].
///
/// ```
/// use train::{LeftOut, ReadOptions, read_rows};
///
/// # fn main() -> train::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("chat.json");
/// # let text = r#"[{"id": "1", "image": "cat.png", "conversations": [
/// #     {"from": "human", "value": "<image>\nWhat is this?"}, {"from": "gpt", "value": "A cat."}]},
/// #     {"instruction": "Say nothing.", "output": ""}]"#;
/// # std::fs::write(&path, text).unwrap();
/// let pictures = Some("/pictures".as_ref());
/// let found = read_rows(&path, &ReadOptions { image_folder: pictures, ..Default::default() })?;
/// assert_eq!(found.rows[0].instruction, "What is this?");
/// assert_eq!(found.rows[0].output, "A cat.");
/// assert_eq!(found.rows[0].image.as_deref(), Some("/pictures/cat.png"));
/// assert_eq!(found.report.left_out[&LeftOut::EmptyOutput].count, 1);
/// # Ok(())
/// # }
/// ```
pub fn read_rows(path: &Path, options: &ReadOptions) -> Result<Rows> {
    if path.is_dir() {
        return folder_rows(path, options);
    }
    let text = text::read_text(path)?;
    let image_folder = options.image_folder.or(path.parent());
    parse_rows(path, &text, &ReadOptions { image_folder, ..*options })
}

/// As [`read_rows`], of a text; `path` is what messages call it. Without a folder of images their
/// paths stay as they are.
///
/// # Errors
/// As [`read_rows`].
pub fn parse_rows(path: &Path, text: &str, options: &ReadOptions) -> Result<Rows> {
    let text = without_mark(text);
    let mut reader = Reader { path, options, found: Rows::default() };
    match text.trim_start().chars().next() {
        None => {}
        Some('[' | '{') => reader.json(text)?,
        Some(_) => reader.table(text)?,
    }
    let Rows { rows, report } = reader.found;
    let reason = match report.lines() {
        _ if report.left_out.is_empty() => "the file has none".into(),
        lines => lines.join("; "),
    };
    Ok(Rows { rows: some(rows, path, &reason)?, report })
}

fn folder_rows(path: &Path, options: &ReadOptions) -> Result<Rows> {
    if !ScienceQa::is_at(path) {
        let reason = format!("a folder without problems.json, {}", content(path));
        let mend = Some("give the files in it that hold the rows");
        return Err(Error::UnknownFormat { path: path.into(), reason, mend });
    }
    let data = ScienceQa::open(path)?;
    let data = if let Some(folder) = options.image_folder { data.images_in(folder) } else { data };
    let rows = data.rows(options.split.unwrap_or("train"))?;
    Ok(Rows { rows, report: RowReport::default() })
}

/// What is in a folder, for messages.
fn content(path: &Path) -> String {
    /// Names that a message has, and entries that are looked at.
    const MOST: (usize, usize) = (4, 1000);
    let entries = std::fs::read_dir(path).into_iter().flatten().take(MOST.1);
    let mut names = entries
        .filter_map(|entry| Some(entry.ok()?.file_name().to_string_lossy().into_owned()))
        .collect::<Vec<_>>();
    names.sort_unstable();
    match names.len() {
        0 => "with nothing in it".into(),
        len if len > MOST.0 => format!("with {}, ...", names[..MOST.0].join(", ")),
        _ => format!("with {}", names.join(", ")),
    }
}

/// What a record is.
enum Shape {
    /// Turns in the field of this name.
    Turns(&'static str),
    /// Prompt and completion are turns.
    TurnsOfPrompt,
    Flat,
    Caption,
}

impl Shape {
    /// The shape that an object's fields make.
    fn of(values: &Map<String, Value>) -> Option<Self> {
        if let Some(name) = first_of(values, &conversation::TURNS) {
            return Some(Self::Turns(name));
        }
        let is_list = |name: &str| values.get(name).is_some_and(Value::is_array);
        if is_list("prompt") && is_list("completion") {
            return Some(Self::TurnsOfPrompt);
        }
        let has = |names: &[&str]| names.iter().any(|name| values.contains_key(*name));
        let asks = has(&flat::PROMPTS);
        if (asks || has(&flat::INPUTS)) && has(&flat::OUTPUTS) {
            return Some(Self::Flat);
        }
        if has(&[captions::CAPTION]) && has(&captions::IMAGES) {
            return Some(Self::Caption);
        }
        asks.then_some(Self::Flat)
    }
}

/// Reads the records of a file.
struct Reader<'a> {
    path: &'a Path,
    options: &'a ReadOptions<'a>,
    found: Rows,
}

impl Reader<'_> {
    fn json(&mut self, text: &str) -> Result<()> {
        let mut records = records(self.path, text)?;
        let is_list = text.trim_start().starts_with('[');
        match (records.next(), records.next()) {
            (Some(Ok((_, Value::Object(values)))), None)
                if !is_list && Shape::of(&values).is_none() && holds_more(&values) =>
            {
                let list = self.only_list(values)?;
                of_list(list).try_for_each(|record| self.record(record?, FORM))
            }
            (first, second) => {
                let all = first.into_iter().chain(second).chain(records);
                all.into_iter().try_for_each(|record| self.record(record?, FORM))
            }
        }
    }

    /// The list of objects that an object around it holds.
    fn only_list(&mut self, mut values: Map<String, Value>) -> Result<Vec<Value>> {
        let is_one = |value: &Value| {
            let list = value.as_array().filter(|list| !list.is_empty());
            list.is_some_and(|list| list.iter().all(Value::is_object))
        };
        let lists = values.iter().filter(|(_, value)| is_one(value));
        let lists = lists.map(|(name, _)| name.clone()).collect::<Vec<_>>();
        if let [name] = &lists[..]
            && let Some(Value::Array(list)) = values.get_mut(name).map(Value::take)
        {
            self.found.report.read_as(&format!("the list in {name}"));
            return Ok(list);
        }
        let count = if lists.is_empty() { "no list" } else { "more than one list" };
        Err(Error::UnknownFormat {
            path: self.path.into(),
            reason: format!("one JSON object with {}: {count} of rows", names(&values)),
            mend: Some("rows are a JSON list of objects, or one object a line"),
        })
    }

    fn table(&mut self, text: &str) -> Result<()> {
        let unknown = |reason: String, mend: Option<&'static str>| Error::UnknownFormat {
            path: self.path.into(),
            reason,
            mend,
        };
        let is_row = |names: &[&str]| {
            let values = names.iter().map(|name| ((*name).to_owned(), Value::Null)).collect();
            // What is asked alone is no row.
            matches!(Shape::of(&values), Some(Shape::Caption))
                || matches!(Shape::of(&values), Some(Shape::Flat))
                    && names.iter().any(|name| flat::OUTPUTS.contains(name))
        };
        let table = Table::of(self.path, text).filter(|table| table.is_one(self.path, &is_row));
        let Some(table) = table else {
            return Err(unknown("neither JSON nor a table of rows".into(), None));
        };
        if !is_row(&table.names()) {
            let names = table.names();
            let names = names.iter().take(8).map(|name| format!("`{}`", name.escape_debug()));
            let names = names.collect::<Vec<_>>().join(", ");
            let reason = format!("a table with the columns {names}");
            return Err(unknown(reason, Some(table::FORM)));
        }
        table.records(self.path).try_for_each(|record| self.record(record?, table::FORM))
    }

    fn record(&mut self, (place, value): (String, Value), form: &'static str) -> Result<()> {
        let Self { path, options, found } = self;
        let ReadOptions { image_folder: images, empty_outputs, .. } = **options;
        let mut origin = Origin { path, place, form, images };
        let Value::Object(values) = &value else {
            return Err(origin.error("expected an object"));
        };
        let shape = Shape::of(values);
        if let Some(Shape::Turns(_) | Shape::TurnsOfPrompt) = shape {
            origin.form = conversation::FORM;
        }
        let mut fields = Fields::new(&origin, values, &mut found.report);
        let rows = match shape {
            Some(Shape::Turns(name)) => conversation::rows(name, empty_outputs, &mut fields)?,
            Some(Shape::TurnsOfPrompt) => {
                conversation::prompt_and_completion(empty_outputs, &mut fields)?
            }
            Some(Shape::Flat) => flat::rows(empty_outputs, &mut fields)?,
            Some(Shape::Caption) => captions::rows(&mut fields)?,
            None => return Err(origin.error(unknown_record(values))),
        };
        fields.finish();
        found.rows.extend::<Vec<Instruction>>(rows);
        Ok(())
    }
}

/// Whether an object holds others.
fn holds_more(values: &Map<String, Value>) -> bool {
    values.values().any(|value| value.is_object() || value.is_array())
}

/// What is wrong with a record that is of no known shape.
fn unknown_record(values: &Map<String, Value>) -> String {
    if values.is_empty() {
        return "the record has no fields".into();
    }
    let names = names(values);
    if let Some(Value::String(_)) = values.get("text") {
        return format!(
            "the record has {names}: a `text` alone does not tell where the answer begins; put \
             what is asked into `instruction` and the answer into `output`"
        );
    }
    if values.keys().any(|name| flat::OUTPUTS.contains(&name.as_str())) {
        return format!("`instruction` is missing; the record has {names}");
    }
    format!("no field is known of {names}: rename them to `instruction` and `output`")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image_ref::ImageRef;
    use crate::row_report::Change;
    use crate::rows::EmptyOutputs;

    fn read_with_report(name: &str, text: &str) -> Result<Rows> {
        let image_folder = Some(Path::new("/pictures"));
        parse_rows(Path::new(name), text, &ReadOptions { image_folder, ..ReadOptions::default() })
    }

    fn read(name: &str, text: &str) -> Result<Vec<Instruction>> {
        read_with_report(name, text).map(|found| found.rows)
    }

    /// Input, instruction and output of each row.
    fn texts(text: &str) -> Vec<[String; 3]> {
        let rows = read("rows", text).unwrap().into_iter();
        rows.map(|row| [row.input, row.instruction, row.output]).collect()
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
        for (text, told) in [
            ("hello\n", "neither JSON nor a table of rows"),
            ("{\n \"1\": {}\n}\n", "one JSON object with `1`: no list of rows"),
            ("{\"a\": [{}], \"b\": [{}]}", "`a`, `b`: more than one list of rows"),
        ] {
            let error = read("rows.txt", text).unwrap_err();
            assert!(matches!(error, Error::UnknownFormat { .. }), "{error}");
            assert!(error.to_string().contains("conversations, .csv and .tsv"), "{error}");
            assert!(error.to_string().contains(told), "{error}");
        }
        let error = read("rows.csv", "name,size\na,1\n").unwrap_err().to_string();
        assert!(error.contains("a table with the columns `name`, `size`"), "{error}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.parquet"), "").unwrap();
        let error = read_rows(folder.path(), &ReadOptions::default()).unwrap_err();
        let told = "a folder without problems.json, with a.parquet";
        assert!(error.to_string().contains(told), "{error}");
    }

    #[test]
    fn a_record_of_no_known_shape_is_told_what_to_rename() {
        let message = |text: &str| read("a.jsonl", text).unwrap_err().to_string();
        let text = message(r#"{"text": "a b"}"#);
        assert!(text.contains("line 1: the record has `text`: a `text` alone"), "{text}");
        let preference = message(r#"{"prompt": "a", "chosen": "b", "rejected": "c"}"#);
        let told = "`output` is missing; the record has `prompt`, `chosen`, `rejected`";
        assert!(preference.contains(told), "{preference}");
        assert!(message(r#"{"answer": "a"}"#).contains("`instruction` is missing"));
        let other = message(r#"{"title": "a"}"#);
        assert!(other.contains("no field is known of `title`: rename them"), "{other}");
        assert!(message("{}").contains("the record has no fields"));
    }

    #[test]
    fn rows_are_read_under_the_names_that_others_give_their_fields() {
        let wanted = [["c", "a", "b"].map(String::from)];
        for (prompt, input, output) in [
            ("instruction", "input", "output"),
            ("instruction", "context", "response"),
            ("prompt", "input", "completion"),
            ("question", "context", "answer"),
            ("query", "context", "response"),
        ] {
            let record = serde_json::json!({prompt: "a", input: "c", output: "b"});
            assert_eq!(texts(&record.to_string()), wanted, "{record}");
            assert_eq!(texts(&format!("{prompt},{input},{output}\na,c,b\n")), wanted);
        }
        let asked = read_with_report("a", r#"{"input": "a", "output": "b"}"#).unwrap();
        assert_eq!(asked.rows, [Instruction::new("a", "", "b")]);
        assert_eq!(asked.report.lines(), ["read input as instruction (1)"]);
        // As many have it whose instruction is the same for all rows.
        let record = r#"{"instruction": "", "input": "a", "output": "b"}"#;
        assert_eq!(texts(record), [["", "a", "b"]]);
    }

    #[test]
    fn system_and_history_of_a_row_are_in_its_input() {
        let record = serde_json::json!({
            "instruction": "And in winter?", "input": "Here.", "output": "It is cold.",
            "system": "Answer as a sailor.", "history": [["How is summer?", "It is warm."]]});
        assert_eq!(
            texts(&record.to_string()),
            [
                ["System: Answer as a sailor.", "How is summer?", "It is warm."],
                [
                    "System: Answer as a sailor.\nHuman: How is summer?\nAssistant: It is warm.\nHere.",
                    "And in winter?",
                    "It is cold."
                ]
            ]
        );
        let bad = r#"{"instruction": "a", "output": "b", "history": [["c"]]}"#;
        let error = read("a.json", bad).unwrap_err().to_string();
        assert!(error.ends_with("`history` is not a list of pairs of texts"), "{error}");
    }

    #[test]
    fn empty_answers_are_left_out_or_learned_as_was_asked_for() {
        let text = "{\"instruction\": \"a\", \"output\": \"b\"}\n\n\
            {\"instruction\": \"c\", \"output\": \" \"}\n{\"instruction\": \"d\", \"output\": null}";
        let found = read_with_report("a", text).unwrap();
        assert_eq!(found.rows, [Instruction::new("a", "", "b")]);
        let line = "2 rows are left out: the answer is empty (line 3, line 4)";
        assert_eq!(found.report.lines(), [line]);
        let learn = ReadOptions { empty_outputs: EmptyOutputs::Learn, ..ReadOptions::default() };
        let rows = parse_rows(Path::new("a"), text, &learn).unwrap().rows;
        let outputs = rows.iter().map(|row| row.output.as_str());
        assert_eq!(outputs.collect::<Vec<_>>(), ["b", "", ""]);
        let none = read("a", r#"{"instruction": "c", "output": ""}"#).unwrap_err().to_string();
        let told = "a: no rows to learn from: 1 row is left out: the answer is empty (line 1)";
        assert_eq!(none, told);
    }

    #[test]
    fn numbers_and_truth_values_are_texts_and_counted() {
        let text = r#"[{"instruction": "2+2", "output": 4}, {"instruction": 1, "output": true},
            {"instruction": "a", "output": 1.5, "options": [1.5, 2]}]"#;
        let found = read_with_report("a", text).unwrap();
        let outputs = found.rows.iter().map(|row| row.output.as_str());
        assert_eq!(outputs.collect::<Vec<_>>(), ["4", "true", "1.5"]);
        assert_eq!(found.rows[2].options, ["1.5", "2"]);
        assert_eq!(found.report.changes[&Change::NumberAsText].count, 6);
    }

    #[test]
    fn what_is_not_used_of_a_row_is_counted_by_name() {
        let text = r#"[{"id": 1, "instruction": "a", "output": "b", "text": "a b", "source": ""},
            {"id": 2, "instruction": "a", "output": "b", "image": "a.png", "tags": ["x"]}]"#;
        let found = read_with_report("a", text).unwrap();
        assert_eq!(found.report.lines(), ["fields that are not used: id (2), text (1)"]);
    }

    #[test]
    fn the_only_list_in_an_object_is_read() {
        let text = "{\n\"version\": 1, \"data\": [{\"instruction\": \"a\", \"output\": \"b\"}]\n}";
        let found = read_with_report("a", text).unwrap();
        assert_eq!(found.rows, [Instruction::new("a", "", "b")]);
        assert_eq!(found.report.lines(), ["read the list in data (1)"]);
    }

    #[test]
    fn what_a_prompt_of_messages_says_is_not_learned() {
        let said = |role: &str, text: &str| serde_json::json!({"role": role, "content": text});
        let record = serde_json::json!({
            "prompt": [said("user", "a"), said("assistant", "b"), said("user", "c")],
            "completion": [said("assistant", "d")]});
        assert_eq!(texts(&record.to_string()), [["Human: a\nAssistant: b", "c", "d"]]);
    }

    #[test]
    fn one_image_may_stand_in_a_list() {
        let read = |images: &str| {
            let row = format!(r#"{{"instruction": "a", "output": "b", "images": {images}}}"#);
            read("a", &row)
        };
        assert_eq!(read(r#"["a.png"]"#).unwrap()[0].image.as_deref(), Some("/pictures/a.png"));
        assert_eq!(read("[]").unwrap()[0].image, None);
        let error = read(r#"["a.png", "b.png"]"#).unwrap_err().to_string();
        assert!(error.ends_with("2 images, of which a row can have one"), "{error}");
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
        let image = |image_folder: Option<&Path>| {
            let options = ReadOptions { image_folder, ..ReadOptions::default() };
            read_rows(&path, &options).unwrap().rows.remove(0).image.unwrap()
        };
        assert_eq!(Path::new(&image(None)), folder.path().join("a.png"));
        assert_eq!(Path::new(&image(Some(Path::new("/p")))), Path::new("/p/a.png"));
    }

    #[cfg(unix)]
    #[test]
    fn data_and_its_images_may_lie_where_paths_are_no_utf_8() {
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
    fn nothing_to_read_is_an_error() {
        for text in ["", " \n", "[]", "url,caption\n"] {
            assert!(matches!(read("rows.csv", text), Err(Error::Empty { .. })), "{text}");
        }
        let nowhere = read_rows(Path::new("/no/where.json"), &ReadOptions::default());
        assert!(matches!(nowhere, Err(Error::Read { .. })));
    }

    #[test]
    fn a_text_cut_anywhere_is_read_or_refused() {
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
