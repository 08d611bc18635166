//! Hugging Face PEFT's folder: `adapter_config.json`.
//!
//! An adapter that PEFT's own code cannot compute (gates per head, tanh, scattered layers, Adapter V2, images)
//! gets a method name that PEFT does not know, so that PEFT refuses the folder instead of computing
//! something else.

mod convert;
mod lora;
mod module_patterns;
mod names;
mod settings;
mod target_modules;
mod tensor_names;

use std::path::Path;

use llama::LinearName;
use serde_json::{Map, Value, json};

pub(super) use self::convert::convert;
pub use self::convert::is_peft_compatible;
use self::lora::PeftLoraConfig;
pub use self::names::{CONFIG_FILE, PICKLE_FILE, TENSORS_FILE};
use self::names::{LLAMA_ADAPTER_METHOD, LORA_METHOD, PROMPT_METHOD};
pub(super) use self::tensor_names::normalize_lora_names;
use crate::adapter::data::AdapterData;
use crate::error::{Error, Result};
use crate::gate::{Gate, GateActivation};
use crate::parts::{LoraData, PromptProjection, PromptSettings};
use crate::tensors::names::{llama_module_name, module_path};

/// What a config says of the adapter.
#[derive(Debug, Clone)]
pub(super) struct PeftConfig {
    pub method: PeftMethod,
    /// Name of the base model.
    pub base: Option<String>,
}

#[derive(Debug, Clone)]
pub(super) enum PeftMethod {
    Prompts {
        adapter_len: usize,
        adapter_layers: usize,
        /// Name of the base's attention modules, if it is not PEFT's default.
        attention: Option<String>,
    },
    Lora(Box<PeftLoraConfig>),
    /// Described by `llama_adapter.json`.
    LlamaAdapter,
}

/// Prompts of PEFT: one gate per layer, no activation.
pub(super) fn default_prompt_settings() -> PromptSettings {
    PromptSettings::new(Gate::Scalar, GateActivation::Identity, PromptProjection::Adapted)
}

/// Target modules of LoRA, and the adapted layers if the module names do not contain them.
fn target_modules(lora: &LoraData, n_layers: Option<usize>) -> (Vec<String>, Value) {
    let (layers, names) = layers_and_linears(lora);
    let same_linears_in_every_layer = lora.pairs.len() == layers.len() * names.len();
    if !same_linears_in_every_layer || names.contains(&LinearName::Head) {
        let modules = lora.pairs.keys().map(|(layer, name)| llama_module_name(*layer, *name));
        return (modules.collect(), Value::Null);
    }
    let names = names.into_iter().map(|name| module_path(name).1.to_owned()).collect();
    (names, if n_layers == Some(layers.len()) { Value::Null } else { layers.into() })
}

/// A setting such as `rank_pattern`: values of the modules with another rank than most.
fn rank_pattern(lora: &LoraData, value: impl Fn(usize) -> Value) -> Value {
    let others = lora.pairs.iter().filter(|(_, own)| own.rank != lora.rank);
    let pairs =
        others.map(|(&(layer, name), own)| (llama_module_name(layer, name), value(own.rank)));
    Value::Object(pairs.collect())
}

fn layers_and_linears(lora: &LoraData) -> (Vec<usize>, Vec<LinearName>) {
    let mut layers = lora.pairs.keys().map(|(layer, _)| *layer).collect::<Vec<_>>();
    let mut names = lora.pairs.keys().map(|(_, name)| *name).collect::<Vec<_>>();
    layers.dedup();
    names.sort_unstable();
    names.dedup();
    (layers, names)
}

