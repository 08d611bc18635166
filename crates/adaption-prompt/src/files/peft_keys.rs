//! Every setting of `adapter_config.json` that PEFT has, and what becomes of it here.
//!
//! A setting that changes what a finished adapter computes is honoured, or refused by its name; one
//! that only training asks for is harmless. A setting that is not in these tables is of another
//! program or a newer PEFT: [`unknown`] names it.
//!
//! Source: PEFT 0.21, `peft/config.py`, `peft/tuners/lora/config.py` and
//! `peft/tuners/adaption_prompt/config.py`.

use serde_json::{Map, Value};

use super::peft::{LORA_METHOD, PROMPT_METHOD};

/// What becomes of a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Read, and does what it does in PEFT.
    Honoured,
    /// Says nothing about what a finished adapter computes.
    Harmless,
    /// Changes what is computed and is not implemented: refused unless it is off.
    Refused,
}
use Fate::{Harmless, Honoured, Refused};

/// Of every method.
const COMMON: [(&str, Fate); 8] = [
    ("auto_mapping", Harmless),
    ("base_model_name_or_path", Honoured),
    ("inference_mode", Harmless),
    ("peft_type", Honoured),
    ("peft_version", Harmless),
    // Of the base, which the caller chooses.
    ("revision", Harmless),
    ("runtime_config", Harmless),
    ("task_type", Honoured),
];

/// Of `ADAPTION_PROMPT`.
const PROMPTS: [(&str, Fate); 3] =
    [("adapter_layers", Honoured), ("adapter_len", Honoured), ("target_modules", Honoured)];

/// Of `LORA`. Those from `enable_lora` on are of PEFT's first versions and of other programs.
const LORA: [(&str, Fate); 40] = [
    ("alora_invocation_tokens", Refused),
    ("alpha_pattern", Honoured),
    ("arrow_config", Refused),
    // Biases that were learned are tensors in the file, and refused by their names.
    ("bias", Harmless),
    ("corda_config", Harmless),
    ("ensure_weight_tying", Refused),
    ("eva_config", Harmless),
    ("exclude_modules", Honoured),
    // How the base's file lies, which matters where products are merged into it.
    ("fan_in_fan_out", Harmless),
    ("init_lora_weights", Honoured),
    ("kasa_config", Refused),
    ("layer_replication", Refused),
    ("layers_pattern", Honoured),
    ("layers_to_transform", Honoured),
    ("loftq_config", Harmless),
    ("lora_alpha", Honoured),
    ("lora_bias", Refused),
    ("lora_dropout", Harmless),
    ("lora_ga_config", Harmless),
    ("megatron_config", Refused),
    ("megatron_core", Harmless),
    ("modules_to_save", Refused),
    ("monteclora_config", Refused),
    ("qalora_group_size", Harmless),
    ("r", Honoured),
    ("rank_pattern", Honoured),
    ("target_modules", Honoured),
    ("target_parameters", Refused),
    ("trainable_token_indices", Refused),
    ("use_bdlora", Refused),
    ("use_dora", Refused),
    ("use_qalora", Refused),
    ("use_rslora", Honoured),
    ("velora_config", Refused),
    ("enable_lora", Refused),
    ("merge_weights", Harmless),
    // ms-swift's: how it trains.
    ("lora_dtype", Harmless),
    ("lorap_emb_lr", Harmless),
    ("lorap_lr_ratio", Harmless),
    // Unsloth's mark that it wrote the file.
    ("unsloth_fixed", Harmless),
];

fn setting_support(method: &str, setting: &str) -> Option<Fate> {
    let own: &[(&str, Fate)] = match method {
        LORA_METHOD => &LORA,
        PROMPT_METHOD => &PROMPTS,
        _ => &[],
    };
    let mut known = COMMON.iter().chain(own);
    known.find(|(name, _)| *name == setting).map(|(_, fate)| *fate)
}

/// Whether a value switches nothing on.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
    }
}

/// The first setting that changes what the adapter computes and is not implemented.
pub(super) fn first_unsupported<'a>(
    method: &str,
    config: &'a Map<String, Value>,
) -> Option<(&'a str, &'a Value)> {
    let refused = |(name, value): &(&String, &Value)| {
        setting_support(method, name) == Some(Refused) && !is_off(value)
    };
    config.iter().find(refused).map(|(name, value)| (name.as_str(), value))
}

/// Settings that are in no table.
pub(super) fn unknown_settings(method: &str, config: &Map<String, Value>) -> Vec<String> {
    let names = config.keys().filter(|name| setting_support(method, name).is_none());
    names.cloned().collect()
}

/// What PEFT does to the base model when it loads LoRA that training began from such numbers, if it
/// does anything: only then are the adapter's own numbers not all of it.
///
/// # Errors
/// What is expected, for a value that PEFT does not know.
pub(super) fn modifies_base(initial: &Value) -> Result<bool, &'static str> {
    // Once training has begun these are numbers like any.
    const PLAIN: [&str; 5] = ["eva", "gaussian", "lora_ga", "mica", "orthogonal"];
    const CHANGING: [&str; 4] = ["corda", "loftq", "olora", "pissa"];
    match initial {
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
        _ => Err("true, false or a text"),
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
    fn every_setting_of_peft_has_its_fate_and_every_default_is_read() {
        for method in [LORA_METHOD, PROMPT_METHOD] {
            let settings = peft_defaults()[method].as_object().unwrap().clone();
            assert_eq!(unknown_settings(method, &settings), [""; 0], "{method}");
            assert_eq!(first_unsupported(method, &settings), None, "{method}");
        }
    }

    #[test]
    fn a_setting_that_is_on_and_not_implemented_is_refused() {
        let config = json!({"use_dora": true, "arrow_config": null, "lora_bias": false});
        let (name, value) = first_unsupported(LORA_METHOD, config.as_object().unwrap()).unwrap();
        assert_eq!((name, value), ("use_dora", &json!(true)));
        let config = json!({"layer_replication": [], "target_parameters": {}, "new": 1});
        assert_eq!(first_unsupported(LORA_METHOD, config.as_object().unwrap()), None);
        assert_eq!(unknown_settings(LORA_METHOD, config.as_object().unwrap()), ["new"]);
        // LoRA's settings mean nothing to prompts.
        assert_eq!(unknown_settings(PROMPT_METHOD, config.as_object().unwrap()).len(), 3);
    }

    #[test]
    fn only_some_first_numbers_change_the_base() {
        for plain in [json!(true), json!(false), json!(null), json!("gaussian"), json!("eva")] {
            assert_eq!(modifies_base(&plain), Ok(false), "{plain}");
        }
        for changing in ["pissa", "pissa_niter_16", "olora", "OLoRA", "corda", "loftq"] {
            assert_eq!(modifies_base(&json!(changing)), Ok(true), "{changing}");
        }
        assert!(modifies_base(&json!("other")).is_err() && modifies_base(&json!(3)).is_err());
    }
}
