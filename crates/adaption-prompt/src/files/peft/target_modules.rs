//! Modules that a PEFT config targets. PEFT ignores the tensors of all others without an error.
//!
//! Source: PEFT, `peft/tuners/tuners_utils.py`, `check_target_module_exists`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::module_patterns::{FullMatch, LayerIndexPattern, MatchBudget};
use crate::error::truncated;

/// The modules that `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern`
/// select.
#[derive(Debug, Clone)]
pub(super) struct TargetModules {
    selection: ModuleSelection,
    excluded: Option<ModuleNames>,
    layers: Option<(Vec<i64>, Vec<LayerIndexPattern>)>,
}

#[derive(Debug, Clone)]
enum ModuleSelection {
    /// Every linear layer but the output head.
    AllLinear,
    ModuleNames(ModuleNames),
}

/// Modules by a pattern, or by the last components of their names.
#[derive(Debug, Clone)]
enum ModuleNames {
    Pattern(FullMatch),
    List(BTreeSet<String>),
}

/// PEFT's defaults, for Llama and its relatives, and for GPT-2.
const DEFAULT_TARGETS: [&str; 3] = ["q_proj", "v_proj", "c_attn"];
/// Selects every linear layer.
const ALL_LINEAR: &str = "all-linear";

impl ModuleNames {
    fn contains(&self, module: &str) -> Result<bool, String> {
        match self {
            Self::Pattern(pattern) => pattern.matches(module),
            Self::List(list) => {
                let mut rest = Some(module);
                while let Some(name) = rest {
                    if list.contains(name) {
                        return Ok(true);
                    }
                    rest = name.split_once('.').map(|(_, rest)| rest);
                }
                Ok(false)
            }
        }
    }
}

impl TargetModules {
    /// # Errors
    /// The setting and the reason.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, String> {
        let selection = match config.get("target_modules") {
            Some(Value::String(text)) if text.eq_ignore_ascii_case(ALL_LINEAR) => {
                ModuleSelection::AllLinear
            }
            _ => {
                let defaults = || ModuleNames::List(DEFAULT_TARGETS.map(str::to_owned).into());
                ModuleSelection::ModuleNames(
                    parse_names(config, "target_modules")?.unwrap_or_else(defaults),
                )
            }
        };
        // An empty list or string excludes nothing.
        let excluded = match config.get("exclude_modules") {
            Some(Value::String(text)) if text.is_empty() => None,
            _ => parse_names(config, "exclude_modules")?,
        };
        let layers = parse_layers(config)?;
        let patterns = parse_layer_patterns(config)?;
        let by_pattern = matches!(
            selection,
            ModuleSelection::ModuleNames(ModuleNames::Pattern(_)) | ModuleSelection::AllLinear
        );
        for (setting, found) in
            [("layers_to_transform", layers.is_some()), ("layers_pattern", !patterns.is_empty())]
        {
            if found && by_pattern {
                return Err(format!("`{setting}` has no meaning if `target_modules` is a string"));
            }
        }
        let any = || LayerIndexPattern::new("").map(|any| vec![any]);
        let layers = match (layers, patterns) {
            (Some(layers), patterns) if patterns.is_empty() => Some((layers, any()?)),
            (Some(layers), patterns) => Some((layers, patterns)),
            (None, patterns) if patterns.is_empty() => None,
            (None, _) => {
                return Err("`layers_pattern` has no meaning without `layers_to_transform`".into());
            }
        };
        Ok(Self { selection, excluded, layers })
    }

    /// Whether each of some linear layers, such as `model.layers.3.self_attn.q_proj`, is selected.
    ///
    /// # Errors
    /// The reason, for a match that takes too many steps, or too many matches.
    pub fn matches<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Result<Vec<bool>, String> {
        let modules = modules.collect::<Vec<_>>();
        let own = self.with_budget(MatchBudget::new(self.n_patterns(), &modules)?)?;
        modules.into_iter().map(|module| own.contains(module)).collect()
    }

    /// Number of patterns that each module is matched with.
    fn n_patterns(&self) -> usize {
        let is_pattern =
            |names: &ModuleNames| usize::from(matches!(names, ModuleNames::Pattern(_)));
        let selection = match &self.selection {
            ModuleSelection::AllLinear => 0,
            ModuleSelection::ModuleNames(names) => is_pattern(names),
        };
        let patterns = self.layers.as_ref().map_or(0, |(_, patterns)| patterns.len());
        selection + self.excluded.as_ref().map_or(0, is_pattern) + patterns
    }

    /// The same selection with a budget's steps.
    fn with_budget(&self, budget: MatchBudget) -> Result<Self, String> {
        let names = |names: &ModuleNames| match names {
            ModuleNames::Pattern(pattern) => pattern.with_budget(budget).map(ModuleNames::Pattern),
            ModuleNames::List(_) => Ok(names.clone()),
        };
        let selection = match &self.selection {
            ModuleSelection::AllLinear => ModuleSelection::AllLinear,
            ModuleSelection::ModuleNames(own) => ModuleSelection::ModuleNames(names(own)?),
        };
        let excluded = self.excluded.as_ref().map(names).transpose()?;
        let layers = match &self.layers {
            None => None,
            Some((layers, patterns)) => {
                let patterns = patterns.iter().map(|list| list.with_budget(budget));
                Some((layers.clone(), patterns.collect::<Result<_, _>>()?))
            }
        };
        Ok(Self { selection, excluded, layers })
    }

    fn contains(&self, module: &str) -> Result<bool, String> {
        if let Some(excluded) = &self.excluded
            && excluded.contains(module)?
        {
            return Ok(false);
        }
        let found = match &self.selection {
            ModuleSelection::AllLinear => module != "lm_head",
            ModuleSelection::ModuleNames(names) => names.contains(module)?,
        };
        // A full name is selected in every layer.
        let is_full_name = matches!(&self.selection, ModuleSelection::ModuleNames(ModuleNames::List(list)) if list.contains(module));
        let Some((layers, patterns)) = self.layers.as_ref().filter(|_| found && !is_full_name)
        else {
            return Ok(found);
        };
        for list in patterns {
            if let Some(layer) = list.find(module)? {
                return Ok(layers.contains(&layer));
            }
        }
        Ok(false)
    }
}

