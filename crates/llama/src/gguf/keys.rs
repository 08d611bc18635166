//! Every key of a GGUF's metadata: read, unsupported or ignored.
//!
//! Keys of the architecture that are in no table are reported as unused; add new keys to the table where
//! they belong.
//!
//! Source: `llama.cpp`, `src/llama-arch.cpp` and `src/llama-model.cpp`.

use checkpoint::UnusedSettings;
use checkpoint::gguf::{GgufFile, Metadata, Value};

use crate::error::{Error, Result};

/// Keys that are read, without the architecture's prefix.
const READ_KEYS: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "attention.sliding_window",
    "attention.value_length",
    "block_count",
    "context_length",
    "embedding_length",
    "expert_count",
    "feed_forward_length",
    "rope.dimension_count",
    "rope.freq_base",
    "rope.scaling.factor",
    "rope.scaling.type",
    "vocab_size",
];

/// Keys of unsupported features, with the value that disables the feature.
const UNSUPPORTED_KEYS: &[(&str, Option<f64>)] = &[
    ("attention.causal", Some(1.0)),
    ("attention.clamp_kqv", Some(0.0)),
    ("attention.max_alibi_bias", Some(0.0)),
    ("attention.scale", Some(0.0)),
    ("attention.sliding_window_pattern", None),
    ("attn_logit_softcapping", Some(0.0)),
    ("embedding_scale", Some(1.0)),
    ("expert_used_count", Some(0.0)),
    ("final_logit_softcapping", Some(0.0)),
    ("logit_scale", Some(1.0)),
    ("residual_scale", Some(1.0)),
    ("rope.dimension_sections", None),
    ("rope.scale_linear", Some(1.0)),
    ("rope.scaling.attn_factor", Some(1.0)),
    ("use_parallel_residual", Some(0.0)),
];

/// Keys without an effect.
const IGNORED_KEYS: &[&str] =
    &["rope.scaling.finetuned", "rope.scaling.original_context_length", "tensor_data_layout"];

/// Rejects unsupported keys.
///
/// # Errors
/// [`Error::Config`] for the first such key.
pub(super) fn check_supported(metadata: &Metadata, architecture: &str) -> Result<()> {
    for (key, neutral) in UNSUPPORTED_KEYS {
        let key = format!("{architecture}.{key}");
        let Some(value) = metadata.get(&key) else { continue };
        let found = number(value);
        if found.is_none() || found != *neutral {
            let found = found.map_or(value.kind().to_owned(), |found| found.to_string());
            let expected =
                neutral.map_or("no such key".to_owned(), |value| format!("none or {value}"));
            return Err(Error::config(key, found, expected));
        }
    }
    Ok(())
}

/// Settings of the architecture that have no effect.
pub fn unused_settings(file: &GgufFile) -> Option<UnusedSettings> {
    let metadata = file.metadata();
    let Some(Value::Text(architecture)) = metadata.get("general.architecture") else { return None };
    let keys = metadata.iter().map(|(key, _)| key);
    let unused = keys.filter(|key| {
        let suffix = key.strip_prefix(architecture.as_str()).and_then(|key| key.strip_prefix('.'));
        suffix.is_some_and(|key| {
            !READ_KEYS.contains(&key)
                && !IGNORED_KEYS.contains(&key)
                && !UNSUPPORTED_KEYS.iter().any(|(unsupported, _)| *unsupported == key)
        })
    });
    let name = metadata.path().file_name().unwrap_or_default().to_string_lossy();
    UnusedSettings::new(&name, unused.map(str::to_owned).collect())
}

fn number(value: &Value) -> Option<f64> {
    match *value {
        Value::Bool(flag) => Some(f64::from(u8::from(flag))),
        Value::Unsigned(number) => Some(number as f64),
        Value::Signed(number) => Some(number as f64),
        Value::F32(number) => Some(number.into()),
        Value::F64(number) => Some(number),
        Value::Text(_) | Value::Array(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::{open, parse_config};
    use super::*;

    #[test]
    fn unsupported_keys_are_errors() {
        for (key, neutral) in UNSUPPORTED_KEYS {
            let key = format!("llama.{key}");
            let config = |value: Value| {
                let mut fixture = Fixture::model();
                fixture.value(&key, &value);
                parse_config(&open(&fixture))
            };
            let message = config(Value::F32(0.5)).unwrap_err().to_string();
            assert!(message.contains(&format!("{key} is 0.5, expected no")), "{message}");
            if let Some(value) = neutral {
                config(Value::F64(*value)).unwrap();
            }
        }
    }

    #[test]
    fn unknown_keys_of_the_architecture_are_reported() {
        let mut fixture = Fixture::model();
        assert_eq!(unused_settings(&open(&fixture)), None);
        fixture.value("llama.rope.scaling.finetuned", &Value::Bool(true));
        fixture.value("llama.foo", &Value::Bool(true));
        fixture.value("general.foo", &Value::Bool(true));
        let found = unused_settings(&open(&fixture)).unwrap();
        assert_eq!(found.to_string(), "test.gguf: 1 setting is not used: llama.foo");
    }
}
