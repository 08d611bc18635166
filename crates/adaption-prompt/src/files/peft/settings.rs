//! Support for each setting of PEFT's `adapter_config.json`.
//!
//! A setting that changes the results of a trained adapter is supported or refused. A setting that only
//! concerns training is ignored. Settings that are not in these tables come from another program or a newer
//! PEFT, and [`unknown_settings`] reports them.
//!
//! Source: PEFT 0.21, `peft/config.py`, `peft/tuners/lora/config.py` and
//! `peft/tuners/adaption_prompt/config.py`.

use serde_json::{Map, Value};

use super::names::{LORA_METHOD, PROMPT_METHOD};

/// Support for a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SettingSupport {
    /// Read, with the same effect as in PEFT.
    Supported,
    /// Has no effect on the results of a trained adapter.
    Ignored,
    /// Changes the results and is not implemented: refused unless it is off.
    Unsupported,
}
use SettingSupport::{Ignored, Supported, Unsupported};

/// Settings of every method.
const COMMON: [(&str, SettingSupport); 8] = [
    ("auto_mapping", Ignored),
    ("base_model_name_or_path", Supported),
    ("inference_mode", Ignored),
    ("peft_type", Supported),
    ("peft_version", Ignored),
    // A property of the base, which the caller chooses.
    ("revision", Ignored),
    ("runtime_config", Ignored),
    ("task_type", Supported),
];

/// Settings of `ADAPTION_PROMPT`.
const PROMPTS: [(&str, SettingSupport); 3] =
    [("adapter_layers", Supported), ("adapter_len", Supported), ("target_modules", Supported)];

/// Settings of `LORA`. Those from `enable_lora` on are of PEFT's first versions and of other programs.
const LORA: [(&str, SettingSupport); 40] = [
    ("alora_invocation_tokens", Unsupported),
    ("alpha_pattern", Supported),
    ("arrow_config", Unsupported),
    // Trained biases are tensors of the file, which are refused by name.
    ("bias", Ignored),
    ("corda_config", Ignored),
    ("ensure_weight_tying", Unsupported),
    ("eva_config", Ignored),
    ("exclude_modules", Supported),
    // Layout of the base's weights, which only matters for merging.
    ("fan_in_fan_out", Ignored),
    ("init_lora_weights", Supported),
    ("kasa_config", Unsupported),
    ("layer_replication", Unsupported),
    ("layers_pattern", Supported),
    ("layers_to_transform", Supported),
    ("loftq_config", Ignored),
    ("lora_alpha", Supported),
    ("lora_bias", Unsupported),
    ("lora_dropout", Ignored),
    ("lora_ga_config", Ignored),
    ("megatron_config", Unsupported),
    ("megatron_core", Ignored),
    ("modules_to_save", Unsupported),
    ("monteclora_config", Unsupported),
    ("qalora_group_size", Ignored),
    ("r", Supported),
    ("rank_pattern", Supported),
    ("target_modules", Supported),
    ("target_parameters", Unsupported),
    ("trainable_token_indices", Unsupported),
    ("use_bdlora", Unsupported),
    ("use_dora", Unsupported),
    ("use_qalora", Unsupported),
    ("use_rslora", Supported),
    ("velora_config", Unsupported),
    ("enable_lora", Unsupported),
    ("merge_weights", Ignored),
    // Training settings of ms-swift.
    ("lora_dtype", Ignored),
    ("lorap_emb_lr", Ignored),
    ("lorap_lr_ratio", Ignored),
    // Marks files of Unsloth.
    ("unsloth_fixed", Ignored),
];

fn setting_support(method: &str, setting: &str) -> Option<SettingSupport> {
    let own: &[(&str, SettingSupport)] = match method {
        LORA_METHOD => &LORA,
        PROMPT_METHOD => &PROMPTS,
        _ => &[],
    };
    let mut known = COMMON.iter().chain(own);
    known.find(|(name, _)| *name == setting).map(|(_, support)| *support)
}

/// Whether a value disables its setting.
fn is_disabled(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The first enabled setting that changes the results and is not implemented.
pub(super) fn first_unsupported<'a>(
    method: &str,
    config: &'a Map<String, Value>,
) -> Option<(&'a str, &'a Value)> {
    let unsupported = |(name, value): &(&String, &Value)| {
        setting_support(method, name) == Some(Unsupported) && !is_disabled(value)
    };
    config.iter().find(unsupported).map(|(name, value)| (name.as_str(), value))
}

/// Settings that are not in the tables.
pub(super) fn unknown_settings(method: &str, config: &Map<String, Value>) -> Vec<String> {
    let names = config.keys().filter(|name| setting_support(method, name).is_none());
    names.cloned().collect()
}

/// Whether PEFT modifies the base model when it loads LoRA with this `init_lora_weights`.
///
/// # Errors
/// The valid values, for a value that PEFT does not know.
pub(super) fn modifies_base(init: &Value) -> Result<bool, &'static str> {
    // These only determine the initial values of A and B.
    const PLAIN: [&str; 5] = ["eva", "gaussian", "lora_ga", "mica", "orthogonal"];
    const CHANGING: [&str; 4] = ["corda", "loftq", "olora", "pissa"];
    match init {
        Value::Null | Value::Bool(_) => Ok(false),
        Value::String(text) => {
            let text = text.to_ascii_lowercase();
            if PLAIN.contains(&text.as_str()) {
                Ok(false)
            } else if CHANGING.iter().any(|changing| text.starts_with(changing)) {
                Ok(true)
            } else {
                Err("true, false, eva, gaussian, lora_ga, mica or orthogonal")
            }
        }
        _ => Err("true, false or a string"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// PEFT's own settings with their defaults, as `make.py lora` writes them down.
    fn peft_defaults() -> Value {
        let path = testing::golden_folder().join("lora/settings.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn every_peft_setting_is_classified_and_every_default_is_accepted() {
        for method in [LORA_METHOD, PROMPT_METHOD] {
            let settings = peft_defaults()[method].as_object().unwrap().clone();
            assert_eq!(unknown_settings(method, &settings), [""; 0], "{method}");
            assert_eq!(first_unsupported(method, &settings), None, "{method}");
        }
    }

    #[test]
    fn enabled_unsupported_setting_is_refused() {
        let config = json!({"use_dora": true, "arrow_config": null, "lora_bias": false});
        let (name, value) = first_unsupported(LORA_METHOD, config.as_object().unwrap()).unwrap();
        assert_eq!((name, value), ("use_dora", &json!(true)));
        let config = json!({"layer_replication": [], "target_parameters": {}, "new": 1});
        assert_eq!(first_unsupported(LORA_METHOD, config.as_object().unwrap()), None);
        assert_eq!(unknown_settings(LORA_METHOD, config.as_object().unwrap()), ["new"]);
        // LoRA's settings are unknown to prompts.
        assert_eq!(unknown_settings(PROMPT_METHOD, config.as_object().unwrap()).len(), 3);
    }

    #[test]
    fn only_some_init_methods_modify_the_base() {
        for plain in [json!(true), json!(false), json!(null), json!("gaussian"), json!("eva")] {
            assert_eq!(modifies_base(&plain), Ok(false), "{plain}");
        }
        for changing in ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq"] {
            assert_eq!(modifies_base(&json!(changing)), Ok(true), "{changing}");
        }
        assert!(modifies_base(&json!("other")).is_err() && modifies_base(&json!(3)).is_err());
    }
}
