//! The settings of a run as a list.

use serde_json::Value;

/// The leaves of a JSON value with their paths, such as `optimizer.beta_1`. A list of plain values is a leaf.
pub(crate) fn flatten(settings: &Value) -> Vec<(String, Value)> {
    let mut leaves = Vec::new();
    add("", settings, &mut leaves);
    leaves
}

fn add(path: &str, value: &Value, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                add(&path, value, leaves);
            }
        }
        Value::Null if path.is_empty() => {}
        value => leaves.push((path.to_owned(), value.clone())),
    }
}

/// A setting as text: strings without quotation marks, lists with commas.
pub(crate) fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "–".into(),
        Value::Array(items) if items.iter().all(|item| !item.is_object() && !item.is_array()) => {
            items.iter().map(text).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nested_settings_become_paths() {
        let settings = json!({"a": {"b": 1, "c": {}}, "d": ["x", 2], "e": null, "f": "text"});
        let leaves = flatten(&settings);
        let lines = leaves.iter().map(|(key, value)| format!("{key}={}", text(value)));
        assert_eq!(lines.collect::<Vec<_>>(), ["a.b=1", "a.c={}", "d=x, 2", "e=–", "f=text"]);
        assert_eq!(flatten(&Value::Null), []);
    }
}
