//! What an encoder looks like: sizes and the few settings in which families differ.

use std::path::Path;

use checkpoint::TensorSource;
use checkpoint::settings::Fields;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::keys::{self, check};

/// A family of encoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncoderFamily {
    /// Learned beside texts: arXiv 2103.00020.
    Clip,
    /// Learned from pictures alone: arXiv 2304.07193.
    Dinov2,
}

/// What is between the two products of a block's feed-forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x / (1 + e^-1.702x)`, OpenAI's stand-in for GELU.
    QuickGelu,
    /// The Gaussian error linear unit.
    Gelu,
    /// `silu(a) · b` of two halves.
    SwiGlu,
}

/// Shape of an encoder.
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderConfig {
    /// Which family's order of things it follows.
    pub family: EncoderFamily,
    /// Pixels a side for which its positions were learned.
    pub image_size: usize,
    /// Pixels of a patch a side.
    pub patch_size: usize,
    /// Width of a token.
    pub d_model: usize,
    /// Width inside the feed-forward.
    pub d_ff: usize,
    /// Blocks.
    pub n_layers: usize,
    /// Heads of each block.
    pub n_heads: usize,
    /// Of the feed-forward.
    pub activation: Activation,
    /// Added to the variance in norms.
    pub norm_eps: f64,
    /// Width of the space that CLIP shares with texts, if the files have the way there.
    pub projection: Option<usize>,
}

impl EncoderConfig {
    /// Patches a side for pictures of `image_size` pixels.
    pub fn grid(&self, image_size: usize) -> usize {
        image_size / self.patch_size
    }

