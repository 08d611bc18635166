//! Rotary embeddings as `config.json` describes them, in its old words and its new ones.

use serde_json::{Value, json};

use super::fields::Fields;
use crate::config::{RopeConfig, RopeScaling};
use crate::error::{Error, Result};

const DEFAULT_THETA: f64 = 10_000.0;

/// Reads `rope_theta` and `rope_scaling` of older files, `rope_parameters` of newer ones.
pub(super) fn read(json: &Fields<'_>) -> Result<RopeConfig> {
    let theta = json.optional("rope_theta")?;
    json.refuse("partial_rotary_factor", 1.0)?;
    let Some(rope) = json.object("rope_parameters").or_else(|| json.object("rope_scaling")) else {
        return Ok(RopeConfig {
            theta: theta.unwrap_or(DEFAULT_THETA),
            scaling: RopeScaling::None,
        });
    };
    rope.refuse("partial_rotary_factor", 1.0)?;
    let need = |key: &str| {
        rope.optional(key)?.filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or_else(
            || {
                let field = format!("rope {key}");
                Error::config(field, "missing or not positive", "a number above 0")
            },
        )
    };
    // Older files call it `type`; some have both.
    let kind = rope.optional::<String>("rope_type")?.or(rope.optional("type")?);
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: need("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: need("factor")?,
            low_freq_factor: need("low_freq_factor")?,
            high_freq_factor: need("high_freq_factor")?,
            original_max_positions: rope.optional("original_max_position_embeddings")?.ok_or_else(
                || {
                    let field = "original_max_position_embeddings";
                    Error::config(field, "missing", "a context length")
                },
            )?,
        },
        Some(other) => {
            return Err(Error::config("rope_type", other, "default, linear or llama3"));
        }
    };
    let theta = rope.optional("rope_theta")?.or(theta).unwrap_or(DEFAULT_THETA);
    Ok(RopeConfig { theta, scaling })
}

/// `rope_theta` and `rope_scaling`: every version of transformers reads these.
pub(super) fn write(rope: &RopeConfig, json: &mut Value) {
    json["rope_theta"] = rope.theta.into();
    json["rope_scaling"] = match &rope.scaling {
        RopeScaling::Linear { factor } => json!({"rope_type": "linear", "factor": factor}),
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
        // There are no words for a table; reading the file again shows that it is missing.
        RopeScaling::None | RopeScaling::PerFrequency { .. } => Value::Null,
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(rope: Value) -> Result<RopeConfig> {
        read(&Fields::new(Path::new("config.json"), &json!({"rope_scaling": rope})))
    }

    #[test]
    fn the_kind_of_scaling_may_have_its_old_name_its_new_one_or_both() {
        let linear = RopeScaling::Linear { factor: 2.0 };
        for rope in [
            json!({"type": "linear", "factor": 2.0}),
            json!({"rope_type": "linear", "factor": 2.0}),
            json!({"type": "linear", "rope_type": "linear", "factor": 2.0}),
        ] {
            assert_eq!(parse(rope).unwrap().scaling, linear);
        }
    }

    #[test]
    fn scaling_that_makes_no_sense_is_refused() {
        for rope in [
            json!({"type": "linear"}),
            json!({"type": "linear", "factor": 0.0}),
            json!({"rope_type": "yarn", "factor": 2.0}),
            json!({"rope_type": "default", "partial_rotary_factor": 0.75}),
            json!({
                "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            }),
        ] {
            assert!(matches!(parse(rope.clone()), Err(Error::Config { .. })), "{rope}");
        }
    }
}
