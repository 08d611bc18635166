//! messages ─► the model's Jinja template ─► prompt
//!
//! Configured as in transformers: trimmed blocks, methods and formatting of Python's strings, lists and dicts,
//! `tojson` as `json.dumps`, `raise_exception` and `strftime_now`.
//!
//! Source: `transformers`, `utils/chat_template_utils.py`, `_cached_compile_jinja_template`.

mod generation;
mod json;
mod methods;
mod source;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use diagnostic::message_with_causes;
use minijinja::formatting::{self, FormatStyle};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, Value, context};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::strftime::strftime;
use crate::tokenizer::Tokenizer;

pub(crate) use generation::MarkedText;

/// A message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `user` or `assistant`, or any role of the template.
    pub role: String,
    /// Its text.
    pub content: String,
}

impl Message {
    /// A message of a role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A compiled chat template.
///
/// ```
/// use text::{ChatTemplate, Message};
///
/// let template = ChatTemplate::new(
///     "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}\
///      {% if add_generation_prompt %}[assistant] {% endif %}",
/// )?;
/// let text = template.render(&[Message::new("user", "Hello!")], true)?;
/// assert_eq!(text, "[user] Hello!\n[assistant] ");
/// # Ok::<(), text::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by name, variables of the template.
    tokens: BTreeMap<String, String>,
    source: String,
}

/// Name of the template in error messages.
const NAME: &str = "chat_template";

impl ChatTemplate {
    /// Compiles the source of a template.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] with the line of a syntax error.
    pub fn new(source: &str) -> Result<Self> {
        let syntax = SyntaxConfig::builder()
            .trim_blocks(true)
            .lstrip_blocks(true)
            .build()
            .map_err(|error| failed(&error))?;
        let mut environment = Environment::new();
        environment.set_syntax(syntax);
        environment.set_unknown_method_callback(methods::call);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", strftime_now);
        environment.add_filter("tojson", json::to_json);
        environment.add_filter("wordcount", methods::word_count);
        environment.add_filter(source::PERCENT, percent);
        environment.add_filter(source::GENERATION, generation::mark);
        environment
            .add_template_owned(NAME, source::rewrite(source))
            .map_err(|error| failed(&error))?;
        Ok(Self { environment, tokens: BTreeMap::new(), source: source.to_owned() })
    }

    /// The template of a tokenizer, with its special tokens as variables, such as `eos_token`.
    ///
    /// # Errors
    /// [`Error::ChatTemplate`] without one and for an invalid one.
    pub fn from_tokenizer(tokenizer: &Tokenizer) -> Result<Self> {
        let source = tokenizer.chat_template.as_ref().ok_or_else(|| Error::ChatTemplate {
            reason: "the tokenizer has no chat template: this is not a chat model".into(),
        })?;
        Self::with_tokens_of(source, tokenizer)
    }

    /// A template with the special tokens of a tokenizer as variables.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_tokens_of(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let mut tokens = tokenizer.special_tokens.clone();
        for name in ["bos_token", "eos_token"] {
            tokens.extend(tokenizer.named_token(name).map(|text| (name.to_owned(), text)));
        }
        Ok(Self { tokens, ..Self::new(source)? })
    }

    /// The prompt of a conversation; `add_generation_prompt` starts the assistant's next message.
    ///
    /// It contains the special tokens: encode it with [`Tokenizer::encode_raw`].
    ///
    /// # Errors
    /// [`Error::ChatTemplate`], also if the template rejects the messages, such as two of one role in a row.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, add_generation_prompt, None)
    }

    /// `marks` surround the text of `{% generation %}` blocks.
    fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        marks: Option<&str>,
    ) -> Result<String> {
        let context = context! {
            __generation_marks__ => marks,
            messages => Value::from(Serde(messages)),
            add_generation_prompt,
            // Templates test `is none`, which an undefined variable is not.
            tools => (),
            documents => (),
            // Special tokens that no file has are undefined.
            ..Value::from(Serde(&self.tokens))
        };
        let template = self.environment.get_template(NAME).map_err(|error| failed(&error))?;
        template.render(context).map_err(|error| failed(&error))
    }
}

fn failed(error: &minijinja::Error) -> Error {
    Error::ChatTemplate { reason: message_with_causes(error) }
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Current time in UTC.
fn strftime_now(format: &str) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    strftime(format, now.as_secs())
}

