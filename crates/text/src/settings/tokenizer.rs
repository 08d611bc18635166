//! Every key of a `tokenizer_config.json` and of a `special_tokens_map.json`.
//!
//! Source: `transformers`, `tokenization_utils_base.py` and `tokenization_utils_tokenizers.py`.

use serde_json::Value;

use checkpoint::settings::NeutralValue;

/// Keys that are read.
const READ: &[&str] = &[
    "add_bos_token",
    "add_eos_token",
    "add_prefix_space",
    "added_tokens_decoder",
    "additional_special_tokens",
    "chat_template",
    "extra_special_tokens",
    "legacy",
    "model_specific_special_tokens",
    "split_special_tokens",
    "tokenizer_class",
];

/// Keys that have no effect on tokens here, with any value.
const HARMLESS: &[&str] = &[
    // Metadata and file names.
    "_commit_hash",
    "auto_map",
    "backend",
    "files_loaded",
    "is_local",
    "local_files_only",
    "merges_file",
    "name_or_path",
    "processor_class",
    "special_tokens_map_file",
    "tokenizer_file",
    "vocab_file",
    // Truncation and padding of batches, done by the caller.
    "max_len",
    "max_length",
    "model_input_names",
    "model_max_length",
    "pad_to_multiple_of",
    "pad_token_type_id",
    "padding",
    "padding_side",
    "return_token_type_ids",
    "stride",
    "truncation",
    "truncation_side",
    "truncation_strategy",
    // Of tokenizers in Python; transformers 5 ignores them.
    "clean_up_tokenization_spaces",
    "errors",
    "from_slow",
    "sp_model_kwargs",
    "spaces_between_special_tokens",
    "trust_remote_code",
    "use_default_system_prompt",
    "use_fast",
    "verbose",
    // Structured responses.
    "chat_control_tokens",
    "response_schema",
    "response_template",
];

/// Keys that have an effect in transformers with any value but these.
const UNLESS: &[(&str, &[NeutralValue])] = &[
    (
        "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output",
        &[NeutralValue::Bool(false)],
    ),
    ("fix_mistral_regex", &[NeutralValue::Bool(false)]),
    ("init_inputs", &[NeutralValue::Empty]),
];

/// Keys that are not used here, in order.
pub(crate) fn unused(json: &Value) -> Vec<String> {
    let is_used = |key: &str, value: &Value| {
        // Any `*_token` is a special token.
        key.ends_with("_token")
            || READ.contains(&key)
            || HARMLESS.contains(&key)
            || UNLESS.iter().any(|(name, fine)| *name == key && NeutralValue::allows(fine, value))
    };
    let object = json.as_object().into_iter().flatten();
    let unused = object.filter(|(key, value)| !is_used(key, value));
    let mut keys = unused.map(|(key, _)| key.clone()).collect::<Vec<_>>();
    keys.sort();
    keys
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn special_tokens_are_used_and_unknown_keys_are_not() {
        let json = json!({
            "bos_token": "<s>", "image_token": "<image>", "model_max_length": 1e30, "legacy": null,
            "do_lower_case": true, "fix_mistral_regex": true, "chat_template": "",
        });
        assert_eq!(unused(&json), ["do_lower_case", "fix_mistral_regex"]);
    }
}
