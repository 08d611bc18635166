//! Values of fields: numbers, counts, bounded lists, and values that ask for what is not built

use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor,
};

/// A number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Number(pub f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberVisitor;

        impl Visitor<'_> for NumberVisitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
                Ok(Number(value as f64))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
                Ok(Number(value))
            }
        }

        deserializer.deserialize_any(NumberVisitor)
    }
}

/// A whole number of at least 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Count(pub usize);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct CountVisitor;

        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number of at least 0")
            }

            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Count, E> {
                let too_large = |_| E::invalid_value(Unexpected::Unsigned(value), &self);
                usize::try_from(value).map(Count).map_err(too_large)
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Count, E> {
                Err(E::invalid_value(Unexpected::Signed(value), &self))
            }
        }

        deserializer.deserialize_any(CountVisitor)
    }
}

/// A list of at most `MAX` items; a longer one is refused while it is read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct List<T, const MAX: usize>(pub Vec<T>);

impl<T, const MAX: usize> Default for List<T, MAX> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for List<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
            type Value = List<T, MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a list of at most {MAX} items")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = seq.next_element()? {
                    if items.len() == MAX {
                        return Err(A::Error::invalid_length(MAX + 1, &self));
                    }
                    items.push(item);
                }
                Ok(List(items))
            }
        }

        deserializer.deserialize_seq(ListVisitor(PhantomData))
    }
}

/// A string, or a list of at most `MAX` strings.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Strings<const MAX: usize>(pub Vec<String>);

impl<'de, const MAX: usize> Deserialize<'de> for Strings<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor<const MAX: usize>;

        impl<'de, const MAX: usize> Visitor<'de> for StringsVisitor<MAX> {
            type Value = Strings<MAX>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a string or a list of at most {MAX} strings")
            }

            fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
                Ok(Strings(vec![value.to_owned()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                let deserializer = serde::de::value::SeqAccessDeserializer::new(seq);
                List::<String, MAX>::deserialize(deserializer).map(|list| Strings(list.0))
            }
        }

        deserializer.deserialize_any(StringsVisitor)
    }
}

/// Whether a value that is not supported asks for anything: not if it is `null`, `false`, "none" or empty.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked(pub bool);

impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AskedVisitor;

        impl<'de> Visitor<'de> for AskedVisitor {
            type Value = Asked;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any value")
            }

            fn visit_unit<E>(self) -> Result<Asked, E> {
                Ok(Asked(false))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Asked, E> {
                Ok(Asked(value))
            }

            fn visit_u64<E>(self, _value: u64) -> Result<Asked, E> {
                Ok(Asked(true))
            }

            fn visit_i64<E>(self, _value: i64) -> Result<Asked, E> {
                Ok(Asked(true))
            }

            fn visit_f64<E>(self, _value: f64) -> Result<Asked, E> {
                Ok(Asked(true))
            }

            fn visit_str<E>(self, value: &str) -> Result<Asked, E> {
                Ok(Asked(!matches!(value, "" | "none")))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Asked, A::Error> {
                let mut asked = false;
                while seq.next_element::<IgnoredAny>()?.is_some() {
                    asked = true;
                }
                Ok(Asked(asked))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Asked, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Asked(true))
            }
        }

        deserializer.deserialize_any(AskedVisitor)
    }
}
