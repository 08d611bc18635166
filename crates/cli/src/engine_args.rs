//! Options of the engine of `serve` and `batch` ─► a running engine

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adaption_prompt::ImageConfig;
use burn::tensor::Device;
use diagnostic::Diagnostic;
use indicatif::HumanBytes;
use llama::{BlockCache, LlamaConfig};
use serve::engine::BLOCK_TOKENS;
use serve::openai::{PromptTemplates, RequestLimits, Service, ServiceOptions};
use serve::{
    AdapterSource, CacheSize, Engine, EngineConfig, EngineModel, ImageEncoders, Observer,
    PrefillChunk,
};
use text::{PromptTemplate, Tokenizer};
use vision::FeatureExtractor;

use crate::adapters::parse_named_path;
use crate::error::Error;
use crate::failure::Result;
use crate::image_args::EncoderArgs;
use crate::memory_size::{available_memory, parse_size};
use crate::model::{BaseModel, ModelArgs};
use crate::output::note;
use crate::prompt_template::parse_template;

/// The model, its adapters, and how they run.
#[derive(Debug, clap::Args)]
pub struct EngineArgs {
    /// An adapter or a mix: a folder, or a file of the original release, lit-llama or LitGPT. Requests
    /// name it MODEL:NAME. NAME defaults to the folder name. Repeatable; without --model and --adapter,
    /// the built-in adapter.
    #[arg(long = "adapter", value_name = "[NAME=]PATH", help_heading = "Models")]
    adapters: Vec<OsString>,
    /// The model's name in requests [default: the name of its folder or file].
    #[arg(long, value_name = "NAME", help_heading = "Models")]
    served_name: Option<String>,
    /// How messages become a prompt: alpaca, chat (the model's own template), chatml, llama-2, llama-3,
    /// mistral, raw (none), or a file with a chat template in Jinja; for one adapter, or for the base
    /// model with NAME `base`. Repeatable. Default: that of the adapter's training, or alpaca if its
    /// folder does not say; without an adapter, the model's chat template or raw.
    #[arg(long, value_name = "[NAME=]TEMPLATE", value_parser = parse_named_template, help_heading = "Models")]
    prompt_template: Vec<(Option<String>, PromptTemplate)>,

    /// Size of the key-value cache, such as 2GiB. Requests beyond it wait. Default: what --max-rows
    /// answers of the model's context need, at most half of the available memory; 512MiB on devices
    /// other than CPUs.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, help_heading = "Engine")]
    cache_bytes: Option<u64>,
    /// Answers that are generated at the same time; more wait.
    #[arg(long, value_name = "N", default_value_t = EngineConfig::default().max_rows, help_heading = "Engine")]
    max_rows: usize,
    /// Tokens of prompts that are read between two tokens of the running answers: a number, or auto,
    /// which keeps the running answers at more than half of their speed.
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = parse_chunk, help_heading = "Engine")]
    prefill_chunk: PrefillChunk,
    /// Memory for prepared adapters. The least recently used ones are dropped, and loaded again on
    /// request.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "1GiB", help_heading = "Engine")]
    adapter_bytes: u64,

    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// A running engine and OpenAI's API over it.
pub struct StartedEngine {
    pub engine: Engine,
    pub service: Service,
}

/// Settings of a server that a batch has no options for.
#[derive(Default)]
pub struct RequestSettings {
    /// Requests that may wait.
    pub max_queue: Option<usize>,
    /// Time for a request.
    pub request_time: Option<Duration>,
    pub limits: RequestLimits,
    pub log_prompts: bool,
}

impl EngineArgs {
    /// Loads the model and its adapters and starts the engine.
    pub fn start(&self) -> Result<StartedEngine> {
        self.start_with(RequestSettings::default(), Arc::new(()))
    }

