//! `llama-adapter generate`: prompts ─► responses on stdout

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::PathBuf;

use adaption_prompt::{AdapterSet, PreparedAdapter, RowAdapters};
use text::{Message, PromptEncoder, PromptFormat, PromptTemplate, Tokenizer};

use crate::adapters::{AdapterArgs, NO_ADAPTER};
use crate::error::Error;
use crate::failure::Result;
use crate::image_args::EncoderArgs;
use crate::image_features::ImageConditioner;
use crate::model::{BaseModel, ModelArgs};
use crate::output;
use crate::prompt_template::{PromptFormats, parse_template};
use crate::response::ResponseGenerator;
use crate::sampling::SamplingArgs;

/// Generate responses to prompts or to an instruction, with or without an adapter.
///
/// A single response streams to stdout; with --json it is printed as one line of JSON when complete.
/// Several prompts run as one batch, each with its own adapter if given, and are printed in order
/// when all are complete.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Print one line of JSON per response: text, tokens, finish (stop or length), prompt_tokens,
    /// seconds_prompt, seconds_decode.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: AdapterArgs,
    /// Adapter by name, or `none` for the base model: one for all prompts or one per prompt,
    /// comma-separated [default: the first --adapter].
    #[arg(long = "use", value_name = "NAMES", value_delimiter = ',', help_heading = "Adapters")]
    names: Vec<String>,
    /// Input image for a multimodal adapter (JPEG, PNG or WebP): one for all prompts, or repeated,
    /// one per prompt.
    #[arg(long, value_name = "FILE", help_heading = "Images")]
    image: Vec<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    prompts: PromptArgs,
    #[command(flatten)]
    sampling: SamplingArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// Encoded prompts.
#[derive(Default)]
struct Encoded {
    prompts: Vec<Vec<u32>>,
    /// The tokens that end the response to each prompt.
    stop_tokens: Vec<Vec<u32>>,
}

/// The prompts: `--prompt` or `--instruction`.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompt")]
struct PromptArgs {
    /// Prompt. With an adapter it is formatted with the template of the adapter's training; without
    /// one, with the model's chat template, or used verbatim if there is none. Repeatable.
    #[arg(
        short,
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        required_unless_present = "instruction"
    )]
    prompt: Vec<String>,
    /// Instruction, formatted with the prompt template of the adapter's training; without an adapter,
    /// with the Alpaca template.
    #[arg(short, long, value_name = "TEXT", allow_hyphen_values = true, conflicts_with = "prompt")]
    instruction: Option<String>,
    /// Input field of the instruction.
    #[arg(
        long,
        value_name = "TEXT",
        allow_hyphen_values = true,
        requires = "instruction",
        conflicts_with = "prompt"
    )]
    input: Option<String>,
    /// Use the prompt verbatim, without a prompt template.
    #[arg(long, conflicts_with_all = ["instruction", "prompt_template", "system"])]
    raw: bool,
    /// Prompt template: alpaca, chat (the model's own), chatml, llama-2, llama-3, mistral, raw (none),
    /// or a file with a chat template in Jinja.
    #[arg(long, value_parser = parse_template, value_name = "NAME|FILE")]
    prompt_template: Option<PromptTemplate>,
    /// System prompt [default: that of the adapter's training].
    #[arg(long, alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
}

impl PromptArgs {
    /// Number of prompts.
    fn count(&self) -> usize {
        self.prompt.len().max(1)
    }

    /// The prompt format of each prompt, by the name of its adapter.
    fn formats(
        &self,
        tokenizer: &Tokenizer,
        stored: BTreeMap<String, PromptFormat>,
        names: &[Option<&str>],
    ) -> Vec<PromptFormat> {
        if self.raw {
            return vec![PromptTemplate::Raw.into(); names.len()];
        }
        let template = self.prompt_template.clone();
        let formats = PromptFormats { template, system: self.system.clone(), stored };
        let format = |name: Option<&str>| match &self.instruction {
            Some(_) => formats.of_or(name, PromptTemplate::Alpaca),
            None => formats.of(name, tokenizer),
        };
        names.iter().copied().map(format).collect()
    }

