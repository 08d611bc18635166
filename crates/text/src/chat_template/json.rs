//! A value ─► JSON as of Python's `json.dumps`.

use std::fmt::Write;

use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Error, ErrorKind, Value};

/// Maximum nesting.
const MAX_DEPTH: usize = 100;

/// Maximum indentation of a level.
const WIDEST: i64 = 100;

/// The filter `tojson(ensure_ascii=false, indent=none, separators=none, sort_keys=false)` of
/// transformers.
///
/// Source: `transformers`, `utils/chat_template_utils.py`, `_cached_compile_jinja_template`.
#[expect(clippy::needless_pass_by_value, reason = "the engine calls it so")]
pub(super) fn to_json(
    value: &Value,
    ascii: Option<bool>,
    indent: Option<Value>,
    named: Kwargs,
) -> Result<Value, Error> {
    let option = |name: &str| {
        let value = named.get::<Option<Value>>(name)?;
        Ok::<_, Error>(value.filter(|value| !value.is_none() && !value.is_undefined()))
    };
    let flag = |name: &str| Ok::<_, Error>(option(name)?.is_some_and(|value| value.is_true()));
    let indent = indent.filter(|value| !value.is_none());
    let indent = match indent.map_or_else(|| option("indent"), |indent| Ok(Some(indent)))? {
        None => None,
        Some(text) if text.as_str().is_some() => text.as_str().map(str::to_owned),
        Some(spaces) => {
            let spaces = i64::try_from(spaces)?.clamp(0, WIDEST);
            Some(" ".repeat(spaces as usize))
        }
    };
    let [mut item_separator, mut key_separator] = [", ".to_owned(), ": ".to_owned()];
    if indent.is_some() {
        item_separator = ",".into();
    }
    if let Some(separators) = option("separators")? {
        let pair = separators.try_iter()?.collect::<Vec<_>>();
        let texts = pair.iter().map(Value::as_str).collect::<Vec<_>>();
        let [Some(first), Some(second)] = texts[..] else {
            return Err(invalid("separators must be two strings"));
        };
        (item_separator, key_separator) = (first.into(), second.into());
    }
    let ascii = ascii.map_or_else(|| flag("ensure_ascii"), Ok)?;
    let sorted = flag("sort_keys")?;
    named.assert_all_used()?;
    let mut writer =
        Writer { text: String::new(), ascii, sorted, indent, item_separator, key_separator };
    writer.value(value, 0)?;
    Ok(Value::from(writer.text))
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::BadSerialization, format!("cannot write as JSON: {}", reason.into()))
}

struct Writer {
    text: String,
    ascii: bool,
    sorted: bool,
    /// Of one level; `None` for a single line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
}

impl Writer {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(invalid(format!("nested deeper than {MAX_DEPTH}")));
        }
        match value.kind() {
            ValueKind::None | ValueKind::Bool | ValueKind::Number => self.text += &scalar(value)?,
            ValueKind::String => self.string(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items = value.try_iter()?.collect::<Vec<_>>();
                self.container(['[', ']'], items, depth, |writer, item| {
                    writer.value(&item, depth + 1)
                })?;
            }
            ValueKind::Map => {
                let mut pairs = Vec::new();
                for key in value.try_iter()? {
                    let name = match key.as_str() {
                        Some(text) => text.to_owned(),
                        None => scalar(&key)?,
                    };
                    pairs.push((name, value.get_item(&key)?));
                }
                if self.sorted {
                    pairs.sort_by(|(a, _), (b, _)| a.cmp(b));
                }
                self.container(['{', '}'], pairs, depth, |writer, (name, value)| {
                    writer.string(&name);
                    writer.text += &writer.key_separator.clone();
                    writer.value(&value, depth + 1)
                })?;
            }
            other => return Err(invalid(format!("a value is {other}"))),
        }
        Ok(())
    }

    fn container<T>(
        &mut self,
        [open, close]: [char; 2],
        items: Vec<T>,
        depth: usize,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let is_empty = items.is_empty();
        self.text.push(open);
        for (index, item) in items.into_iter().enumerate() {
            if index > 0 {
                self.text += &self.item_separator.clone();
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !is_empty {
            self.line(depth);
        }
        self.text.push(close);
        Ok(())
    }

    /// Starts a new line, if the output is indented.
    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.text.push('\n');
            self.text += &indent.repeat(depth);
        }
    }

    fn string(&mut self, string: &str) {
        self.text.push('"');
        for c in string.chars() {
            match c {
                '"' => self.text += "\\\"",
                '\\' => self.text += "\\\\",
                '\n' => self.text += "\\n",
                '\r' => self.text += "\\r",
                '\t' => self.text += "\\t",
                '\u{8}' => self.text += "\\b",
                '\u{c}' => self.text += "\\f",
                c if c < ' ' || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = write!(self.text, "\\u{unit:04x}");
                    }
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

/// None, true, false or a number.
fn scalar(value: &Value) -> Result<String, Error> {
    Ok(match value.kind() {
        ValueKind::None => "null".into(),
        ValueKind::Bool => value.is_true().to_string(),
        ValueKind::Number if value.is_integer() => value.to_string(),
        ValueKind::Number => float(f64::try_from(value.clone())?),
        other => return Err(invalid(format!("a key is {other}"))),
    })
}

/// A float as Python's `repr`: with an exponent below 1e-4 and from 1e16 on, otherwise with a decimal point.
fn float(value: f64) -> String {
    if value.is_nan() {
        return "NaN".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "Infinity" } else { "-Infinity" }.into();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let text = value.to_string();
        return if text.contains('.') { text } else { text + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

#[cfg(test)]
mod tests {
    use super::super::ChatTemplate;
    use super::*;

    #[test]
    fn floats_are_written_as_python_writes_them() {
        let cases = [
            (0.0, "0.0"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (1e-4, "0.0001"),
            (-2.5, "-2.5"),
            (1e300, "1e+300"),
        ];
        for (value, text) in cases {
            assert_eq!(float(value), text);
        }
    }

    #[test]
    fn unlimited_nesting_is_an_error() {
        let source = "{% set ns = namespace(x=1) %}{% for i in range(1000) %}{% set ns.x = [ns.x] %}\
                      {% endfor %}{{ ns.x | tojson }}";
        let error = ChatTemplate::new(source).unwrap().render(&[], false).unwrap_err();
        assert!(error.to_string().contains("nested deeper than 100"), "{error}");
    }
}
