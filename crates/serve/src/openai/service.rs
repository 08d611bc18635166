//! A body ─► requests of the engine ─► [`Reply`]

use std::collections::BTreeMap;
use std::sync::Arc;

use text::{PromptEncoder, PromptTemplate};

use super::chat::{ChatRequest, log_text};
use super::completion::{CompletionRequest, EncodedPrompt};
use super::content::decode_image_url;
use super::error::ApiError;
use super::fields::parse;
use super::limits::RequestLimits;
use super::models::ModelChoice;
use super::parameters::Parameters;
use super::reply::{Endpoint, Reply, ReplyHeader, ReplyPrompt, unix_seconds};
use crate::engine::{AdapterChoice, EngineHandle, GenerationRequest};

/// OpenAI's API over an engine: no HTTP, no runtime. Clones are cheap.
///
/// Reading a request takes time for long texts and images: servers do it on a thread that may block.
#[derive(Debug, Clone)]
pub struct Service {
    engine: EngineHandle,
    options: Arc<ServiceOptions>,
    system_fingerprint: Arc<str>,
    created: u64,
}

/// Settings of a [`Service`].
#[derive(Debug, Clone, Default)]
pub struct ServiceOptions {
    /// Limits of a request's contents.
    pub limits: RequestLimits,
    /// Prompt templates other than the defaults.
    pub prompt_templates: PromptTemplates,
    /// Questions that the models may be able to answer, which the list of models has for its readers.
    pub examples: Vec<String>,
    /// Whether log events contain the texts of prompts.
    pub log_prompts: bool,
}

/// Prompt templates for chats that replace those of the adapters' training and the default ones.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptTemplates {
    /// For all models that are not listed below.
    pub all: Option<PromptTemplate>,
    /// For the base model.
    pub base: Option<PromptTemplate>,
    /// For adapters, by name.
    pub adapters: BTreeMap<String, PromptTemplate>,
}

impl PromptTemplates {
    /// The template that was set for the base model or for an adapter.
    pub(crate) fn of(&self, adapter: Option<&str>) -> Option<PromptTemplate> {
        let own = adapter.map_or(self.base.as_ref(), |name| self.adapters.get(name));
        own.or(self.all.as_ref()).cloned()
    }
}

impl Service {
    /// The API of an engine.
    pub fn new(engine: EngineHandle, options: ServiceOptions) -> Self {
        let weights = engine.model().fingerprint.chars().take(12).collect::<String>();
        let version = env!("CARGO_PKG_VERSION");
        Self {
            system_fingerprint: format!("llama-adapter-{version}-{weights}").into(),
            engine,
            options: options.into(),
            created: unix_seconds(),
        }
    }

    /// The engine.
    pub fn engine(&self) -> &EngineHandle {
        &self.engine
    }

    pub(crate) fn options(&self) -> &ServiceOptions {
        &self.options
    }

    /// When it started, in seconds since 1970.
    pub(crate) fn created(&self) -> u64 {
        self.created
    }

    /// Starts the answer to the body of a `/v1/chat/completions` request.
    ///
    /// # Errors
    /// A response's error, if the request is wrong or not accepted.
    pub fn chat(&self, body: &[u8]) -> Result<Reply, ApiError> {
        let mut request = parse::<ChatRequest>(body)?;
        let limits = &self.options.limits;
        let conversation = request.take_conversation(limits)?;
        let model = self.choose_model(&request.parameters)?;
        let format = self.prompt_format(&model.adapter)?;
        let logprobs = request.logprobs()?;
        let max_new_tokens = request.max_new_tokens()?;
        let image = match &conversation.image_url {
            Some(url) => {
                self.check_sees_images(&model)?;
                Some(decode_image_url(url, limits)?)
            }
            None => None,
        };
        if self.options.log_prompts {
            tracing::info!(messages = log_text(&conversation.messages), "prompt");
        }
        let wrong = |error: text::Error| ApiError::invalid_param("messages", error.to_string());
        let tokenizer = &self.engine.model().tokenizer;
        let encoder = PromptEncoder::new(&format, tokenizer).map_err(wrong)?;
        let prompt = encoder.prompt(tokenizer, &conversation.messages).map_err(wrong)?;
        let mut generation = GenerationRequest {
            image,
            max_new_tokens,
            logprobs,
            ..self.generation_request(&request.parameters, &model)?
        };
        if !request.parameters.ignore_eos.unwrap_or(false) {
            let ends = encoder.stop_tokens(tokenizer).into_iter();
            let new = ends.filter(|id| !generation.stop_tokens.contains(id)).collect::<Vec<_>>();
            generation.stop_tokens.extend(new);
        }
        let prompts = vec![EncodedPrompt { tokens: prompt, echo: None }];
        self.submit(Endpoint::Chat, &request.parameters, model, generation, prompts)
            .map_err(|error| with_default_param(error, "messages"))
    }

