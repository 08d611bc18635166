//! The fields that chat and completion requests share ─► sampling, stopping, streaming

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use llama::SamplingConfig;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Unexpected, Visitor};

use super::error::ApiError;
use super::fields::Fields;
use super::values::{Asked, Count, List, Number, Strings};

/// The most stop strings; OpenAI allows 4.
const MAX_STOP_STRINGS: usize = 16;
/// The most stop tokens.
const MAX_STOP_TOKENS: usize = 256;
/// The most tokens with a bias; OpenAI allows 300.
const MAX_BIASES: usize = 1024;
/// The most adapters of a mix.
const MAX_ADAPTERS: usize = 8;

/// Fields of both kinds of requests.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub model: Option<String>,
    /// A mix of adapters on the base model, an extension.
    pub adapters: Option<List<MixPart, MAX_ADAPTERS>>,
    pub n: Option<Count>,
    pub max_tokens: Option<Count>,
    pub stop: Option<Strings<MAX_STOP_STRINGS>>,
    pub stop_token_ids: Option<List<u32, MAX_STOP_TOKENS>>,
    pub ignore_eos: Option<bool>,
    pub stream: Option<bool>,
    pub stream_options: Option<StreamOptions>,
    temperature: Option<Number>,
    top_p: Option<Number>,
    top_k: Option<i64>,
    min_p: Option<Number>,
    repetition_penalty: Option<Number>,
    frequency_penalty: Option<Number>,
    presence_penalty: Option<Number>,
    logit_bias: Option<LogitBias>,
    seed: Option<i64>,
    response_format: Option<ResponseFormat>,
    /// Fields of features that are not built, if they ask for anything.
    unsupported: Vec<&'static str>,
}

/// An adapter of a mix.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct MixPart {
    pub name: String,
    #[serde(default = "one")]
    pub weight: f64,
}

fn one() -> f64 {
    1.0
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(crate) struct StreamOptions {
    #[serde(default)]
    pub include_usage: Option<bool>,
}

#[derive(Debug, Clone, Deserialize)]
struct ResponseFormat {
    r#type: String,
}

/// What a token's logit is raised by.
#[derive(Debug, Clone, Default)]
struct LogitBias(BTreeMap<u32, f32>);

impl<'de> Deserialize<'de> for LogitBias {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BiasVisitor;

        impl<'de> Visitor<'de> for BiasVisitor {
            type Value = LogitBias;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an object of at most {MAX_BIASES} token ids and their biases")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<LogitBias, A::Error> {
                let mut biases = BTreeMap::new();
                // As text: a key that is no number would be an error of JSON.
                while let Some((token, bias)) = map.next_entry::<Cow<'de, str>, Number>()? {
                    if biases.len() == MAX_BIASES {
                        return Err(A::Error::invalid_length(MAX_BIASES + 1, &self));
                    }
                    let token = token
                        .parse()
                        .map_err(|_| A::Error::invalid_value(Unexpected::Str(&token), &self))?;
                    biases.insert(token, bias.0 as f32);
                }
                Ok(LogitBias(biases))
            }
        }

        deserializer.deserialize_map(BiasVisitor)
    }
}

/// Fields that ask for features that are not built: answering without them would be a wrong answer.
const UNSUPPORTED: [&str; 13] = [
    "tools",
    "tool_choice",
    "functions",
    "function_call",
    "audio",
    "suffix",
    "grammar",
    "json_schema",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
];

impl Fields for Parameters {
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error> {
        match key {
            "model" => self.model = map.next_value()?,
            "adapters" => self.adapters = map.next_value()?,
            "n" => self.n = map.next_value()?,
            "max_tokens" => self.max_tokens = map.next_value()?,
            "stop" => self.stop = map.next_value()?,
            "stop_token_ids" => self.stop_token_ids = map.next_value()?,
            "ignore_eos" => self.ignore_eos = map.next_value()?,
            "stream" => self.stream = map.next_value()?,
            "stream_options" => self.stream_options = map.next_value()?,
            "temperature" => self.temperature = map.next_value()?,
            "top_p" => self.top_p = map.next_value()?,
            "top_k" => self.top_k = map.next_value()?,
            "min_p" => self.min_p = map.next_value()?,
            "repetition_penalty" => self.repetition_penalty = map.next_value()?,
            "frequency_penalty" => self.frequency_penalty = map.next_value()?,
            "presence_penalty" => self.presence_penalty = map.next_value()?,
            "logit_bias" => self.logit_bias = map.next_value()?,
            "seed" => self.seed = map.next_value()?,
            "response_format" => self.response_format = map.next_value()?,
            // Who asked; nothing depends on it.
            "user" => drop(map.next_value::<serde::de::IgnoredAny>()?),
            _ => {
                let Some(name) = UNSUPPORTED.iter().find(|name| **name == key) else {
                    return Ok(false);
                };
                if map.next_value::<Asked>()?.0 {
                    self.unsupported.push(name);
                }
            }
        }
        Ok(true)
    }
}

