//! Mistral: a Llama whose tokens may look back through a window only.

use serde_json::Value;

use super::Architecture;
use super::fields::Fields;
use super::llama::{NAMES, sizes, sizes_json};
use crate::config::LlamaConfig;
use crate::error::Result;

pub(super) static MISTRAL: Architecture = Architecture {
    name: "mistral",
    class: "MistralForCausalLM",
    // llama.cpp writes it as a Llama with a window.
    gguf: "llama",
    gguf_interleaved: true,
    names: NAMES,
    base,
    read,
    write,
};

/// What transformers takes for granted where a file is silent.
const DEFAULT_WINDOW: usize = 4096;

fn base() -> LlamaConfig {
    LlamaConfig { architecture: &MISTRAL, max_positions: 131_072, ..LlamaConfig::default() }
}

fn read(json: &Fields<'_>, base: LlamaConfig) -> Result<LlamaConfig> {
    let silent = (!json.has("sliding_window")).then_some(DEFAULT_WINDOW);
    // Null is no window: the later models look back all the way.
    let sliding_window = json.optional("sliding_window")?.or(silent);
    Ok(LlamaConfig { sliding_window, ..sizes(json, base)? })
}

fn write(config: &LlamaConfig) -> Value {
    let mut json = sizes_json(config);
    json["sliding_window"] = config.sliding_window.into();
    json
}