    /// As [`start`](Self::start), with a server's settings.
    pub fn start_with(
        &self,
        settings: RequestSettings,
        observer: Arc<dyn Observer>,
    ) -> Result<StartedEngine> {
        let adapters = self.adapter_sources()?;
        let prompt_templates = self.prompt_templates(&adapters)?;
        let name = self.model_name()?;
        let base = self.model.load()?;
        let config = EngineConfig {
            max_rows: self.max_rows,
            cache: self.cache_size(&base)?,
            prefill_chunk: self.prefill_chunk,
            max_queue: settings.max_queue.unwrap_or(EngineConfig::default().max_queue),
            adapter_bytes: to_usize(self.adapter_bytes),
            request_time: settings.request_time,
            threads: self.model.threads.map(Into::into),
            ..EngineConfig::default()
        };
        let tokenizer = base.source.tokenizer()?;
        self.check_chat_template(&tokenizer)?;
        let images = Encoders { encoder: self.encoder.clone(), device: base.device.clone() };
        let model =
            EngineModel { tokenizer, llama: base.llama, name, images: Some(Arc::new(images)) };
        let engine = Engine::start(model, adapters, config, observer)?;
        let options = ServiceOptions {
            limits: settings.limits,
            prompt_templates,
            examples: self.examples(),
            log_prompts: settings.log_prompts,
        };
        Ok(StartedEngine { service: Service::new(engine.handle(), options), engine })
    }

    /// The model as messages call it.
    pub fn model_label(&self) -> String {
        self.model.name().map_or_else(|| "the built-in model".into(), Into::into)
    }

    /// Questions that the model may be able to answer: the built-in one knows its small world only.
    pub fn examples(&self) -> Vec<String> {
        let examples: &[&str] = match self.model.model {
            None => &[
                "Say what Ada does for a living.",
                "Tell me whose pet Nutmeg is.",
                "Write this list backwards. [needle, rake, hat]",
            ],
            Some(_) => &["What is the capital of France?", "How do I keep bread fresh?"],
        };
        examples.iter().map(|&example| example.to_owned()).collect()
    }

    /// Answers that are generated at the same time.
    pub fn max_rows(&self) -> usize {
        self.max_rows
    }

    /// The model's name in requests.
    fn model_name(&self) -> Result<String, Error> {
        if let Some(name) = &self.served_name {
            if name.is_empty() || name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                let message = format!("`{}` is not a name of a model", name.escape_debug());
                return Err(Error::usage_with_hint(message, "use a name without spaces"));
            }
            return Ok(name.clone());
        }
        let Some(path) = &self.model.model else { return Ok(built_in::MODEL_NAME.into()) };
        // Other names are those of fetched models and of the Hugging Face Hub.
        let Ok(full) = path.canonicalize() else { return Ok(path.to_string_lossy().into()) };
        let name = if full.is_file() { full.file_stem() } else { full.file_name() };
        Ok(name.unwrap_or(full.as_os_str()).to_string_lossy().into())
    }

    /// The adapters of `--adapter`, or the built-in one.
    fn adapter_sources(&self) -> Result<Vec<AdapterSource>> {
        if self.adapters.is_empty() && self.model.model.is_none() {
            return Ok(vec![AdapterSource::data(built_in::ADAPTER_NAME, built_in::adapter()?)]);
        }
        let named = self.adapters.iter().map(parse_named_path);
        let sources = named.map(|named| named.map(|(name, path)| AdapterSource::path(name, path)));
        Ok(sources.collect::<Result<_, _>>()?)
    }

    fn prompt_templates(&self, adapters: &[AdapterSource]) -> Result<PromptTemplates, Error> {
        let mut templates = PromptTemplates::default();
        for (name, template) in &self.prompt_template {
            let template = template.clone();
            match name.as_deref() {
                None => templates.all = Some(template),
                Some(BASE) => templates.base = Some(template),
                Some(name) if adapters.iter().any(|adapter| adapter.name == name) => {
                    templates.adapters.insert(name.into(), template);
                }
                Some(name) => {
                    let message = format!("--prompt-template: no --adapter is called `{name}`");
                    return Err(Error::usage(message));
                }
            }
        }
        Ok(templates)
    }

    /// Refuses a template that would fail in every request.
    fn check_chat_template(&self, tokenizer: &Tokenizer) -> Result<(), Error> {
        let asked = self.prompt_template.iter().any(|own| own.1 == PromptTemplate::Chat);
        if asked && tokenizer.chat_template.is_none() {
            return Err(Error::usage_with_hint(
                "--prompt-template chat: the model has no chat template",
                "use another template, such as alpaca or chatml",
            ));
        }
        Ok(())
    }

    /// The cache of `--cache-bytes`, or one for full rows that leaves half of the memory.
    fn cache_size(&self, base: &BaseModel) -> Result<CacheSize> {
        /// Where the free memory is not known.
        const UNKNOWN: u64 = 512 << 20;
        let bytes = if let Some(bytes) = self.cache_bytes {
            bytes
        } else {
            let half = available_memory(self.model.device_name()?).map(|free| free / 2);
            half.unwrap_or(UNKNOWN).min(full_rows_bytes(base.llama.config(), self.max_rows))
        };
        Ok(CacheSize::Bytes(to_usize(bytes)))
    }
}

