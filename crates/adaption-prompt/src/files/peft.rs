//! `adapter_config.json`, as Hugging Face PEFT has it.
//!
//! An adapter that PEFT's own code cannot compute (a gate a head, tanh, scattered layers, Adapter
//! V2, images) is of a method that PEFT does not know, so that it refuses the folder instead of computing
//! something else without a word.

use std::path::Path;

use llama::LinearName;
use serde_json::{Value, json};

use super::keys::module;
use crate::config::{Activation, Gate, Projection};
use crate::data::{AdapterData, LoraData, PromptData};
use crate::error::{Error, Result};

/// File of the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File of the tensors.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";
/// File of the tensors that older versions of PEFT wrote.
pub const PICKLE_FILE: &str = "adapter_model.bin";

const PROMPT_METHOD: &str = "ADAPTION_PROMPT";
const LORA_METHOD: &str = "LORA";
const OUR_METHOD: &str = "LLAMA_ADAPTER";

/// What a config says of the adapter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PeftConfig {
    pub method: Method,
    pub base: Option<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Method {
    Prompts {
        adapter_len: usize,
        adapter_layers: usize,
    },
    Lora {
        rank: usize,
        alpha: f64,
    },
    /// Only `llama_adapter.json` says more.
    Ours,
}

/// Whether PEFT can load the adapter and computes the same.
pub fn is_peft(data: &AdapterData) -> bool {
    match (&data.prompts, &data.v2, &data.lora) {
        _ if data.image.is_some() => false,
        (Some(prompts), None, None) => prompts.is_peft() && reaches_the_last(data, prompts),
        (None, None, Some(lora)) => has_separate_linears(data) && is_even(lora),
        _ => false,
    }
}

/// Whether the prompts are in the model's last layers, where its number of layers is known: PEFT
/// puts them nowhere else, and leaves out others without a word.
fn reaches_the_last(data: &AdapterData, prompts: &PromptData) -> bool {
    let last = prompts.layers.keys().next_back();
    data.base.sizes.as_ref().is_none_or(|sizes| last == sizes.n_layers.checked_sub(1).as_ref())
}

/// Whether transformers has a layer of its own for each of ours: LoRA on a part of a fused one is
/// something else there.
pub(crate) fn has_separate_linears(data: &AdapterData) -> bool {
    let fused = |family: &llama::Architecture| ["gpt2", "phi3"].contains(&family.name);
    !data.base.architecture.is_some_and(fused)
}

/// Whether every adapted layer has the same linear layers: all that PEFT's config can say.
fn is_even(lora: &LoraData) -> bool {
    let (layers, names) = places(lora);
    lora.pairs.len() == layers.len() * names.len()
}

fn places(lora: &LoraData) -> (Vec<usize>, Vec<LinearName>) {
    let mut layers = lora.pairs.keys().map(|(layer, _)| *layer).collect::<Vec<_>>();
    let mut names = lora.pairs.keys().map(|(_, name)| *name).collect::<Vec<_>>();
    layers.dedup();
    names.sort_unstable();
    names.dedup();
    (layers, names)
}

