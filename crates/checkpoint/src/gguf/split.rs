//! Models split into several files by llama.cpp's `gguf-split`.
//!
//! ```text
//! name-00001-of-00003.gguf   metadata, split.no 0, split.count 3, split.tensors.count, tensors
//! name-00002-of-00003.gguf             split.no 1, split.count 3, split.tensors.count, tensors
//! ```
//!
//! Source: llama.cpp, `tools/gguf-split/gguf-split.cpp` and `src/llama-model-loader.cpp`.

use std::path::Path;

use super::file::GgufFile;
use super::reader::invalid;
use crate::byte_source::ByteSource;
use crate::error::{Error, Result};

/// Split metadata of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Split {
    /// Index of the part, from 0.
    no: usize,
    /// Number of parts.
    count: usize,
    /// Number of tensors in all parts, if present.
    tensors: Option<usize>,
}

impl GgufFile {
    /// Opens a file and, for the first part of a split model, the other parts from the same folder.
    ///
    /// # Errors
    /// [`Error::NotAModel`] for a part other than the first, and for a missing part; as
    /// [`open`](Self::open) for each part.
    pub fn open_all(path: &Path) -> Result<Self> {
        Self::join(Self::open(ByteSource::open(path)?)?, |path| {
            if path.exists() { ByteSource::open(path).map(Some) } else { Ok(None) }
        })
    }

    /// Joins the first part with the others, which `find` opens.
    ///
    /// # Errors
    /// As [`open_all`](Self::open_all).
    pub fn join(
        mut first: Self,
        find: impl Fn(&Path) -> Result<Option<ByteSource>>,
    ) -> Result<Self> {
        let Some(split) = first.split()? else { return Ok(first) };
        let path = first.path().to_owned();
        let not_a_model = |reason| Err(Error::NotAModel { path: path.clone(), reason });
        let Split { no, count, .. } = split;
        let Some(prefix) = prefix(&path, no, count) else {
            let end = suffix(no, count);
            let reason = format!("it is one of {count} parts, but its name does not end in {end}");
            return not_a_model(reason);
        };
        let named = |no: usize| path.with_file_name(format!("{prefix}{}", suffix(no, count)));
        if no > 0 {
            let reason =
                format!("it is part {} of {count}: give the first, {}", no + 1, named(0).display());
            return not_a_model(reason);
        }
        for no in 1..count {
            let Some(bytes) = find(&named(no))? else {
                let reason =
                    format!("part {} of {count} is missing: {}", no + 1, named(no).display());
                return not_a_model(reason);
            };
            let part = Self::open(bytes)?;
            let expected = Split { no, ..split };
            if part.split()? != Some(expected) {
                let reason = format!("it does not say that it is part {} of {count}", no + 1);
                return Err(invalid(&part.parts[0], reason));
            }
            first.add(part)?;
        }
        let found = first.tensors.len();
        if let Some(tensors) = split.tensors.filter(|&tensors| tensors != found) {
            let reason = format!("its {count} parts should have {tensors} tensors, found {found}");
            return Err(invalid(&first.parts[0], reason));
        }
        Ok(first)
    }

    /// Split metadata; `None` for a model in a single file.
    fn split(&self) -> Result<Option<Split>> {
        let value = |key: &str| self.metadata().optional::<usize>(key);
        let count = value("split.count")?.unwrap_or(0);
        if count < 2 {
            return Ok(None);
        }
        let no = value("split.no")?.unwrap_or(0);
        if no >= count {
            let reason = format!("split.no is {no}, expected less than split.count, {count}");
            return Err(invalid(&self.parts[0], reason));
        }
        Ok(Some(Split { no, count, tensors: value("split.tensors.count")? }))
    }

    fn add(&mut self, part: Self) -> Result<()> {
        let place = self.parts.len();
        for (name, mut info) in part.tensors {
            info.part = place;
            if let Some(other) = self.tensors.insert(name.clone(), info) {
                let other = self.parts[other.part].path().display();
                let reason = format!("tensor {name} is in it and in {other}");
                return Err(invalid(&part.parts[0], reason));
            }
        }
        self.parts.extend(part.parts);
        Ok(())
    }
}

/// Suffix of the name of a part.
fn suffix(no: usize, count: usize) -> String {
    format!("-{:05}-of-{count:05}.gguf", no + 1)
}

/// Common prefix of the names of all parts.
fn prefix(path: &Path, no: usize, count: usize) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(&suffix(no, count))?.to_owned())
}

/// Prefix, part number from 1, and count of the name of a part.
fn parse_name(name: &str) -> Option<(&str, usize, usize)> {
    let number = |text: &str| {
        let is_number = text.len() == 5 && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<usize>().ok())?
    };
    let (before, count) = name.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, no) = before.rsplit_once('-')?;
    let (no, count) = (number(no)?, number(count)?);
    (1..=count).contains(&no).then_some((prefix, no, count))
}

