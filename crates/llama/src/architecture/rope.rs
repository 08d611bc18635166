//! Rotary embeddings as `config.json` describes them, in its old words and its new ones.

use checkpoint::settings::Fields;
use serde_json::{Value, json};

use super::require::require;
use crate::config::{RopeConfig, RopeScaling};
use crate::error::{Error, Result};

const DEFAULT_THETA: f64 = 10_000.0;

/// Where a file may describe the rotary embedding, the one that counts first: what transformers
/// takes of a file that has both.
const OBJECTS: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Keys that are read in it.
const KEYS: &[&str] = &[
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];

/// Reads `rope_theta` and `rope_scaling` of older files, `rope_parameters` of newer ones, as
/// transformers does where a file has several:
///
/// - a `rope_scaling` that is not empty stands in the place of all of `rope_parameters`;
/// - the theta within it counts before the one beside it;
/// - the `original_max_position_embeddings` beside it counts before the one within, and where there
///   is neither, it is the model's context of `max_positions`.
///
/// Source: `transformers`, `modeling_rope_utils.py`, `convert_rope_params_to_dict` and
/// `standardize_rope_params`.
pub(super) fn read(json: &Fields<'_>, max_positions: usize) -> Result<RopeConfig> {
    let theta = json.optional("rope_theta")?;
    require(json, "partial_rotary_factor", 1.0)?;
    let original: Option<usize> = json.optional("original_max_position_embeddings")?;
    let [scaling, parameters] = OBJECTS.map(|key| json.object(key));
    let Some(rope) = scaling?.or(parameters?) else {
        let theta = theta.unwrap_or(DEFAULT_THETA);
        return Ok(RopeConfig { theta, scaling: RopeScaling::None });
    };
    require(&rope, "partial_rotary_factor", 1.0)?;
    for kind in ["full_attention", "sliding_attention"] {
        if rope.has(kind) {
            let expected = "one rotary embedding for all layers";
            return Err(Error::config(format!("rope {kind}"), "an object of its own", expected));
        }
    }
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
            original_max_positions: original
                .or(rope.optional("original_max_position_embeddings")?)
                .unwrap_or(max_positions),
        },
        Some(other) => {
            return Err(Error::config("rope_type", other, "default, linear or llama3"));
        }
    };
    let theta = rope.optional("rope_theta")?.or(theta).unwrap_or(DEFAULT_THETA);
    Ok(RopeConfig { theta, scaling })
}

/// The settings of a rotary embedding that nothing here acts on.
pub(super) fn unused(json: &Value) -> Vec<String> {
    let object = |key: &str| json.get(key)?.as_object().filter(|object| !object.is_empty());
    let [scaling, parameters] = OBJECTS.map(object);
    let (name, read) = match (scaling, parameters) {
        (Some(_), Some(_)) => return vec!["rope_parameters".into()],
        (Some(read), None) => ("rope_scaling", read),
        (None, Some(read)) => ("rope_parameters", read),
        (None, None) => return Vec::new(),
    };
    let unused = read.keys().filter(|key| !KEYS.contains(&key.as_str()));
    unused.map(|key| format!("{name}.{key}")).collect()
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
        whole(&json!({"rope_scaling": rope}))
    }

    fn whole(json: &Value) -> Result<RopeConfig> {
        read(&Fields::new(Path::new("config.json"), json), 2048)
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
            json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0}),
            json!({"full_attention": {"rope_type": "default"}}),
        ] {
            assert!(matches!(parse(rope.clone()), Err(Error::Config { .. })), "{rope}");
        }
    }

    #[test]
    fn scaling_stands_in_the_place_of_parameters() {
        let parameters = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5});
        let both = json!({
            "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": parameters,
        });
        let scaling = RopeScaling::Linear { factor: 2.0 };
        // Its theta goes with it.
        assert_eq!(whole(&both).unwrap(), RopeConfig { theta: DEFAULT_THETA, scaling });
        assert_eq!(unused(&both), ["rope_parameters"]);
        for nothing in [json!({}), Value::Null] {
            let both = json!({"rope_scaling": nothing, "rope_parameters": parameters});
            let scaling = RopeScaling::Linear { factor: 8.0 };
            assert_eq!(whole(&both).unwrap(), RopeConfig { theta: 5e5, scaling });
        }
    }

    #[test]
    fn theta_within_counts_before_theta_beside() {
        let json = json!({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 5e5}});
        assert_eq!(whole(&json).unwrap().theta, 5e5);
        let json = json!({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}});
        assert_eq!(whole(&json).unwrap().theta, 1e6);
    }

    #[test]
    fn the_original_context_beside_counts_before_the_one_within() {
        let original = |beside: Value, within: Value| {
            let json = json!({
                "original_max_position_embeddings": beside,
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": within,
                },
            });
            match whole(&json).unwrap().scaling {
                RopeScaling::Llama3 { original_max_positions, .. } => original_max_positions,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(original(64.into(), 16.into()), 64);
        assert_eq!(original(Value::Null, 16.into()), 16);
        assert_eq!(original(Value::Null, Value::Null), 2048);
    }

    #[test]
    fn settings_of_other_kinds_of_scaling_are_told() {
        let json = json!({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 32}});
        assert_eq!(unused(&json), ["rope_scaling.beta_fast"]);
    }
}
