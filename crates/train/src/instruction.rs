//! Files of instructions: JSON lists and JSON lines of `instruction`, `input`, `output`.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};

/// One record to learn from or to be asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instruction {
    /// What to do.
    pub instruction: String,
    /// What to do it with; may be empty.
    #[serde(default)]
    pub input: String,
    /// The answer wanted.
    #[serde(default)]
    pub output: String,
}

impl Instruction {
    /// Reads a file of either form; a leading `[` tells them apart.
    ///
    /// # Errors
    /// [`Error::Read`], [`Error::Record`] with the line or record, [`Error::Empty`].
    pub fn read(path: &Path) -> Result<Vec<Self>> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| Error::Read { path: path.into(), source })?;
        Self::parse(path, &text)
    }

    /// As [`read`](Self::read), of a text; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn parse(path: &Path, text: &str) -> Result<Vec<Self>> {
        let text = text.trim_start_matches('\u{feff}');
        let bad =
            |place: String, reason: String| Error::Record { path: path.into(), place, reason };
        let rows = if text.trim_start().starts_with('[') {
            let list: Vec<Value> = serde_json::from_str(text).map_err(|error| {
                bad(format!("line {}", error.line()), format!("not valid JSON: {error}"))
            })?;
            list.into_iter()
                .enumerate()
                .map(|(index, value)| {
                    Self::check(value)
                        .map_err(|reason| bad(format!("record {}", index + 1), reason))
                })
                .collect::<Result<Vec<_>>>()?
        } else {
            text.lines()
                .enumerate()
                .filter(|(_, line)| !line.trim().is_empty())
                .map(|(index, line)| {
                    let place = format!("line {}", index + 1);
                    let value = serde_json::from_str(line)
                        .map_err(|error| bad(place.clone(), format!("not valid JSON: {error}")))?;
                    Self::check(value).map_err(|reason| bad(place, reason))
                })
                .collect::<Result<Vec<_>>>()?
        };
        if rows.is_empty() {
            return Err(Error::Empty {
                name: path.display().to_string(),
                purpose: "learn from",
                reason: "the file has none".into(),
            });
        }
        Ok(rows)
    }

    fn check(value: Value) -> Result<Self, String> {
        let Value::Object(fields) = &value else {
            return Err("expected an object".into());
        };
        for name in ["instruction", "output"] {
            match fields.get(name) {
                None => return Err(format!("`{name}` is missing")),
                Some(Value::String(text)) if text.trim().is_empty() => {
                    return Err(format!("`{name}` is empty"));
                }
                Some(Value::String(_)) => {}
                Some(_) => return Err(format!("`{name}` is not a text")),
            }
        }
        let mut row = value;
        // Some data sets write a missing input as null.
        if row["input"].is_null() {
            row["input"] = Value::String(String::new());
        }
        Self::deserialize(row).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Instruction>> {
        Instruction::parse(Path::new("rows.jsonl"), text)
    }

    #[test]
    fn lists_and_lines_read_the_same() {
        let row = r#"{"instruction":"Name a colour.","input":null,"output":"Red."}"#;
        let lines = parse(&format!("{row}\n\n{row}\n")).unwrap();
        let list = parse(&format!("[{row}, {row}]")).unwrap();
        assert_eq!(lines, list);
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].input, "");
    }

    #[test]
    fn a_malformed_line_is_named() {
        let good = r#"{"instruction":"a","output":"b"}"#;
        let message = |text: &str| parse(text).unwrap_err().to_string();
        assert!(message(&format!("{good}\n{{oops")).starts_with("rows.jsonl, line 2: not valid"));
        assert_eq!(
            message(&format!("{good}\n\n{{\"instruction\":\"a\"}}")),
            "rows.jsonl, line 3: `output` is missing"
        );
        assert_eq!(
            message(r#"[{"instruction":"a","output":7}]"#),
            "rows.jsonl, record 1: `output` is not a text"
        );
    }

    #[test]
    fn an_empty_file_is_refused() {
        assert!(matches!(parse(" \n\n"), Err(Error::Empty { .. })));
        assert!(matches!(parse("[]"), Err(Error::Empty { .. })));
    }
}