fn setting_error(setting: &str, found: &Value, expected: &str) -> String {
    format!("`{setting}` is {}, expected {expected}", truncated(found))
}

fn string_list(setting: &str, list: &[Value]) -> Result<Vec<String>, String> {
    let text = |value: &Value| {
        let expected = "a string or a list of strings";
        value.as_str().map(str::to_owned).ok_or_else(|| setting_error(setting, value, expected))
    };
    list.iter().map(text).collect()
}

fn parse_names(config: &Map<String, Value>, setting: &str) -> Result<Option<ModuleNames>, String> {
    match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        Value::String(pattern) => {
            let pattern =
                FullMatch::new(pattern).map_err(|error| format!("`{setting}`: {error}"))?;
            Ok(Some(ModuleNames::Pattern(pattern)))
        }
        Value::Array(list) => {
            Ok(Some(ModuleNames::List(string_list(setting, list)?.into_iter().collect())))
        }
        other => Err(setting_error(setting, other, "a string or a list of strings")),
    }
}

fn parse_layers(config: &Map<String, Value>) -> Result<Option<Vec<i64>>, String> {
    let setting = "layers_to_transform";
    let expected = "a layer index or a list of layer indices";
    let number =
        |value: &Value| value.as_i64().ok_or_else(|| setting_error(setting, value, expected));
    match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        // An empty list means all layers.
        Value::Array(list) if list.is_empty() => Ok(None),
        Value::Array(list) => list.iter().map(number).collect::<Result<_, _>>().map(Some),
        one => Ok(Some(vec![number(one)?])),
    }
}