/// The config's text, with sorted keys as PEFT writes them.
pub(super) fn to_json(data: &AdapterData) -> String {
    let mut config = json!({
        "auto_mapping": null,
        "base_model_name_or_path": data.base.name,
        "inference_mode": true,
        "revision": null,
        "task_type": "CAUSAL_LM",
    });
    match (&data.prompts, &data.lora) {
        _ if !is_peft_compatible(data) => config["peft_type"] = LLAMA_ADAPTER_METHOD.into(),
        (Some(prompts), _) => {
            // PEFT adapts this number of layers at the end of the model.
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
            let (modules, layers) = target_modules(lora, n_layers);
            let scaling = lora.alpha / lora.rank as f64;
            if lora.pairs.values().any(|own| own.rank != lora.rank) {
                config["rank_pattern"] = rank_pattern(lora, Value::from);
                config["alpha_pattern"] = rank_pattern(lora, |rank| (scaling * rank as f64).into());
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
    format!("{}\n", serde_json::to_string_pretty(&config).expect("the config is plain JSON"))
}

/// Reads a folder's config, if it exists.
pub(super) fn read_config(folder: &Path) -> Result<Option<PeftConfig>> {
    let path = folder.join(CONFIG_FILE);
    read_json_object(&path)?.map(|config| parse(&path, &config)).transpose()
}

/// Parses the text of a config.
pub(super) fn parse_config(path: &Path, text: &str) -> Result<PeftConfig> {
    parse(path, &parse_json_object(path, text)?)
}

/// Unknown settings of a folder's config.
pub(super) fn unknown_settings(folder: &Path) -> Result<Vec<String>> {
    let config = read_json_object(&folder.join(CONFIG_FILE))?;
    Ok(config.map_or(Vec::new(), |config| settings::unknown_settings(method(&config), &config)))
}

fn read_json_object(path: &Path) -> Result<Option<Map<String, Value>>> {
    if !path.exists() {
        return Ok(None);
    }
    parse_json_object(path, &checkpoint::files::read_text(path)?).map(Some)
}

fn parse_json_object(path: &Path, text: &str) -> Result<Map<String, Value>> {
    let invalid = |reason: String| Error::ConfigFile { path: path.into(), reason };
    match serde_json::from_str(text) {
        Ok(Value::Object(config)) => Ok(config),
        Ok(_) => Err(invalid("not an adapter config: expected an object".into())),
        Err(error) => Err(invalid(format!("not valid JSON: {error}"))),
    }
}

fn method(config: &Map<String, Value>) -> &str {
    config.get("peft_type").and_then(Value::as_str).unwrap_or("none")
}

fn parse(path: &Path, config: &Map<String, Value>) -> Result<PeftConfig> {
    /// Tasks whose model computes what a causal language model computes.
    const SUPPORTED_TASKS: [&str; 2] = ["CAUSAL_LM", "FEATURE_EXTRACTION"];
    let invalid = |reason: String| Error::ConfigFile { path: path.into(), reason };
    let get = |setting: &str| config.get(setting).unwrap_or(&Value::Null);
    let method_name = method(config);
    if let Some((setting, value)) = settings::first_unsupported(method_name, config) {
        return Err(Error::unsupported_setting(path, setting, value));
    }
    let count = |field: &str| {
        let count = get(field).as_u64().map(|count| count as usize);
        let reason =
            || format!("not an adapter config: `{field}`: expected a non-negative integer");
        count.ok_or_else(|| invalid(reason()))
    };
    let method = match method_name {
        PROMPT_METHOD => PeftMethod::Prompts {
            adapter_len: count("adapter_len")?,
            adapter_layers: count("adapter_layers")?,
            attention: get("target_modules").as_str().map(str::to_owned),
        },
        LORA_METHOD => {
            let init = get("init_lora_weights");
            let modifies_base = settings::modifies_base(init).map_err(|expected| {
                invalid(format!("`init_lora_weights` is {init}, expected {expected}"))
            })?;
            if modifies_base {
                let found = init.to_string();
                return Err(Error::ModifiesBase { path: path.into(), found });
            }
            let lora = PeftLoraConfig::parse(config)
                .map_err(|reason| invalid(format!("not an adapter config: {reason}")))?;
            PeftMethod::Lora(Box::new(lora))
        }
        LLAMA_ADAPTER_METHOD => PeftMethod::LlamaAdapter,
        other => {
            let known = format!("`{PROMPT_METHOD}`, `{LORA_METHOD}` or `{LLAMA_ADAPTER_METHOD}`");
            return Err(invalid(format!(
                "the method is `{}`, expected {known}",
                other.escape_debug()
            )));
        }
    };
    // The model of another task has another head.
    let task = get("task_type");
    if !task.is_null() && !SUPPORTED_TASKS.iter().any(|known| task == known) {
        return Err(Error::unsupported_setting(path, "task_type", task));
    }
    let base = get("base_model_name_or_path").as_str().map(str::to_owned);
    Ok(PeftConfig { method, base })
}
