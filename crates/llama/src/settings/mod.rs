//! Settings in a model's files that nothing here acts on: which, and what to tell about them.
//!
//! Each file that is read has a table of its keys: `config.json` in `architecture/keys.rs`,
//! `generation_config.json` in [`generation`], what lies beside a tokenizer in [`tokenizer`].

pub(crate) mod generation;
pub(crate) mod tokenizer;

use std::fmt;

use serde_json::Value;

/// Most settings that a message lists.
const SHOWN: usize = 8;

/// Settings of one of a model's files that change nothing here.
///
/// They are no error: what changes the arithmetic of the model and is not known here is refused
/// when it is opened. transformers may act on these, as its `generate` does on a `temperature`, or
/// on none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedSettings {
    /// Name of the file.
    pub file: String,
    /// The settings, in order; those within an object with its name and a dot before.
    pub settings: Vec<String>,
}

impl UnusedSettings {
    /// `None` for no settings.
    pub(crate) fn of(file: &str, settings: Vec<String>) -> Option<Self> {
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

/// A value with which a setting says nothing. So does null, always.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fine {
    Bool(bool),
    Number(f64),
    Text(&'static str),
    /// An empty list or object.
    Empty,
}

impl Fine {
    /// Whether a value is null or one of these.
    pub(crate) fn allows(fine: &[Self], value: &Value) -> bool {
        let is = |fine: &Self| match (*fine, value) {
            (Self::Bool(fine), Value::Bool(value)) => *value == fine,
            (Self::Number(fine), Value::Number(value)) => value.as_f64() == Some(fine),
            (Self::Text(fine), Value::String(value)) => value == fine,
            (Self::Empty, Value::Array(list)) => list.is_empty(),
            (Self::Empty, Value::Object(object)) => object.is_empty(),
            _ => false,
        };
        value.is_null() || fine.iter().any(is)
    }

    /// A value in a message.
    pub(crate) fn shown(value: &Value) -> String {
        const LONGEST: usize = 60;
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if text.chars().count() <= LONGEST {
            return text;
        }
        text.chars().take(LONGEST).chain("...".chars()).collect()
    }

    /// What would do, in a message.
    pub(crate) fn expected(fine: &[Self]) -> String {
        let mut words = vec!["none".to_owned()];
        words.extend(fine.iter().map(|fine| match fine {
            Self::Bool(fine) => fine.to_string(),
            Self::Number(fine) => fine.to_string(),
            Self::Text(fine) => (*fine).to_owned(),
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
            UnusedSettings::of("config.json", settings).unwrap().to_string()
        };
        assert_eq!(text(1), "config.json: 1 setting is not used: s0");
        assert_eq!(text(2), "config.json: 2 settings are not used: s0, s1");
        assert!(text(9).ends_with("9 settings are not used: s0, s1, s2, s3, s4, s5, s6, s7, ..."));
        assert_eq!(UnusedSettings::of("config.json", Vec::new()), None);
    }
}