/// `string % values`: a tuple is several values, anything else is one.
fn percent(text: &Value, values: &Value) -> Result<Value, minijinja::Error> {
    let Some(text) = text.as_str() else {
        let reason = format!("% of {} and a string", text.kind());
        return Err(minijinja::Error::new(ErrorKind::InvalidOperation, reason));
    };
    let values =
        if values.is_tuple() { values.try_iter()?.collect() } else { vec![values.clone()] };
    formatting::format(FormatStyle::Printf, text, &values).map(Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(source: &str, messages: &[(&str, &str)]) -> Result<String> {
        let messages = messages.iter().map(|&(role, content)| Message::new(role, content));
        ChatTemplate::new(source)?.render(&messages.collect::<Vec<_>>(), true)
    }

    #[test]
    fn blocks_on_their_own_lines_are_removed() {
        let source = "{% for message in messages %}\n  {% if true %}\n<{{ message.role }}>\n  \
                      {% endif %}\n{% endfor %}\n";
        assert_eq!(
            render(source, &[("user", ""), ("assistant", "")]).unwrap(),
            "<user>\n<assistant>\n"
        );
    }

    #[test]
    fn pythons_methods_and_loop_controls_work() {
        let source = "{%- for message in messages -%}\
                      {%- if message['content'].startswith('skip') %}{% continue %}{% endif -%}\
                      {{ message['content'].strip().split(' ')[0] }}\
                      {%- for key, value in message.items() %}[{{ key }}]{% endfor -%}\
                      {%- endfor -%}";
        let found = render(source, &[("user", "skip me"), ("user", "  one two ")]).unwrap();
        assert_eq!(found, "one[role][content]");
    }

    #[test]
    fn case_is_folded_as_python_folds_it() {
        let found = render("{{ 'Straße ẞ ΣΊΣΥΦΟΣ'.casefold() }}", &[]).unwrap();
        assert_eq!(found, "strasse ss σίσυφοσ");
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        let found = render("{{ messages | tojson }}", &[("user", "<é>\"\n")]).unwrap();
        assert_eq!(found, r#"[{"role": "user", "content": "<é>\"\n"}]"#);
        let found = render("{{ messages[0] | tojson(indent=2) }}", &[("u", "c")]).unwrap();
        assert_eq!(found, "{\n  \"role\": \"u\",\n  \"content\": \"c\"\n}");
        let found = render("{{ [1, 2] | tojson(separators=(';', '=')) }}", &[]).unwrap();
        assert_eq!(found, "[1;2]");
        let error = render("{{ [1] | tojson(separators=(';', '=', '')) }}", &[]).unwrap_err();
        assert!(error.to_string().contains("separators must be two strings"), "{error}");
    }

    #[test]
    fn raise_exception_is_the_reason() {
        let error = render("{{ raise_exception('roles must alternate') }}", &[]).unwrap_err();
        assert!(error.to_string().contains("roles must alternate"), "{error}");
    }

    #[test]
    fn syntax_errors_name_the_line() {
        let error = ChatTemplate::new("{{ a }}\n{% if %}").unwrap_err();
        assert!(error.to_string().contains("chat_template:2"), "{error}");
    }

    #[test]
    fn tools_are_none_and_absent_tokens_are_undefined() {
        let source = "{{ tools is none }} {{ bos_token is defined }}[{{ bos_token }}]";
        assert_eq!(render(source, &[]).unwrap().to_lowercase(), "true false[]");
    }

    #[test]
    fn generation_blocks_have_no_effect() {
        let source = "{% if true %}a{%- generation %} b{% endgeneration -%} c{% endif %}";
        assert_eq!(render(source, &[]).unwrap(), "a bc");
    }

    #[test]
    fn strftime_now_uses_the_current_time() {
        let year: u32 = render("{{ strftime_now('%Y') }}", &[]).unwrap().parse().unwrap();
        assert!(year >= 2025);
    }

    #[test]
    fn a_tokenizer_without_a_template_is_an_error() {
        let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
        let error = ChatTemplate::from_tokenizer(&Tokenizer::new(inner, "test")).unwrap_err();
        assert!(error.to_string().contains("the tokenizer has no chat template"), "{error}");
    }
}
