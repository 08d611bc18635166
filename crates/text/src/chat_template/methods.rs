//! Methods of Python's strings and lists that `minijinja-contrib` lacks, or has without some arguments.

use minijinja::value::{Kwargs, Tuple, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};
use minijinja_contrib::pycompat;

/// Longest result of padding.
const MAX_WIDTH: usize = 1 << 16;

/// Calls a method that the engine does not have.
pub(super) fn call(
    state: &mut State,
    value: &Value,
    method: &str,
    args: &[Value],
) -> Result<Value, Error> {
    let own = match (value.kind(), value.as_str()) {
        (ValueKind::String, Some(text)) => string_method(text, method, args)?,
        (ValueKind::Seq, _) if method == "index" => Some(index(value, args)?),
        _ => None,
    };
    match own {
        Some(found) => Ok(found),
        None => pycompat::unknown_method_callback(state, value, method, args),
    }
}

fn string_method(text: &str, method: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let one = || from_args::<(&str,)>(args).map(|(argument,)| argument);
    let padding = || {
        let (width, fill): (i64, Option<&str>) = from_args(args)?;
        let width = usize::try_from(width).unwrap_or(0);
        if width > MAX_WIDTH {
            return Err(invalid(format!("{method}: more than {MAX_WIDTH} characters")));
        }
        let fill = fill.unwrap_or(" ");
        if fill.chars().count() != 1 {
            return Err(invalid(format!("{method}: the fill must be one character")));
        }
        Ok((width.saturating_sub(text.chars().count()), fill.to_owned()))
    };
    Ok(Some(match method {
        "split" => split(text, args, false)?,
        "rsplit" => split(text, args, true)?,
        "index" => char_index(text, text.find(one()?))?,
        "rindex" => char_index(text, text.rfind(one()?))?,
        "partition" => partition(text.split_once(one()?), [text, "", ""], one()?),
        "rpartition" => partition(text.rsplit_once(one()?), ["", "", text], one()?),
        "removeprefix" => text.strip_prefix(one()?).unwrap_or(text).into(),
        "removesuffix" => text.strip_suffix(one()?).unwrap_or(text).into(),
        // Lower case, and the common ones of Python's further foldings.
        "casefold" => text.to_lowercase().replace('ß', "ss").replace('ς', "σ").into(),
        "ljust" => {
            let (missing, fill) = padding()?;
            (text.to_owned() + &fill.repeat(missing)).into()
        }
        "rjust" => {
            let (missing, fill) = padding()?;
            (fill.repeat(missing) + text).into()
        }
        "center" => {
            let (missing, fill) = padding()?;
            // Python's rounding of an odd number of fill characters.
            let width = missing + text.chars().count();
            let left = missing / 2 + (missing & width & 1);
            (fill.repeat(left) + text + &fill.repeat(missing - left)).into()
        }
        "zfill" => {
            let (missing, _) = padding()?;
            let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
            let sign = &text[..text.len() - unsigned.len()];
            format!("{sign}{}{unsigned}", "0".repeat(missing)).into()
        }
        _ => return Ok(None),
    }))
}

fn invalid(reason: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, reason.into())
}

/// An index in characters.
fn char_index(text: &str, found: Option<usize>) -> Result<Value, Error> {
    let found = found.ok_or_else(|| invalid("substring not found"))?;
    Ok(text[..found].chars().count().into())
}

fn partition(found: Option<(&str, &str)>, whole: [&str; 3], separator: &str) -> Value {
    let parts = found.map_or(whole, |(before, behind)| [before, separator, behind]);
    Value::from_object(Tuple::new(parts.map(Value::from).into()))
}

/// `split` and `rsplit`, with a maximum number of splits.
fn split(text: &str, args: &[Value], from_the_right: bool) -> Result<Value, Error> {
    type Arguments = (Option<Value>, Option<i64>, Kwargs);
    let (separator, most, named): Arguments = from_args(args)?;
    let separator = match separator {
        Some(separator) => Some(separator),
        None => named.get::<Option<Value>>("sep")?,
    };
    let most = match most {
        Some(most) => Some(most),
        None => named.get::<Option<i64>>("maxsplit")?,
    };
    named.assert_all_used()?;
    let most = most.and_then(|most| usize::try_from(most).ok()).unwrap_or(usize::MAX);
    let separator = separator.filter(|separator| !separator.is_none());
    let separator = separator.as_ref().map(|separator| {
        separator.as_str().ok_or_else(|| invalid("the separator must be a string"))
    });
    let parts: Vec<&str> = match separator.transpose()? {
        Some("") => return Err(invalid("empty separator")),
        Some(separator) if from_the_right => {
            let mut parts = text.rsplitn(most.saturating_add(1), separator).collect::<Vec<_>>();
            parts.reverse();
            parts
        }
        Some(separator) => text.splitn(most.saturating_add(1), separator).collect(),
        None if from_the_right => {
            let mut parts = words(text.trim_end(), most, |rest| {
                let (before, word) = rest.rsplit_once(char::is_whitespace)?;
                Some((word, before.trim_end()))
            });
            parts.reverse();
            parts
        }
        None => words(text.trim_start(), most, |rest| {
            let (word, behind) = rest.split_once(char::is_whitespace)?;
            Some((word, behind.trim_start()))
        }),
    };
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Splits off at most `most` words with `next`; the rest is the last one.
fn words<'t>(
    mut rest: &'t str,
    most: usize,
    next: impl Fn(&'t str) -> Option<(&'t str, &'t str)>,
) -> Vec<&'t str> {
    let mut words = Vec::new();
    while !rest.is_empty() {
        let taken = if words.len() < most { next(rest) } else { None };
        let (word, left) = taken.unwrap_or((rest, ""));
        words.push(word);
        rest = left;
    }
    words
}

/// Index of the first item that equals the argument.
fn index(list: &Value, args: &[Value]) -> Result<Value, Error> {
    let (wanted,): (&Value,) = from_args(args)?;
    let place = list.try_iter()?.position(|item| item == *wanted);
    place.map(Value::from).ok_or_else(|| invalid(format!("{wanted} is not in list")))
}

/// The filter `wordcount`: runs of letters, digits and underscores.
pub(super) fn word_count(text: &str) -> usize {
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    text.split(|c| !is_word(c)).filter(|word| !word.is_empty()).count()
}