fn parse_layer_patterns(config: &Map<String, Value>) -> Result<Vec<LayerIndexPattern>, String> {
    let setting = "layers_pattern";
    let names = match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Vec::new(),
        Value::String(text) if text.is_empty() => Vec::new(),
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => string_list(setting, list)?,
        other => return Err(setting_error(setting, other, "a string or a list of strings")),
    };
    if names.len() > 64 {
        return Err(format!("`{setting}` has {} patterns, expected at most 64", names.len()));
    }
    let pattern = |name: &String| {
        LayerIndexPattern::new(name).map_err(|error| format!("`{setting}`: {error}"))
    };
    names.iter().map(pattern).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const MODULES: [&str; 5] = [
        "model.layers.0.self_attn.q_proj",
        "model.layers.1.self_attn.q_proj",
        "model.layers.1.self_attn.v_proj",
        "model.layers.1.mlp.up_proj",
        "lm_head",
    ];

    /// Indices of the modules that a config selects.
    fn found(config: &Value) -> Vec<usize> {
        let targets = TargetModules::parse(config.as_object().unwrap()).unwrap();
        let found = targets.matches(MODULES.into_iter()).unwrap();
        (0..MODULES.len()).filter(|&index| found[index]).collect()
    }

    #[test]
    fn modules_share_the_step_budget() {
        // It backtracks for each pair of characters.
        let config = json!({"target_modules": ".*.*(?=z)q"});
        let targets = TargetModules::parse(config.as_object().unwrap()).unwrap();
        let of = |count| targets.matches(std::iter::repeat_n(MODULES[0], count));
        assert_eq!(of(1).unwrap(), [false]);
        assert!(of(1 << 20).is_err());
    }

    #[test]
    fn modules_are_selected_by_name_or_pattern() {
        assert_eq!(found(&json!({"target_modules": ["q_proj"]})), [0, 1]);
        assert_eq!(found(&json!({"target_modules": ["self_attn.q_proj", "lm_head"]})), [0, 1, 4]);
        assert_eq!(found(&json!({"target_modules": ["proj"]})), [0; 0]);
        assert_eq!(found(&json!({"target_modules": r".*\.1\..*(q|v)_proj"})), [1, 2]);
        assert_eq!(found(&json!({"target_modules": "all-linear"})), [0, 1, 2, 3]);
        assert_eq!(found(&json!({"target_modules": null})), [0, 1, 2]);
        assert_eq!(found(&json!({})), [0, 1, 2]);
    }

    #[test]
    fn excluded_modules_and_layers_are_not_selected() {
        let all = ["q_proj", "v_proj", "up_proj"];
        assert_eq!(
            found(&json!({"target_modules": all, "exclude_modules": ["v_proj"]})),
            [0, 1, 3]
        );
        assert_eq!(found(&json!({"target_modules": all, "exclude_modules": ".*mlp.*"})), [0, 1, 2]);
        assert_eq!(found(&json!({"target_modules": all, "layers_to_transform": [1]})), [1, 2, 3]);
        assert_eq!(found(&json!({"target_modules": all, "layers_to_transform": 0})), [0]);
        let config = json!({
            "target_modules": all, "layers_to_transform": [1], "layers_pattern": "layers",
        });
        assert_eq!(found(&config), [1, 2, 3]);
        let config =
            json!({"target_modules": all, "layers_to_transform": [1], "layers_pattern": ["h"]});
        assert_eq!(found(&config), [0; 0]);
        // A full name is selected whatever the layers are.
        let config = json!({"target_modules": [MODULES[0]], "layers_to_transform": [1]});
        assert_eq!(found(&config), [0]);
    }

    #[test]
    fn settings_that_peft_refuses_are_refused() {
        for (config, expected) in [
            (json!({"target_modules": 3}), "`target_modules` is 3"),
            (json!({"target_modules": [3]}), "`target_modules` is 3"),
            (json!({"target_modules": "("}), "`target_modules`: `"),
            (json!({"target_modules": "x", "layers_to_transform": [1]}), "no meaning"),
            (json!({"target_modules": ["x"], "layers_pattern": "h"}), "no meaning"),
            (
                json!({"target_modules": ["x"], "layers_to_transform": ["1"]}),
                "expected a layer index",
            ),
        ] {
            let error = TargetModules::parse(config.as_object().unwrap()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
