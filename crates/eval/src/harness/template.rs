//! A document and a template of a task ─► text, as the harness's Jinja renders it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use diagnostic::message_with_causes;
use fancy_regex::Regex;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde};
use minijinja::{Environment, ErrorKind, UndefinedBehavior, Value as Jinja};
use minijinja_contrib::pycompat;
use serde_json::Value;

use super::documents::Document;
use super::python_literal;
use crate::error::{Error, Result};

/// The templates of a task.
#[derive(Debug)]
pub(super) struct Templates {
    environment: Environment<'static>,
    /// The fields of the documents: a setting that names one stands for its value.
    fields: BTreeSet<String>,
    path: PathBuf,
}

/// A document and its number, for messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct NumberedDocument<'d> {
    pub(super) document: &'d Document,
    /// From 1.
    pub(super) number: usize,
}

impl Templates {
    /// Templates for documents with `fields`; `path` is the task file.
    pub(super) fn new(path: &Path, fields: BTreeSet<String>) -> Self {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment.set_syntax(syntax.expect("the default delimiters"));
        environment.set_unknown_method_callback(pycompat::unknown_method_callback);
        environment.add_filter("regex_replace", regex_replace);
        Self { environment, fields, path: path.into() }
    }

    /// Compiles a setting, unless it is the name of a field.
    pub(super) fn add(&mut self, key: &'static str, source: &str) -> Result<()> {
        if self.fields.contains(source) {
            return Ok(());
        }
        let added = self.environment.add_template_owned(key, source.to_owned());
        added.map_err(|error| Error::Template {
            path: self.path.clone(),
            key,
            reason: message_with_causes(&error),
        })
    }

    /// Whether a setting names a field.
    pub(super) fn is_field(&self, source: &str) -> bool {
        self.fields.contains(source)
    }

    /// The value of a setting for a document: the field that it names, or the text that it renders.
    pub(super) fn value(
        &self,
        key: &'static str,
        source: &str,
        of: NumberedDocument,
    ) -> Result<Value> {
        if self.fields.contains(source) {
            return Ok(of.document.get(source).cloned().unwrap_or_default());
        }
        let rendered = self
            .environment
            .get_template(key)
            .and_then(|template| template.render(Jinja::from(Serde(of.document))));
        match rendered {
            Ok(text) => Ok(Value::String(text)),
            Err(error) => Err(self.refuse(key, of, message_with_causes(&error))),
        }
    }

    /// As [`value`](Self::value), where only text makes sense.
    pub(super) fn text(
        &self,
        key: &'static str,
        source: &str,
        of: NumberedDocument,
    ) -> Result<String> {
        match self.value(key, source, of)? {
            Value::String(text) => Ok(text),
            other => Err(self.refuse(key, of, format!("{other} is not a text"))),
        }
    }

    /// As [`value`](Self::value), where only a list of texts makes sense: a field, or a Python list that
    /// the template writes.
    pub(super) fn texts(
        &self,
        key: &'static str,
        source: &str,
        of: NumberedDocument,
    ) -> Result<Vec<String>> {
        let value = match self.value(key, source, of)? {
            Value::String(text) if !self.fields.contains(source) => {
                let parsed = python_literal::parse(&text);
                parsed.ok_or_else(|| self.refuse(key, of, format!("{text} is not a list")))?
            }
            value => value,
        };
        let texts = value.as_array().filter(|items| !items.is_empty()).and_then(|items| {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<Vec<_>>>()
        });
        texts.ok_or_else(|| self.refuse(key, of, format!("{value} is not a list of texts")))
    }

    /// An error of a document.
    pub(super) fn refuse(
        &self,
        key: &'static str,
        of: NumberedDocument,
        mut reason: String,
    ) -> Error {
        // Values may be of any length.
        if let Some((end, _)) = reason.char_indices().nth(300) {
            reason.truncate(end);
            reason += "...";
        }
        Error::Document { path: self.path.clone(), key, document: of.number, reason }
    }
}

/// The harness's filter: Python's `re.sub`.
fn regex_replace(
    text: String,
    pattern: String,
    replacement: String,
    count: Option<i64>,
    named: Kwargs,
) -> Result<String, minijinja::Error> {
    let invalid = |reason: String| minijinja::Error::new(ErrorKind::InvalidOperation, reason);
    let count = count.map_or_else(|| named.get::<Option<i64>>("count"), |count| Ok(Some(count)))?;
    named.assert_all_used()?;
    let count = usize::try_from(count.unwrap_or(0))
        .map_err(|_| invalid("regex_replace: the count is negative".into()))?;
    let regex = Regex::new(&pattern).map_err(|error| invalid(error.to_string()))?;
    let replacement = rust_replacement(&replacement)
        .ok_or_else(|| invalid(format!("regex_replace: {replacement:?} is not a replacement")))?;
    let replaced = regex.try_replacen(&text, count, replacement);
    Ok(replaced.map_err(|error| invalid(error.to_string()))?.into_owned())
}

