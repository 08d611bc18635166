//! `llama-adapter tokenize`: text ─► token ids and pieces

use std::fmt::Write;
use std::io::Read;
use std::path::PathBuf;

use serde_json::json;
use text::{Message, PromptFormat, PromptTemplate, Tokenizer};

use crate::error::Error;
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output;
use crate::prompt_template::parse_template;

/// Print the token ids of a text and the piece of the vocabulary that each stands for.
///
/// Reads stdin without TEXT and --file. The model's weights are not loaded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The text.
    #[arg(allow_hyphen_values = true)]
    text: Option<String>,
    /// Read the text from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// The model: a folder, a .gguf file, the name of a fetched model or a Hugging Face Hub id
    /// [default: the built-in tiny model].
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Format the text as a prompt: alpaca, chat (the model's own), chatml, llama-2, llama-3, mistral, or
    /// a file with a chat template in Jinja.
    #[arg(long, value_parser = parse_template, value_name = "NAME|FILE")]
    prompt_template: Option<PromptTemplate>,
    /// System prompt before the text.
    #[arg(
        long,
        alias = "system-prompt",
        value_name = "TEXT",
        allow_hyphen_values = true,
        requires = "prompt_template"
    )]
    system: Option<String>,
    /// Print one line of JSON: count, ids, pieces.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Result {
    let tokenizer = ModelArgs::of(args.model.clone()).open_source()?.tokenizer()?;
    let text = args.read_text()?;
    let ids = match &args.prompt_template {
        None => tokenizer.encode(&text)?,
        Some(template) => {
            let format = PromptFormat { template: template.clone(), system: args.system.clone() };
            format.encode(&tokenizer, &[Message::new("user", text)])?
        }
    };
    let pieces = ids.iter().map(|&id| tokenizer.token(id).unwrap_or_default()).collect::<Vec<_>>();
    if args.json {
        return Ok(output::json(&json!({ "count": ids.len(), "ids": ids, "pieces": pieces }))?);
    }
    Ok(output::print(&table(&ids, &pieces, &tokenizer))?)
}

impl Args {
    fn read_text(&self) -> Result<String> {
        if let Some(text) = &self.text {
            return Ok(text.clone());
        }
        let (path, bytes) = if let Some(path) = &self.file {
            (path.clone(), std::fs::read(path))
        } else {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().read_to_end(&mut bytes);
            ("stdin".into(), read.map(|_| bytes))
        };
        let bytes = bytes.map_err(Error::file(&path, "read"))?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Error::usage(format!("{}: not UTF-8: byte {at}", path.display())).into()
        })
    }
}

/// A line for each token. A piece with a control character is escaped: it would break the line.
fn table(ids: &[u32], pieces: &[String], tokenizer: &Tokenizer) -> String {
    let width = tokenizer.vocab_size().saturating_sub(1).to_string().len();
    let mut text = String::new();
    for (id, piece) in ids.iter().zip(pieces) {
        let is_plain = !piece.chars().any(char::is_control);
        let piece = if is_plain { piece.clone() } else { piece.escape_debug().to_string() };
        let _ = writeln!(text, "{id:>width$}  {piece}");
    }
    text
}
