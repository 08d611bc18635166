//! A stream of JSON text ─► the text of one value after another.
//!
//! The scanner finds only where values begin and end; serde parses them. So a file of any size takes the memory
//! of its longest value.

use std::io::{self, BufRead};

/// Splits a stream into JSON values.
pub(crate) struct ValueScanner<R> {
    reader: R,
    /// The line of the next byte, counted from 1.
    pub line: usize,
    /// The text of the latest value.
    text: Vec<u8>,
}

/// Where a value is, and whether its text is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScannedValue {
    /// The line of its first byte.
    pub line: usize,
    /// Whether the value is longer than the text that was kept.
    pub is_cut: bool,
}

/// What a byte means to the scanner.
struct State {
    depth: usize,
    in_string: bool,
    is_escaped: bool,
    is_first: bool,
    /// The last byte outside of strings that is no space.
    previous: u8,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum WhenLong {
    Stop,
    Skip,
}

enum Step {
    Continue,
    /// The value ends after this byte.
    EndAfter,
    /// The value ends before this byte.
    EndBefore,
}

impl State {
    fn before_value() -> Self {
        Self { depth: 0, in_string: false, is_escaped: false, is_first: true, previous: 0 }
    }

    fn step(&mut self, byte: u8) -> Step {
        let is_first = std::mem::take(&mut self.is_first);
        if self.in_string {
            match byte {
                // No JSON string contains a line end: the quote is missing.
                b'\n' => return Step::EndBefore,
                _ if self.is_escaped => self.is_escaped = false,
                b'\\' => self.is_escaped = true,
                b'"' => {
                    self.in_string = false;
                    if self.depth == 0 {
                        return Step::EndAfter;
                    }
                    self.previous = byte;
                }
                _ => {}
            }
            return Step::Continue;
        }
        match byte {
            b' ' | b'\t' | b'\r' | b'\n' => {
                return if self.depth == 0 { Step::EndBefore } else { Step::Continue };
            }
            _ if self.depth == 0 && !is_first && b",:]}{[\"".contains(&byte) => {
                return Step::EndBefore;
            }
            // An object after a value without a comma: this value is incomplete, and the next one begins.
            b'{' if !is_first && !b":,[".contains(&self.previous) => return Step::EndBefore,
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                if self.depth == 0 {
                    return Step::EndAfter;
                }
            }
            _ => {}
        }
        self.previous = byte;
        Step::Continue
    }
}

impl<R: BufRead> ValueScanner<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, line: 1, text: Vec::new() }
    }

    /// The text of the value that was scanned last.
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Skips spaces; the next byte, which stays, or `None` at the end.
    pub fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(None);
            }
            let is_space = |byte: &u8| b" \t\r\n".contains(byte);
            let spaces = buffer.iter().position(|byte| !is_space(byte));
            let len = spaces.unwrap_or(buffer.len());
            let next = spaces.map(|at| buffer[at]);
            self.line += count_lines(&buffer[..len]);
            self.reader.consume(len);
            if next.is_some() {
                return Ok(next);
            }
        }
    }

    /// Skips spaces, and `byte` if it is next.
    pub fn accept(&mut self, byte: u8) -> io::Result<bool> {
        let is_next = self.peek()? == Some(byte);
        if is_next {
            self.reader.consume(1);
        }
        Ok(is_next)
    }

    /// Skips the rest of the line.
    pub fn skip_line(&mut self) -> io::Result<()> {
        self.reader.skip_until(b'\n')?;
        self.line += 1;
        Ok(())
    }

    /// Reads the next value; a value of more than `max` bytes is only read up to there. The caller has
    /// peeked at its first byte. A value that is not valid JSON ends at the latest where another object
    /// begins.
    pub fn scan(&mut self, max: usize) -> io::Result<ScannedValue> {
        self.run(State::before_value(), max, WhenLong::Stop)
    }

    /// Reads the next value as [`scan`](Self::scan), to its end, and keeps at most `max` bytes.
    pub fn scan_start(&mut self, max: usize) -> io::Result<ScannedValue> {
        self.run(State::before_value(), max, WhenLong::Skip)
    }

    /// Skips the rest of the list or object that the scanner is in.
    pub fn skip_to_end(&mut self) -> io::Result<()> {
        let state = State { depth: 1, is_first: false, previous: b',', ..State::before_value() };
        self.run(state, 0, WhenLong::Skip).map(|_value| ())
    }

    fn run(
        &mut self,
        mut state: State,
        max: usize,
        when_long: WhenLong,
    ) -> io::Result<ScannedValue> {
        self.text.clear();
        let mut value = ScannedValue { line: self.line, is_cut: false };
        loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                return Ok(value);
            }
            let mut end = None;
            for (at, &byte) in buffer.iter().enumerate() {
                match state.step(byte) {
                    Step::Continue => {}
                    Step::EndAfter => end = Some(at + 1),
                    Step::EndBefore => end = Some(at),
                }
                if end.is_some() {
                    break;
                }
            }
            let taken = end.unwrap_or(buffer.len());
            let kept = taken.min(max.saturating_sub(self.text.len()));
            self.text.extend_from_slice(&buffer[..kept]);
            value.is_cut |= kept < taken;
            self.line += count_lines(&buffer[..taken]);
            self.reader.consume(taken);
            if end.is_some() || (value.is_cut && when_long == WhenLong::Stop) {
                return Ok(value);
            }
        }
    }
}

