//! Every key of a `generation_config.json`.
//!
//! The tokens that begin and end a text are read. How tokens are chosen is the caller's to say:
//! [`GenerationConfig`](crate::GenerationConfig) takes the likeliest unless it is told otherwise, so that
//! a model's own wish for sampling is told as unused.
//!
//! Source: `transformers`, `generation/configuration_utils.py` and `generation/utils.py`.

use serde_json::Value;

use checkpoint::settings::NeutralValue;

/// When transformers' `generate` acts on a key.
#[derive(Debug, Clone, Copy)]
enum Acts {
    /// Never on what is generated, or it is read here.
    Never,
    /// With another value than these.
    Unless(&'static [NeutralValue]),
    /// With another value than these, where `do_sample` is on.
    Sampling(&'static [NeutralValue]),
}

use Acts::{Never, Sampling, Unless};

/// What a key does.
const KEYS: &[(&str, Acts)] = &[
    // Read with the tokenizer.
    ("bos_token_id", Never),
    ("eos_token_id", Never),
    // How the likeliest token is found, and what is done with it.
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
    // What is drawn instead.
    ("do_sample", Sampling(&[NeutralValue::Bool(false)])),
    ("epsilon_cutoff", Sampling(&[NeutralValue::Number(0.0)])),
    ("eta_cutoff", Sampling(&[NeutralValue::Number(0.0)])),
    ("min_p", Sampling(&[NeutralValue::Number(0.0)])),
    ("temperature", Sampling(&[NeutralValue::Number(1.0)])),
    ("top_h", Sampling(&[])),
    ("top_k", Sampling(&[NeutralValue::Number(0.0)])),
    ("top_p", Sampling(&[NeutralValue::Number(1.0)])),
    ("typical_p", Sampling(&[NeutralValue::Number(1.0)])),
    // What the file is, how it is computed, what a call gives back; beams; a second model that
    // guesses.
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

/// Whether a key is known and transformers' `generate` would do the same without it.
pub(crate) fn is_idle(key: &str, value: &Value, json: &Value) -> bool {
    let samples = json.get("do_sample") == Some(&Value::Bool(true));
    let acts = KEYS.iter().find(|(known, _)| *known == key).map(|(_, acts)| *acts);
    match acts {
        None => false,
        Some(Never) => true,
        Some(Unless(fine)) => NeutralValue::allows(fine, value),
        Some(Sampling(fine)) => !samples || NeutralValue::allows(fine, value),
    }
}

/// The keys of a `generation_config.json` that nothing here acts on, in order.
pub(crate) fn unused(json: &Value) -> Vec<String> {
    let object = json.as_object().into_iter().flatten();
    let acting = object.filter(|(key, value)| !is_idle(key, value, json));
    let mut keys = acting.map(|(key, _)| key.clone()).collect::<Vec<_>>();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_for_sampling_count_where_it_is_on() {
        let mut json = json!({
            "bos_token_id": 1, "eos_token_id": [2, 3], "temperature": 0.6, "top_p": 1.0,
            "repetition_penalty": 1.1, "num_beams": 1, "transformers_version": "5.0",
        });
        assert_eq!(unused(&json), ["repetition_penalty"]);
        json["do_sample"] = true.into();
        assert_eq!(unused(&json), ["do_sample", "repetition_penalty", "temperature"]);
    }

    #[test]
    fn unknown_keys_count() {
        assert_eq!(unused(&json!({"chat_format": "chatml", "max_time": null})), ["chat_format"]);
    }
}
