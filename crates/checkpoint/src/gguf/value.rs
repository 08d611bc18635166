//! Metadata values.

use crate::byte_reader::ByteReader;
use crate::error::Result;

/// Maximum length of an array. The largest vocabularies have about 500,000 merges.
const MAX_ELEMENTS: u64 = 1 << 22;
/// Maximum length of a string in bytes.
const MAX_TEXT_LEN: u64 = 16 << 20;
/// Maximum nesting of arrays.
const MAX_DEPTH: usize = 4;

/// A metadata value. The width of integers is not kept.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A boolean.
    Bool(bool),
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32
    F32(f32),
    /// f64
    F64(f64),
    /// UTF-8
    Text(String),
    /// Values of one type.
    Array(Vec<Value>),
}

impl Value {
    /// Description of the type, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Bool(_) => "true or false",
            Self::Unsigned(_) | Self::Signed(_) => "an integer",
            Self::F32(_) | Self::F64(_) => "a number",
            Self::Text(_) => "a string",
            Self::Array(_) => "an array",
        }
    }

    /// Reads type and value of `key`.
    pub(super) fn read(reader: &mut ByteReader<'_>, key: &str) -> Result<Self> {
        let kind = reader.u32(key)?;
        Self::read_kind(reader, key, kind, 0)
    }

    fn read_kind(reader: &mut ByteReader<'_>, key: &str, kind: u32, depth: usize) -> Result<Self> {
        Ok(match kind {
            0 => Self::Unsigned(u8::from_le_bytes(reader.array(key)?).into()),
            1 => Self::Signed(i8::from_le_bytes(reader.array(key)?).into()),
            2 => Self::Unsigned(u16::from_le_bytes(reader.array(key)?).into()),
            3 => Self::Signed(i16::from_le_bytes(reader.array(key)?).into()),
            4 => Self::Unsigned(reader.u32(key)?.into()),
            5 => Self::Signed(i32::from_le_bytes(reader.array(key)?).into()),
            6 => Self::F32(f32::from_le_bytes(reader.array(key)?)),
            7 => match reader.array(key)? {
                [0] => Self::Bool(false),
                [1] => Self::Bool(true),
                [other] => {
                    return Err(reader.fail(format!("{key} is {other}, expected 0 or 1")));
                }
            },
            8 => Self::Text(reader.text(MAX_TEXT_LEN, key)?),
            9 => Self::read_array(reader, key, depth)?,
            10 => Self::Unsigned(reader.u64(key)?),
            11 => Self::Signed(i64::from_le_bytes(reader.array(key)?)),
            12 => Self::F64(f64::from_le_bytes(reader.array(key)?)),
            other => {
                return Err(reader.fail(format!("{key} has value type {other}, expected 0 to 12")));
            }
        })
    }

    fn read_array(reader: &mut ByteReader<'_>, key: &str, depth: usize) -> Result<Self> {
        if depth == MAX_DEPTH {
            return Err(reader.fail(format!("{key}: arrays nested deeper than {MAX_DEPTH}")));
        }
        let kind = reader.u32(key)?;
        let len = reader.count(MAX_ELEMENTS, &format!("the number of elements of {key}"))?;
        // Every element takes at least a byte.
        if len as u64 > reader.left() {
            let left = reader.left();
            return Err(
                reader.fail(format!("{key} claims {len} elements, the file has {left} bytes left"))
            );
        }
        let mut values = Vec::new();
        for _ in 0..len {
            values.push(Self::read_kind(reader, key, kind, depth + 1)?);
        }
        Ok(Self::Array(values))
    }
}

/// Rust types that a [`Value`] converts to.
pub trait FromValue<'a>: Sized {
    /// Description of the type, for messages.
    const EXPECTED: &'static str;

    /// The value in this type; `None` for a value of another type.
    fn from_value(value: &'a Value) -> Option<Self>;
}

impl FromValue<'_> for usize {
    const EXPECTED: &'static str = "an integer of at least 0";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Unsigned(number) => number.try_into().ok(),
            Value::Signed(number) => number.try_into().ok(),
            _ => None,
        }
    }
}

