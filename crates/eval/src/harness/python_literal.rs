//! Literals of Python ─► values: what a template writes for a list.

use serde_json::Value;

/// Deepest nesting of lists.
const MAX_DEPTH: usize = 16;

/// The value of a literal: text, number, `True`, `False`, `None`, or a list or tuple of these, which is
/// an array. `None` for anything else.
///
/// Source: Python's `ast.literal_eval`, without sets, dictionaries, bytes and complex numbers.
pub(super) fn parse(text: &str) -> Option<Value> {
    let mut parser = Parser { rest: text.trim() };
    let value = parser.value(0)?;
    parser.rest.trim().is_empty().then_some(value)
}

struct Parser<'t> {
    rest: &'t str,
}

impl Parser<'_> {
    fn value(&mut self, depth: usize) -> Option<Value> {
        self.rest = self.rest.trim_start();
        match self.rest.chars().next()? {
            '[' if depth < MAX_DEPTH => self.list(']', depth),
            '(' if depth < MAX_DEPTH => self.list(')', depth),
            quote @ ('\'' | '"') => {
                let mut text = self.string(quote)?;
                // Adjacent texts are one.
                while let Some(quote @ ('\'' | '"')) = self.rest.trim_start().chars().next() {
                    self.rest = self.rest.trim_start();
                    text += &self.string(quote)?;
                }
                Some(Value::String(text))
            }
            _ => self.scalar(),
        }
    }

    fn list(&mut self, close: char, depth: usize) -> Option<Value> {
        self.rest = &self.rest[1..];
        let mut items = Vec::new();
        let mut comma = true;
        loop {
            self.rest = self.rest.trim_start();
            if let Some(rest) = self.rest.strip_prefix(close) {
                self.rest = rest;
                // Parentheses around one value are not a tuple.
                let grouped = close == ')' && items.len() == 1 && !comma;
                return if grouped { items.pop() } else { Some(Value::Array(items)) };
            }
            if !comma {
                return None;
            }
            items.push(self.value(depth + 1)?);
            self.rest = self.rest.trim_start();
            let rest = self.rest.strip_prefix(',');
            comma = rest.is_some();
            self.rest = rest.unwrap_or(self.rest);
        }
    }

    fn string(&mut self, quote: char) -> Option<String> {
        let mut chars = self.rest[1..].chars();
        let mut text = String::new();
        loop {
            match chars.next()? {
                c if c == quote => break,
                '\n' => return None,
                '\\' => {
                    let escape = chars.next()?;
                    let mut code = |digits: usize| {
                        let hex = chars.by_ref().take(digits).collect::<String>();
                        let complete = hex.len() == digits;
                        u32::from_str_radix(&hex, 16)
                            .ok()
                            .filter(|_| complete)
                            .and_then(char::from_u32)
                    };
                    match escape {
                        '\n' => {}
                        'n' => text.push('\n'),
                        'r' => text.push('\r'),
                        't' => text.push('\t'),
                        'a' => text.push('\u{7}'),
                        'b' => text.push('\u{8}'),
                        'f' => text.push('\u{c}'),
                        'v' => text.push('\u{b}'),
                        '0' => text.push('\0'),
                        '\\' | '\'' | '"' => text.push(escape),
                        'x' => text.push(code(2)?),
                        'u' => text.push(code(4)?),
                        'U' => text.push(code(8)?),
                        // Python keeps the backslash of an unknown escape.
                        other => text.extend(['\\', other]),
                    }
                }
                c => text.push(c),
            }
        }
        self.rest = chars.as_str();
        Some(text)
    }

    fn scalar(&mut self) -> Option<Value> {
        let end = self.rest.find([',', ']', ')', ' ', '\n', '\t']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        match word {
            "True" => Some(Value::Bool(true)),
            "False" => Some(Value::Bool(false)),
            "None" => Some(Value::Null),
            _ => match word.parse::<i64>() {
                Ok(number) => Some(number.into()),
                // `inf`, `nan` and names are no literals.
                Err(_) if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                    word.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from)
                }
                Err(_) => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_and_tuples_of_texts_are_read() {
        assert_eq!(
            parse(r#" ['a', "it's", 'b\n\'\x41é\u00e9'] "#),
            Some(json!(["a", "it's", "b\n'Aéé"]))
        );
        assert_eq!(parse("('a', 'b',)"), Some(json!(["a", "b"])));
        assert_eq!(parse("[]"), Some(json!([])));
        assert_eq!(parse("['a' 'b']"), Some(json!(["ab"])));
        assert_eq!(parse("('a')"), Some(json!("a")));
        assert_eq!(parse(r"'C:\dir'"), Some(json!(r"C:\dir")));
    }

    #[test]
    fn scalars_are_read() {
        assert_eq!(parse("[1, -2, 2.5, True, None]"), Some(json!([1, -2, 2.5, true, null])));
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "[",
            "[1",
            "['a]",
            "['a', , 'b']",
            "[a]",
            "{'a': 1}",
            "[1] 2",
            "nan",
            "[inf]",
            "['a'; 'b']",
            r"'\x4'",
            r"'\ud800'",
            "[1 2]",
            "'a\nb'",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
        let deep = "[".repeat(100_000);
        assert_eq!(parse(&deep), None);
    }
}