    /// Tokens of each prompt, and the tokens that end each response.
    fn encode(&self, tokenizer: &Tokenizer, formats: &[PromptFormat]) -> text::Result<Encoded> {
        let mut encoded = Encoded::default();
        for (index, format) in formats.iter().enumerate() {
            let encoder = PromptEncoder::new(format, tokenizer)?;
            encoded.prompts.push(match &self.instruction {
                Some(instruction) => {
                    let input = self.input.as_deref().unwrap_or("");
                    encoder.instruction_prompt(tokenizer, instruction, input)?
                }
                None => encoder.prompt(tokenizer, &[Message::new("user", &self.prompt[index])])?,
            });
            encoded.stop_tokens.push(encoder.stop_tokens(tokenizer));
        }
        Ok(encoded)
    }
}

pub fn run(args: &Args) -> Result {
    args.sampling.sampling()?;
    let base = args.model.load()?;
    let adapters = args.adapters.load(&base)?;
    let names = args.adapter_names(adapters.active())?;
    let image_adapters = args.image_adapters(&base, &adapters, &names)?;
    let text_adapters =
        names.iter().map(|name| name.map(|name| adapters.prepared(name)).transpose());
    let text_adapters = text_adapters.collect::<Result<Vec<_>, _>>()?;
    let rows =
        image_adapters.iter().zip(text_adapters).map(|(image, text)| image.as_ref().or(text));
    let rows = RowAdapters::new(&rows.collect::<Vec<_>>());
    let tokenizer = base.source.tokenizer()?;
    let formats = args.prompts.formats(&tokenizer, args.adapters.prompt_formats()?, &names);
    let Encoded { prompts, stop_tokens } = args.prompts.encode(&tokenizer, &formats)?;
    let mut config = args.sampling.config(&tokenizer)?;
    if !args.sampling.ignore_eos {
        // The end of a turn in any of the templates.
        config.stop_tokens = stop_tokens.concat();
        config.stop_tokens.sort_unstable();
        config.stop_tokens.dedup();
    }
    let generator = ResponseGenerator {
        llama: &base.llama,
        tokenizer: &tokenizer,
        config,
        stop: &args.sampling.stop,
    };
    let stream = !args.json && prompts.len() == 1;
    let responses = generator.generate_batch(&rows, &prompts, &mut |_row, piece| {
        if stream && !piece.is_empty() {
            output::print(piece)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    if args.json {
        return Ok(responses.iter().try_for_each(output::json)?);
    }
    if stream {
        return Ok(output::print("\n")?);
    }
    let texts = responses.iter().map(|response| format!("{}\n", response.text.trim()));
    Ok(output::print(&texts.collect::<Vec<_>>().join("\n"))?)
}

impl Args {
    /// The adapter of each prompt with the prompt's image; `None` for prompts without an image.
    fn image_adapters(
        &self,
        base: &BaseModel,
        adapters: &AdapterSet,
        names: &[Option<&str>],
    ) -> Result<Vec<Option<PreparedAdapter>>> {
        let images = match &self.image[..] {
            [] => return Ok(names.iter().map(|_| None).collect()),
            [all] => vec![all; names.len()],
            images if images.len() == names.len() => images.iter().collect(),
            images => {
                return Err(Error::usage_with_hint(
                    format!("got {} images for {} prompts", images.len(), names.len()),
                    "pass one image for all prompts, or one per prompt",
                )
                .into());
            }
        };
        let mut conditioner = ImageConditioner::new(&self.encoder, base);
        let pairs = names.iter().zip(images);
        pairs.map(|(name, image)| conditioner.prepare(adapters, *name, image).map(Some)).collect()
    }

    /// The adapter of each prompt; `None` is the base model.
    fn adapter_names<'a>(&'a self, first: Option<&'a str>) -> Result<Vec<Option<&'a str>>, Error> {
        let count = self.prompts.count();
        let name = |name: &'a String| (name != NO_ADAPTER).then_some(name.as_str());
        match &self.names[..] {
            [] => Ok(vec![first; count]),
            [all] => Ok(vec![name(all); count]),
            names if names.len() == count => Ok(names.iter().map(name).collect()),
            names => Err(Error::usage_with_hint(
                format!("got {} adapter names in --use for {count} prompts", names.len()),
                "pass one name for all prompts, or one per prompt",
            )),
        }
    }
}