impl Parameters {
    /// Refuses what would be ignored otherwise, and change the answer.
    ///
    /// # Errors
    /// 400 with the field's name.
    pub fn refuse_unsupported(&self) -> Result<(), ApiError> {
        if let Some(name) = self.unsupported.first() {
            let message = format!("{name} is not supported: leave it out");
            return Err(ApiError::unsupported(*name, message));
        }
        match &self.response_format {
            Some(format) if format.r#type != "text" => {
                let message = format!(
                    "response_format of type `{}` is not supported: answers are not constrained to \
                     JSON; leave response_format out, or use {{\"type\": \"text\"}}",
                    format.r#type
                );
                Err(ApiError::unsupported("response_format", message))
            }
            _ => Ok(()),
        }
    }

    /// The choices of each prompt.
    ///
    /// # Errors
    /// 400 outside of 1 to `max_choices`.
    pub fn choices(&self, max_choices: usize) -> Result<usize, ApiError> {
        match self.n.map_or(1, |n| n.0) {
            n if (1..=max_choices).contains(&n) => Ok(n),
            n => {
                Err(ApiError::invalid_param("n", format!("n is {n}, expected 1 to {max_choices}")))
            }
        }
    }

    /// The sampling settings, with OpenAI's defaults. Without a seed, each request has another one.
    ///
    /// # Errors
    /// 400 for a value out of range.
    pub fn sampling(&self, vocab_size: usize) -> Result<SamplingConfig, ApiError> {
        let number = |value: Option<Number>, default: f32| value.map_or(default, |n| n.0 as f32);
        let top_k = match self.top_k {
            // vLLM's value for "off".
            None | Some(-1) => 0,
            Some(k) => usize::try_from(k).map_err(|_| {
                ApiError::invalid_param("top_k", format!("top_k is {k}, expected at least -1"))
            })?,
        };
        let logit_bias = self.logit_bias.as_ref().map(|bias| bias.0.clone()).unwrap_or_default();
        for (&token, &bias) in &logit_bias {
            let wrong = |what: String| Err(ApiError::invalid_param("logit_bias", what));
            if token as usize >= vocab_size {
                return wrong(format!(
                    "logit_bias: token {token} is not among the model's {vocab_size} tokens"
                ));
            }
            if !(-100.0..=100.0).contains(&bias) {
                return wrong(format!(
                    "logit_bias: {bias} for token {token}, expected -100 to 100"
                ));
            }
        }
        let config = SamplingConfig {
            temperature: number(self.temperature, 1.0),
            top_p: number(self.top_p, 1.0),
            top_k,
            min_p: number(self.min_p, 0.0),
            repetition_penalty: number(self.repetition_penalty, 1.0),
            frequency_penalty: number(self.frequency_penalty, 0.0),
            presence_penalty: number(self.presence_penalty, 0.0),
            logit_bias,
            seed: self.seed.map_or_else(rand::random, |seed| seed as u64),
        };
        config.validate().map_err(|error| match &error {
            llama::Error::SamplingSetting { name, .. } => {
                ApiError::invalid_param(*name, error.to_string())
            }
            _ => ApiError::invalid(error.to_string()),
        })?;
        Ok(config)
    }

    /// Whether a stream ends with the numbers of tokens.
    ///
    /// # Errors
    /// 400 for `stream_options` without `stream`.
    pub fn include_usage(&self) -> Result<bool, ApiError> {
        let Some(options) = self.stream_options else { return Ok(false) };
        if !self.stream.unwrap_or(false) {
            let message = "stream_options is only for requests with `\"stream\": true`";
            return Err(ApiError::invalid_param("stream_options", message));
        }
        Ok(options.include_usage.unwrap_or(false))
    }
}
