//! config.json ─► [`EncoderConfig`]

use std::path::Path;

use checkpoint::settings::Fields;
use serde_json::Value;

use crate::config::{Activation, EncoderConfig, EncoderFamily};
use crate::config_keys::{
    CLIP_CONFIG, CLIP_VISION_CONFIG, COMMON_CONFIG, DINOV2_CONFIG, check_keys,
};
use crate::error::{Error, Result};

impl EncoderConfig {
    /// Reads a Hugging Face `config.json` of a CLIP or DINOv2 model.
    ///
    /// [`projection`](Self::projection) is `None`: only the weights show whether there is one.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`] for another model type, [`Error::Config`] for invalid or unsupported
    /// settings, [`Error::Files`] for invalid JSON.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        Self::parse_with_unknown_keys(path, text).map(|(config, _unknown)| config)
    }

    /// As [`parse`](Self::parse), with the unknown keys of the file.
    pub(crate) fn parse_with_unknown_keys(path: &Path, text: &str) -> Result<(Self, Vec<String>)> {
        let json = parse_json(path, text)?;
        let check = |json: &Value, table| check_keys(path, json, &[table, COMMON_CONFIG]);
        match json["model_type"].as_str().unwrap_or_default() {
            "clip" => {
                let mut unknown = check(&json, CLIP_CONFIG)?;
                // transformers prefers the older key where both are present.
                let nested = [&json["vision_config_dict"], &json["vision_config"]];
                let nested = nested.into_iter().find(|json| !json.is_null());
                let json = nested.unwrap_or(&Value::Null);
                unknown.extend(check(json, CLIP_VISION_CONFIG)?);
                Ok((Self::clip(&Fields::new(path, json))?, unknown))
            }
            "clip_vision_model" => {
                let unknown = check(&json, CLIP_VISION_CONFIG)?;
                Ok((Self::clip(&Fields::new(path, &json))?, unknown))
            }
            "dinov2" => {
                let unknown = check(&json, DINOV2_CONFIG)?;
                Ok((Self::dinov2(&Fields::new(path, &json))?, unknown))
            }
            other => Err(Error::NotAnEncoder {
                path: path.into(),
                reason: format!(
                    "`model_type` is `{other}` (supported: clip, clip_vision_model, dinov2)"
                ),
            }),
        }
    }

    fn clip(fields: &Fields<'_>) -> Result<Self> {
        let defaults = Self::for_family(EncoderFamily::Clip);
        let d_ff = size(fields, "intermediate_size", defaults.d_ff)?;
        let activation = activation(fields, "quick_gelu")?;
        Self { d_ff, activation, ..Self::shared(fields, defaults)? }.validate(fields)
    }

    fn dinov2(fields: &Fields<'_>) -> Result<Self> {
        let config = Self::shared(fields, Self::for_family(EncoderFamily::Dinov2))?;
        let width = (config.d_model as f64 * number(fields, "mlp_ratio", 4.0)?) as usize;
        let is_gated = fields.parsed("use_swiglu_ffn", false, "true or false", Value::as_bool)?;
        let (d_ff, activation) = if is_gated {
            // Two thirds, because the gate adds a third matrix; rounded up to a multiple of 8.
            ((width * 2 / 3).next_multiple_of(8), Activation::SwiGlu)
        } else {
            (width, activation(fields, "gelu")?)
        };
        Self { d_ff, activation, ..config }.validate(fields)
    }

    /// The sizes that have the same key in both families.
    fn shared(fields: &Fields<'_>, defaults: Self) -> Result<Self> {
        Ok(Self {
            image_size: size(fields, "image_size", defaults.image_size)?,
            patch_size: size(fields, "patch_size", defaults.patch_size)?,
            d_model: size(fields, "hidden_size", defaults.d_model)?,
            n_layers: size(fields, "num_hidden_layers", defaults.n_layers)?,
            n_heads: size(fields, "num_attention_heads", defaults.n_heads)?,
            norm_eps: number(fields, "layer_norm_eps", defaults.norm_eps)?,
            ..defaults
        })
    }
}

/// Parses a JSON file.
///
/// # Errors
/// [`Error::Files`].
pub(crate) fn parse_json(path: &Path, text: &str) -> Result<Value> {
    Ok(serde_json::from_str(text).map_err(|error| checkpoint::Error::json(path, &error))?)
}

