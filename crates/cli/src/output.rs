//! stdout for data, stderr for words beside it.

use std::io::{self, ErrorKind, Write};
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::error::Error;
use crate::failure::Result;

/// Writes a piece of a result to stdout, at once.
pub fn print(text: &str) -> Result {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::OutputClosed.into()),
        written => Ok(written.map_err(Error::Output)?),
    }
}

/// Writes a line of JSON to stdout.
pub fn json(value: &impl Serialize) -> Result {
    let text =
        serde_json::to_string(value).map_err(Error::system("cannot write the result as JSON"))?;
    print(&(text + "\n"))
}

/// Writes a path into JSON, which holds texts alone: what is no UTF-8 becomes `�`.
pub fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&path.display())
}

/// Writes a line to stderr. That nobody may read it is no reason to stop.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
