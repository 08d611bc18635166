//! stdout for data, stderr for words beside it.

use std::io::{self, ErrorKind, Write};

use anyhow::Context;
use serde::Serialize;

use crate::error::Error;

/// Writes a piece of a result to stdout, at once.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Error::OutputClosed.into()),
        written => written.context("cannot write to standard output"),
    }
}

/// Writes a line of JSON to stdout.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let text = serde_json::to_string(value).context("cannot write the result as JSON")?;
    print(&(text + "\n"))
}

/// Writes a line to stderr. That nobody may read it is no reason to stop.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}
