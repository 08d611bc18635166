//! A row: an instruction, a conversation or plain text.

use serde::{Deserialize, Serialize};
use text::alpaca;

use super::turn::RowContext;

/// The format of a record, for hints.
pub(crate) const FORMAT_HINT: &str = "a row is {\"instruction\": \"...\", \"input\": \"...\", \
    \"output\": \"...\"}; `input` is optional; so are `system`, `history`, `image`, `options` and \
    `tags`";

/// A row to train on, to evaluate, or to answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub instruction: String,
    /// Further context; may be empty.
    #[serde(default)]
    pub input: String,
    /// The expected response.
    #[serde(default)]
    pub output: String,
    /// The image that the row is about: a path, or `data:image/...;base64,` followed by the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<String>,
    /// The options of a multiple-choice question; `output` is one of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
    /// Groups of rows that evaluations report separately.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What precedes the output, if it is not the instruction with its input.
    #[serde(default, skip_serializing_if = "RowContext::is_instruction")]
    pub context: RowContext,
}

impl Instruction {
    /// A row without an image, options or tags.
    pub fn new(
        instruction: impl Into<String>,
        input: impl Into<String>,
        output: impl Into<String>,
    ) -> Self {
        Self {
            instruction: instruction.into(),
            input: input.into(),
            output: output.into(),
            image: None,
            options: Vec::new(),
            tags: Vec::new(),
            context: RowContext::Instruction,
        }
    }

    /// The prompt in the [`alpaca`] template; empty for plain text.
    pub fn prompt(&self) -> String {
        if self.context == RowContext::Nothing {
            return String::new();
        }
        let row = self.flattened();
        alpaca(&row.instruction, &row.input)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::error::{Error, Result};

    fn parse(text: &str) -> Result<Vec<Instruction>> {
        Instruction::parse(Path::new("rows.jsonl"), text)
    }

    fn message(text: &str) -> String {
        parse(text).unwrap_err().to_string()
    }

    #[test]
    fn json_lists_and_json_lines_give_the_same_rows() {
        let row = r#"{"instruction":"Name a colour.","input":null,"output":"Red."}"#;
        let lines = parse(&format!("{row}\n\n{row}\n")).unwrap();
        let list = parse(&format!("[{row}, {row}]")).unwrap();
        assert_eq!(lines, list);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], Instruction::new("Name a colour.", "", "Red."));
    }

    #[test]
    fn a_malformed_line_is_reported_by_location() {
        let good = r#"{"instruction":"a","output":"b"}"#;
        assert!(message(&format!("{good}\n{{oops")).starts_with("rows.jsonl, line 2: not valid"));
        assert_eq!(
            message(&format!("{good}\n\n{{\"instruction\":\"a\"}}")),
            "rows.jsonl, line 3: `output` is missing; the record has `instruction`"
        );
        assert_eq!(
            message(r#"[{"instruction":"a","output":[7]}]"#),
            "rows.jsonl, record 1: `output` is a list, not a text"
        );
        assert_eq!(message("[7]"), "rows.jsonl, record 1: expected an object");
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(matches!(parse(" \n\n"), Err(Error::NoRows { .. })));
        assert!(matches!(parse("[]"), Err(Error::NoRows { .. })));
    }

    #[test]
    fn a_non_string_image_is_rejected() {
        assert_eq!(
            message(r#"[{"instruction":"a","output":"b","image":["a.png"]}]"#),
            "rows.jsonl, record 1: `image` is not a text"
        );
        let row = &parse(r#"{"instruction":"a","output":"b","image":null}"#).unwrap()[0];
        assert_eq!(row.image, None);
    }

    #[test]
    fn the_output_must_be_one_of_the_options() {
        let row = r#"{"instruction":"a","output":"no","options":["yes","no"],"tags":["x"]}"#;
        let read = &parse(row).unwrap()[0];
        assert_eq!(
            (&read.options[..], &read.tags[..]),
            (&["yes", "no"].map(String::from)[..], &["x".into()][..])
        );
        assert_eq!(
            message(&row.replace(r#""output":"no""#, r#""output":"maybe""#)),
            "rows.jsonl, line 1: `output` is none of the `options`"
        );
        assert_eq!(
            message(&row.replace(r#"["yes","no"]"#, r#"["yes",[0]]"#)),
            "rows.jsonl, line 1: `options` is not a list of texts"
        );
    }

    #[test]
    fn a_text_only_row_serializes_without_optional_fields() {
        let text = serde_json::to_string(&Instruction::new("a", "b", "c")).unwrap();
        assert_eq!(text, r#"{"instruction":"a","input":"b","output":"c"}"#);
        let full = Instruction {
            image: Some("d.png".into()),
            options: vec!["c".into()],
            tags: vec!["e".into()],
            ..Instruction::new("a", "b", "c")
        };
        assert_eq!(parse(&serde_json::to_string(&full).unwrap()).unwrap(), [full]);
    }
}
