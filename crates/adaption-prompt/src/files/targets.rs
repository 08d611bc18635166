//! Which modules an adapter's config aims at: PEFT leaves out tensors of any other without a word.
//!
//! Source: PEFT, `peft/tuners/tuners_utils.py`, `check_target_module_exists`.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::patterns::{FullMatch, LayerIndexPattern, MatchBudget};
use crate::error::truncated;

/// The modules of `target_modules`, `exclude_modules`, `layers_to_transform` and `layers_pattern`.
#[derive(Debug, Clone)]
pub(crate) struct TargetModules {
    selection: Wanted,
    excluded: Option<ModuleNames>,
    layers: Option<(Vec<i64>, Vec<LayerIndexPattern>)>,
}

#[derive(Debug, Clone)]
enum Wanted {
    /// Every linear layer but the output head.
    AllLinear,
    Names(ModuleNames),
}

/// Modules by a pattern, or by their names or what those end in.
#[derive(Debug, Clone)]
enum ModuleNames {
    Pattern(FullMatch),
    List(BTreeSet<String>),
}

/// What PEFT takes where a config names nothing: in Llama and its relatives, and in GPT-2.
const USUAL: [&str; 3] = ["q_proj", "v_proj", "c_attn"];
/// What stands for every linear layer.
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
    /// What is wrong with which setting.
    pub fn parse(config: &Map<String, Value>) -> Result<Self, String> {
        let wanted = match config.get("target_modules") {
            Some(Value::String(text)) if text.eq_ignore_ascii_case(ALL_LINEAR) => Wanted::AllLinear,
            _ => {
                let usual = || ModuleNames::List(USUAL.map(str::to_owned).into());
                Wanted::Names(parse_names(config, "target_modules")?.unwrap_or_else(usual))
            }
        };
        // An empty list or text of what is excluded excludes nothing.
        let excluded = match config.get("exclude_modules") {
            Some(Value::String(text)) if text.is_empty() => None,
            _ => parse_names(config, "exclude_modules")?,
        };
        let layers = parse_layers(config)?;
        let lists = parse_layer_patterns(config)?;
        let by_pattern =
            matches!(wanted, Wanted::Names(ModuleNames::Pattern(_)) | Wanted::AllLinear);
        for (setting, found) in
            [("layers_to_transform", layers.is_some()), ("layers_pattern", !lists.is_empty())]
        {
            if found && by_pattern {
                return Err(format!("`{setting}` has no meaning where `target_modules` is a text"));
            }
        }
        let any = || LayerIndexPattern::new("").map(|any| vec![any]);
        let layers = match (layers, lists) {
            (Some(layers), lists) if lists.is_empty() => Some((layers, any()?)),
            (Some(layers), lists) => Some((layers, lists)),
            (None, lists) if lists.is_empty() => None,
            (None, _) => {
                return Err("`layers_pattern` has no meaning without `layers_to_transform`".into());
            }
        };
        Ok(Self { selection: wanted, excluded, layers })
    }

    /// Whether the config aims at each of some linear layers, such as `model.layers.3.self_attn.q_proj`.
    ///
    /// # Errors
    /// The reason, for a pattern that cannot be compared, or for more than can be.
    pub fn matches<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Result<Vec<bool>, String> {
        let modules = modules.collect::<Vec<_>>();
        let own = self.with_budget(MatchBudget::new(self.n_patterns(), &modules)?)?;
        modules.into_iter().map(|module| own.contains(module)).collect()
    }

    /// How many patterns a module is compared with.
    fn n_patterns(&self) -> usize {
        let is_pattern =
            |names: &ModuleNames| usize::from(matches!(names, ModuleNames::Pattern(_)));
        let wanted = match &self.selection {
            Wanted::AllLinear => 0,
            Wanted::Names(names) => is_pattern(names),
        };
        let lists = self.layers.as_ref().map_or(0, |(_, lists)| lists.len());
        wanted + self.excluded.as_ref().map_or(0, is_pattern) + lists
    }

    /// The same, each of whose comparisons ends where its share of a budget does.
    fn with_budget(&self, budget: MatchBudget) -> Result<Self, String> {
        let names = |names: &ModuleNames| match names {
            ModuleNames::Pattern(pattern) => pattern.with_budget(budget).map(ModuleNames::Pattern),
            ModuleNames::List(_) => Ok(names.clone()),
        };
        let wanted = match &self.selection {
            Wanted::AllLinear => Wanted::AllLinear,
            Wanted::Names(own) => Wanted::Names(names(own)?),
        };
        let excluded = self.excluded.as_ref().map(names).transpose()?;
        let layers = match &self.layers {
            None => None,
            Some((layers, lists)) => {
                let lists = lists.iter().map(|list| list.within(budget));
                Some((layers.clone(), lists.collect::<Result<_, _>>()?))
            }
        };
        Ok(Self { selection: wanted, excluded, layers })
    }

    fn contains(&self, module: &str) -> Result<bool, String> {
        if let Some(excluded) = &self.excluded
            && excluded.contains(module)?
        {
            return Ok(false);
        }
        let found = match &self.selection {
            Wanted::AllLinear => module != "lm_head",
            Wanted::Names(names) => names.contains(module)?,
        };
        // A name in full is meant whatever the layers are.
        let in_full = matches!(&self.selection, Wanted::Names(ModuleNames::List(list)) if list.contains(module));
        let Some((layers, lists)) = self.layers.as_ref().filter(|_| found && !in_full) else {
            return Ok(found);
        };
        for list in lists {
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
        let expected = "a text or a list of texts";
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
        other => Err(setting_error(setting, other, "a text or a list of texts")),
    }
}

