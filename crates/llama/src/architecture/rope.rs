//! The rotary embedding in `config.json`, with the keys of old and new versions of transformers.

use checkpoint::settings::Fields;
use serde_json::{Value, json};

use super::require::require;
use crate::config::{RopeConfig, RopeScaling};
use crate::error::{Error, Result};

const DEFAULT_THETA: f64 = 10_000.0;

/// Objects that may describe the rotary embedding; transformers prefers the first.
const ROPE_OBJECTS: [&str; 2] = ["rope_scaling", "rope_parameters"];

/// Keys of such an object that are read.
const ROPE_KEYS: &[&str] = &[
    "factor",
    "high_freq_factor",
    "low_freq_factor",
    "original_max_position_embeddings",
    "partial_rotary_factor",
    "rope_theta",
    "rope_type",
    "type",
];

/// Reads `rope_theta` and `rope_scaling` of older files and `rope_parameters` of newer ones, with
/// transformers' precedence:
///
/// - a `rope_scaling` that is not empty replaces all of `rope_parameters`;
/// - `rope_theta` within the object overrides the top-level one;
/// - the top-level `original_max_position_embeddings` overrides the one within the object; the default
///   is `max_positions`, the model's context.
///
/// Source: `transformers`, `modeling_rope_utils.py`, `convert_rope_params_to_dict` and
/// `standardize_rope_params`.
pub(super) fn read(json: &Fields<'_>, max_positions: usize) -> Result<RopeConfig> {
    let theta = json.optional("rope_theta")?;
    require(json, "partial_rotary_factor", 1.0)?;
    let original_context: Option<usize> = json.optional("original_max_position_embeddings")?;
    let [scaling, parameters] = ROPE_OBJECTS.map(|key| json.object(key));
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
    let require_positive = |key: &str| {
        rope.optional(key)?.filter(|value: &f64| value.is_finite() && *value > 0.0).ok_or_else(
            || {
                let field = format!("rope {key}");
                Error::config(field, "missing or not positive", "a number above 0")
            },
        )
    };
    // Older files name it `type`; some have both.
    let kind = rope.optional::<String>("rope_type")?.or(rope.optional("type")?);
    let scaling = match kind.as_deref() {
        None | Some("default") => RopeScaling::None,
        Some("linear") => RopeScaling::Linear { factor: require_positive("factor")? },
        Some("llama3") => RopeScaling::Llama3 {
            factor: require_positive("factor")?,
            low_freq_factor: require_positive("low_freq_factor")?,
            high_freq_factor: require_positive("high_freq_factor")?,
            original_max_positions: original_context
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

/// Settings of the rotary embedding that have no effect.
pub(super) fn unused(json: &Value) -> Vec<String> {
    let object = |key: &str| json.get(key)?.as_object().filter(|object| !object.is_empty());
    let [scaling, parameters] = ROPE_OBJECTS.map(object);
    let (name, read) = match (scaling, parameters) {
        (Some(_), Some(_)) => return vec!["rope_parameters".into()],
        (Some(read), None) => ("rope_scaling", read),
        (None, Some(read)) => ("rope_parameters", read),
        (None, None) => return Vec::new(),
    };
    let unused = read.keys().filter(|key| !ROPE_KEYS.contains(&key.as_str()));
    unused.map(|key| format!("{name}.{key}")).collect()
}

/// Writes `rope_theta` and `rope_scaling`, which every version of transformers reads.
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
        // A table of divisors has no key; `to_json` reads the result back and reports the loss.
        RopeScaling::None | RopeScaling::PerFrequency { .. } => Value::Null,
    };
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn parse(rope: Value) -> Result<RopeConfig> {
        read_json(&json!({"rope_scaling": rope}))
    }

    fn read_json(json: &Value) -> Result<RopeConfig> {
        read(&Fields::new(Path::new("config.json"), json), 2048)
    }

    #[test]
    fn type_and_rope_type_are_both_accepted() {
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
    fn invalid_scaling_is_an_error() {
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
    fn rope_scaling_replaces_rope_parameters() {
        let parameters = json!({"rope_type": "linear", "factor": 8.0, "rope_theta": 5e5});
        let both = json!({
            "rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": parameters,
        });
        let scaling = RopeScaling::Linear { factor: 2.0 };
        // Its theta goes with it.
        assert_eq!(read_json(&both).unwrap(), RopeConfig { theta: DEFAULT_THETA, scaling });
        assert_eq!(unused(&both), ["rope_parameters"]);
        for nothing in [json!({}), Value::Null] {
            let both = json!({"rope_scaling": nothing, "rope_parameters": parameters});
            let scaling = RopeScaling::Linear { factor: 8.0 };
            assert_eq!(read_json(&both).unwrap(), RopeConfig { theta: 5e5, scaling });
        }
    }

    #[test]
    fn nested_theta_overrides_top_level_theta() {
        let json = json!({"rope_theta": 1e6, "rope_parameters": {"rope_theta": 5e5}});
        assert_eq!(read_json(&json).unwrap().theta, 5e5);
        let json = json!({"rope_theta": 1e6, "rope_parameters": {"rope_type": "default"}});
        assert_eq!(read_json(&json).unwrap().theta, 1e6);
    }

    #[test]
    fn top_level_original_context_overrides_nested() {
        let original = |top_level: Value, nested: Value| {
            let json = json!({
                "original_max_position_embeddings": top_level,
                "rope_scaling": {
                    "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
                    "high_freq_factor": 4.0, "original_max_position_embeddings": nested,
                },
            });
            match read_json(&json).unwrap().scaling {
                RopeScaling::Llama3 { original_max_positions, .. } => original_max_positions,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(original(64.into(), 16.into()), 64);
        assert_eq!(original(Value::Null, 16.into()), 16);
        assert_eq!(original(Value::Null, Value::Null), 2048);
    }

    #[test]
    fn unused_rope_settings_are_reported() {
        let json = json!({"rope_scaling": {"type": "linear", "factor": 2.0, "beta_fast": 32}});
        assert_eq!(unused(&json), ["rope_scaling.beta_fast"]);
    }
}
