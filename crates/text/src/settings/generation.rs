//! Every key of a `generation_config.json`.
//!
//! BOS and EOS are read. Sampling is configured by the caller, so the file's sampling settings are reported
//! as unused.
//!
//! Source: `transformers`, `generation/configuration_utils.py` and `generation/utils.py`.

use serde_json::Value;

use checkpoint::settings::NeutralValue;

/// When a key has an effect on transformers' `generate`.
#[derive(Debug, Clone, Copy)]
enum Effect {
    /// Never on the generated tokens, or it is read here.
    Never,
    /// With any value but these.
    Unless(&'static [NeutralValue]),
    /// With any value but these, if `do_sample` is true.
    Sampling(&'static [NeutralValue]),
}

use Effect::{Never, Sampling, Unless};

/// Effect of every key.
const KEYS: &[(&str, Effect)] = &[
    // Read with the tokenizer.
    ("bos_token_id", Never),
    ("eos_token_id", Never),
    // Logits processors and search.
    ("bad_words_ids", Unless(&[NeutralValue::Empty])),
    ("begin_suppress_tokens", Unless(&[NeutralValue::Empty])),
    ("constraints", Unless(&[NeutralValue::Empty])),
    ("diversity_penalty", Unless(&[NeutralValue::Number(0.0)])),
    ("dola_layers", Unless(&[])),
    ("encoder_no_repeat_ngram_size", Unless(&[NeutralValue::Number(0.0)])),
    ("encoder_repetition_penalty", Unless(&[NeutralValue::Number(1.0)])),
    ("exponential_decay_length_penalty", Unless(&[])),
    ("force_words_ids", Unless(&[NeutralValue::Empty])),
    ("forced_bos_token_id", Unless(&[])),
    ("forced_eos_token_id", Unless(&[])),
    ("guidance_scale", Unless(&[NeutralValue::Number(1.0)])),
    ("max_length", Unless(&[NeutralValue::Number(20.0)])),
    ("max_new_tokens", Unless(&[])),
    ("max_time", Unless(&[])),
    ("min_length", Unless(&[NeutralValue::Number(0.0)])),
    ("min_new_tokens", Unless(&[NeutralValue::Number(0.0)])),
    ("no_repeat_ngram_size", Unless(&[NeutralValue::Number(0.0)])),
    ("num_beam_groups", Unless(&[NeutralValue::Number(1.0)])),
    ("num_beams", Unless(&[NeutralValue::Number(1.0)])),
    ("num_return_sequences", Unless(&[NeutralValue::Number(1.0)])),
    ("penalty_alpha", Unless(&[NeutralValue::Number(0.0)])),
    ("repetition_penalty", Unless(&[NeutralValue::Number(1.0)])),
    ("sequence_bias", Unless(&[NeutralValue::Empty])),
    ("stop_strings", Unless(&[NeutralValue::Empty])),
    ("suppress_tokens", Unless(&[NeutralValue::Empty])),
    ("watermarking_config", Unless(&[])),
    // Sampling.
    ("do_sample", Sampling(&[NeutralValue::Bool(false)])),
    ("epsilon_cutoff", Sampling(&[NeutralValue::Number(0.0)])),
    ("eta_cutoff", Sampling(&[NeutralValue::Number(0.0)])),
    ("min_p", Sampling(&[NeutralValue::Number(0.0)])),
    ("temperature", Sampling(&[NeutralValue::Number(1.0)])),
    ("top_h", Sampling(&[])),
    ("top_k", Sampling(&[NeutralValue::Number(0.0)])),
    ("top_p", Sampling(&[NeutralValue::Number(1.0)])),
    ("typical_p", Sampling(&[NeutralValue::Number(1.0)])),
    // Metadata, caching, outputs, beam search, assisted decoding.
    ("_from_model_config", Never),
    ("assistant_confidence_threshold", Never),
    ("assistant_early_exit", Never),
    ("assistant_ensemble_weight", Never),
    ("assistant_lookbehind", Never),
    ("cache_config", Never),
    ("cache_implementation", Never),
    ("compile_config", Never),
    ("decoder_start_token_id", Never),
    ("disable_compile", Never),
    ("early_stopping", Never),
    ("is_assistant", Never),
    ("length_penalty", Never),
    ("low_memory", Never),
    ("max_cache_len", Never),
    ("max_matching_ngram_size", Never),
    ("num_assistant_tokens", Never),
    ("num_assistant_tokens_schedule", Never),
    ("output_attentions", Never),
    ("output_hidden_states", Never),
    ("output_logits", Never),
    ("output_scores", Never),
    ("pad_token_id", Never),
    ("prefill_chunk_size", Never),
    ("prompt_lookup_num_tokens", Never),
    ("remove_invalid_values", Never),
    ("renormalize_logits", Never),
    ("return_dict_in_generate", Never),
    ("return_legacy_cache", Never),
    ("target_lookbehind", Never),
    ("token_healing", Unless(&[NeutralValue::Bool(false)])),
    ("transformers_version", Never),
    ("trust_remote_code", Never),
    ("use_cache", Never),
    ("use_mtp", Never),
];

/// Whether a key is known and has no effect on transformers' `generate`.
pub fn has_no_effect(key: &str, value: &Value, json: &Value) -> bool {
    let samples = json.get("do_sample") == Some(&Value::Bool(true));
    let effect = KEYS.iter().find(|(known, _)| *known == key).map(|(_, effect)| *effect);
    match effect {
        None => false,
        Some(Never) => true,
        Some(Unless(neutral)) => NeutralValue::allows(neutral, value),
        Some(Sampling(neutral)) => !samples || NeutralValue::allows(neutral, value),
    }
}

/// Keys of a `generation_config.json` that are not used here, in order.
pub(crate) fn unused(json: &Value) -> Vec<String> {
    let object = json.as_object().into_iter().flatten();
    let used_by_transformers = object.filter(|(key, value)| !has_no_effect(key, value, json));
    let mut keys = used_by_transformers.map(|(key, _)| key.clone()).collect::<Vec<_>>();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn sampling_settings_are_unused_if_do_sample_is_true() {
        let mut json = json!({
            "bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6, "top_p": 1.0,
            "repetition_penalty": 1.1, "num_beams": 1, "transformers_version": "5.0",
        });
        assert_eq!(unused(&json), ["repetition_penalty"]);
        json["do_sample"] = true.into();
        assert_eq!(unused(&json), ["do_sample", "repetition_penalty", "temperature"]);
    }

    #[test]
    fn unknown_keys_are_unused() {
        assert_eq!(unused(&json!({"chat_format": "chatml", "max_time": null})), ["chat_format"]);
    }
}