/// The number of line ends.
pub(crate) fn count_lines(bytes: &[u8]) -> usize {
    bytes.split(|&byte| byte == b'\n').count() - 1
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    /// The values of a text and their lines, whatever the size of the pieces it is read in.
    fn values(text: &str) -> Vec<(usize, String)> {
        let scan = |capacity: usize| {
            let reader = BufReader::with_capacity(capacity, text.as_bytes());
            let mut scanner = ValueScanner::new(reader);
            let mut values = Vec::new();
            while scanner.peek().unwrap().is_some() {
                let value = scanner.scan(usize::MAX).unwrap();
                values.push((value.line, String::from_utf8(scanner.text().to_vec()).unwrap()));
            }
            values
        };
        let values = scan(1);
        assert_eq!(values, scan(7));
        assert_eq!(values, scan(1000));
        values
    }

    #[test]
    fn values_end_where_json_says() {
        let found = values(
            "{\"a\": \"}\\\"\", \"b\": [1, {}]}{\"c\": 1}\n\n 1 \"x y\" [2]\n{\n\"d\":\n{}}",
        );
        let expected = [
            (1, "{\"a\": \"}\\\"\", \"b\": [1, {}]}"),
            (1, "{\"c\": 1}"),
            (3, "1"),
            (3, "\"x y\""),
            (3, "[2]"),
            (4, "{\n\"d\":\n{}}"),
        ];
        assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    }

    #[test]
    fn an_incomplete_value_does_not_swallow_the_next_object() {
        let found = values(
            "{\"a\": 1\n{\"a\": 2}\n{\"a\": \"x\n{\"a\": 3}\n{\"a\": [1}\n{\"a\": 4}\n{oops\n{}",
        );
        let texts = found.iter().map(|(line, text)| (*line, text.trim())).collect::<Vec<_>>();
        let expected = [
            (1, "{\"a\": 1"),
            (2, "{\"a\": 2}"),
            (3, "{\"a\": \"x"),
            (4, "{\"a\": 3}"),
            (5, "{\"a\": [1}"),
            (6, "{\"a\": 4}"),
            (7, "{oops"),
            (8, "{}"),
        ];
        assert_eq!(texts, expected);
    }

    #[test]
    fn a_long_value_keeps_its_start() {
        let mut scanner = ValueScanner::new(&b"[1, 2, 3] 4"[..]);
        assert_eq!(scanner.scan_start(4).unwrap(), ScannedValue { line: 1, is_cut: true });
        assert_eq!(scanner.text(), b"[1, ");
        assert_eq!(scanner.peek().unwrap(), Some(b'4'));
    }
}
