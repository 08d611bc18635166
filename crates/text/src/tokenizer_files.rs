//! Config files of a tokenizer ─► special tokens, chat template, BOS and EOS.

use std::path::Path;

use checkpoint::UnusedSettings;
use checkpoint::files;
use serde_json::Value;
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;

use crate::error::Result;
use crate::settings;
use crate::special_tokens::SpecialTokens;
use crate::tokenizer::Tokenizer;

/// Config files that a model folder may have in addition to `config.json` and the tokenizer.
pub const OPTIONAL_FILES: [&str; 5] = [
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "generation_config.json",
    "chat_template.jinja",
];

/// Config files of a tokenizer. Each may be absent.
///
/// Precedence is that of transformers:
///
/// - special tokens, which are also the variables of a chat template, come from `tokenizer_config.json`;
///   without an `added_tokens_decoder` there, also from `special_tokens_map.json`, which takes precedence,
///   and from `added_tokens.json`;
/// - a training example ends with their `eos_token`, without one with the first of the ids below;
/// - a completion ends at an `eos_token_id` of `generation_config.json`, without the file of `config.json`;
///   unlike in transformers also at the end token of a training example, which the model was trained on.
///
/// Also unlike in transformers, `config.json` is used where `generation_config.json` exists without ids: in
/// transformers such a model never ends a completion.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct TokenizerFiles {
    /// `config.json`
    pub config: Option<Value>,
    /// `generation_config.json`
    pub generation_config: Option<Value>,
    /// `tokenizer_config.json`
    pub tokenizer_config: Option<Value>,
    /// `special_tokens_map.json`
    pub special_tokens_map: Option<Value>,
    /// `added_tokens.json`
    pub added_tokens: Option<Value>,
    /// `chat_template.jinja`, which takes precedence over the template in `tokenizer_config.json`.
    pub chat_template: Option<String>,
}

impl TokenizerFiles {
    /// Reads the files of a Hugging Face folder.
    ///
    /// # Errors
    /// [`checkpoint::Error::Read`], or [`checkpoint::Error::Format`] for an invalid one.
    pub fn read(folder: &Path) -> Result<Self> {
        let text = |name: &str| {
            let path = folder.join(name);
            path.exists().then(|| files::read_text(&path)).transpose()
        };
        let json =
            |name: &str| text(name)?.map(|text| Self::parse(&folder.join(name), &text)).transpose();
        let [settings, special_tokens_map, added_tokens, generation, template] = OPTIONAL_FILES;
        Ok(Self {
            config: json("config.json")?,
            generation_config: json(generation)?,
            tokenizer_config: json(settings)?,
            special_tokens_map: json(special_tokens_map)?,
            added_tokens: json(added_tokens)?,
            chat_template: text(template)?,
        })
    }

    /// The JSON of one of the files.
    ///
    /// # Errors
    /// [`checkpoint::Error::Format`]
    pub fn parse(path: &Path, text: &str) -> Result<Value> {
        serde_json::from_str(text).map_err(|error| checkpoint::Error::json(path, &error).into())
    }

    /// Sets special tokens and chat template of a tokenizer.
    fn apply(&self, tokenizer: &mut Tokenizer) {
        let inner = tokenizer.inner_mut();
        let mut special = SpecialTokens::new(
            self.tokenizer_config.as_ref(),
            self.special_tokens_map.as_ref(),
            self.added_tokens.as_ref(),
        );
        for (name, text) in self.class_defaults(inner) {
            special.add_default(name, text, inner);
        }
        special.add_to(inner);
        // These classes override `add_prefix_space` of `tokenizer.json`. transformers 5 also replaces the
        // pre-tokenizer, which drops the `Digits` of SmolLM's file. Here the file's pre-tokenizer is kept, as
        // in transformers 4 and llama.cpp: the model was trained with it.
        if matches!(self.class(), "GPT2Tokenizer" | "Qwen2Tokenizer") {
            let adds = self.setting("add_prefix_space") == Some(&Value::Bool(true));
            set_space_prefix(inner, adds);
        }
        if self.setting("split_special_tokens") == Some(&Value::Bool(true)) {
            inner.set_encode_special_tokens(true);
        }
        let contents = special.contents();
        let named = |name: &str| contents.get(name).and_then(|text| inner.token_to_id(text));
        let (bos, eos) = (named("bos_token"), named("eos_token"));
        tokenizer.bos = bos.or(self.ids("bos_token_id").first().copied()).or(tokenizer.bos);
        // The ids of the tokenizer itself are the fallback.
        let named_by_files = eos.into_iter().chain(self.ids("eos_token_id")).collect::<Vec<_>>();
        if !named_by_files.is_empty() {
            tokenizer.eos.clear();
        }
        for id in named_by_files {
            if !tokenizer.eos.contains(&id) {
                tokenizer.eos.push(id);
            }
        }
        tokenizer.special_tokens = contents;
        let template = self.setting("chat_template").and_then(chat_template).map(str::to_owned);
        tokenizer.chat_template =
            self.chat_template.clone().or(template).or(tokenizer.chat_template.take());
    }

    fn setting(&self, key: &str) -> Option<&Value> {
        self.tokenizer_config.as_ref()?.get(key)
    }

