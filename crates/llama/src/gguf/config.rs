//! Metadata of a GGUF file ─► [`LlamaConfig`].

use burn::tensor::DType;
use checkpoint::gguf::GgufFile;

use crate::config::{Architecture, LlamaConfig, NamingScheme, NormKind, RopeConfig, RopeScaling};
use crate::error::{Error, Result};

/// Divisors of the rotary frequencies; part of the config, not a weight.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// Base of the rotary embedding if the file has none.
const DEFAULT_THETA: f64 = 10_000.0;

/// Reads a model's config.
///
/// # Errors
/// [`Error::Architecture`] for an unknown architecture, [`Error::Config`] for unsupported settings,
/// [`checkpoint::Error::Format`] for missing ones.
pub fn parse_config(file: &GgufFile) -> Result<LlamaConfig> {
    let metadata = file.metadata();
    let name: &str = metadata.required("general.architecture")?;
    let architecture = Architecture::from_gguf_name(file.path(), name)?;
    super::keys::check_supported(metadata, name)?;
    let defaults = architecture.defaults();
    let size = |key: &str| metadata.required::<usize>(&format!("{name}.{key}"));
    let optional_size = |key: &str| metadata.optional::<usize>(&format!("{name}.{key}"));
    let n_experts = optional_size("expert_count")?.unwrap_or(0);
    if n_experts > 0 {
        let (field, found) = (format!("{name}.expert_count"), n_experts.to_string());
        return Err(Error::config(field, found, "0: mixture of experts is not supported"));
    }
    let d_model = size("embedding_length")?;
    let n_heads = size("attention.head_count")?;
    let rotary_dim = optional_size("rope.dimension_count")?;
    let head_dim = optional_size("attention.key_length")?
        .or(rotary_dim)
        .unwrap_or_else(|| d_model / n_heads.max(1));
    for (key, found) in [
        ("rope.dimension_count", rotary_dim),
        ("attention.value_length", optional_size("attention.value_length")?),
    ] {
        if let Some(found) = found.filter(|&found| found != head_dim) {
            let expected = format!("{head_dim}, the width of a head");
            return Err(Error::config(format!("{name}.{key}"), found.to_string(), expected));
        }
    }
    let vocab_size = match optional_size("vocab_size")? {
        Some(size) => size,
        None => file.info("token_embd.weight")?.shape[0],
    };
    let has = |canonical: &str| {
        let file_name = architecture.tensor_names.name_in(NamingScheme::Gguf, canonical);
        file_name.is_some_and(|name| file.tensors().contains_key(&name))
    };
    let norm_eps = match defaults.norm {
        NormKind::Rms => "attention.layer_norm_rms_epsilon",
        NormKind::Layer => "attention.layer_norm_epsilon",
    };
    let config = LlamaConfig {
        n_layers: size("block_count")?,
        n_heads,
        n_kv_heads: optional_size("attention.head_count_kv")?.unwrap_or(n_heads),
        head_dim,
        d_model,
        d_ff: size("feed_forward_length")?,
        vocab_size,
        max_positions: size("context_length")?,
        norm_eps: metadata.required(&format!("{name}.{norm_eps}"))?,
        rope: rope(file, name)?,
        qkv_bias: has("model.layers.0.self_attn.q_proj.bias"),
        output_bias: has("model.layers.0.self_attn.o_proj.bias"),
        mlp_bias: has("model.layers.0.mlp.up_proj.bias"),
        tied_head: !has("lm_head.weight"),
        sliding_window: optional_size("attention.sliding_window")?.filter(|&window| window > 0),
        ..defaults
    };
    config.validate()?;
    Ok(config)
}