    /// Reads Hugging Face's `config.json` of a CLIP or DINOv2 model. Whether there is a projection
    /// is in the weights.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`] for another kind of model, [`Error::Config`] for settings that make
    /// no sense or change the arithmetic in a way that is not known here.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        Self::parse_with_unknown_keys(path, text).map(|(config, _unknown)| config)
    }

    /// As [`parse`](Self::parse), with the keys that nobody knows.
    pub(crate) fn parse_with_unknown_keys(path: &Path, text: &str) -> Result<(Self, Vec<String>)> {
        let json: Value = serde_json::from_str(text).map_err(|error| Error::NotAnEncoder {
            path: path.into(),
            reason: format!("not a config: {error}"),
        })?;
        let kind = json["model_type"].as_str().unwrap_or_default().to_owned();
        match kind.as_str() {
            "clip" => {
                let mut unknown = check(path, &json, &[keys::CLIP_CONFIG, keys::COMMON_CONFIG])?;
                // Where both are there, transformers takes the older one.
                let vision = [&json["vision_config_dict"], &json["vision_config"]];
                let json = vision.into_iter().find(|own| !own.is_null()).unwrap_or(&Value::Null);
                unknown.extend(check(path, json, &[keys::CLIP, keys::COMMON_CONFIG])?);
                Ok((Self::clip(&Fields::new(path, json))?, unknown))
            }
            "clip_vision_model" => {
                let unknown = check(path, &json, &[keys::CLIP, keys::COMMON_CONFIG])?;
                Ok((Self::clip(&Fields::new(path, &json))?, unknown))
            }
            "dinov2" => {
                let unknown = check(path, &json, &[keys::DINOV2, keys::COMMON_CONFIG])?;
                Ok((Self::dinov2(&Fields::new(path, &json))?, unknown))
            }
            other => Err(Error::NotAnEncoder {
                path: path.into(),
                reason: format!(
                    "`model_type` is `{other}` (known: clip, clip_vision_model, dinov2)"
                ),
            }),
        }
    }

    /// Defaults are those of `CLIPVisionConfig` in transformers.
    fn clip(fields: &Fields<'_>) -> Result<Self> {
        let config = Self {
            family: EncoderFamily::Clip,
            image_size: size(fields, "image_size", 224)?,
            patch_size: size(fields, "patch_size", 32)?,
            d_model: size(fields, "hidden_size", 768)?,
            d_ff: size(fields, "intermediate_size", 3072)?,
            n_layers: size(fields, "num_hidden_layers", 12)?,
            n_heads: size(fields, "num_attention_heads", 12)?,
            activation: activation(fields, "quick_gelu")?,
            norm_eps: number(fields, "layer_norm_eps", 1e-5)?,
            projection: None,
        };
        config.check(fields)
    }

    /// Defaults are those of `Dinov2Config` in transformers.
    fn dinov2(fields: &Fields<'_>) -> Result<Self> {
        let d_model = size(fields, "hidden_size", 768)?;
        let inner = (d_model as f64 * number(fields, "mlp_ratio", 4.0)?) as usize;
        let gated = fields.parsed("use_swiglu_ffn", false, "true or false", Value::as_bool)?;
        let (d_ff, activation) = if gated {
            // Two thirds, since there are two products instead of one, in whole eighths.
            ((inner * 2 / 3).next_multiple_of(8), Activation::SwiGlu)
        } else {
            (inner, activation(fields, "gelu")?)
        };
        let config = Self {
            family: EncoderFamily::Dinov2,
            image_size: size(fields, "image_size", 224)?,
            patch_size: size(fields, "patch_size", 14)?,
            d_model,
            d_ff,
            n_layers: size(fields, "num_hidden_layers", 12)?,
            n_heads: size(fields, "num_attention_heads", 12)?,
            activation,
            norm_eps: number(fields, "layer_norm_eps", 1e-6)?,
            projection: None,
        };
        config.check(fields)
    }

    /// Reads an encoder's shape off the tensors of OpenAI's layout, which has no config.
    ///
    /// # Errors
    /// [`Error::NotAnEncoder`] if they are no vision transformer.
    pub(crate) fn from_openai_tensors(prefix: &str, source: &dyn TensorSource) -> Result<Self> {
        let path = source.path();
        let shape = |name: &str| {
            let found = source.shapes().get(&format!("{prefix}{name}"));
            found.cloned().ok_or_else(|| Error::NotAnEncoder {
                path: path.into(),
                reason: format!("there is no tensor `{prefix}{name}`"),
            })
        };
        let wrong = |what: &str, shape: &[usize]| Error::NotAnEncoder {
            path: path.into(),
            reason: format!("`{prefix}{what}` is {shape:?}"),
        };
        let patches = shape("conv1.weight")?;
        let &[d_model, 3, patch_size, _] = &patches[..] else {
            return Err(wrong("conv1.weight", &patches));
        };
        let positions = shape("positional_embedding")?;
        let grid = positions.first().map_or(0, |rows| rows.saturating_sub(1).isqrt());
        if positions.first() != Some(&(grid * grid + 1)) {
            return Err(wrong("positional_embedding", &positions));
        }
        let up = shape("transformer.resblocks.0.mlp.c_fc.weight")?;
        let block = |layer: &usize| {
            let name = format!("{prefix}transformer.resblocks.{layer}.ln_1.weight");
            source.shapes().contains_key(&name)
        };
        let config = Self {
            family: EncoderFamily::Clip,
            image_size: grid * patch_size,
            patch_size,
            d_model,
            d_ff: up.first().copied().unwrap_or_default(),
            n_layers: (0..source.shapes().len()).take_while(block).count(),
            // All of OpenAI's have heads of 64.
            n_heads: d_model / 64,
            activation: Activation::QuickGelu,
            norm_eps: 1e-5,
            projection: None,
        };
        config.check(&Fields::new(path, &Value::Null))
    }

    fn check(self, fields: &Fields<'_>) -> Result<Self> {
        if self.n_heads == 0 || !self.d_model.is_multiple_of(self.n_heads) {
            return Err(fields
                .unsupported("num_attention_heads", self.n_heads, "a divisor of the width")
                .into());
        }
        if self.patch_size == 0 || !self.image_size.is_multiple_of(self.patch_size) {
            return Err(fields
                .unsupported("image_size", self.image_size, "a multiple of patch_size")
                .into());
        }
        Ok(self)
    }
}

/// A size; `default` where it is absent.
fn size(fields: &Fields<'_>, key: &str, default: usize) -> Result<usize> {
    /// More than any size of a known encoder.
    const MOST: u64 = 1 << 16;
    let expected = format!("a number from 1 to {MOST}");
    let parse = |value: &Value| value.as_u64().filter(|size| (1..=MOST).contains(size));
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
        // The same function, by another way of computing it.
        "gelu" | "gelu_python" => Ok(Activation::Gelu),
        other => Err(fields.unsupported("hidden_act", other, "quick_gelu or gelu").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_families_are_read_with_their_defaults() {
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
    fn the_older_config_inside_comes_first_as_in_transformers() {
        let text = r#"{"model_type": "clip", "swirl": 1, "vision_config": {"patch_size": 32},
            "vision_config_dict": {"patch_size": 14, "hidden_size": 1024, "num_attention_heads": 16}}"#;
        let (config, unknown) =
            EncoderConfig::parse_with_unknown_keys(Path::new("config.json"), text).unwrap();
        assert_eq!((config.patch_size, config.d_model), (14, 1024));
        assert_eq!(unknown, ["swirl"]);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
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
    }
}
