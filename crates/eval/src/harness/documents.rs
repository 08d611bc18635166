//! Data files ─► documents, by split.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// A row of a data set: values by field.
pub(super) type Document = Map<String, Value>;

/// The data files of a task.
#[derive(Debug, Default)]
pub(super) struct DataFiles {
    /// Paths by split, as the task file has them.
    pub(super) by_split: BTreeMap<String, Vec<String>>,
    /// The field of each file that holds the list of documents.
    pub(super) field: Option<String>,
}

impl DataFiles {
    /// The documents of a split of the task in `task_path`. Relative paths are relative to the working
    /// directory, as in the harness, or to the folder of the task file.
    pub(super) fn read(&self, split: &str, task_path: &Path) -> Result<Vec<Document>> {
        let no_documents = |reason: String| Error::NoDocuments {
            path: task_path.into(),
            split: split.into(),
            reason,
        };
        let Some(paths) = self.by_split.get(split) else {
            let splits = self.by_split.keys().map(|name| format!("`{name}`"));
            let splits = splits.collect::<Vec<_>>().join(", ");
            return Err(no_documents(format!("`data_files` has {splits}")));
        };
        let mut documents = Vec::new();
        for path in paths {
            let path = resolve(path, task_path);
            let text = std::fs::read_to_string(&path).map_err(Error::read(&path))?;
            documents.extend(parse(&path, &text, self.field.as_deref())?);
        }
        if documents.is_empty() {
            return Err(no_documents("its files are empty".into()));
        }
        Ok(documents)
    }
}

/// The names of all fields. A document without one of them has it as null.
pub(super) fn fields(documents: &[Document]) -> BTreeSet<String> {
    documents.iter().flat_map(Map::keys).cloned().collect()
}

/// Gives every document every field.
pub(super) fn complete(documents: &mut [Document], fields: &BTreeSet<String>) {
    for document in documents {
        for field in fields {
            if !document.contains_key(field) {
                document.insert(field.clone(), Value::Null);
            }
        }
    }
}

fn resolve(path: &str, task_path: &Path) -> PathBuf {
    let path = Path::new(path);
    let beside = task_path.parent().unwrap_or(Path::new("")).join(path);
    if !path.exists() && beside.exists() { beside } else { path.into() }
}

/// The documents of a file: JSON objects one after the other, or a list of them.
fn parse(path: &Path, text: &str, field: Option<&str>) -> Result<Vec<Document>> {
    let refuse = |reason: String| Error::NotDocuments { path: path.into(), reason };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut values = Vec::new();
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        values.push(value.map_err(|error| refuse(error.to_string()))?);
    }
    if let Some(field) = field {
        let [Value::Object(object)] = &mut values[..] else {
            return Err(refuse(format!("expected one object with a list `{field}`")));
        };
        let list = object.remove(field);
        values = vec![list.ok_or_else(|| refuse(format!("it has no field `{field}`")))?];
    }
    if let [Value::Array(items)] = &mut values[..] {
        values = std::mem::take(items);
    }
    let documents = values.into_iter().enumerate().map(|(index, value)| match value {
        Value::Object(document) => Ok(document),
        _ => Err(refuse(format!("value {} is not an object", index + 1))),
    });
    documents.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, field: Option<&str>) -> Result<Vec<Document>> {
        parse(Path::new("data.json"), text, field)
    }

    #[test]
    fn lists_and_lines_give_the_same_documents() {
        let lines = read("\u{feff}{\"a\": 1}\n\n{\"b\": [2]}\n", None).unwrap();
        assert_eq!(lines, read(r#"[{"a": 1}, {"b": [2]}]"#, None).unwrap());
        assert_eq!(
            lines,
            read(r#"{"x": 0, "rows": [{"a": 1}, {"b": [2]}]}"#, Some("rows")).unwrap()
        );
    }

    #[test]
    fn a_missing_field_is_null() {
        let mut documents = read("{\"a\": 1}\n{\"b\": 2}", None).unwrap();
        let fields = fields(&documents);
        complete(&mut documents, &fields);
        assert_eq!(documents[1]["a"], Value::Null);
        assert!(documents.iter().all(|document| document.len() == 2));
    }

    #[test]
    fn other_content_is_refused_with_its_place() {
        let error = |text, field| read(text, field).unwrap_err().to_string();
        assert_eq!(error("{}\n7", None), "data.json: not documents: value 2 is not an object");
        assert!(error("{}\n{", None).contains("line 2"));
        assert!(error("[]", Some("rows")).ends_with("expected one object with a list `rows`"));
        assert!(error("{}", Some("rows")).ends_with("it has no field `rows`"));
    }

    #[test]
    fn files_beside_the_task_are_found_and_splits_are_listed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("some-test.jsonl"), "{\"a\": 1}").unwrap();
        std::fs::write(folder.path().join("some-empty.jsonl"), "\n").unwrap();
        let by_split = [("test", "some-test.jsonl"), ("empty", "some-empty.jsonl")];
        let by_split = by_split.map(|(split, name)| (split.into(), vec![name.into()])).into();
        let files = DataFiles { by_split, field: None };
        let task = folder.path().join("task.yaml");
        assert_eq!(files.read("test", &task).unwrap().len(), 1);
        let error = files.read("train", &task).unwrap_err().to_string();
        assert!(
            error.ends_with("in the split `train`: `data_files` has `empty`, `test`"),
            "{error}"
        );
        assert!(files.read("empty", &task).unwrap_err().to_string().ends_with("files are empty"));
    }
}
