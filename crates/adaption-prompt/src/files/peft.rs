//! `adapter_config.json`, as Hugging Face PEFT has it.
//!
//! An adapter that PEFT's own code cannot compute (a gate a head, tanh, scattered layers, Adapter
//! V2, images) is of a method that PEFT does not know, so that it refuses the folder instead of computing
//! something else without a word.

use std::path::Path;

use llama::LinearName;
use serde_json::{Map, Value, json};

use super::keys::{llama_module_name, module};
use super::peft_keys;
use super::peft_lora::PeftLoraConfig;
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{AdapterData, LoraData, PromptData};
use crate::error::{Error, Result};

/// File of the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File of the tensors.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";
/// File of the tensors that older versions of PEFT wrote.
pub const PICKLE_FILE: &str = "adapter_model.bin";

pub(super) const PROMPT_METHOD: &str = "ADAPTION_PROMPT";
pub(super) const LORA_METHOD: &str = "LORA";
const OUR_METHOD: &str = "LLAMA_ADAPTER";

/// What a config says of the adapter.
#[derive(Debug, Clone)]
pub(crate) struct PeftConfig {
    pub method: Method,
    pub base: Option<String>,
}

#[derive(Debug, Clone)]
pub(crate) enum Method {
    Prompts {
        adapter_len: usize,
        adapter_layers: usize,
        /// What the base calls its attention; PEFT knows it where nothing is said.
        attention: Option<String>,
    },
    Lora(Box<PeftLoraConfig>),
    /// Only `llama_adapter.json` says more.
    Ours,
}

/// Whether PEFT can load the adapter and computes the same.
pub fn is_peft_compatible(data: &AdapterData) -> bool {
    match (&data.prompts, &data.v2, &data.lora) {
        _ if data.image.is_some() => false,
        (Some(prompts), None, None) => {
            prompts.is_peft_compatible() && reaches_the_last(data, prompts)
        }
        (None, None, Some(_)) => has_separate_linears(data),
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
    let fused = |family: &llama::config::Architecture| ["gpt2", "phi3"].contains(&family.name);
    !data.base.architecture.is_some_and(fused)
}

/// Where LoRA is, as PEFT's config says it: what modules are called, and in which layers they are, if
/// that is not in their names.
fn targets(lora: &LoraData, n_layers: Option<usize>) -> (Vec<String>, Value) {
    let (layers, names) = places(lora);
    let even = lora.pairs.len() == layers.len() * names.len();
    if !even || names.contains(&LinearName::Head) {
        let modules = lora.pairs.keys().map(|(layer, name)| llama_module_name(*layer, *name));
        return (modules.collect(), Value::Null);
    }
    let names = names.into_iter().map(|name| module(name).1.to_owned()).collect();
    (names, if n_layers == Some(layers.len()) { Value::Null } else { layers.into() })
}

/// What a setting such as `rank_pattern` says of products with another rank than most.
fn patterns(lora: &LoraData, value: impl Fn(usize) -> Value) -> Value {
    let others = lora.pairs.iter().filter(|(_, own)| own.rank != lora.rank);
    let pairs =
        others.map(|(&(layer, name), own)| (llama_module_name(layer, name), value(own.rank)));
    Value::Object(pairs.collect())
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
        _ if !is_peft_compatible(data) => config["peft_type"] = OUR_METHOD.into(),
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
            let n_layers = data.base.sizes.as_ref().map(|sizes| sizes.n_layers);
            let (modules, layers) = targets(lora, n_layers);
            let factor = lora.alpha / lora.rank as f64;
            if lora.pairs.values().any(|own| own.rank != lora.rank) {
                config["rank_pattern"] = patterns(lora, Value::from);
                config["alpha_pattern"] = patterns(lora, |rank| (factor * rank as f64).into());
            }
            config["bias"] = "none".into();
            config["fan_in_fan_out"] = false.into();
            config["layers_to_transform"] = layers;
            config["lora_alpha"] = lora.alpha.into();
            config["lora_dropout"] = 0.0.into();
            config["peft_type"] = LORA_METHOD.into();
            config["r"] = lora.rank.into();
            config["target_modules"] = modules.into();
        }
    }
    config.sort_all_objects();
    format!("{}\n", serde_json::to_string_pretty(&config).expect("plain JSON"))
}

