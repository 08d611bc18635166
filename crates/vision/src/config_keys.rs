//! Every known key of an encoder's JSON files: read, ignored, or required to have one value.
//!
//! Unknown keys are reported to the caller, so that a new one is added here on purpose.
//!
//! Source: transformers 5, `configuration_clip.py`, `configuration_dinov2.py`,
//! `configuration_utils.py`, and `ImagesKwargs` of `processing_utils.py`.

use std::path::Path;

use checkpoint::settings::Fields;
use serde_json::{Map, Value};

use crate::error::Result;

/// How a key is handled.
#[derive(Debug, Clone, Copy)]
pub(crate) enum KeyPolicy {
    /// Read by the parser of the file.
    Read,
    /// Has no effect on the features.
    Ignored,
    /// Only this JSON value or null is supported; another one would change the features.
    Required(&'static str),
}

use KeyPolicy::{Ignored, Read, Required};

/// The keys of a file, grouped by policy.
pub(crate) type KeyTable = &'static [(KeyPolicy, &'static [&'static str])];

/// The `vision_config` of CLIP, or the config of its vision model alone.
pub(crate) const CLIP_VISION_CONFIG: KeyTable = &[
    (
        Read,
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
    (Required("3"), &["num_channels"]),
    // The width of the projection is read from the weights; the others are for training.
    (Ignored, &["projection_dim", "attention_dropout", "dropout", "initializer_factor"]),
];

/// The config of CLIP, which contains those of its vision and text models.
pub(crate) const CLIP_CONFIG: KeyTable = &[
    (Read, &["model_type", "vision_config", "vision_config_dict"]),
    (
        Ignored,
        &[
            "text_config",
            "text_config_dict",
            "projection_dim",
            "logit_scale_init_value",
            "initializer_factor",
        ],
    ),
];

/// The config of DINOv2.
pub(crate) const DINOV2_CONFIG: KeyTable = &[
    (
        Read,
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
    (Required("3"), &["num_channels"]),
    (Required("true"), &["qkv_bias"]),
    // For training, masked images or use as a backbone; layer scales are in the weights.
    (
        Ignored,
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

/// The config of CLIP's and DINOv2's image processors.
pub(crate) const PREPROCESSOR_CONFIG: KeyTable = &[
    (
        Read,
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
    (Required("true"), &["do_resize", "do_center_crop", "do_rescale", "do_normalize"]),
    (
        Required("false"),
        &["do_pad", "default_to_square", "use_square_size", "do_flip_channel_order"],
    ),
    // PIL.Image.BICUBIC
    (Required("3"), &["resample"]),
    (Required("null"), &["pad_size", "size_divisor", "crop_pct"]),
    // Images are always converted to RGB; the others are formats of inputs and outputs.
    (
        Ignored,
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

/// Keys of every config: metadata, training and text generation.
pub(crate) const COMMON_CONFIG: KeyTable = &[
    (Required("{}"), &["pruned_heads"]),
    (
        Ignored,
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

/// Refuses unsupported values and returns the unknown keys.
///
/// # Errors
/// [`Error::Config`](crate::Error::Config).
pub(crate) fn check_keys(path: &Path, json: &Value, tables: &[KeyTable]) -> Result<Vec<String>> {
    let empty = Map::new();
    let object = json.as_object().unwrap_or(&empty);
    let rows = || tables.iter().copied().flatten();
    let mut unknown = Vec::new();
    for (name, value) in object {
        match rows().find(|(_, names)| names.contains(&name.as_str())) {
            None => unknown.push(name.clone()),
            Some((Required(required), _)) if !value.is_null() => {
                let found = value.to_string();
                if found != *required {
                    return Err(Fields::new(path, json).unsupported(name, found, required).into());
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
    fn every_key_is_listed_once() {
        for tables in [
            &[CLIP_VISION_CONFIG, COMMON_CONFIG][..],
            &[CLIP_CONFIG, COMMON_CONFIG],
            &[DINOV2_CONFIG, COMMON_CONFIG],
            &[PREPROCESSOR_CONFIG],
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
    fn unsupported_value_is_refused_and_unknown_key_is_reported() {
        let check = |json: Value| {
            check_keys(Path::new("config.json"), &json, &[DINOV2_CONFIG, COMMON_CONFIG])
        };
        let unknown = check(json!({"qkv_bias": null, "num_channels": 3, "top_k": 50, "swirl": 7}));
        assert_eq!(unknown.unwrap(), ["swirl"]);
        for (json, expected) in [
            (json!({"qkv_bias": false}), "qkv_bias is false, expected true"),
            (json!({"num_channels": 1}), "num_channels is 1, expected 3"),
            (json!({"pruned_heads": {"1": [0]}}), "pruned_heads is {\"1\":[0]}, expected {}"),
        ] {
            let error = check(json).unwrap_err().to_string();
            assert_eq!(error, format!("config.json: {expected}"));
        }
    }
}