/// Whether a file name is that of a part other than the first.
pub fn is_later_part(name: &str) -> bool {
    parse_name(name).is_some_and(|(_, no, _)| no > 1)
}

/// Names of all parts, if the file name is that of one.
pub fn part_names(name: &str) -> Option<Vec<String>> {
    let (prefix, _, count) = parse_name(name)?;
    Some((0..count).map(|no| format!("{prefix}{}", suffix(no, count))).collect())
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::open;
    use super::*;

    /// A model in two parts, the first with `in_first` tensors; none as with `--no-tensor-first-split`.
    fn halves(in_first: usize) -> [Fixture; 2] {
        let mut first = Fixture::model();
        let mut second = Fixture::empty();
        second.tensors = first.tensors.split_off(in_first);
        let all = in_first + second.tensors.len();
        for (no, part) in [&mut first, &mut second].into_iter().enumerate() {
            part.value("split.no", &Value::Unsigned(no as u64));
            part.value("split.count", &Value::Unsigned(2));
            part.value("split.tensors.count", &Value::Signed(all as i64));
        }
        [first, second]
    }

    fn join(first: &Fixture, second: Option<&Fixture>) -> Result<GgufFile> {
        let bytes = ByteSource::memory("m-00001-of-00002.gguf", first.bytes());
        GgufFile::join(GgufFile::open(bytes)?, |path| {
            assert_eq!(path, Path::new("m-00002-of-00002.gguf"));
            Ok(second.map(|second| ByteSource::memory(path, second.bytes())))
        })
    }

    fn reason(first: &Fixture, second: Option<&Fixture>) -> String {
        join(first, second).unwrap_err().to_string()
    }

    #[test]
    fn parts_are_joined() {
        let whole = open(Fixture::model().bytes()).unwrap();
        for in_first in [0, 7] {
            let [first, second] = halves(in_first);
            let file = join(&first, Some(&second)).unwrap();
            assert_eq!(file.summary().tensors.len(), 20);
            assert!(file.tensors().keys().eq(whole.tensors().keys()));
            for name in whole.tensors().keys() {
                assert_eq!(file.read(name).unwrap(), whole.read(name).unwrap(), "{name}");
            }
        }
    }

    #[test]
    fn missing_and_later_parts_are_named() {
        let [first, second] = halves(7);
        let message = reason(&first, None);
        assert!(message.ends_with("part 2 of 2 is missing: m-00002-of-00002.gguf"), "{message}");
        let bytes = ByteSource::memory("dir/m-00002-of-00002.gguf", second.bytes());
        let later = GgufFile::join(GgufFile::open(bytes).unwrap(), |_| unreachable!());
        let message = later.unwrap_err().to_string();
        let expected = "it is part 2 of 2: give the first, dir/m-00001-of-00002.gguf";
        assert!(message.ends_with(expected), "{message}");
        let bytes = ByteSource::memory("renamed.gguf", first.bytes());
        let renamed = GgufFile::join(GgufFile::open(bytes).unwrap(), |_| unreachable!());
        let message = renamed.unwrap_err().to_string();
        assert!(message.ends_with("does not end in -00001-of-00002.gguf"), "{message}");
    }

    #[test]
    fn parts_of_different_models_are_rejected() {
        let [first, mut second] = halves(7);
        let message = reason(&first, Some(&first));
        assert!(message.contains("does not say that it is part 2 of 2"), "{message}");
        second.floats("extra", &[2]);
        let message = reason(&first, Some(&second));
        assert!(message.ends_with("should have 20 tensors, found 21"), "{message}");
        second.floats("token_embd.weight", &[10, 8]);
        let message = reason(&first, Some(&second));
        let expected = "tensor token_embd.weight is in it and in m-00001-of-00002.gguf";
        assert!(message.ends_with(expected), "{message}");
        second.replace("split.count", Some(Value::Unsigned(3)));
        let message = reason(&first, Some(&second));
        assert!(message.contains("does not say that it is part 2 of 2"), "{message}");
        second.replace("split.no", Some(Value::Unsigned(3)));
        let bytes = ByteSource::memory("m-00002-of-00002.gguf", second.bytes());
        let lost = GgufFile::join(GgufFile::open(bytes).unwrap(), |_| unreachable!());
        let message = lost.unwrap_err().to_string();
        assert!(message.ends_with("split.no is 3, expected less than split.count, 3"), "{message}");
    }

    #[test]
    fn part_names_are_parsed() {
        assert_eq!(parse_name("a-b-00002-of-00012.gguf"), Some(("a-b", 2, 12)));
        for whole in ["a.gguf", "a-1-of-2.gguf", "a-00003-of-00002.gguf", "a-00000-of-00002.gguf"] {
            assert_eq!(parse_name(whole), None, "{whole}");
        }
        assert!(is_later_part("a-00002-of-00003.gguf"));
        assert!(!is_later_part("a-00001-of-00003.gguf") && !is_later_part("one-of-them.gguf"));
    }
}
