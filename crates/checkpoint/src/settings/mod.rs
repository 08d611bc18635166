//! JSON config files of a model: reading fields, rejecting unsupported values, reporting unused settings.
//!
//! Every config file has a table of its keys next to its reader: `config.json` and GGUF metadata in
//! `llama`, `generation_config.json` and `tokenizer_config.json` in `text`.

mod fields;

use std::fmt;

use serde_json::Value;

pub use fields::{Fields, UnsupportedValue};

/// Maximum number of settings in a message.
const SHOWN: usize = 8;

/// Settings of one config file that have no effect here.
///
/// They are not an error: an unsupported setting that changes the model's arithmetic is rejected when the
/// model is opened. transformers may use some of these, as its `generate` uses `temperature`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedSettings {
    /// Name of the file.
    pub file: String,
    /// The settings in order; nested ones as `object.key`.
    pub settings: Vec<String>,
}

impl UnusedSettings {
    /// `None` for an empty list.
    pub fn new(file: &str, settings: Vec<String>) -> Option<Self> {
        (!settings.is_empty()).then(|| Self { file: file.into(), settings })
    }
}

impl fmt::Display for UnusedSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, settings } = self;
        let (count, are) = match settings.len() {
            1 => ("1 setting".to_owned(), "is"),
            count => (format!("{count} settings"), "are"),
        };
        let shown = settings[..settings.len().min(SHOWN)].join(", ");
        let more = if settings.len() > SHOWN { ", ..." } else { "" };
        write!(f, "{file}: {count} {are} not used: {shown}{more}")
    }
}

/// A value at which a setting has no effect. Null never has one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NeutralValue {
    /// A boolean.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A string.
    Text(&'static str),
    /// An empty list or object.
    Empty,
}

impl NeutralValue {
    /// Whether a value is null or in the list.
    pub fn allows(neutral: &[Self], value: &Value) -> bool {
        let equals = |neutral: &Self| match (*neutral, value) {
            (Self::Bool(neutral), Value::Bool(value)) => *value == neutral,
            (Self::Number(neutral), Value::Number(value)) => value.as_f64() == Some(neutral),
            (Self::Text(neutral), Value::String(value)) => value == neutral,
            (Self::Empty, Value::Array(list)) => list.is_empty(),
            (Self::Empty, Value::Object(object)) => object.is_empty(),
            _ => false,
        };
        value.is_null() || neutral.iter().any(equals)
    }

    /// A value as shown in a message, long ones cut.
    pub fn shown(value: &Value) -> String {
        const LONGEST: usize = 60;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.chars().count() <= LONGEST {
            return text;
        }
        text.chars().take(LONGEST).chain("...".chars()).collect()
    }

    /// The values without effect, as shown in a message.
    pub fn expected(neutral: &[Self]) -> String {
        let mut words = vec!["none".to_owned()];
        words.extend(neutral.iter().map(|neutral| match neutral {
            Self::Bool(neutral) => neutral.to_string(),
            Self::Number(neutral) => neutral.to_string(),
            Self::Text(neutral) => (*neutral).to_owned(),
            Self::Empty => "an empty one".to_owned(),
        }));
        words.join(" or ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_settings_are_listed_and_many_are_counted() {
        let text = |count: usize| {
            let settings = (0..count).map(|index| format!("s{index}")).collect();
            UnusedSettings::new("config.json", settings).unwrap().to_string()
        };
        assert_eq!(text(1), "config.json: 1 setting is not used: s0");
        assert_eq!(text(2), "config.json: 2 settings are not used: s0, s1");
        assert!(text(9).ends_with("9 settings are not used: s0, s1, s2, s3, s4, s5, s6, s7, ..."));
        assert_eq!(UnusedSettings::new("config.json", Vec::new()), None);
    }
}
