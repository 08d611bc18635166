//! Other names for the fields of records: `instruction=question,output=answer`.

use std::path::Path;
use std::str::FromStr;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::names::name_list;
use crate::record::Record;

/// Which column of a file each field is read from.
///
/// ```
/// let columns: data::Columns = "instruction=question,output=answers.text".parse()?;
/// assert_eq!(columns.to_string(), "instruction=question,output=answers.text");
/// # Ok::<(), data::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Columns {
    /// Field and column.
    pairs: Vec<(String, String)>,
}

impl FromStr for Columns {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let invalid = |expected: &str| Error::Setting {
            what: "the column mapping",
            found: text.into(),
            expected: expected.into(),
        };
        let pair = |pair: &str| {
            let (field, column) = pair.split_once('=')?;
            let (field, column) = (field.trim(), column.trim());
            (!field.is_empty() && !column.is_empty()).then(|| (field.to_owned(), column.to_owned()))
        };
        let pairs = text.split(',').map(pair).collect::<Option<Vec<_>>>();
        let pairs = pairs.ok_or_else(|| {
            invalid("expected FIELD=COLUMN, separated by commas, such as instruction=question,output=answer")
        })?;
        let mut fields = pairs.iter().map(|(field, _)| field).collect::<Vec<_>>();
        fields.sort_unstable();
        if fields.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(invalid("a field has two columns"));
        }
        Ok(Self { pairs })
    }
}

impl std::fmt::Display for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pairs = self.pairs.iter().map(|(field, column)| format!("{field}={column}"));
        f.write_str(&pairs.collect::<Vec<_>>().join(","))
    }
}

impl Columns {
    /// The record with its fields renamed. The other fields keep their names, except those that a renamed
    /// one replaces; so does a field whose column the record lacks.
    pub(crate) fn rename(&self, mut record: Record) -> Record {
        if let Value::Object(values) = &mut record.value {
            let found = self.pairs.iter().filter_map(|(field, column)| {
                Some((field, column, lookup(values, column)?.clone()))
            });
            let found = found.collect::<Vec<_>>();
            for (field, column, _) in &found {
                values.shift_remove(*field);
                values.shift_remove(*column);
            }
            for (field, _, value) in found {
                values.insert(field.clone(), value);
            }
        }
        record
    }

    /// The names of the fields that the columns of a table become.
    pub(crate) fn rename_columns(&self, columns: &[String]) -> Vec<String> {
        let is_renamed = |name: &&String| {
            self.pairs.iter().any(|(field, column)| *name == column || *name == field)
        };
        let others = columns.iter().filter(|name| !is_renamed(name)).cloned();
        others.chain(self.pairs.iter().map(|(field, _)| field.clone())).collect()
    }

    /// Whether a column of this name is mapped.
    pub(crate) fn mentions(&self, column: &str) -> bool {
        self.pairs.iter().any(|(_, mapped)| mapped == column)
    }

    /// Checks that a file with these columns has those of the mapping.
    ///
    /// # Errors
    /// [`Error::NoColumn`]
    pub(crate) fn check(&self, path: &Path, columns: &[String]) -> Result<()> {
        for (_, column) in &self.pairs {
            let first = column.split('.').next().unwrap_or(column);
            if !columns.iter().any(|name| name == column || name == first) {
                return Err(Error::NoColumn {
                    path: path.into(),
                    column: column.clone(),
                    available: name_list(columns.iter().map(String::as_str)),
                });
            }
        }
        Ok(())
    }
}

/// A field, or a field inside objects: `a.b` is the field `a.b`, or the field `b` of the object `a`.
fn lookup<'a>(values: &'a Map<String, Value>, column: &str) -> Option<&'a Value> {
    if let Some(value) = values.get(column) {
        return Some(value);
    }
    let (outer, inner) = column.split_once('.')?;
    match values.get(outer)? {
        Value::Object(values) => lookup(values, inner),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::record::Location;

    fn rename(columns: &str, value: Value) -> Value {
        let record = Record { location: Location::Line(1), value };
        columns.parse::<Columns>().unwrap().rename(record).value
    }

    #[test]
    fn fields_are_renamed_and_the_others_stay() {
        let value =
            json!({"question": "q", "answer": {"text": "a"}, "input": "i", "output": "old"});
        assert_eq!(
            rename("instruction=question, output=answer.text", value),
            json!({"answer": {"text": "a"}, "input": "i", "instruction": "q", "output": "a"})
        );
        assert_eq!(rename("a=b,b=a", json!({"a": 1, "b": 2})), json!({"a": 2, "b": 1}));
        assert_eq!(rename("a=b", json!({"a": 1})), json!({"a": 1}));
        assert_eq!(rename("a=b.c", json!({"b.c": 1})), json!({"a": 1}));
    }

    #[test]
    fn an_invalid_mapping_says_what_is_expected() {
        for text in ["", "a", "a=", "=b", "a=b,"] {
            let error = text.parse::<Columns>().unwrap_err().to_string();
            assert!(error.contains("expected FIELD=COLUMN"), "{error}");
        }
        assert!("a=b,a=c".parse::<Columns>().unwrap_err().to_string().contains("two columns"));
    }

    #[test]
    fn a_missing_column_is_named_with_those_that_there_are() {
        let columns = "a=b.c,d=e".parse::<Columns>().unwrap();
        columns.check(Path::new("f"), &["b".into(), "e".into()]).unwrap();
        let error = columns.check(Path::new("f"), &["b".into()]).unwrap_err().to_string();
        assert_eq!(error, "f: no column `e`; the file has `b`");
    }
}