fn parse_layers(config: &Map<String, Value>) -> Result<Option<Vec<i64>>, String> {
    let setting = "layers_to_transform";
    let expected = "a layer's number or a list of such";
    let number =
        |value: &Value| value.as_i64().ok_or_else(|| setting_error(setting, value, expected));
    match config.get(setting).unwrap_or(&Value::Null) {
        Value::Null => Ok(None),
        // An empty list stands for all layers.
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
        other => return Err(setting_error(setting, other, "a text or a list of texts")),
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

    /// Which of the modules a config aims at.
    fn found(config: &Value) -> Vec<usize> {
        let targets = TargetModules::parse(config.as_object().unwrap()).unwrap();
        let found = targets.matches(MODULES.into_iter()).unwrap();
        (0..MODULES.len()).filter(|&index| found[index]).collect()
    }

    #[test]
    fn many_modules_share_the_steps_of_a_pattern() {
        // It goes back for each pair of letters.
        let config = json!({"target_modules": ".*.*(?=z)q"});
        let targets = TargetModules::parse(config.as_object().unwrap()).unwrap();
        let of = |count| targets.matches(std::iter::repeat_n(MODULES[0], count));
        assert_eq!(of(1).unwrap(), [false]);
        assert!(of(1 << 20).is_err());
    }

    #[test]
    fn modules_are_aimed_at_by_name_or_pattern() {
        assert_eq!(found(&json!({"target_modules": ["q_proj"]})), [0, 1]);
        assert_eq!(found(&json!({"target_modules": ["self_attn.q_proj", "lm_head"]})), [0, 1, 4]);
        assert_eq!(found(&json!({"target_modules": ["proj"]})), [0; 0]);
        assert_eq!(found(&json!({"target_modules": r".*\.1\..*(q|v)_proj"})), [1, 2]);
        assert_eq!(found(&json!({"target_modules": "all-linear"})), [0, 1, 2, 3]);
        assert_eq!(found(&json!({"target_modules": null})), [0, 1, 2]);
        assert_eq!(found(&json!({})), [0, 1, 2]);
    }

    #[test]
    fn excluded_modules_and_other_layers_are_left_out() {
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
        // PEFT takes a name in full at its word.
        let config = json!({"target_modules": [MODULES[0]], "layers_to_transform": [1]});
        assert_eq!(found(&config), [0]);
    }

    #[test]
    fn what_peft_refuses_is_refused() {
        for (config, expected) in [
            (json!({"target_modules": 3}), "`target_modules` is 3"),
            (json!({"target_modules": [3]}), "`target_modules` is 3"),
            (json!({"target_modules": "("}), "`target_modules`: `"),
            (json!({"target_modules": "x", "layers_to_transform": [1]}), "no meaning"),
            (json!({"target_modules": ["x"], "layers_pattern": "h"}), "no meaning"),
            (json!({"target_modules": ["x"], "layers_to_transform": ["1"]}), "expected a layer's"),
        ] {
            let error = TargetModules::parse(config.as_object().unwrap()).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }
}
