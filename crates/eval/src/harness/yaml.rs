//! A task file with its `include`s ─► one mapping of settings.

use std::path::{Path, PathBuf};

use serde_norway::{Mapping, Value};

use crate::error::{Error, Result};

/// Largest task file, in bytes: they are a page of text.
const MAX_BYTES: u64 = 1 << 20;

/// The settings of a task file. Those of included files come first, so that its own win.
pub(super) fn load(path: &Path) -> Result<Mapping> {
    load_within(path, &mut Vec::new())
}

fn load_within(path: &Path, including: &mut Vec<PathBuf>) -> Result<Mapping> {
    let not_a_task = |reason: String| Error::NotATask { path: path.into(), reason };
    let real_path = path.canonicalize().map_err(Error::read(path))?;
    if including.contains(&real_path) {
        return Err(not_a_task("it includes itself".into()));
    }
    let size = std::fs::metadata(&real_path).map_err(Error::read(path))?.len();
    if size > MAX_BYTES {
        return Err(not_a_task(format!("it has {size} bytes, at most {MAX_BYTES} are read")));
    }
    let text = std::fs::read_to_string(&real_path).map_err(Error::read(path))?;
    let mut own = match serde_norway::from_str(&text) {
        Ok(Value::Mapping(settings)) => settings,
        Ok(other) => return Err(not_a_task(format!("{} instead of settings", describe(&other)))),
        Err(error) => return Err(not_a_task(error.to_string())),
    };
    let Some(includes) = own.remove("include") else { return Ok(own) };
    including.push(real_path);
    let folder = path.parent().unwrap_or(Path::new(""));
    let includes = match includes {
        Value::Sequence(items) => items,
        one => vec![one],
    };
    let mut merged = Mapping::new();
    for include in includes {
        let Value::String(name) = &include else {
            return Err(Error::Setting {
                path: path.into(),
                key: "include".into(),
                found: describe(&include),
                expected: "the name of a file or a list of names",
            });
        };
        let mut settings = load_within(&folder.join(name), including)?;
        // It is about the included file alone.
        settings.remove("task_list");
        merged.extend(settings);
    }
    including.pop();
    merged.extend(own);
    Ok(merged)
}

/// A value in a message.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Bool(value) => value.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => {
            let short = text.chars().take(40).collect::<String>();
            let dots = if short.len() < text.len() { "..." } else { "" };
            format!("the text {short:?}{dots}")
        }
        Value::Sequence(_) => "a list".into(),
        Value::Mapping(_) => "a mapping".into(),
        Value::Tagged(tagged) => format!("a value tagged {}", tagged.tag),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn error(files: &[(&str, &str)]) -> String {
        load(&write(files).path().join("task.yaml")).unwrap_err().to_string()
    }

    #[test]
    fn own_settings_win_over_included_ones_and_later_includes_over_earlier() {
        let folder = write(&[
            ("task.yaml", "include: [one.yaml, parts/two.yaml]\na: own\n"),
            ("one.yaml", "a: 1\nb: 1\nc: 1\ntask_list: x\n"),
            ("parts/two.yaml", "include: three.yaml\nb: 2\n"),
            ("parts/three.yaml", "d: 3\n"),
        ]);
        let settings = load(&folder.path().join("task.yaml")).unwrap();
        let text = serde_norway::to_string(&settings).unwrap();
        let mut lines = text.lines().collect::<Vec<_>>();
        lines.sort_unstable();
        assert_eq!(lines, ["a: own", "b: 2", "c: 1", "d: 3"]);
    }

    #[test]
    fn a_file_may_be_included_twice_but_not_by_itself() {
        let files = [
            ("task.yaml", "include: [a.yaml, b.yaml]"),
            ("a.yaml", "include: c.yaml"),
            ("b.yaml", "include: c.yaml"),
            ("c.yaml", "x: 1"),
        ];
        assert!(load(&write(&files).path().join("task.yaml")).is_ok());
        let cycle = [("task.yaml", "include: a.yaml"), ("a.yaml", "include: task.yaml")];
        assert!(error(&cycle).ends_with("not a task file: it includes itself"));
    }

    #[test]
    fn what_is_not_a_mapping_is_refused() {
        assert!(error(&[("task.yaml", "- a\n")]).ends_with("a list instead of settings"));
        assert!(error(&[("task.yaml", "a: [")]).contains("not a task file: "));
        assert!(
            error(&[("task.yaml", "include: 7")])
                .ends_with("`include` is 7, expected the name of a file or a list of names")
        );
        assert!(error(&[("task.yaml", "include: no.yaml")]).contains("no.yaml: cannot read"));
    }
}