/// A size; `default` where it is absent.
fn size(fields: &Fields<'_>, key: &str, default: usize) -> Result<usize> {
    /// More than any size of a known encoder.
    const MAX_SIZE: u64 = 1 << 16;
    let expected = format!("a number from 1 to {MAX_SIZE}");
    let parse = |value: &Value| value.as_u64().filter(|size| (1..=MAX_SIZE).contains(size));
    let size = fields.parsed(key, default as u64, &expected, parse)?;
    Ok(size as usize)
}

/// A positive number; `default` where it is absent.
fn number(fields: &Fields<'_>, key: &str, default: f64) -> Result<f64> {
    let parse = |value: &Value| value.as_f64().filter(|&number| number > 0.0 && number < 1e3);
    Ok(fields.parsed(key, default, "a number above 0", parse)?)
}

/// The activation `hidden_act`.
fn activation(fields: &Fields<'_>, default: &str) -> Result<Activation> {
    let name = match fields.value("hidden_act") {
        Value::Null => default.to_owned(),
        Value::String(name) => name.clone(),
        other => other.to_string(),
    };
    match name.as_str() {
        "quick_gelu" => Ok(Activation::QuickGelu),
        // Both are the exact GELU.
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        other => Err(fields.unsupported("hidden_act", other, "quick_gelu or gelu").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_of_both_families_equal_transformers() {
        let clip = r#"{"model_type": "clip", "vision_config": {"patch_size": 14, "hidden_size": 1024,
            "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}}"#;
        let clip = EncoderConfig::parse(Path::new("config.json"), clip).unwrap();
        assert_eq!((clip.family, clip.grid(clip.image_size)), (EncoderFamily::Clip, 16));
        assert_eq!((clip.n_layers, clip.d_ff, clip.activation), (24, 4096, Activation::QuickGelu));

        let giant = r#"{"model_type": "dinov2", "hidden_size": 1536, "num_attention_heads": 24,
            "image_size": 518, "use_swiglu_ffn": true, "num_hidden_layers": 40}"#;
        let giant = EncoderConfig::parse(Path::new("config.json"), giant).unwrap();
        assert_eq!((giant.d_ff, giant.activation), (4096, Activation::SwiGlu));
        assert_eq!(giant.grid(224), 16);
    }

    #[test]
    fn vision_config_dict_takes_precedence_as_in_transformers() {
        let text = r#"{"model_type": "clip", "swirl": 1, "vision_config": {"patch_size": 32},
            "vision_config_dict": {"patch_size": 14, "hidden_size": 1024, "num_attention_heads": 16}}"#;
        let (config, unknown) =
            EncoderConfig::parse_with_unknown_keys(Path::new("config.json"), text).unwrap();
        assert_eq!((config.patch_size, config.d_model), (14, 1024));
        assert_eq!(unknown, ["swirl"]);
    }

    #[test]
    fn invalid_settings_are_refused_by_name() {
        let parse = |text: &str| EncoderConfig::parse(Path::new("config.json"), text).unwrap_err();
        let error = parse(r#"{"model_type": "llama"}"#).to_string();
        assert!(error.contains("`model_type` is `llama`"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "hidden_size": 100}"#).to_string();
        assert!(error.contains("num_attention_heads is 12"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "hidden_act": "relu"}"#).to_string();
        assert!(error.contains("hidden_act is relu, expected quick_gelu or gelu"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "hidden_act": {}}"#).to_string();
        assert!(error.contains("hidden_act is {}"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "use_swiglu_ffn": "no"}"#).to_string();
        assert!(error.contains("use_swiglu_ffn is \"no\", expected true or false"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "patch_size": 0}"#).to_string();
        assert!(error.contains("patch_size is 0"), "{error}");
        let error = parse(r#"{"model_type": "dinov2", "mlp_ratio": 1e-4}"#).to_string();
        assert!(error.contains("width of the MLP is 0"), "{error}");
    }

    #[test]
    fn invalid_json_is_refused() {
        let error = EncoderConfig::parse(Path::new("config.json"), "{").unwrap_err().to_string();
        assert!(error.starts_with("config.json: not a valid JSON file: "), "{error}");
    }
}
