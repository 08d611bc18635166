//! `llama-adapter generate`: a prompt or an instruction ─► an answer on stdout

use std::ops::ControlFlow;
use std::path::PathBuf;

use adaption_prompt::{AdapterSet, PreparedAdapter, RowAdapters};
use llama::{Message, Tokenizer};
use train::data::template::alpaca;

use crate::adapters::{AdapterArgs, NO_ADAPTER};
use crate::answer::Answering;
use crate::error::Error;
use crate::failure::Result;
use crate::images::{EncoderArgs, ImageConditioner};
use crate::model::{Base, ModelArgs};
use crate::output;
use crate::sampling::SamplingArgs;
use crate::wording::Wording;

/// Answer prompts or an instruction, with or without an adapter.
///
/// An answer streams to stdout as it is written; with --json it comes as one line of JSON when it
/// is complete. Several prompts are answered at once, each by its own adapter if need be, and come
/// one after the other when all are complete.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Write one line of JSON for each answer: text, tokens, finish (stop or length), prompt_tokens,
    /// seconds_prompt, seconds_decode.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// Which adapter answers, by its name, or `none`: one for all prompts, or one for each,
    /// separated by commas [default: the first --adapter].
    #[arg(long = "use", value_name = "NAMES", value_delimiter = ',', help_heading = "Adapters")]
    names: Vec<String>,
    /// An image that the adapter sees, JPEG, PNG or WebP: one for all prompts, or, given several
    /// times, one for each.
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    image: Vec<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
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
    /// through the model's chat template, or, if the model has none, is continued as it is. May be
    /// given several times.
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "instruction"
    )]
    prompt: Vec<String>,
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
    /// Number of things to answer.
    fn count(&self) -> usize {
        self.prompt.len().max(1)
    }

    /// Tokens of each; `adapted` tells which go to an adapter.
    fn encode(&self, tokenizer: &Tokenizer, adapted: &[bool]) -> llama::Result<Vec<Vec<u32>>> {
        if let Some(instruction) = &self.instruction {
            let text = alpaca(instruction, self.input.as_deref().unwrap_or(""));
            return Ok(vec![tokenizer.encode(&text)?]);
        }
        let prompts = self.prompt.iter().zip(adapted).map(|(prompt, &adapted)| {
            let fitting = Wording::fitting(adapted, tokenizer);
            let wording = if self.raw { Wording::Raw } else { fitting };
            wording.encode(tokenizer, &[Message::new("user", prompt)])
        });
        prompts.collect()
    }
}

pub fn run(args: &Args) -> Result {
    args.sampling.sampling()?;
    let base = args.model.load()?;
    let adapters = args.adapters.load(&base)?;
    let names = args.names(adapters.active())?;
    let seeing = args.seeing(&base, &adapters, &names)?;
    let named = names.iter().map(|name| name.map(|name| adapters.prepared(name)).transpose());
    let named = named.collect::<Result<Vec<_>, _>>()?;
    let rows = named.into_iter().zip(&seeing).map(|(blind, seeing)| seeing.as_ref().or(blind));
    let rows = RowAdapters::new(&rows.collect::<Vec<_>>());
    let tokenizer = base.source.tokenizer()?;
    let adapted = names.iter().map(Option::is_some).collect::<Vec<_>>();
    let prompts = args.request.encode(&tokenizer, &adapted)?;
    let answering = Answering {
        llama: &base.llama,
        tokenizer: &tokenizer,
        config: args.sampling.config(&tokenizer)?,
        stop: &args.sampling.stop,
    };
    let streams = !args.json && prompts.len() == 1;
    let answers = answering.answers(&rows, &prompts, &mut |_row, piece| {
        if streams && !piece.is_empty() {
            output::print(piece)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if args.json {
        return answers.iter().try_for_each(output::json);
    }
    if streams {
        return output::print("\n");
    }
    let texts = answers.iter().map(|answer| format!("{}\n", answer.text.trim()));
    output::print(&texts.collect::<Vec<_>>().join("\n"))
}

impl Args {
    /// For each prompt its adapter with its image, if there is one.
    fn seeing(
        &self,
        base: &Base,
        adapters: &AdapterSet,
        names: &[Option<&str>],
    ) -> Result<Vec<Option<PreparedAdapter>>> {
        let images = match &self.image[..] {
            [] => return Ok(names.iter().map(|_| None).collect()),
            [all] => vec![all; names.len()],
            images if images.len() == names.len() => images.iter().collect(),
            images => {
                let message = format!("{} images for {} prompts", images.len(), names.len());
                let hint = Some("give one image for all prompts, or one for each".into());
                return Err(Error::Usage { message, hint }.into());
            }
        };
        let mut looker = ImageConditioner::new(&self.encoder, base);
        let seeing = names.iter().zip(images);
        seeing.map(|(name, image)| looker.prepare(adapters, *name, image).map(Some)).collect()
    }

    /// The adapter of each prompt.
    fn names<'a>(&'a self, first: Option<&'a str>) -> Result<Vec<Option<&'a str>>, Error> {
        let count = self.request.count();
        let name = |name: &'a String| (name != NO_ADAPTER).then_some(name.as_str());
        match &self.names[..] {
            [] => Ok(vec![first; count]),
            [all] => Ok(vec![name(all); count]),
            names if names.len() == count => Ok(names.iter().map(name).collect()),
            names => Err(Error::Usage {
                message: format!("--use names {} adapters for {count} prompts", names.len()),
                hint: Some("give one name for all prompts, or one for each".into()),
            }),
        }
    }
}