/// The text of the config, keys sorted as PEFT sorts them.
pub(crate) fn to_json(data: &AdapterData) -> String {
    let mut config = json!({
        "auto_mapping": null,
        "base_model_name_or_path": data.base.name,
        "inference_mode": true,
        "revision": null,
        "task_type": "CAUSAL_LM",
    });
    match (&data.prompts, &data.lora) {
        _ if !is_peft(data) => config["peft_type"] = OUR_METHOD.into(),
        (Some(prompts), _) => {
            // Counted from the end of the model, which PEFT takes the last layers of.
            config["adapter_layers"] = prompts.layers.len().into();
            config["adapter_len"] = prompts.adapter_len.into();
            config["peft_type"] = PROMPT_METHOD.into();
            let family = data.base.architecture;
            let attention = family.map_or("self_attn".into(), |own| own.attention_module(0));
            let last = attention.rsplit('.').next().unwrap_or_default();
            config["target_modules"] = last.into();
        }
        (None, lora) => {
            let lora = lora.as_ref().expect("PEFT's adapters have prompts or LoRA");
            let (layers, names) = places(lora);
            let names = names.into_iter().map(|name| module(name).1).collect::<Vec<_>>();
            let all = data.base.sizes.as_ref().is_some_and(|sizes| sizes.n_layers == layers.len());
            config["bias"] = "none".into();
            config["fan_in_fan_out"] = false.into();
            config["layers_to_transform"] = if all { Value::Null } else { layers.into() };
            config["lora_alpha"] = lora.alpha.into();
            config["lora_dropout"] = 0.0.into();
            config["peft_type"] = LORA_METHOD.into();
            config["r"] = lora.rank.into();
            config["target_modules"] = names.into();
        }
    }
    config.sort_all_objects();
    format!("{}\n", serde_json::to_string_pretty(&config).expect("plain JSON"))
}

/// Reads a folder's config, if there is one.
pub(crate) fn read(folder: &Path) -> Result<Option<PeftConfig>> {
    let path = folder.join(CONFIG_FILE);
    if !path.exists() {
        return Ok(None);
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|source| llama::Error::Read { path: path.clone(), source })?;
    parse(&path, &text).map(Some)
}

fn parse(path: &Path, text: &str) -> Result<PeftConfig> {
    let wrong = |reason: String| Error::ConfigFile { path: path.into(), reason };
    let json: Value =
        serde_json::from_str(text).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
    let number = |field: &str| {
        json.get(field).and_then(Value::as_u64).map(|number| number as usize).ok_or_else(|| {
            wrong(format!("not an adapter's config: `{field}` is no number of things"))
        })
    };
    let method = match json.get("peft_type").and_then(Value::as_str).unwrap_or("none") {
        PROMPT_METHOD => Method::Prompts {
            adapter_len: number("adapter_len")?,
            adapter_layers: number("adapter_layers")?,
        },
        LORA_METHOD => {
            for (setting, plain) in PLAIN_LORA {
                let found = json.get(setting).unwrap_or(&Value::Null);
                let empty = match found {
                    Value::Null | Value::Bool(false) => true,
                    Value::Array(list) => list.is_empty(),
                    Value::Object(map) => map.is_empty(),
                    Value::String(text) => text == plain,
                    _ => false,
                };
                if !empty {
                    return Err(wrong(format!("LoRA with `{setting}` of {found} is not read")));
                }
            }
            let alpha = json.get("lora_alpha").and_then(Value::as_f64);
            let alpha = alpha.ok_or_else(|| wrong("`lora_alpha` is no number".into()))?;
            Method::Lora { rank: number("r")?, alpha }
        }
        OUR_METHOD => Method::Ours,
        other => {
            let known = format!("`{PROMPT_METHOD}`, `{LORA_METHOD}` or `{OUR_METHOD}`");
            return Err(wrong(format!("the method is `{other}`, expected {known}")));
        }
    };
    let base = json.get("base_model_name_or_path").and_then(Value::as_str).map(str::to_owned);
    Ok(PeftConfig { method, base })
}

/// Settings that change what LoRA computes, each with the word that means "no".
const PLAIN_LORA: [(&str, &str); 16] = [
    ("alora_invocation_tokens", ""),
    ("alpha_pattern", ""),
    ("arrow_config", ""),
    ("bias", "none"),
    ("fan_in_fan_out", ""),
    ("kasa_config", ""),
    ("layer_replication", ""),
    ("lora_bias", ""),
    ("megatron_config", ""),
    ("modules_to_save", ""),
    ("monteclora_config", ""),
    ("rank_pattern", ""),
    ("use_bdlora", ""),
    ("use_dora", ""),
    ("use_qalora", ""),
    ("use_rslora", ""),
];

/// Gates as PEFT has them.
pub(crate) const GATES: (Gate, Activation, Projection) =
    (Gate::Scalar, Activation::Identity, Projection::Adapted);
