//! Hugging Face's folder: `config.json`, `*.safetensors`, `tokenizer.json`.

use std::collections::BTreeSet;
use std::path::Path;

use burn::tensor::DType;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::Deserialize;
use serde_json::{Value, json};

use super::assemble::disassemble;
use super::{Bytes, SafetensorsFile, SafetensorsSource};
use crate::config::{LlamaConfig, RopeConfig, RopeScaling};
use crate::error::{Error, Result};
use crate::model::Llama;

/// Architectures that this crate reads.
const KNOWN: [&str; 2] = ["llama", "mistral"];

/// The fields of `config.json` that shape a model. Absent ones take the defaults of Hugging Face's
/// `LlamaConfig`.
#[derive(Debug, Deserialize)]
struct ConfigJson {
    model_type: String,
    hidden_size: usize,
    intermediate_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    num_key_value_heads: Option<usize>,
    head_dim: Option<usize>,
    vocab_size: usize,
    max_position_embeddings: Option<usize>,
    rms_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    rope_theta: Option<f64>,
    rope_scaling: Option<RopeJson>,
    rope_parameters: Option<RopeJson>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    tie_word_embeddings: Option<bool>,
    sliding_window: Option<usize>,
}

/// `rope_scaling` of older files and `rope_parameters` of newer ones.
#[derive(Debug, Deserialize)]
struct RopeJson {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    /// What older files call it; some have both.
    #[serde(rename = "type")]
    old_type: Option<String>,
    factor: Option<f64>,
    low_freq_factor: Option<f64>,
    high_freq_factor: Option<f64>,
    original_max_position_embeddings: Option<usize>,
}

/// Reads `config.json`.
///
/// # Errors
/// [`Error::Architecture`], [`Error::Config`], or [`Error::Format`] for text that is no such JSON.
pub fn parse_config(path: &Path, text: &str) -> Result<LlamaConfig> {
    let json: Value = serde_json::from_str(text).map_err(|error| broken(path, &error))?;
    let model_type = json.get("model_type").and_then(Value::as_str).unwrap_or("none");
    if !KNOWN.contains(&model_type) {
        return Err(Error::Architecture {
            path: path.into(),
            found: model_type.into(),
            known: KNOWN.join(", "),
        });
    }
    let json = ConfigJson::deserialize(&json).map_err(|error| broken(path, &error))?;
    if let Some(act) = json.hidden_act.filter(|act| act != "silu") {
        return Err(Error::config("hidden_act", act, "silu"));
    }
    let attention_bias = json.attention_bias.unwrap_or(false);
    let rope = rope(json.rope_theta, json.rope_parameters.or(json.rope_scaling))?;
    let config = LlamaConfig {
        n_layers: json.num_hidden_layers,
        n_heads: json.num_attention_heads,
        n_kv_heads: json.num_key_value_heads.unwrap_or(json.num_attention_heads),
        head_dim: json
            .head_dim
            .unwrap_or_else(|| json.hidden_size / json.num_attention_heads.max(1)),
        d_model: json.hidden_size,
        d_ff: json.intermediate_size,
        vocab_size: json.vocab_size,
        max_positions: json.max_position_embeddings.unwrap_or(2048),
        norm_eps: json.rms_norm_eps.unwrap_or(1e-6),
        rope,
        qkv_bias: attention_bias,
        output_bias: attention_bias,
        mlp_bias: json.mlp_bias.unwrap_or(false),
        tied_head: json.tie_word_embeddings.unwrap_or(false),
        // Llama's code knows no window, even where a file mentions one.
        sliding_window: json.sliding_window.filter(|_| json.model_type == "mistral"),
    };
    config.validate()?;
    Ok(config)
}

fn rope(theta: Option<f64>, json: Option<RopeJson>) -> Result<RopeConfig> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let Some(json) = json else {
        return Ok(RopeConfig {
            theta: theta.unwrap_or(DEFAULT_THETA),
            scaling: RopeScaling::None,
        });
    };
    let need = |field: &str, value: Option<f64>| {
        value
            .filter(|value| value.is_finite() && *value > 0.0)
            .ok_or_else(|| Error::config(field, "missing or not positive", "a number above 0"))
    };
    let scaling = match json.rope_type.or(json.old_type).as_deref() {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: need("rope factor", json.factor)? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: need("rope factor", json.factor)?,
            low_freq_factor: need("rope low_freq_factor", json.low_freq_factor)?,
            high_freq_factor: need("rope high_freq_factor", json.high_freq_factor)?,
            original_max_positions: json.original_max_position_embeddings.ok_or_else(|| {
                Error::config("original_max_position_embeddings", "missing", "a context length")
            })?,
        },
        Some(other) => {
            return Err(Error::config("rope_type", other, "default, linear or llama3"));
        }
    };
    Ok(RopeConfig { theta: json.rope_theta.or(theta).unwrap_or(DEFAULT_THETA), scaling })
}

/// Opens the weights of a folder: one file, or the shards that its index names.
///
/// # Errors
/// [`Error::NotAModel`] if there are none, [`Error::Format`] for a broken index or file.
pub fn open_weights(folder: &Path) -> Result<SafetensorsSource> {
    let single = folder.join("model.safetensors");
    let index = folder.join("model.safetensors.index.json");
    let names = if single.exists() {
        BTreeSet::from(["model.safetensors".to_owned()])
    } else if index.exists() {
        shards(&index)?
    } else {
        return Err(Error::NotAModel {
            path: folder.into(),
            reason: "neither model.safetensors nor model.safetensors.index.json".into(),
        });
    };
    let files = names
        .iter()
        .map(|name| SafetensorsFile::new(Bytes::open(folder.join(name))?))
        .collect::<Result<Vec<_>>>()?;
    SafetensorsSource::new(folder, files)
}