/// Reads a folder's config, if there is one.
pub(crate) fn read(folder: &Path) -> Result<Option<PeftConfig>> {
    let path = folder.join(CONFIG_FILE);
    object(&path)?.map(|config| parse(&path, &config)).transpose()
}

/// Settings of a folder's config that nobody here knows.
pub(super) fn unknown(folder: &Path) -> Result<Vec<String>> {
    let config = object(&folder.join(CONFIG_FILE))?;
    Ok(config.map_or(Vec::new(), |config| peft_keys::unknown(method(&config), &config)))
}

fn object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.exists() {
        return Ok(None);
    }
    let text = checkpoint::files::read_text(path)?;
    let wrong = |reason: String| Error::ConfigFile { path: path.into(), reason };
    match serde_json::from_str(&text) {
        Ok(Value::Object(config)) => Ok(Some(config)),
        Ok(_) => Err(wrong("not an adapter's config: expected an object".into())),
        Err(error) => Err(wrong(format!("not valid JSON: {error}"))),
    }
}

fn method(config: &Map<String, Value>) -> &str {
    config.get("peft_type").and_then(Value::as_str).unwrap_or("none")
}

fn parse(path: &Path, config: &Map<String, Value>) -> Result<PeftConfig> {
    let wrong = |reason: String| Error::ConfigFile { path: path.into(), reason };
    let get = |setting: &str| config.get(setting).unwrap_or(&Value::Null);
    let method = method(config);
    if let Some((setting, value)) = peft_keys::refused(method, config) {
        return Err(Error::setting(path, setting, value));
    }
    let number = |field: &str| {
        let number = get(field).as_u64().map(|number| number as usize);
        number.ok_or_else(|| {
            wrong(format!("not an adapter's config: `{field}` is no number of things"))
        })
    };
    let found = match method {
        PROMPT_METHOD => Method::Prompts {
            adapter_len: number("adapter_len")?,
            adapter_layers: number("adapter_layers")?,
            attention: get("target_modules").as_str().map(str::to_owned),
        },
        LORA_METHOD => {
            let initial = get("init_lora_weights");
            let changes = peft_keys::modifies_base(initial).map_err(|expected| {
                wrong(format!("`init_lora_weights` is {initial}, expected {expected}"))
            })?;
            if changes {
                let found = initial.to_string();
                return Err(Error::ModifiesBase { path: path.into(), found });
            }
            let lora = PeftLoraConfig::parse(config)
                .map_err(|reason| wrong(format!("not an adapter's config: {reason}")))?;
            Method::Lora(Box::new(lora))
        }
        OUR_METHOD => Method::Ours,
        other => {
            let known = format!("`{PROMPT_METHOD}`, `{LORA_METHOD}` or `{OUR_METHOD}`");
            return Err(wrong(format!(
                "the method is `{}`, expected {known}",
                other.escape_debug()
            )));
        }
    };
    // Another task is another model around the same layers, with a head of its own.
    let task = get("task_type");
    if !task.is_null() && !TASKS.iter().any(|known| task == known) {
        return Err(Error::setting(path, "task_type", task));
    }
    let base = get("base_model_name_or_path").as_str().map(str::to_owned);
    Ok(PeftConfig { method: found, base })
}

/// Tasks whose model computes what a causal language model does.
const TASKS: [&str; 2] = ["CAUSAL_LM", "FEATURE_EXTRACTION"];

/// Gates as PEFT has them.
pub(crate) const PEFT_GATES: (Gate, GateActivation, PromptProjection) =
    (Gate::Scalar, GateActivation::Identity, PromptProjection::Adapted);