impl FromValue<'_> for f64 {
    const EXPECTED: &'static str = "a number";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            // Via the shortest decimal: 1e-5 stays 1e-5 and does not become 9.99999975e-6.
            Value::F32(number) => number.to_string().parse().ok(),
            Value::F64(number) => Some(number),
            Value::Unsigned(number) => Some(number as f64),
            Value::Signed(number) => Some(number as f64),
            _ => None,
        }
    }
}

impl FromValue<'_> for bool {
    const EXPECTED: &'static str = "true or false";

    fn from_value(value: &Value) -> Option<Self> {
        match *value {
            Value::Bool(flag) => Some(flag),
            _ => None,
        }
    }
}

impl<'a> FromValue<'a> for &'a str {
    const EXPECTED: &'static str = "a string";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a, T: FromValue<'a>> FromValue<'a> for Vec<T> {
    const EXPECTED: &'static str = "an array of one type";

    fn from_value(value: &'a Value) -> Option<Self> {
        match value {
            Value::Array(values) => values.iter().map(T::from_value).collect(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::byte_source::ByteSource;

    fn read(content: &[u8]) -> Result<Value> {
        let bytes = ByteSource::memory("test", content.to_vec());
        Value::read(&mut ByteReader::new(&bytes, "GGUF"), "key")
    }

    #[test]
    fn every_type_is_read() {
        let cases: [(&[u8], Value); 12] = [
            (b"\0\0\0\0\xff", Value::Unsigned(255)),
            (b"\x01\0\0\0\xff", Value::Signed(-1)),
            (b"\x02\0\0\0\xff\xff", Value::Unsigned(65535)),
            (b"\x03\0\0\0\xfe\xff", Value::Signed(-2)),
            (b"\x04\0\0\0\x01\0\0\x80", Value::Unsigned(0x8000_0001)),
            (b"\x05\0\0\0\xfd\xff\xff\xff", Value::Signed(-3)),
            (b"\x06\0\0\0\0\0\xc0\x3f", Value::F32(1.5)),
            (b"\x07\0\0\0\x01", Value::Bool(true)),
            (b"\x08\0\0\0\x02\0\0\0\0\0\0\0hi", Value::Text("hi".into())),
            (b"\x0a\0\0\0\0\0\0\0\0\0\0\x80", Value::Unsigned(1 << 63)),
            (b"\x0b\0\0\0\xfc\xff\xff\xff\xff\xff\xff\xff", Value::Signed(-4)),
            (b"\x0c\0\0\0\0\0\0\0\0\0\xf8\x3f", Value::F64(1.5)),
        ];
        for (content, expected) in cases {
            assert_eq!(read(content).unwrap(), expected);
        }
    }

    #[test]
    fn arrays_may_be_nested() {
        let mut content = b"\x09\0\0\0\x09\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        content.extend(b"\0\0\0\0\x02\0\0\0\0\0\0\0\x05\x06");
        content.extend(b"\x07\0\0\0\x01\0\0\0\0\0\0\0\x01");
        let inner = [
            Value::Array(vec![Value::Unsigned(5), Value::Unsigned(6)]),
            Value::Array(vec![Value::Bool(true)]),
        ];
        assert_eq!(read(&content).unwrap(), Value::Array(inner.into()));
    }

    #[test]
    fn impossible_values_are_rejected() {
        let mut nested = b"\x09\0\0\0".to_vec();
        for _ in 0..6 {
            nested.extend(b"\x09\0\0\0\x01\0\0\0\0\0\0\0");
        }
        let cases: [(&[u8], &str); 5] = [
            (b"\x0d\0\0\0", "value type 13"),
            (b"\x07\0\0\0\x02", "key is 2, expected 0 or 1"),
            (b"\x09\0\0\0\0\0\0\0\xff\xff\0\0\0\0\0\0", "claims 65535 elements"),
            (b"\x09\0\0\0\0\0\0\0\xff\xff\xff\xff\0\0\0\0", "expected at most 4194304"),
            (&nested, "nested deeper"),
        ];
        for (content, expected) in cases {
            let error = read(content).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn f32_is_widened_by_its_shortest_decimal() {
        assert_eq!(f64::from_value(&Value::F32(1e-5)), Some(1e-5));
        assert_eq!(f64::from_value(&Value::Unsigned(4)), Some(4.0));
        assert_eq!(f64::from_value(&Value::Text("4".into())), None);
        assert_eq!(usize::from_value(&Value::Signed(-1)), None);
    }
}