/// File names of an index; anything that could lead out of the folder is refused.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: std::collections::BTreeMap<String, String>,
    }
    let text = std::fs::read_to_string(index).map_err(Error::read(index))?;
    let parsed: Index = serde_json::from_str(&text).map_err(|error| broken(index, &error))?;
    let names: BTreeSet<String> = parsed.weight_map.into_values().collect();
    let leads_out = |name: &str| name.contains(['/', '\\']) || name.starts_with('.');
    if let Some(name) = names.iter().find(|name| leads_out(name) || name.is_empty()) {
        return Err(Error::Format {
            path: index.into(),
            format: "safetensors index",
            reason: format!("`{name}` is not a file name"),
        });
    }
    Ok(names)
}

/// Writes a model as a Hugging Face folder's `config.json` and `model.safetensors`, in bf16 or
/// f32.
///
/// # Errors
/// As [`check_saveable`], and [`Error::Write`].
pub fn save(llama: &Llama, folder: &Path, precision: DType) -> Result<()> {
    let dtype = match precision {
        DType::BF16 => Dtype::BF16,
        DType::F32 => Dtype::F32,
        other => return Err(Error::config("precision", format!("{other:?}"), "BF16 or F32")),
    };
    std::fs::create_dir_all(folder).map_err(Error::write(folder))?;
    let tensors = disassemble(llama)
        .into_iter()
        .map(|(name, data)| (name, data.convert_dtype(precision)))
        .collect::<Vec<_>>();
    let views = tensors
        .iter()
        .map(|(name, data)| {
            let view = TensorView::new(dtype, data.shape().to_vec(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        })
        .collect::<Vec<_>>();
    let metadata = [("format".to_owned(), "pt".to_owned())].into();
    let bytes = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
    crate::files::write(&folder.join("model.safetensors"), &bytes)?;
    let text =
        serde_json::to_string_pretty(&config_json(llama.config(), precision)?).expect("plain JSON");
    crate::files::write(&folder.join("config.json"), format!("{text}\n").as_bytes())
}

/// Checks that [`save`] can say all there is to say of a model.
///
/// # Errors
/// [`Error::Config`]
pub fn check_saveable(config: &LlamaConfig) -> Result<()> {
    config_json(config, DType::F32).map(|_| ())
}

fn config_json(config: &LlamaConfig, precision: DType) -> Result<Value> {
    // Llama's code knows no window, Mistral's no biases.
    let mistral = config.sliding_window.is_some();
    if config.qkv_bias != config.output_bias || mistral && (config.qkv_bias || config.mlp_bias) {
        return Err(Error::config("biases", "of another kind", "plain Llama's or Mistral's"));
    }
    let scaling = match &config.rope.scaling {
        RopeScaling::None => Value::Null,
        RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
        RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_positions,
        } => json!({
            "rope_type": "llama3",
            "factor": factor,
            "low_freq_factor": low_freq_factor,
            "high_freq_factor": high_freq_factor,
            "original_max_position_embeddings": original_max_positions,
        }),
        RopeScaling::PerFrequency { .. } => {
            return Err(Error::config("rope scaling", "a divisor each", "none, linear or llama3"));
        }
    };
    let mut json = json!({
        "architectures": [if mistral { "MistralForCausalLM" } else { "LlamaForCausalLM" }],
        "model_type": if mistral { "mistral" } else { "llama" },
        "hidden_act": "silu",
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "vocab_size": config.vocab_size,
        "max_position_embeddings": config.max_positions,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "rope_scaling": scaling,
        "attention_bias": config.qkv_bias,
        "mlp_bias": config.mlp_bias,
        "tie_word_embeddings": config.tied_head,
        "torch_dtype": if precision == DType::BF16 { "bfloat16" } else { "float32" },
    });
    if let Some(window) = config.sliding_window {
        json["sliding_window"] = window.into();
    }
    Ok(json)
}

fn broken(path: &Path, error: &serde_json::Error) -> Error {
    Error::Format { path: path.into(), format: "JSON", reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rope: Value) -> Result<LlamaConfig> {
        let mut json = json!({
            "model_type": "llama", "hidden_size": 8, "intermediate_size": 8,
            "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 16,
        });
        json["rope_scaling"] = rope;
        parse_config(Path::new("config.json"), &json.to_string())
    }

    #[test]
    fn the_kind_of_scaling_may_have_its_old_name_its_new_one_or_both() {
        let linear = RopeScaling::Linear { factor: 2.0 };
        for rope in [
            json!({"type": "linear", "factor": 2.0}),
            json!({"rope_type": "linear", "factor": 2.0}),
            json!({"type": "linear", "rope_type": "linear", "factor": 2.0}),
        ] {
            assert_eq!(parse(rope).unwrap().rope.scaling, linear);
        }
    }

    #[test]
    fn scaling_that_makes_no_sense_is_refused() {
        for rope in [
            json!({"type": "linear"}),
            json!({"type": "linear", "factor": 0.0}),
            json!({"rope_type": "yarn", "factor": 2.0}),
            json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 4.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
            }),
        ] {
            assert!(matches!(parse(rope.clone()), Err(Error::Config { .. })), "{rope}");
        }
    }
}
