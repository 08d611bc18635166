//! Every key of a `config.json`: read, unsupported, neutral or ignored.
//!
//! A family lists the keys that it reads. The tables here hold for all families. A key in none of them
//! is reported as unused; add new keys to the table where they belong.
//!
//! Source: `transformers`, `configuration_utils.py`, and `configuration_*.py` and `modeling_*.py`
//! of each family.

use checkpoint::settings::NeutralValue;
use serde_json::Value;
use text::settings::generation;

use crate::config::Architecture;
use crate::error::{Error, Result};

/// Keys of unsupported features, with the values that disable the feature. All other values are errors
/// in every family that does not read the key, even if transformers ignores them there: such a file
/// was made for other code.
const UNSUPPORTED_KEYS: &[(&str, &[NeutralValue])] = &[
    ("add_cross_attention", &[NeutralValue::Bool(false)]),
    ("alibi", &[NeutralValue::Bool(false)]),
    ("attention_chunk_size", &[]),
    ("attention_multiplier", &[]),
    ("attn_logit_softcapping", &[]),
    ("clip_qkv", &[]),
    ("dim_model_base", &[]),
    ("embedding_multiplier", &[NeutralValue::Number(1.0)]),
    ("final_logit_softcapping", &[]),
    ("hidden_activation", &[NeutralValue::Text("silu"), NeutralValue::Text("swish")]),
    ("is_causal", &[NeutralValue::Bool(true)]),
    ("is_encoder_decoder", &[NeutralValue::Bool(false)]),
    ("kv_lora_rank", &[]),
    ("logit_scale", &[NeutralValue::Number(1.0)]),
    ("logits_scaling", &[NeutralValue::Number(1.0)]),
    ("moe_intermediate_size", &[NeutralValue::Number(0.0)]),
    ("n_routed_experts", &[NeutralValue::Number(0.0)]),
    ("no_rope_layer_interval", &[NeutralValue::Number(0.0)]),
    ("no_rope_layers", &[NeutralValue::Empty]),
    ("num_experts", &[NeutralValue::Number(0.0)]),
    ("num_experts_per_tok", &[NeutralValue::Number(0.0)]),
    ("num_local_experts", &[NeutralValue::Number(0.0)]),
    ("parallel_attn", &[NeutralValue::Bool(false)]),
    ("per_layer_config", &[NeutralValue::Empty]),
    ("pruned_heads", &[NeutralValue::Empty]),
    ("q_lora_rank", &[]),
    ("qk_layernorm", &[NeutralValue::Bool(false)]),
    ("qk_norm", &[NeutralValue::Bool(false)]),
    ("query_pre_attn_scalar", &[]),
    ("residual_multiplier", &[NeutralValue::Number(1.0)]),
    ("rope_interleaved", &[NeutralValue::Bool(false)]),
    ("rotary_pct", &[NeutralValue::Number(1.0)]),
    ("scale_attn_by_inverse_layer_idx", &[NeutralValue::Bool(false)]),
    ("scale_attn_weights", &[NeutralValue::Bool(true)]),
    ("scale_depth", &[]),
    ("scale_emb", &[NeutralValue::Number(1.0)]),
    ("transformers_weights", &[]),
    ("use_alibi", &[NeutralValue::Bool(false)]),
    ("use_bidirectional_attention", &[NeutralValue::Bool(false)]),
    ("use_mrope", &[NeutralValue::Bool(false)]),
    ("use_parallel_residual", &[NeutralValue::Bool(false)]),
    ("use_qk_norm", &[NeutralValue::Bool(false)]),
];

/// Keys that only some families read, with the values that mean nothing to the others, where transformers
/// ignores them.
const NEUTRAL_KEYS: &[(&str, &[NeutralValue])] = &[
    ("attention_bias", &[NeutralValue::Bool(false)]),
    ("layer_types", &[]),
    ("max_window_layers", &[]),
    ("mlp_bias", &[NeutralValue::Bool(false)]),
    ("sliding_window", &[]),
    ("use_sliding_window", &[NeutralValue::Bool(false)]),
];

/// Keys without an effect on inference and training here.
const IGNORED_KEYS: &[&str] = &[
    // Read with the tokenizer or the weights.
    "bos_token_id",
    "eos_token_id",
    "quantization_config",
    "tokenizer_class",
    // Metadata of the file.
    "_commit_hash",
    "_name_or_path",
    "_num_labels",
    "architectures",
    "auto_map",
    "model_type",
    "name_or_path",
    "transformers_version",
    "transformers.js_config",
    "is_llama_config",
    "unsloth_fixed",
    "unsloth_version",
    // Implementation choices of transformers; the precision is the caller's choice.
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_experts_implementation",
    "attn_implementation",
    "chunk_size_feed_forward",
    "dtype",
    "gradient_checkpointing",
    "pretraining_tp",
    "reorder_and_upcast_attn",
    "torch_dtype",
    "torchscript",
    "use_bfloat16",
    "use_cache",
    "use_flash_attn",
    // Outputs of a call.
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "return_dict",
    "tie_last_hidden_states",
    "use_return_dict",
    // Training recipe: initialization and dropout.
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "initializer_range",
    "resid_pdrop",
    // Tokens that are not used here.
    "decoder_start_token_id",
    "pad_token_id",
    "prefix",
    "sep_token_id",
    "unk_token_id",
    // Tokenizer.
    "model_max_length",
    // Heads for other tasks.
    "classifier_dropout",
    "cross_attention_hidden_size",
    "finetuning_task",
    "id2label",
    "is_decoder",
    "label2id",
    "num_labels",
    "problem_type",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
    "task_specific_params",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    // First files of GPT-2: a duplicate of `n_positions`, which transformers ignores.
    "n_ctx",
];

