//! IN.jsonl ─► requests, read line by line: a batch may be larger than the memory

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use serve::openai::BatchRequest;

use crate::error::Error;

/// The longest line in bytes: a body with a large image.
const MAX_LINE: u64 = 64 << 20;

/// The requests of a file, in order. Empty lines are skipped.
pub struct Requests {
    path: PathBuf,
    lines: BufReader<File>,
    line: usize,
}

impl Requests {
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file(path, "read"))?;
        Ok(Self { path: path.into(), lines: BufReader::new(file), line: 0 })
    }

    /// The next line without its end; `None` at the end of the file.
    fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        self.line += 1;
        let mut line = Vec::new();
        let read = self.lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        match read.map_err(Error::file(&self.path, "read"))? {
            0 => Ok(None),
            length if length as u64 == MAX_LINE => {
                Err(self.error(format!("longer than {} MiB", MAX_LINE >> 20)))
            }
            _ => Ok(Some(line.trim_ascii().to_vec())),
        }
    }

    fn error(&self, reason: String) -> Error {
        Error::InvalidBatchLine { path: self.path.clone(), line: self.line, reason }
    }
}

impl Iterator for Requests {
    type Item = Result<BatchRequest, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.next_line() {
                Ok(None) => None,
                Ok(Some(line)) if line.is_empty() => continue,
                Ok(Some(line)) => {
                    let request = BatchRequest::parse(&line);
                    Some(request.map_err(|error| self.error(error.to_string())))
                }
                Err(error) => Some(Err(error)),
            };
        }
    }
}

/// The names of all requests with their lines. Every line is checked, so that nothing is computed for a
/// batch with a wrong one.
pub fn names(path: &Path) -> Result<HashMap<String, usize>, Error> {
    let mut requests = Requests::open(path)?;
    let mut names = HashMap::new();
    while let Some(request) = requests.next() {
        let name = request?.custom_id().to_owned();
        if let Some(first) = names.get(&name) {
            let reason = format!("custom_id `{}` is that of line {first}", name.escape_debug());
            return Err(requests.error(reason));
        }
        names.insert(name, requests.line);
    }
    Ok(names)
}
