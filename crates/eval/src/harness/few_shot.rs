//! A document ─► its turn of the prompt: the question, and for an example also its answer.

use super::python_literal;
use super::question::Target;
use super::setting_keys::{Choices, TargetSetting};
use super::settings::TurnSettings;
use super::template::{NumberedDocument, Templates};
use crate::error::Result;

/// The templates' names of a turn, which are also the names in messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct TurnKeys {
    pub(super) text: &'static str,
    pub(super) choice: &'static str,
    pub(super) target: &'static str,
    pub(super) prefix: &'static str,
}

pub(super) const QUESTION: TurnKeys = TurnKeys {
    text: "doc_to_text",
    choice: "doc_to_choice",
    target: "doc_to_target",
    prefix: "gen_prefix",
};

pub(super) const EXAMPLE: TurnKeys = TurnKeys {
    text: "fewshot_config.doc_to_text",
    choice: "fewshot_config.doc_to_choice",
    target: "fewshot_config.doc_to_target",
    prefix: "fewshot_config.gen_prefix",
};

/// How documents become turns of the prompt.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turns<'t> {
    pub(super) templates: &'t Templates,
    pub(super) settings: &'t TurnSettings,
    pub(super) keys: TurnKeys,
}

impl Turns<'_> {
    /// Compiles the templates of a turn.
    pub(super) fn compile(
        templates: &mut Templates,
        settings: &TurnSettings,
        keys: TurnKeys,
    ) -> Result<()> {
        templates.add(keys.text, &settings.doc_to_text)?;
        if let Choices::Source(source) = &settings.doc_to_choice {
            templates.add(keys.choice, source)?;
        }
        if let TargetSetting::Source(source) = &settings.doc_to_target {
            templates.add(keys.target, source)?;
        }
        templates.add(keys.prefix, &settings.gen_prefix)
    }

    /// The question of a document, up to where the answer begins.
    pub(super) fn question(&self, of: NumberedDocument) -> Result<String> {
        let (text, prefix) = (self.text(of)?, self.prefix(of)?);
        let delimiter = self.delimiter_before(&text, &prefix);
        Ok(text + delimiter + &prefix)
    }

    /// A document with its answer, and what separates it from the next one.
    pub(super) fn example(&self, of: NumberedDocument) -> Result<String> {
        let choices = self.choices(of)?;
        let answer = match self.target(of)? {
            // No answer: the turn ends as a question does.
            Target::Text(text) if text.is_empty() => return self.question(of),
            Target::Text(text) => text,
            Target::Index(index) => {
                let choice = usize::try_from(index).ok().and_then(|index| choices.get(index));
                choice.cloned().ok_or_else(|| {
                    let reason = format!("{index} is not the index of a choice");
                    self.templates.refuse(self.keys.target, of, reason)
                })?
            }
            Target::Any(_) => {
                let reason = "an example has one answer".into();
                return Err(self.templates.refuse(self.keys.target, of, reason));
            }
        };
        let (text, prefix) = (self.text(of)?, self.prefix(of)?);
        let TurnSettings { target_delimiter, fewshot_delimiter, .. } = self.settings;
        Ok(if prefix.is_empty() {
            text + target_delimiter + &answer + fewshot_delimiter
        } else {
            let delimiter = self.delimiter_before(&text, &prefix);
            text + delimiter + &delimited(&prefix, &answer, " ") + fewshot_delimiter
        })
    }

    /// The choices of a document; at least one.
    pub(super) fn choices(&self, of: NumberedDocument) -> Result<Vec<String>> {
        match &self.settings.doc_to_choice {
            Choices::Fixed(choices) => Ok(choices.clone()),
            Choices::Source(source) => self.templates.texts(self.keys.choice, source, of),
        }
    }

    /// What is right.
    pub(super) fn target(&self, of: NumberedDocument) -> Result<Target> {
        let source = match &self.settings.doc_to_target {
            TargetSetting::Index(index) => return Ok(Target::Index(*index)),
            TargetSetting::Source(source) => source,
        };
        let value = self.templates.value(self.keys.target, source, of)?;
        let is_field = self.templates.is_field(source);
        let value = match value {
            serde_json::Value::String(text) if !is_field => {
                if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
                    // Longer numbers are not the index of any choice either.
                    return Ok(Target::Index(text.parse().unwrap_or(i64::MAX)));
                }
                let list = text.starts_with('[') && text.ends_with(']');
                let list = list.then(|| python_literal::parse(&text)).flatten();
                list.unwrap_or(serde_json::Value::String(text))
            }
            value => value,
        };
        let target = match &value {
            serde_json::Value::String(text) => Some(Target::Text(text.clone())),
            serde_json::Value::Array(items) => {
                items.iter().map(index).collect::<Option<Vec<_>>>().map(Target::Any)
            }
            other => index(other).map(Target::Index),
        };
        target.ok_or_else(|| {
            let reason = format!("{value} is not a choice, its index, or a list of indices");
            self.templates.refuse(self.keys.target, of, reason)
        })
    }

    fn text(&self, of: NumberedDocument) -> Result<String> {
        let text = self.templates.text(self.keys.text, &self.settings.doc_to_text, of)?;
        let is_field = self.templates.is_field(&self.settings.doc_to_text);
        if !is_field && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            // The harness takes it as the index of a choice that belongs into the context.
            let reason = format!("{text} is a number: choices in the context are not supported");
            return Err(self.templates.refuse(self.keys.text, of, reason));
        }
        Ok(text)
    }

    fn prefix(&self, of: NumberedDocument) -> Result<String> {
        if self.settings.gen_prefix.is_empty() {
            return Ok(String::new());
        }
        self.templates.text(self.keys.prefix, &self.settings.gen_prefix, of)
    }

    /// What stands between a question and the prefix of its answer.
    fn delimiter_before(&self, text: &str, prefix: &str) -> &str {
        let touches = !text.is_empty() && !prefix.is_empty() && !spaced(text, prefix);
        if touches { &self.settings.target_delimiter } else { "" }
    }
}

/// The index that a value is; the harness counts booleans and whole numbers too.
fn index(value: &serde_json::Value) -> Option<i64> {
    match value {
        serde_json::Value::Bool(value) => Some(i64::from(*value)),
        value => value.as_i64().or_else(|| {
            let number = value.as_f64().filter(|number| number.fract() == 0.0)?;
            Some(number as i64)
        }),
    }
}

/// Two texts with a delimiter, unless there is whitespace between them already.
fn delimited(first: &str, second: &str, delimiter: &str) -> String {
    let delimiter = if spaced(first, second) { "" } else { delimiter };
    format!("{first}{delimiter}{second}")
}

/// Whether the first text ends or the second begins with whitespace.
fn spaced(first: &str, second: &str) -> bool {
    first.ends_with(char::is_whitespace) || second.starts_with(char::is_whitespace)
}