/// Rejects unsupported keys that the family does not read.
///
/// # Errors
/// [`Error::Config`] for the first such key.
pub(super) fn check_supported(architecture: &Architecture, json: &Value) -> Result<()> {
    for (key, neutral) in UNSUPPORTED_KEYS {
        let Some(value) = json.get(key).filter(|_| !architecture.reads_key(key)) else { continue };
        if !NeutralValue::allows(neutral, value) {
            let found = NeutralValue::shown(value);
            return Err(Error::config(*key, found, NeutralValue::expected(neutral)));
        }
    }
    Ok(())
}

/// Keys without an effect, in alphabetical order.
pub(super) fn unused(architecture: &Architecture, json: &Value) -> Vec<String> {
    let is_known = |key: &str| {
        architecture.reads_key(key)
            || IGNORED_KEYS.contains(&key)
            || UNSUPPORTED_KEYS.iter().any(|(unsupported, _)| *unsupported == key)
    };
    let object = json.as_object().into_iter().flatten();
    let mut unused = object
        .filter(|(key, value)| {
            let is_neutral = NEUTRAL_KEYS.iter().any(|(neutral_key, neutral)| {
                neutral_key == key && NeutralValue::allows(neutral, value)
            });
            !is_known(key) && !is_neutral && !generation::has_no_effect(key, value, json)
        })
        .map(|(key, _)| key.clone())
        .collect::<Vec<_>>();
    if architecture.reads_key("rope_scaling") {
        unused.extend(super::rope::unused(json));
    }
    unused.sort();
    unused
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::super::{ARCHITECTURES, parse, to_json, unused_keys};
    use super::*;
    use crate::config::{Architecture, LlamaConfig};

    /// A small config of a family.
    fn small(architecture: &'static Architecture) -> Value {
        let config = LlamaConfig {
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 2,
            head_dim: 4,
            d_model: 8,
            d_ff: 8,
            vocab_size: 16,
            ..architecture.defaults()
        };
        to_json(&config).unwrap()
    }

    fn parsed(json: &Value) -> Result<LlamaConfig> {
        parse(Path::new("config.json"), &json.to_string())
    }

    #[test]
    fn every_listed_key_is_read() {
        for architecture in ARCHITECTURES {
            for key in architecture.config_keys.iter().copied().flatten() {
                let mut json = small(architecture);
                // The other keys of the window are read only if it is enabled.
                if architecture.reads_key("use_sliding_window") && *key != "use_sliding_window" {
                    json["use_sliding_window"] = true.into();
                    json["max_window_layers"] = 1.into();
                    json["sliding_window"] = 4.into();
                }
                json[*key] = json!([{"no": "such value"}]);
                assert!(parsed(&json).is_err(), "{}: {key}", architecture.name);
            }
        }
    }

    #[test]
    fn every_written_key_is_read() {
        for architecture in ARCHITECTURES {
            assert_eq!(unused_keys(&small(architecture)), [""; 0], "{}", architecture.name);
        }
    }

    #[test]
    fn no_key_is_in_two_tables() {
        let mut all = IGNORED_KEYS.to_vec();
        all.extend(UNSUPPORTED_KEYS.iter().map(|(key, _)| *key));
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
        for architecture in ARCHITECTURES {
            assert!(
                !IGNORED_KEYS.iter().any(|key| architecture.reads_key(key)),
                "{}",
                architecture.name
            );
        }
    }

    #[test]
    fn unknown_keys_are_reported_and_ignored_keys_are_not() {
        for architecture in ARCHITECTURES {
            let mut json = small(architecture);
            json["_name_or_path"] = "somewhere".into();
            json["temperature"] = 1.0.into();
            json["foo"] = Value::Null;
            json["repetition_penalty"] = 1.3.into();
            let mut expected = vec!["foo", "repetition_penalty"];
            // Keys of other families are reported unless their value is neutral.
            for (key, reported) in [("mlp_bias", false), ("sliding_window", true)] {
                if !architecture.reads_key(key) {
                    json[key] = if reported { 8.into() } else { false.into() };
                    expected.extend(reported.then_some(key));
                }
            }
            assert_eq!(unused_keys(&json), expected, "{}", architecture.name);
        }
    }

    #[test]
    fn unsupported_keys_are_errors() {
        for architecture in ARCHITECTURES {
            for (key, neutral) in
                UNSUPPORTED_KEYS.iter().filter(|(key, _)| !architecture.reads_key(key))
            {
                let mut json = small(architecture);
                json[*key] = 0.37.into();
                let message = parsed(&json).unwrap_err().to_string();
                assert!(message.contains(&format!("{key} is 0.37, expected ")), "{message}");
                json[*key] = Value::Null;
                parsed(&json).unwrap();
                for value in *neutral {
                    json[*key] = match *value {
                        NeutralValue::Bool(value) => value.into(),
                        NeutralValue::Number(value) => value.into(),
                        NeutralValue::Text(value) => value.into(),
                        NeutralValue::Empty => json!([]),
                    };
                    parsed(&json).unwrap();
                }
            }
        }
    }
}