/// A replacement of Python's `re`, with `\1` and `\g<name>`, in the syntax of the regex crates.
fn rust_replacement(python: &str) -> Option<String> {
    let mut text = String::with_capacity(python.len());
    let mut chars = python.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '$' => text += "$$",
            '\\' => match chars.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                '\\' => text.push('\\'),
                'g' => {
                    chars.next_if_eq(&'<')?;
                    let name = chars.by_ref().take_while(|&c| c != '>').collect::<String>();
                    text += &format!("${{{name}}}");
                }
                digit @ '1'..='9' => {
                    let second = chars.next_if(char::is_ascii_digit).map(String::from);
                    text += &format!("${{{digit}{}}}", second.unwrap_or_default());
                }
                // Python refuses other letters and digits.
                other if other.is_ascii_alphanumeric() => return None,
                other => text.extend(['\\', other]),
            },
            c => text.push(c),
        }
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn templates(source: &str) -> Result<Templates> {
        let fields = ["question", "options", "n"].map(str::to_owned).into();
        let mut templates = Templates::new(Path::new("task.yaml"), fields);
        templates.add("doc_to_text", source)?;
        Ok(templates)
    }

    fn document() -> Document {
        let document = json!({"question": " Why? ", "options": ["a", "it's", "ü"], "n": null});
        document.as_object().unwrap().clone()
    }

    fn text(source: &str) -> Result<String> {
        let document = document();
        let of = NumberedDocument { document: &document, number: 3 };
        templates(source)?.text("doc_to_text", source, of)
    }

    fn texts(source: &str) -> Result<Vec<String>> {
        let document = document();
        let of = NumberedDocument { document: &document, number: 3 };
        templates(source)?.texts("doc_to_text", source, of)
    }

    #[test]
    fn the_name_of_a_field_is_its_value_and_anything_else_a_template() {
        assert_eq!(text("question").unwrap(), " Why? ");
        assert_eq!(text("questions").unwrap(), "questions");
        assert_eq!(text("Q: {{question.strip()}}\nA:\n").unwrap(), "Q: Why?\nA:\n");
        assert_eq!(
            text("{% for o in options %}{{loop.index}}. {{o}}\n{% endfor %}").unwrap(),
            "1. a\n2. it's\n3. ü\n"
        );
    }

    #[test]
    fn values_are_written_as_python_writes_them() {
        assert_eq!(text("{{n}} {{true}} {{1.0}} {{[1, 'a']}}").unwrap(), "None True 1.0 [1, 'a']");
    }

    #[test]
    fn a_list_is_a_field_or_what_a_template_writes() {
        assert_eq!(texts("options").unwrap(), ["a", "it's", "ü"]);
        assert_eq!(texts("{{options}}").unwrap(), ["a", "it's", "ü"]);
        assert_eq!(texts("{{[question, 'no\n']}}").unwrap(), [" Why? ", "no\n"]);
        assert_eq!(texts("['yes', '{{options[0]}}']").unwrap(), ["yes", "a"]);
    }

    #[test]
    fn regular_expressions_are_pythons() {
        let replaced = text(r"{{'a1 b2 $'|regex_replace('([a-z])(\\d)', '\\2\\g<1>$')}}").unwrap();
        assert_eq!(replaced, "1a$ 2b$ $");
        assert_eq!(text("{{'aaa'|regex_replace('a', 'b', count=2)}}").unwrap(), "bba");
        assert!(text("{{'a'|regex_replace('(', '')}}").is_err());
    }

    #[test]
    fn errors_name_the_setting_and_the_document() {
        let error = text("{{missing}}").unwrap_err().to_string();
        assert!(
            error.starts_with("task.yaml: `doc_to_text` of document 3: undefined value"),
            "{error}"
        );
        let error = text("n").unwrap_err().to_string();
        assert_eq!(error, "task.yaml: `doc_to_text` of document 3: null is not a text");
        let error = text("{% if %}").unwrap_err().to_string();
        assert!(error.starts_with("task.yaml: `doc_to_text`: syntax error"), "{error}");
        let error = texts("question").unwrap_err().to_string();
        assert!(error.ends_with("\" Why? \" is not a list of texts"), "{error}");
        assert!(texts("{{question}}").unwrap_err().to_string().ends_with("Why?  is not a list"));
    }
}
