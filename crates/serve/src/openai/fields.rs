//! The body of a request ─► its fields, with the name of a wrong one
//!
//! Values are read straight into their types: unknown fields are skipped, and lists have a longest length, so
//! that a body takes no more memory than its text and no error is without the field's name.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::error::Category;

use super::error::ApiError;

/// A request's fields, read one by one.
pub(crate) trait Fields: Default {
    /// Reads the value of the field `key`; returns `false`, and leaves the value, if there is no such field.
    fn read<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<bool, A::Error>;
}

/// Reads a body.
///
/// # Errors
/// 400 for text that is not JSON, and for a field of a wrong type with the field's name.
pub(crate) fn parse<T: Fields>(body: &[u8]) -> Result<T, ApiError> {
    let not_json = |reason: String| ApiError {
        code: Some("invalid_json"),
        ..ApiError::invalid(format!("the body is not valid JSON: {reason}"))
    };
    // Strings are checked one by one, but keys and ignored values would not be.
    let text = std::str::from_utf8(body).map_err(|error| not_json(error.to_string()))?;
    let mut key = None;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = FieldReader { key: &mut key, fields: PhantomData::<T> }
        .deserialize(&mut deserializer)
        .and_then(|fields| deserializer.end().map(|()| fields));
    fields.map_err(|error| match (error.classify(), key) {
        (Category::Data, Some(key)) => ApiError::invalid_param(&key, format!("{key}: {error}")),
        (Category::Data, None) => ApiError::invalid(error.to_string()),
        _ => not_json(error.to_string()),
    })
}

/// Reads an object; `key` is the field that is being read.
struct FieldReader<'k, T> {
    key: &'k mut Option<String>,
    fields: PhantomData<T>,
}

impl<'de, T: Fields> DeserializeSeed<'de> for FieldReader<'_, T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, T: Fields> Visitor<'de> for FieldReader<'_, T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let mut fields = T::default();
        while let Some(key) = map.next_key::<Cow<'de, str>>()? {
            *self.key = Some(key.to_string());
            if !fields.read(&key, &mut map)? {
                map.next_value::<IgnoredAny>()?;
                tracing::debug!(field = %key.escape_debug(), "unknown field, ignored");
            }
            *self.key = None;
        }
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::super::values::{Asked, Count, Number, Strings};
    use super::*;

    #[derive(Debug, Default, PartialEq)]
    struct Example {
        number: Option<Number>,
        count: Option<Count>,
        stop: Option<Strings<2>>,
        tools: Asked,
    }

    impl Fields for Example {
        fn read<'de, A: MapAccess<'de>>(
            &mut self,
            key: &str,
            map: &mut A,
        ) -> Result<bool, A::Error> {
            match key {
                "number" => self.number = map.next_value()?,
                "count" => self.count = map.next_value()?,
                "stop" => self.stop = map.next_value()?,
                "tools" => self.tools = map.next_value()?,
                _ => return Ok(false),
            }
            Ok(true)
        }
    }

    fn failure(body: &str) -> (Option<String>, String) {
        let error = parse::<Example>(body.as_bytes()).unwrap_err();
        assert_eq!(error.status, 400);
        (error.param, error.message)
    }

    #[test]
    fn a_field_of_a_wrong_type_is_named() {
        let (param, message) = failure(r#"{"other": [[1]], "number": "hot"}"#);
        assert_eq!(param.as_deref(), Some("number"));
        let expected = r#"number: invalid type: string "hot", expected a number at line 1 column"#;
        assert!(message.starts_with(expected), "{message}");
        let (param, message) = failure(r#"{"count": -1}"#);
        assert_eq!(param.as_deref(), Some("count"));
        assert!(
            message.contains("integer `-1`, expected a whole number of at least 0"),
            "{message}"
        );
        let (param, message) = failure(r#"{"stop": ["a", "b", "c"]}"#);
        assert_eq!(param.as_deref(), Some("stop"));
        assert!(message.contains("length 3, expected a list of at most 2 items"), "{message}");
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let body = br#"{"number": null, "count": null, "stop": null, "tools": null}"#;
        assert_eq!(parse::<Example>(body).unwrap(), Example::default());
    }

    #[test]
    fn text_that_is_not_json_is_refused_without_a_field() {
        for body in ["", "{", "nonsense", r#"{"count": 1} x"#, r#"{"number": 1e999}"#] {
            let error = parse::<Example>(body.as_bytes()).unwrap_err();
            assert_eq!((error.code, error.param), (Some("invalid_json"), None), "{body}");
        }
        let error = parse::<Example>(b"{\"other\": \"\xff\"}").unwrap_err();
        assert!(error.message.contains("invalid utf-8"), "{error}");
        let (param, message) = failure("[]");
        assert_eq!(param, None);
        assert!(message.contains("expected a JSON object"), "{message}");
    }

    #[test]
    fn deep_nesting_is_an_error_or_ignored() {
        let deep = |key| format!("{{\"{key}\": {}{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
        assert_eq!(parse::<Example>(deep("other").as_bytes()).unwrap(), Example::default());
        failure(&deep("stop"));
        assert!(parse::<Example>(deep("tools").as_bytes()).unwrap().tools.0);
    }

    #[test]
    fn only_values_that_ask_for_something_are_asked() {
        let asked = |value: &str| {
            let body = format!(r#"{{"tools": {value}}}"#);
            parse::<Example>(body.as_bytes()).unwrap().tools.0
        };
        assert!(["[]", "null", "\"none\"", "false"].iter().all(|value| !asked(value)));
        assert!(["[{}]", "{}", "\"auto\"", "true", "1", "-1.5"].iter().all(|value| asked(value)));
    }
}