/// Stands for the base model in `--prompt-template`.
const BASE: &str = "base";

/// Bytes of the cache of as many rows with a full context.
fn full_rows_bytes(config: &LlamaConfig, rows: usize) -> u64 {
    let blocks = config.max_positions.div_ceil(BLOCK_TOKENS).saturating_mul(rows);
    // A block is kept free for passes of a fixed shape.
    (blocks as u64 + 1).saturating_mul(BlockCache::block_bytes(config) as u64)
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A line about the cache of an engine.
pub fn describe_cache(service: &Service) -> String {
    let stats = service.engine().stats();
    let blocks = stats.used_blocks + stats.cached_blocks + stats.free_blocks;
    let tokens = service.engine().model().cache_tokens;
    let bytes = HumanBytes((blocks * stats.block_bytes) as u64);
    format!("{bytes} for {tokens} tokens")
}

fn parse_chunk(text: &str) -> Result<PrefillChunk, String> {
    if text == "auto" {
        return Ok(PrefillChunk::default());
    }
    match text.parse() {
        Ok(tokens) if tokens > 0 => Ok(PrefillChunk::Tokens(tokens)),
        _ => Err("expected auto or a number of tokens of at least 1".into()),
    }
}

fn parse_named_template(text: &str) -> Result<(Option<String>, PromptTemplate), String> {
    match text.split_once('=') {
        // A path that exists may contain an equals sign.
        Some((name, template)) if !Path::new(text).exists() => {
            Ok((Some(name.to_owned()), parse_template(template)?))
        }
        _ => Ok((None, parse_template(text)?)),
    }
}

/// The image encoders that adapters ask for, as in `generate`.
struct Encoders {
    encoder: EncoderArgs,
    device: Device,
}

impl ImageEncoders for Encoders {
    fn extractor(
        &self,
        conditions: &[&ImageConfig],
    ) -> Result<Arc<FeatureExtractor>, Box<dyn Diagnostic + Send + Sync>> {
        let extractor = self
            .encoder
            .feature_extractor(conditions, &self.device, &note)
            .map_err(crate::failure::Failure::into_diagnostic)?;
        let none = || Box::new(Error::usage("the adapter has no image condition"));
        Ok(Arc::new(extractor.ok_or_else(|| none() as Box<_>)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_and_templates_are_parsed() {
        assert_eq!(parse_chunk("auto"), Ok(PrefillChunk::default()));
        assert_eq!(parse_chunk("64"), Ok(PrefillChunk::Tokens(64)));
        assert!(parse_chunk("0").is_err() && parse_chunk("-1").is_err());
        let chat = PromptTemplate::Chat;
        assert_eq!(parse_named_template("chat"), Ok((None, chat.clone())));
        assert_eq!(parse_named_template("a=chat"), Ok((Some("a".into()), chat)));
        assert!(parse_named_template("a=b").unwrap_err().contains("expected alpaca, chat, chatml"));
    }
}