fn rope(file: &GgufFile, name: &str) -> Result<RopeConfig> {
    let metadata = file.metadata();
    let key = |key: &str| format!("{name}.rope.{key}");
    let theta = metadata.optional(&key("freq_base"))?.unwrap_or(DEFAULT_THETA);
    let kind = metadata.optional::<&str>(&key("scaling.type"))?;
    let scaling = match kind {
        None | Some("none") => RopeScaling::None,
        Some("linear") => {
            let factor: f64 = metadata.required(&key("scaling.factor"))?;
            if !(factor.is_finite() && factor > 0.0) {
                return Err(Error::config(key("scaling.factor"), factor.to_string(), "above 0"));
            }
            RopeScaling::Linear { factor }
        }
        Some(other) => {
            return Err(Error::config(key("scaling.type"), other, "none or linear"));
        }
    };
    if !file.tensors().contains_key(ROPE_DIVISORS) {
        return Ok(RopeConfig { theta, scaling });
    }
    if scaling != RopeScaling::None {
        let found = kind.unwrap_or_default();
        let expected = format!("none together with the tensor {ROPE_DIVISORS}");
        return Err(Error::config(key("scaling.type"), found, expected));
    }
    let data = file.read(ROPE_DIVISORS)?.convert_dtype(DType::F32);
    let divisors = data.iter::<f32>().collect::<Vec<_>>();
    if let Some(bad) = divisors.iter().find(|x| !(x.is_finite() && **x > 0.0)) {
        return Err(Error::config(ROPE_DIVISORS, bad.to_string(), "numbers above 0"));
    }
    Ok(RopeConfig { theta, scaling: RopeScaling::PerFrequency { divisors } })
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::open;
    use super::*;

    fn config_of(fixture: &Fixture) -> Result<LlamaConfig> {
        parse_config(&open(fixture))
    }

    #[test]
    fn every_size_is_read() {
        let config = config_of(&Fixture::model()).unwrap();
        let expected = LlamaConfig {
            n_layers: 2,
            n_heads: 4,
            n_kv_heads: 2,
            head_dim: 4,
            d_model: 8,
            d_ff: 12,
            vocab_size: 10,
            max_positions: 64,
            norm_eps: 1e-5,
            rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
            tied_head: true,
            ..LlamaConfig::default()
        };
        assert_eq!(config, expected);
    }

    #[test]
    fn absent_keys_have_defaults() {
        let mut fixture = Fixture::model();
        fixture.replace("llama.attention.key_length", None);
        fixture.replace("llama.attention.head_count_kv", None);
        let config = config_of(&fixture).unwrap();
        assert_eq!((config.head_dim, config.n_kv_heads), (2, 4));
    }

    #[test]
    fn tensors_determine_biases_and_head() {
        let mut fixture = Fixture::model();
        fixture.floats("output.weight", &[10, 8]);
        fixture.floats("blk.0.attn_q.bias", &[16]);
        fixture.tensor("rope_freqs.weight", &[2], 0, &[0, 0, 128, 63, 0, 0, 0, 65]);
        let config = config_of(&fixture).unwrap();
        assert!(!config.tied_head && config.qkv_bias && !config.output_bias);
        let divisors = vec![1.0, 8.0];
        assert_eq!(config.rope.scaling, RopeScaling::PerFrequency { divisors });
    }

    #[test]
    fn rope_scaling_and_sliding_window_are_read() {
        let mut fixture = Fixture::model();
        fixture.value("llama.rope.scaling.type", &Value::Text("linear".into()));
        fixture.value("llama.rope.scaling.factor", &Value::F32(4.0));
        fixture.value("llama.rope.freq_base", &Value::F32(5e5));
        fixture.value("llama.attention.sliding_window", &Value::Unsigned(16));
        let config = config_of(&fixture).unwrap();
        let scaling = RopeScaling::Linear { factor: 4.0 };
        assert_eq!(config.rope, RopeConfig { theta: 500_000.0, scaling });
        assert_eq!(config.sliding_window, Some(16));
    }

    #[test]
    fn unsupported_settings_are_errors() {
        for (key, value, expected) in [
            ("general.architecture", Value::Text("bert".into()), "architecture `bert`"),
            ("llama.expert_count", Value::Unsigned(8), "llama.expert_count is 8"),
            ("llama.rope.scaling.type", Value::Text("yarn".into()), "is yarn, expected none"),
            ("llama.rope.dimension_count", Value::Unsigned(2), "dimension_count is 2, expected 4"),
            ("llama.attention.value_length", Value::Unsigned(8), "value_length is 8, expected 4"),
            ("llama.attention.head_count_kv", Value::Unsigned(3), "n_kv_heads is 3"),
            ("llama.attention.head_count", Value::Unsigned(0), "n_heads is 0"),
            ("llama.block_count", Value::Text("2".into()), "block_count is a string"),
            ("llama.context_length", Value::Array(vec![]), "context_length is an array"),
        ] {
            let mut fixture = Fixture::model();
            fixture.replace(key, Some(value));
            let message = config_of(&fixture).unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let mut fixture = Fixture::model();
        fixture.replace("llama.block_count", None);
        let message = config_of(&fixture).unwrap_err().to_string();
        assert!(message.contains("llama.block_count is missing"), "{message}");
    }
}
