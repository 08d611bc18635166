//! Sizes of an encoder, read from `config.json` or from the shapes of OpenAI's tensors.

use std::path::Path;

use checkpoint::TensorSource;
use checkpoint::settings::Fields;
use serde_json::Value;

use crate::block::BlockConfig;
use crate::config_keys::{
    CLIP_CONFIG, CLIP_VISION_CONFIG, COMMON_CONFIG, DINOV2_CONFIG, check_keys,
};
use crate::error::{Error, Result};

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncoderFamily {
    /// Trained on images with captions: arXiv 2103.00020.
    Clip,
    /// Trained on images alone: arXiv 2304.07193.
    Dinov2,
}

/// Activation of a block's MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`, OpenAI's approximation of GELU.
    QuickGelu,
    /// The Gaussian error linear unit.
    Gelu,
    /// `silu(a) * b` of the two halves of the input.
    SwiGlu,
}

/// Sizes of an encoder.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct EncoderConfig {
    /// Family, which determines the structure.
    pub family: EncoderFamily,
    /// Image size that the position embeddings were trained for, in pixels per side.
    pub image_size: usize,
    /// Pixels per side of a patch.
    pub patch_size: usize,
    /// Width of a token.
    pub d_model: usize,
    /// Hidden width of the MLP.
    pub d_ff: usize,
    /// Number of blocks.
    pub n_layers: usize,
    /// Attention heads per block.
    pub n_heads: usize,
    /// Activation of the MLP.
    pub activation: Activation,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Width of CLIP's joint image-text space, if the checkpoint has the projection.
    pub projection: Option<usize>,
}

impl EncoderConfig {
    /// The defaults of `CLIPVisionConfig` and `Dinov2Config` in transformers: ViT-B/32 and ViT-B/14.
    pub fn for_family(family: EncoderFamily) -> Self {
        let (patch_size, activation, norm_eps) = match family {
            EncoderFamily::Clip => (32, Activation::QuickGelu, 1e-5),
            EncoderFamily::Dinov2 => (14, Activation::Gelu, 1e-6),
        };
        Self {
            family,
            image_size: 224,
            patch_size,
            d_model: 768,
            d_ff: 4 * 768,
            n_layers: 12,
            n_heads: 12,
            activation,
            norm_eps,
            projection: None,
        }
    }

    /// Patches per side of an image of `image_size` pixels.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Sizes of one block.
    pub(crate) fn block(&self) -> BlockConfig {
        BlockConfig {
            d_model: self.d_model,
            d_ff: self.d_ff,
            n_heads: self.n_heads,
            activation: self.activation,
            layer_scale: self.family == EncoderFamily::Dinov2,
            norm_eps: self.norm_eps,
        }
    }

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
        let is_gated =
            fields.parsed("use_swiglu_ffn", false, "true or false", |value| value.as_bool())?;
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

    /// Reads the sizes from the shapes of OpenAI's tensors, whose files have no config.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`] if the tensors are not those of a vision transformer.
    pub(crate) fn from_openai_tensors(prefix: &str, source: &dyn TensorSource) -> Result<Self> {
        /// Width of a head in all of OpenAI's models.
        const HEAD_DIM: usize = 64;
        let path = source.path();
        let shape = |name: &str| {
            let found = source.shapes().get(&format!("{prefix}{name}"));
            found.cloned().ok_or_else(|| Error::NotAnEncoder {
                path: path.into(),
                reason: format!("there is no tensor `{prefix}{name}`"),
            })
        };
        let invalid = |name: &str, shape: &[usize]| Error::NotAnEncoder {
            path: path.into(),
            reason: format!("`{prefix}{name}` has the shape {shape:?}"),
        };
        let patches = shape("conv1.weight")?;
        let &[d_model, 3, patch_size, _] = &patches[..] else {
            return Err(invalid("conv1.weight", &patches));
        };
        let positions = shape("positional_embedding")?;
        let grid = positions.first().map_or(0, |rows| rows.saturating_sub(1).isqrt());
        if positions.first() != Some(&(grid * grid + 1)) {
            return Err(invalid("positional_embedding", &positions));
        }
        let up = shape("transformer.resblocks.0.mlp.c_fc.weight")?;
        let has_block = |layer: &usize| {
            let name = format!("{prefix}transformer.resblocks.{layer}.ln_1.weight");
            source.shapes().contains_key(&name)
        };
        let config = Self {
            image_size: grid * patch_size,
            patch_size,
            d_model,
            d_ff: up.first().copied().unwrap_or_default(),
            n_layers: (0..source.shapes().len()).take_while(has_block).count(),
            n_heads: d_model / HEAD_DIM,
            ..Self::for_family(EncoderFamily::Clip)
        };
        config.validate(&Fields::new(path, &Value::Null))
    }

    fn validate(self, fields: &Fields<'_>) -> Result<Self> {
        if self.n_heads == 0 || !self.d_model.is_multiple_of(self.n_heads) {
            let expected = "a divisor of the width";
            return Err(fields.unsupported("num_attention_heads", self.n_heads, expected).into());
        }
        if self.patch_size == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            let expected = "a multiple of patch_size";
            return Err(fields.unsupported("image_size", self.image_size, expected).into());
        }
        if self.d_ff == 0 {
            return Err(fields.unsupported("width of the MLP", 0, "a positive number").into());
        }
        Ok(self)
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
