//! The lines of a chat: from an editor on a terminal, else from stdin.

use std::io::{BufRead, IsTerminal, stdin, stdout};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::error::Error;
use crate::failure::Result;
use crate::output::note;

/// Where lines are read from.
pub enum LineSource {
    Editor(Box<DefaultEditor>),
    Pipe,
}

impl LineSource {
    /// An editor if stdin and stdout are a terminal.
    pub fn open() -> Result<Self> {
        if stdin().is_terminal() && stdout().is_terminal() {
            let editor = DefaultEditor::new().map_err(Error::system("cannot use the terminal"))?;
            return Ok(Self::Editor(Box::new(editor)));
        }
        Ok(Self::Pipe)
    }

    pub fn is_interactive(&self) -> bool {
        matches!(self, Self::Editor(_))
    }

    /// The next line; `None` at the end. The inner error is about this line only.
    pub fn next(&mut self) -> Result<Option<Result<String>>> {
        match self {
            Self::Editor(editor) => loop {
                match editor.readline("> ") {
                    Ok(line) => {
                        // Without a history entry the line is still a turn.
                        let _ = editor.add_history_entry(&line);
                        return Ok(Some(Ok(line)));
                    }
                    Err(ReadlineError::Eof) => return Ok(None),
                    Err(ReadlineError::Interrupted) => note("(Ctrl-D or /quit ends the chat)"),
                    Err(error) => {
                        return Err(Error::system("cannot read from the terminal")(error).into());
                    }
                }
            },
            Self::Pipe => {
                let mut line = Vec::new();
                let len = stdin().lock().read_until(b'\n', &mut line);
                let len = len.map_err(Error::system("cannot read stdin"))?;
                let text = String::from_utf8(line)
                    .map_err(|error| Error::InvalidUtf8 { reason: error.utf8_error() }.into());
                Ok((len > 0).then_some(text))
            }
        }
    }
}
