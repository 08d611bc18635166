//! A template's source ─► source that minijinja accepts.
//!
//! - `{% generation %}` marks text to train on, an extension of transformers: it becomes a filter block.
//! - `'...' % values` is Python's string formatting: it becomes a filter.

/// Name of the filter that formats a string with the operand of `%`.
pub(super) const PERCENT: &str = "__percent__";
/// Name of the filter around the text of `{% generation %}` blocks.
pub(super) const GENERATION: &str = "__generation__";

/// Maximum nesting, near the engine's own limit for expressions.
const MAX_DEPTH: usize = 50;

/// Rewrites the source of a template.
pub(super) fn rewrite(source: &str) -> String {
    let mut text = String::with_capacity(source.len());
    let mut rest = source;
    let opens =
        |rest: &str, at: usize| matches!(rest.as_bytes().get(at + 1), Some(b'%' | b'{' | b'#'));
    while let Some((at, _)) = rest.match_indices('{').find(|&(at, _)| opens(rest, at)) {
        let (before, tag) = rest.split_at(at);
        let (open, inside) = tag.split_at(2);
        text += before;
        text += open;
        let len = match open {
            "{#" => inside.find("#}").unwrap_or(inside.len()),
            _ => code_len(inside, if open == "{%" { "%}" } else { "}}" }),
        };
        let (code, after) = inside.split_at(len);
        rest = after;
        match open {
            "{#" => text += code,
            "{{" => text += &replace_percent(code, 0),
            _ => {
                let name = code.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
                text += &match name {
                    "generation" => code.replace(name, &format!("filter {GENERATION}")),
                    "endgeneration" => code.replace(name, "endfilter"),
                    // Text up to `endraw`.
                    "raw" => {
                        let end = rest.match_indices("{%").map(|(at, _)| at).find(|&at| {
                            rest[at + 2..].trim_start_matches(['-', '+', ' ']).starts_with("endraw")
                        });
                        let (raw, after) = rest.split_at(end.unwrap_or(rest.len()));
                        rest = after;
                        format!("{code}{raw}")
                    }
                    _ => replace_percent(code, 0),
                };
            }
        }
    }
    text + rest
}

/// Bytes before `close`, ignoring string literals.
fn code_len(inside: &str, close: &str) -> usize {
    let mut at = 0;
    while let Some(c) = inside[at..].chars().next() {
        if inside[at..].starts_with(close) {
            return at;
        }
        at += if matches!(c, '"' | '\'') { string_len(&inside[at..]) } else { c.len_utf8() };
    }
    inside.len()
}

/// Bytes of the string literal at the start, including quotes.
fn string_len(code: &str) -> usize {
    let mut chars = code.char_indices();
    let quote = chars.next().map(|(_, c)| c);
    let mut escaped = false;
    for (at, c) in chars {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if Some(c) == quote => return at + 1,
            _ => {}
        }
    }
    code.len()
}

/// Replaces `%` after or before a string literal with the filter; `%` of numbers is kept.
fn replace_percent(code: &str, depth: usize) -> String {
    if depth > MAX_DEPTH {
        return code.to_owned();
    }
    let mut text = String::with_capacity(code.len());
    let mut after_string = false;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        let rest = &code[at..];
        if matches!(c, '"' | '\'') {
            let len = string_len(rest);
            text += &rest[..len];
            at += len;
            after_string = true;
            continue;
        }
        let operand = rest.strip_prefix('%').map(str::trim_start);
        match operand {
            Some(operand) if after_string || operand.starts_with(['"', '\'']) => {
                let len = operand_len(operand);
                let operand_at = code.len() - operand.len();
                text.truncate(text.trim_end().len());
                text += &format!("|{PERCENT}({})", replace_percent(&operand[..len], depth + 1));
                at = operand_at + len;
                // The result is a string.
                after_string = true;
            }
            _ => {
                text.push(c);
                at += c.len_utf8();
                after_string &= c.is_whitespace();
            }
        }
    }
    text
}

/// Bytes of the operand at the start: a name, a literal or a bracketed expression, with attributes, indices
/// and filters.
fn operand_len(code: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = &code[at..];
        let space = rest.len() - rest.trim_start().len();
        let next = &rest[space..];
        let len = match next.chars().next() {
            Some('"' | '\'') if at == 0 => string_len(next),
            Some('(' | '[' | '{') => bracket_len(next),
            Some('.') => 1 + name_len(&next[1..]),
            Some('|') if !next.starts_with("||") => {
                let filter = next[1..].trim_start();
                next.len() - filter.len() + name_len(filter)
            }
            Some('-') if at == 0 => {
                let number = next.trim_start_matches('-');
                next.len() - number.len() + name_len(number)
            }
            Some(_) if at == 0 => name_len(next),
            _ => 0,
        };
        if len == 0 {
            return at;
        }
        at += space + len;
    }
}

fn name_len(code: &str) -> usize {
    code.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(code.len())
}

/// Bytes up to the matching closing bracket.
fn bracket_len(code: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(c) = code[at..].chars().next() {
        match c {
            '"' | '\'' => {
                at += string_len(&code[at..]);
                continue;
            }
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += c.len_utf8();
        if depth == 0 {
            return at;
        }
    }
    code.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_after_a_string_becomes_a_filter() {
        let code = |code: &str| replace_percent(code, 0).replace(PERCENT, "f");
        assert_eq!(code(" '%s' % a.b[0] ~ c "), " '%s'|f(a.b[0]) ~ c ");
        assert_eq!(code("'%s' % a | trim + 1"), "'%s'|f(a | trim) + 1");
        assert_eq!(code("'%s%%' % (a, ')')"), "'%s%%'|f((a, ')'))");
        assert_eq!(code("s % 'x' % 2"), "s|f('x')|f(2)");
        assert_eq!(code("'%s' % ('%s' % a)"), "'%s'|f(('%s'|f(a)))");
        for same in ["a % 2", "loop.index0 % 2 == 0 and 'a' == b", "'100%'", "'a' ~ 7 % 2"] {
            assert_eq!(code(same), same);
        }
    }

    #[test]
    fn text_comments_and_raw_blocks_are_unchanged() {
        for same in [
            "100% '%s' % 'a'",
            "{# '%s' % a #}",
            "{% raw %}{{ '%s' % a }}{% endraw %}",
            "{{ '}}' ~ \"%}\" }}{% if '%}' %}",
            "{{ unclosed '",
            "{% raw %}{{",
            "{",
        ] {
            assert_eq!(rewrite(same), same);
        }
    }

    #[test]
    fn generation_blocks_become_filter_blocks() {
        let found = rewrite("{%- generation %}{{ a }}{% endgeneration -%}");
        assert_eq!(found, "{%- filter __generation__ %}{{ a }}{% endfilter -%}");
    }
}
