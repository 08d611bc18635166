//! Plain text ─► one record with the field `text` per paragraph or line.

use std::io::{BufRead, Read};

use serde_json::{Map, Value};

use crate::error::Result;
use crate::format::{OpenOptions, Opened, Reader};
use crate::input::Input;
use crate::record::{Location, MAX_RECORD_BYTES, Record, records, too_long, utf8};

/// The format of plain text, for hints.
const FORMAT_HINT: &str = "paragraphs of a text are separated by empty lines";

pub(crate) struct Text {
    /// Whether each line is a record; otherwise each paragraph: lines without an empty one in between.
    pub by_line: bool,
}

impl Reader for Text {
    fn recognizes(&self, _input: &Input, _options: &OpenOptions) -> bool {
        // Any text may be a damaged table or JSON.
        false
    }

    fn open(&self, input: &Input, options: &OpenOptions) -> Result<Opened> {
        let description = if self.by_line { "text, by line" } else { "text, by paragraph" };
        let (reader, input) = (input.text()?, input.clone());
        let mut text = TextRecords { reader, input, by_line: self.by_line, line: 1 };
        let records = records(move || text.next_record());
        Ok(Opened::new(description, options.schema.record_hint(), records))
    }
}

struct TextRecords {
    reader: Box<dyn BufRead>,
    input: Input,
    by_line: bool,
    /// The next line.
    line: usize,
}

impl TextRecords {
    fn next_record(&mut self) -> Result<Option<Record>> {
        let (line, text) = self.next_text()?;
        if text.is_empty() {
            return Ok(None);
        }
        let text = utf8(&self.input.path, line, &text)?;
        let fields = Map::from_iter([("text".to_owned(), Value::String(text.trim_end().into()))]);
        Ok(Some(Record { location: Location::Line(line), value: Value::Object(fields) }))
    }

    /// The next record's text and first line; empty at the end.
    fn next_text(&mut self) -> Result<(usize, Vec<u8>)> {
        let (mut first_line, mut text) = (self.line, Vec::new());
        loop {
            let start = text.len();
            let limit = (MAX_RECORD_BYTES - start) as u64 + 1;
            let read = self.reader.by_ref().take(limit).read_until(b'\n', &mut text);
            read.map_err(|source| self.input.read_error(source))?;
            if text.len() > MAX_RECORD_BYTES {
                return Err(too_long(&self.input.path, Location::Line(first_line), FORMAT_HINT));
            }
            let line = text[start..].trim_ascii();
            let is_end = text.len() == start;
            self.line += 1;
            match (line.is_empty(), start) {
                (true, 0) if !is_end => {
                    text.clear();
                    first_line = self.line;
                }
                (true, _) => return Ok((first_line, text)),
                (false, _) if self.by_line => return Ok((first_line, text)),
                (false, _) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::FileFormat;
    use crate::format::tests::open_bytes;

    fn texts(format: FileFormat, text: &[u8]) -> Vec<(Location, String)> {
        let options = OpenOptions { format: Some(format), ..OpenOptions::default() };
        let records = open_bytes("a.txt", text, &options).unwrap().records.map(Result::unwrap);
        let text = |value: &Value| value["text"].as_str().unwrap().to_owned();
        records.map(|record| (record.location, text(&record.value))).collect()
    }

    #[test]
    fn empty_lines_separate_paragraphs() {
        let text = "\n\n  Ä b\nc.\r\n \r\n\nd\n".as_bytes();
        let expected = [(Location::Line(3), "  Ä b\nc."), (Location::Line(7), "d")];
        let expected = expected.map(|(location, text)| (location, text.to_owned()));
        assert_eq!(texts(FileFormat::Text, text), expected);
    }

    #[test]
    fn each_line_may_be_a_record() {
        let expected = [(1, "a"), (3, "b c")];
        let expected = expected.map(|(line, text)| (Location::Line(line), text.to_owned()));
        assert_eq!(texts(FileFormat::Lines, b"a\n\nb c"), expected);
    }
}
