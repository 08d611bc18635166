//! Every key of a `config.json`: read, refused unless it says nothing, or harmless.
//!
//! A family names the keys that it reads; what is the same for all of them stands in the tables
//! here. A key in none of them is reported as unused, so that a new one is a decision: put it where
//! it belongs.
//!
//! Source: `transformers`, `configuration_utils.py`, and `configuration_*.py` and `modeling_*.py`
//! of each family.

use checkpoint::settings::NeutralValue;
use serde_json::Value;
use text::settings::generation;

use crate::config::Architecture;
use crate::error::{Error, Result};

/// Keys of the families that rotate queries and keys, beside those that only some of them read.
pub(super) const SIZES: &[&str] = &[
    "head_dim",
    "hidden_act",
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rms_norm_eps",
    "rope_parameters",
    "rope_scaling",
    "rope_theta",
    "tie_word_embeddings",
    "vocab_size",
];

/// Keys that change the arithmetic in a way that is not known here, and the values with which they
/// do not. They are refused in every family, also where transformers' own code looks past them: a
/// file that has one was made for another code.
const REFUSED: &[(&str, &[NeutralValue])] = &[
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

/// Keys that only some families read, and the values with which they say nothing to the others,
/// whose code in transformers looks past them.
const SILENT: &[(&str, &[NeutralValue])] = &[
    ("attention_bias", &[NeutralValue::Bool(false)]),
    ("layer_types", &[]),
    ("max_window_layers", &[]),
    ("mlp_bias", &[NeutralValue::Bool(false)]),
    ("sliding_window", &[]),
    ("use_sliding_window", &[NeutralValue::Bool(false)]),
];

/// Keys that change nothing of what is computed here.
const HARMLESS: &[&str] = &[
    // Read elsewhere: with the tokenizer, and with the weights.
    "bos_token_id",
    "eos_token_id",
    "quantization_config",
    "tokenizer_class",
    // What the file is.
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
    // How transformers computes, not what; the precision is the caller's choice.
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
    // What a call gives back.
    "output_attentions",
    "output_hidden_states",
    "output_past",
    "return_dict",
    "tie_last_hidden_states",
    "use_return_dict",
    // Fresh weights, and dropout: of the recipe of a training, which has its own here.
    "attention_dropout",
    "attn_pdrop",
    "embd_pdrop",
    "hidden_dropout",
    "initializer_range",
    "resid_pdrop",
    // Tokens that no text here begins or ends with, and nobody pads with.
    "decoder_start_token_id",
    "pad_token_id",
    "prefix",
    "sep_token_id",
    "unk_token_id",
    // Of the tokenizer.
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
    // GPT-2's first files: a second word for `n_positions`, which transformers looks past.
    "n_ctx",
];

/// Refuses what the family does not read and the arithmetic here does not know.
///
/// # Errors
/// [`Error::Config`] for the first such key.
pub(super) fn check(known: &Architecture, json: &Value) -> Result<()> {
    for (key, fine) in REFUSED {
        let Some(value) = json.get(key).filter(|_| !known.reads(key)) else { continue };
        if !NeutralValue::allows(fine, value) {
            let found = NeutralValue::shown(value);
            return Err(Error::config(*key, found, NeutralValue::expected(fine)));
        }
    }
    Ok(())
}

/// The keys that nothing here acts on, in their order.
pub(super) fn unused(known: &Architecture, json: &Value) -> Vec<String> {
    let is_known = |key: &str| {
        known.reads(key)
            || HARMLESS.contains(&key)
            || REFUSED.iter().any(|(refused, _)| *refused == key)
    };
    let object = json.as_object().into_iter().flatten();
    let mut unused = object
        .filter(|(key, value)| {
            let says_nothing = SILENT
                .iter()
                .any(|(silent, fine)| silent == key && NeutralValue::allows(fine, value));
            !is_known(key) && !says_nothing && !generation::has_no_effect(key, value, json)
        })
        .map(|(key, _)| key.clone())
        .collect::<Vec<_>>();
    if known.reads("rope_scaling") {
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
    fn small(known: &'static Architecture) -> Value {
        let config = LlamaConfig {
            n_layers: 2,
            n_heads: 2,
            n_kv_heads: 2,
            head_dim: 4,
            d_model: 8,
            d_ff: 8,
            vocab_size: 16,
            ..known.defaults()
        };
        to_json(&config).unwrap()
    }

    fn parsed(json: &Value) -> Result<LlamaConfig> {
        parse(Path::new("config.json"), &json.to_string())
    }

    #[test]
    fn every_key_that_a_family_is_said_to_read_is_read() {
        for known in ARCHITECTURES {
            for key in known.keys.iter().copied().flatten() {
                let mut json = small(known);
                // Where a window is off, nothing of it is looked at.
                if known.reads("use_sliding_window") && *key != "use_sliding_window" {
                    json["use_sliding_window"] = true.into();
                    json["max_window_layers"] = 1.into();
                    json["sliding_window"] = 4.into();
                }
                json[*key] = json!([{"no": "such value"}]);
                assert!(parsed(&json).is_err(), "{}: {key}", known.name);
            }
        }
    }

    #[test]
    fn what_a_family_writes_is_used() {
        for known in ARCHITECTURES {
            assert_eq!(unused_keys(&small(known)), [""; 0], "{}", known.name);
        }
    }

    #[test]
    fn no_key_stands_in_two_tables() {
        let mut all = HARMLESS.to_vec();
        all.extend(REFUSED.iter().map(|(key, _)| *key));
        let len = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), len);
        for known in ARCHITECTURES {
            assert!(!HARMLESS.iter().any(|key| known.reads(key)), "{}", known.name);
        }
    }

    #[test]
    fn unknown_keys_are_told_and_harmless_ones_are_not() {
        for known in ARCHITECTURES {
            let mut json = small(known);
            json["_name_or_path"] = "somewhere".into();
            json["temperature"] = 1.0.into();
            json["foo"] = Value::Null;
            json["repetition_penalty"] = 1.3.into();
            let mut expected = vec!["foo", "repetition_penalty"];
            // What only other families read is told unless it says nothing.
            for (key, told) in [("mlp_bias", false), ("sliding_window", true)] {
                if !known.reads(key) {
                    json[key] = if told { 8.into() } else { false.into() };
                    expected.extend(told.then_some(key));
                }
            }
            assert_eq!(unused_keys(&json), expected, "{}", known.name);
        }
    }

    #[test]
    fn arithmetic_of_other_families_is_refused_by_name() {
        for known in ARCHITECTURES {
            for (key, fine) in REFUSED.iter().filter(|(key, _)| !known.reads(key)) {
                let mut json = small(known);
                json[*key] = 0.37.into();
                let message = parsed(&json).unwrap_err().to_string();
                assert!(message.contains(&format!("{key} is 0.37, expected ")), "{message}");
                json[*key] = Value::Null;
                parsed(&json).unwrap();
                for fine in *fine {
                    json[*key] = match *fine {
                        NeutralValue::Bool(fine) => fine.into(),
                        NeutralValue::Number(fine) => fine.into(),
                        NeutralValue::Text(fine) => fine.into(),
                        NeutralValue::Empty => json!([]),
                    };
                    parsed(&json).unwrap();
                }
            }
        }
    }
}