    /// A boolean of `tokenizer_config.json`, such as `add_bos_token`.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        self.setting(key)?.as_bool()
    }

    /// Whether transformers adds a space prefix after every special token, not only at the start.
    pub(crate) fn is_legacy(&self) -> bool {
        self.setting("legacy") == Some(&Value::Bool(true))
    }

    /// Ids that `generation_config.json`, or where it has none `config.json`, gives for a key.
    fn ids(&self, key: &str) -> Vec<u32> {
        let id = |value: &Value| value.as_u64().map(|id| u32::try_from(id).unwrap_or(u32::MAX));
        let ids = |file: &Option<Value>| match file.as_ref().and_then(|json| json.get(key)) {
            Some(Value::Array(list)) => list.iter().filter_map(id).collect::<Vec<_>>(),
            Some(value) => id(value).into_iter().collect(),
            None => Vec::new(),
        };
        let asked = ids(&self.generation_config);
        if asked.is_empty() { ids(&self.config) } else { asked }
    }

    /// transformers' class of the tokenizer; empty for the generic one.
    ///
    /// Source: `transformers`, `models/auto/tokenization_auto.py`.
    pub(crate) fn class(&self) -> &str {
        let in_config = || self.config.as_ref()?.get("tokenizer_class");
        let class = self.setting("tokenizer_class").or_else(in_config).and_then(Value::as_str);
        let class = class.map(|name| name.trim_end_matches("Fast"));
        let model_type = self.config.as_ref().and_then(|json| json.get("model_type")?.as_str());
        match (model_type.unwrap_or_default(), class) {
            // These ignore the class of the file.
            ("mistral" | "phi3", _) => "",
            ("qwen2", _) | ("qwen3", None) => "Qwen2Tokenizer",
            ("gpt2", None) => "GPT2Tokenizer",
            (_, class) => class.unwrap_or_default(),
        }
    }

    /// Default special tokens of the tokenizer's class.
    ///
    /// Source: `transformers`, `tokenization_*.py` of the families.
    fn class_defaults(
        &self,
        inner: &tokenizers::Tokenizer,
    ) -> &'static [(&'static str, &'static str)] {
        const END: &str = "<|endoftext|>";
        match self.class() {
            "GPT2Tokenizer" => &[("bos_token", END), ("eos_token", END), ("unk_token", END)],
            "Qwen2Tokenizer" => &[("eos_token", END), ("pad_token", END), ("unk_token", END)],
            "LlamaTokenizer" if !is_byte_level(inner) => {
                &[("bos_token", "<s>"), ("eos_token", "</s>"), ("unk_token", "<unk>")]
            }
            _ => &[],
        }
    }

    /// Settings of each file that have no effect here; `vocab_size` is the model's.
    pub fn unused_settings(&self, vocab_size: usize) -> Vec<UnusedSettings> {
        let unused = |file: &Option<Value>, unused: fn(&Value) -> Vec<String>| {
            file.as_ref().map_or_else(Vec::new, unused)
        };
        let mut generation = unused(&self.generation_config, settings::generation::unused);
        let never = self.ids("eos_token_id").into_iter().filter(|id| *id as usize >= vocab_size);
        generation.extend(never.map(|id| format!("eos_token_id {id} (no token of the model)")));
        let files = [
            ("generation_config.json", generation),
            ("tokenizer_config.json", unused(&self.tokenizer_config, settings::tokenizer::unused)),
            (
                "special_tokens_map.json",
                unused(&self.special_tokens_map, settings::tokenizer::unused),
            ),
        ];
        files
            .into_iter()
            .filter_map(|(file, settings)| UnusedSettings::new(file, settings))
            .collect()
    }
}

impl Tokenizer {
    /// The tokenizer with the special tokens and the chat template of config files.
    #[must_use]
    pub fn with_files(mut self, files: &TokenizerFiles) -> Self {
        files.apply(&mut self);
        self
    }
}

/// Sets whether a byte-level tokenizer adds a space prefix.
fn set_space_prefix(inner: &mut tokenizers::Tokenizer, adds: bool) {
    let set = |part: PreTokenizerWrapper| match part {
        PreTokenizerWrapper::ByteLevel(bytes) => {
            let ByteLevel { trim_offsets, use_regex, .. } = bytes;
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(adds, trim_offsets, use_regex))
        }
        other => other,
    };
    let pre_tokenizer = match inner.get_pre_tokenizer().cloned() {
        Some(PreTokenizerWrapper::Sequence(parts)) => {
            let parts = parts.as_ref().iter().cloned().map(set).collect();
            PreTokenizerWrapper::Sequence(Sequence::new(parts))
        }
        Some(pre_tokenizer) => set(pre_tokenizer),
        None => return,
    };
    inner.with_pre_tokenizer(Some(pre_tokenizer));
}

/// Whether a tokenizer is byte-level, as GPT-2's and Llama 3's.
fn is_byte_level(inner: &tokenizers::Tokenizer) -> bool {
    let json = serde_json::to_string(&inner.get_pre_tokenizer()).unwrap_or_default();
    json.contains("\"ByteLevel\"")
}

/// The template of a `chat_template` field: a string, or the default of several.
fn chat_template(value: &Value) -> Option<&str> {
    match value {
        Value::Array(list) => {
            let default = list.iter().find(|entry| entry["name"] == "default");
            default.or(list.first())?.get("template")?.as_str()
        }
        Value::Object(templates) => {
            templates.get("default").or(templates.values().next())?.as_str()
        }
        value => value.as_str(),
    }
}
