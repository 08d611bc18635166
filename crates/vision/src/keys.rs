//! What each key of an encoder's files means here: a new one is a decision.
//!
//! Source: transformers 5, `configuration_clip.py`, `configuration_dinov2.py`,
//! `configuration_utils.py`, and `ImagesKwargs` of `processing_utils.py`.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// What is done with a key.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Key {
    /// It is read where the settings are.
    Honoured,
    /// It changes nothing of what an encoder makes of a picture.
    Harmless,
    /// Any other value than this JSON text would change it, and is refused. Null is as good as none.
    Only(&'static str),
}

use Key::{Harmless, Honoured, Only};

/// What is done with each key of a file.
pub(crate) type Keys = &'static [(Key, &'static [&'static str])];

/// A CLIP's `vision_config`, or the config of its vision model alone.
pub(crate) const CLIP: Keys = &[
    (
        Honoured,
        &[
            "model_type",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "image_size",
            "patch_size",
            "hidden_act",
            "layer_norm_eps",
        ],
    ),
    (Only("3"), &["num_channels"]),
    // The projection's width is its matrix's; the others are for training.
    (Harmless, &["projection_dim", "attention_dropout", "dropout", "initializer_factor"]),
];

/// The config around a CLIP's two halves.
pub(crate) const CLIP_CONFIG: Keys = &[
    (Honoured, &["model_type", "vision_config", "vision_config_dict"]),
    (
        Harmless,
        &[
            "text_config",
            "text_config_dict",
            "projection_dim",
            "logit_scale_init_value",
            "initializer_factor",
        ],
    ),
];

/// The config of a DINOv2.
pub(crate) const DINOV2: Keys = &[
    (
        Honoured,
        &[
            "model_type",
            "hidden_size",
            "mlp_ratio",
            "num_hidden_layers",
            "num_attention_heads",
            "image_size",
            "patch_size",
            "hidden_act",
            "layer_norm_eps",
            "use_swiglu_ffn",
        ],
    ),
    (Only("3"), &["num_channels"]),
    (Only("true"), &["qkv_bias"]),
    // For training, for masked pictures, or for what stands on a backbone; scales are in the weights.
    (
        Harmless,
        &[
            "hidden_dropout_prob",
            "attention_probs_dropout_prob",
            "drop_path_rate",
            "layerscale_value",
            "use_mask_token",
            "apply_layernorm",
            "reshape_hidden_states",
            "out_features",
            "out_indices",
            "stage_names",
        ],
    ),
];

/// Settings of CLIP's and DINOv2's image processors.
pub(crate) const PREPROCESSING: Keys = &[
    (
        Honoured,
        &[
            "image_processor_type",
            "feature_extractor_type",
            "size",
            "crop_size",
            "image_mean",
            "image_std",
            "rescale_factor",
        ],
    ),
    (Only("true"), &["do_resize", "do_center_crop", "do_rescale", "do_normalize"]),
    (Only("false"), &["do_pad", "default_to_square", "use_square_size", "do_flip_channel_order"]),
    // PIL's number for bicubic.
    (Only("3"), &["resample"]),
    (Only("null"), &["pad_size", "size_divisor", "crop_pct"]),
    // Pictures are always made red, green and blue; the others say in what form numbers come or go.
    (
        Harmless,
        &[
            "do_convert_rgb",
            "data_format",
            "input_data_format",
            "return_tensors",
            "device",
            "disable_grouping",
            "image_seq_length",
            "processor_class",
            "auto_map",
            "_valid_processor_keys",
        ],
    ),
];

/// Of every config: where it is from, how it is shown and trained, how texts are generated.
pub(crate) const COMMON_CONFIG: Keys = &[
    (Only("{}"), &["pruned_heads"]),
    (
        Harmless,
        &[
            "_attn_implementation_autoset",
            "_commit_hash",
            "_name_or_path",
            "add_cross_attention",
            "architectures",
            "auto_map",
            "bad_words_ids",
            "begin_suppress_tokens",
            "bos_token_id",
            "chunk_size_feed_forward",
            "cross_attention_hidden_size",
            "decoder_start_token_id",
            "diversity_penalty",
            "do_sample",
            "dtype",
            "early_stopping",
            "encoder_no_repeat_ngram_size",
            "eos_token_id",
            "exponential_decay_length_penalty",
            "finetuning_task",
            "forced_bos_token_id",
            "forced_eos_token_id",
            "gradient_checkpointing",
            "id2label",
            "initializer_range",
            "is_decoder",
            "is_encoder_decoder",
            "label2id",
            "length_penalty",
            "max_length",
            "min_length",
            "no_repeat_ngram_size",
            "num_beam_groups",
            "num_beams",
            "num_return_sequences",
            "output_attentions",
            "output_hidden_states",
            "output_scores",
            "pad_token_id",
            "prefix",
            "problem_type",
            "remove_invalid_values",
            "repetition_penalty",
            "return_dict",
            "return_dict_in_generate",
            "sep_token_id",
            "suppress_tokens",
            "task_specific_params",
            "temperature",
            "tf_legacy_loss",
            "tie_encoder_decoder",
            "tie_word_embeddings",
            "tokenizer_class",
            "top_k",
            "top_p",
            "torch_dtype",
            "torchscript",
            "transformers_version",
            "typical_p",
            "use_bfloat16",
        ],
    ),
];

/// Refuses values that would change what is computed, and gives the keys that nobody knows.
///
/// # Errors
/// [`Error::Config`].
pub(crate) fn check(path: &Path, json: &Value, tables: &[Keys]) -> Result<Vec<String>> {
    let none = Map::new();
    let object = json.as_object().unwrap_or(&none);
    let rows = || tables.iter().copied().flatten();
    let mut unknown = Vec::new();
    for (name, value) in object {
        match rows().find(|(_, names)| names.contains(&name.as_str())) {
            None => unknown.push(name.clone()),
            Some((Only(wanted), _)) if !value.is_null() => {
                let found = value.to_string();
                if found != *wanted {
                    return Err(Error::Config {
                        path: path.into(),
                        field: name.clone(),
                        found,
                        expected: (*wanted).into(),
                    });
                }
            }
            Some(_) => {}
        }
    }
    Ok(unknown)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn no_key_has_two_meanings() {
        for tables in [
            &[CLIP, COMMON_CONFIG][..],
            &[CLIP_CONFIG, COMMON_CONFIG],
            &[DINOV2, COMMON_CONFIG],
            &[PREPROCESSING],
        ] {
            let rows = tables.iter().copied().flatten();
            let mut names = rows.flat_map(|(_, names)| names.iter()).collect::<Vec<_>>();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count);
        }
    }

    #[test]
    fn a_value_that_changes_the_result_is_refused_and_an_unknown_key_told() {
        let check = |json: Value| check(Path::new("config.json"), &json, &[DINOV2, COMMON_CONFIG]);
        let unknown = check(json!({"qkv_bias": null, "num_channels": 3, "top_k": 50, "swirl": 7}));
        assert_eq!(unknown.unwrap(), ["swirl"]);
        for (json, told) in [
            (json!({"qkv_bias": false}), "qkv_bias is false, expected true"),
            (json!({"num_channels": 1}), "num_channels is 1, expected 3"),
            (json!({"pruned_heads": {"1": [0]}}), "pruned_heads is {\"1\":[0]}, expected {}"),
        ] {
            let error = check(json).unwrap_err().to_string();
            assert_eq!(error, format!("config.json: {told}"));
        }
    }
}