    /// Starts the answer to the body of a `/v1/completions` request.
    ///
    /// # Errors
    /// A response's error, if the request is wrong or not accepted.
    pub fn completion(&self, body: &[u8]) -> Result<Reply, ApiError> {
        let mut request = parse::<CompletionRequest>(body)?;
        let model = self.choose_model(&request.parameters)?;
        let logprobs = request.logprobs()?;
        let max_new_tokens = request.max_new_tokens()?;
        let tokenizer = &self.engine.model().tokenizer;
        let prompts = request.encode(tokenizer, &self.options.limits)?;
        if self.options.log_prompts {
            for prompt in &prompts {
                let text = tokenizer.decode(&prompt.tokens).unwrap_or_default();
                tracing::info!(text, "prompt");
            }
        }
        let generation = GenerationRequest {
            logprobs,
            max_new_tokens,
            prompt_logprobs: logprobs.is_some() && request.echo(),
            ..self.generation_request(&request.parameters, &model)?
        };
        self.submit(Endpoint::Completion, &request.parameters, model, generation, prompts)
            .map_err(|error| with_default_param(error, "prompt"))
    }

    /// The parts of a request that both endpoints have, without a prompt.
    fn generation_request(
        &self,
        parameters: &Parameters,
        model: &ModelChoice,
    ) -> Result<GenerationRequest, ApiError> {
        let info = self.engine.model();
        let mut stop_tokens = Vec::new();
        if !parameters.ignore_eos.unwrap_or(false) {
            stop_tokens.clone_from(&info.tokenizer.eos);
        }
        stop_tokens.extend(parameters.stop_token_ids.iter().flat_map(|ids| &ids.0));
        Ok(GenerationRequest {
            adapter: model.adapter.clone(),
            sampling: parameters.sampling(info.vocab_size)?,
            stop_tokens,
            stop_strings: parameters.stop.clone().unwrap_or_default().0,
            choices: parameters.choices(info.max_choices)?,
            ..GenerationRequest::new(Vec::new())
        })
    }

    /// Submits the prompts; if one is refused, none is answered.
    fn submit(
        &self,
        endpoint: Endpoint,
        parameters: &Parameters,
        model: ModelChoice,
        request: GenerationRequest,
        prompts: Vec<EncodedPrompt>,
    ) -> Result<Reply, ApiError> {
        let header = ReplyHeader {
            endpoint,
            model: model.id,
            system_fingerprint: self.system_fingerprint.clone(),
            tokenizer: self.engine.model().tokenizer.clone(),
            logprobs: request.logprobs.is_some(),
            stream: parameters.stream.unwrap_or(false),
            include_usage: parameters.include_usage()?,
        };
        let prompts = prompts.into_iter().map(|EncodedPrompt { tokens, echo }| {
            let count = tokens.len();
            let request = GenerationRequest { prompt: tokens, ..request.clone() };
            Ok(ReplyPrompt { generation: self.engine.submit(request)?, tokens: count, echo })
        });
        let prompts = prompts.collect::<Result<Vec<_>, ApiError>>()?;
        Ok(Reply::new(header, prompts, request.choices))
    }

    /// Refuses an image before it is decoded, if no adapter would see it.
    fn check_sees_images(&self, model: &ModelChoice) -> Result<(), ApiError> {
        let info = self.engine.model();
        let adapters = self.engine.adapters();
        let may_see = |name: &str| {
            adapters.iter().any(|own| own.name == name && own.sees_images != Some(false))
        };
        let sees = match &model.adapter {
            AdapterChoice::Base => false,
            AdapterChoice::Named(name) => may_see(name),
            AdapterChoice::Mix(parts) => parts.iter().any(|(name, _)| may_see(name)),
        };
        if sees && info.has_image_encoders {
            return Ok(());
        }
        let message = format!("the model `{}` does not see images", model.id);
        Err(ApiError::invalid_param("messages", message))
    }
}

/// Errors of the engine are about the prompt, where they name no other field.
fn with_default_param(error: ApiError, param: &str) -> ApiError {
    match error {
        ApiError { status: 400, param: None, .. } => {
            ApiError { param: Some(param.into()), ..error }
        }
        _ => error,
    }
}
