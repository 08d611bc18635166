//! `llama-adapter generate`: a prompt or an instruction ─► an answer on stdout

use std::ops::ControlFlow;
use std::path::PathBuf;

use llama::{Message, Tokenizer};
use train::template::alpaca;

use crate::answer::Answering;
use crate::model::ModelArgs;
use crate::output;
use crate::sampling::SamplingArgs;
use crate::wording::Wording;

/// Answer one prompt or instruction, with or without an adapter.
///
/// The answer streams to stdout as it is written; with --json it comes as one line of JSON when it
/// is complete.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder of the adapter to use; without it the base model answers.
    #[arg(long, value_name = "FOLDER")]
    adapter: Option<PathBuf>,
    /// Write one line of JSON: text, tokens, finish (stop or length), prompt_tokens,
    /// seconds_prompt, seconds_decode.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    request: RequestArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// What to answer: one of `--prompt` and `--instruction`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Request")]
struct RequestArgs {
    /// A text for the model. With an adapter it is put as an instruction; without one it goes
    /// through the model's chat template, or, if the model has none, is continued as it is.
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "instruction"
    )]
    prompt: Option<String>,
    /// An instruction, put in the Alpaca wording that adapters are trained with.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompt")]
    instruction: Option<String>,
    /// What the instruction is about, if it needs something to work on.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        requires = "instruction",
        conflicts_with = "prompt"
    )]
    input: Option<String>,
    /// Take the prompt exactly as it is, without any wording around it.
    #[arg(long, conflicts_with = "instruction")]
    raw: bool,
}

impl RequestArgs {
    fn encode(&self, tokenizer: &Tokenizer, adapter: bool) -> llama::Result<Vec<u32>> {
        if let Some(instruction) = &self.instruction {
            return tokenizer.encode(&alpaca(instruction, self.input.as_deref().unwrap_or("")));
        }
        let wording = if self.raw { Wording::Raw } else { Wording::fitting(adapter, tokenizer) };
        let prompt = self.prompt.as_deref().unwrap_or("");
        wording.encode(tokenizer, &[Message::new("user", prompt)])
    }
}

pub fn run(args: &Args) -> anyhow::Result<()> {
    args.sampling.sampling()?;
    let base = args.model.load()?;
    let adapter = base.adapter(args.adapter.as_deref())?;
    let tokenizer = base.source.tokenizer()?;
    let prompt = args.request.encode(&tokenizer, args.adapter.is_some())?;
    let answering = Answering {
        llama: &base.llama,
        adapter: &*adapter,
        tokenizer: &tokenizer,
        config: args.sampling.config(&tokenizer)?,
        stop: &args.sampling.stop,
    };
    let answer = answering.answer(prompt, &mut |piece| {
        if !args.json && !piece.is_empty() {
            output::print(piece)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if args.json {
        return output::json(&answer);
    }
    output::print("\n")
}
