//! `llama-adapter chat`: lines ─► responses, with or without the earlier turns in the prompt

mod lines;
mod session;

use std::ops::ControlFlow;
use std::path::PathBuf;

use text::PromptTemplate;

use crate::adapters::AdapterArgs;
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::image_args::EncoderArgs;
use crate::image_features::ImageConditioner;
use crate::interrupt::{self, StopSignals};
use crate::model::ModelArgs;
use crate::output::note;
use crate::prompt_template::{PromptFormats, parse_template};
use crate::response::ResponseGenerator;
use crate::sampling::SamplingArgs;

use lines::LineSource;
use session::ChatSession;

/// Talk with a model, with or without an adapter.
///
/// Responses are streamed. Ctrl-C stops a response, Ctrl-D ends the chat. With piped input each line
/// is one turn; a failed turn is reported on stderr, the chat continues, and the exit code is 1. Type
/// /help for the commands.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prompt template of each turn: alpaca, chat (the model's own), chatml, llama-2, llama-3, mistral,
    /// raw (none), or a file with a chat template in Jinja. Default: that of the adapter's training,
    /// which is alpaca if its folder does not say; without an adapter chat if the model has a chat
    /// template, else raw. All but alpaca and raw include earlier turns.
    #[arg(long, alias = "wording", value_parser = parse_template, value_name = "NAME|FILE")]
    prompt_template: Option<PromptTemplate>,
    /// System prompt, for chat templates that support one [default: that of the adapter's training].
    #[arg(long, alias = "system", value_name = "TEXT", allow_hyphen_values = true)]
    system_prompt: Option<String>,
    /// Input image for a multimodal adapter (JPEG, PNG or WebP); /image replaces it.
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    image: Option<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

pub fn run(args: &Args) -> Result {
    args.sampling.sampling()?;
    let base = args.model.load()?;
    let adapters = args.adapters.load(&base)?;
    let tokenizer = base.source.tokenizer()?;
    let formats = PromptFormats {
        template: args.prompt_template.clone(),
        system: None,
        stored: args.adapters.prompt_formats()?,
    };
    let generator = ResponseGenerator {
        llama: &base.llama,
        tokenizer: &tokenizer,
        config: args.sampling.config(&tokenizer)?,
        stop: &args.sampling.stop,
    };
    let format = formats.of(adapters.active(), &tokenizer);
    if args.system_prompt.is_some() && !format.template.is_multi_turn() {
        return Err(Error::usage_with_hint(
            "--system-prompt requires a chat template",
            "use a model with a chat template, and --prompt-template chat with an adapter",
        )
        .into());
    }
    let image_conditioner = ImageConditioner::new(&args.encoder, &base);
    let stops_at_end = !args.sampling.ignore_eos;
    let mut session =
        ChatSession::new(generator, adapters, formats, stops_at_end, image_conditioner)?;
    interrupt::install_handler(StopSignals::CtrlC)?;
    let mut lines = LineSource::open()?;
    if lines.is_interactive() {
        note(&format!("{} (/help lists the commands)", base.source.path().display()));
        note(&session.template_note());
    }
    if let Some(text) = &args.system_prompt {
        session.set_system(text);
    }
    if let Some(image) = &args.image {
        session.set_image(image)?;
    }
    let (mut count, mut failed) = (0, 0);
    while let Some(line) = lines.next()? {
        count += 1;
        match line.and_then(|line| session.handle_line(line.trim())) {
            Ok(ControlFlow::Continue(())) => {}
            Ok(ControlFlow::Break(())) => break,
            Err(error) if error.is_output_error() => return Err(error),
            Err(error) if lines.is_interactive() => {
                error.report();
            }
            // The chat continues; the exit code tells a script about the failed line.
            Err(error) => {
                failed += 1;
                Failure::with_context(format!("line {count}"), error).report();
            }
        }
    }
    if failed > 0 {
        return Err(Error::LinesFailed { failed, lines: count }.into());
    }
    Ok(())
}
