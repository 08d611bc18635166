//! The tensors of weight files as a table; matching tensors of different layers share a line.

use std::fmt;
use std::path::{Path, PathBuf};

use checkpoint::torch::TorchFile;
use checkpoint::{ElementType, TensorSource, WeightFile};
use llama::weights::meta::MetaSource;
use serde::Serialize;

use super::lines::write_size;

/// One tensor.
#[derive(Debug, Clone, Serialize)]
pub struct TensorEntry {
    pub name: String,
    pub dtype: String,
    pub shape: Vec<usize>,
}

/// The contents of one or several weight files.
#[derive(Debug, Serialize)]
pub struct FileReport {
    #[serde(serialize_with = "crate::output::serialize_path_lossy")]
    pub path: PathBuf,
    pub parameters: usize,
    pub bytes: u64,
    pub tensors: Vec<TensorEntry>,
}

impl FileReport {
    pub fn new(path: &Path, files: &[WeightFile]) -> Self {
        let lines = files.iter().flat_map(|file| {
            let (shapes, dtypes) = (file.shapes(), file.dtypes());
            let line = |(name, shape): (String, Vec<usize>)| {
                TensorEntry::new(&name, dtypes[&name], &shape)
            };
            shapes.into_iter().map(line).collect::<Vec<_>>()
        });
        let bytes = files.iter().map(WeightFile::len_bytes).sum();
        Self::of(path, bytes, lines.collect())
    }

    /// The merged tensors of the shards of a Meta checkpoint, by their Hugging Face names.
    pub fn meta(source: &MetaSource) -> Self {
        let dtypes = source.dtypes();
        let shapes = source.shapes().iter();
        let lines = shapes.map(|(name, shape)| TensorEntry::new(name, dtypes[name], shape));
        let bytes = source.files().iter().map(TorchFile::len_bytes).sum();
        Self::of(source.path(), bytes, lines.collect())
    }

    fn of(path: &Path, bytes: u64, tensors: Vec<TensorEntry>) -> Self {
        let sizes = tensors.iter().map(|tensor| tensor.shape.iter().product::<usize>());
        Self { path: path.into(), parameters: sizes.sum(), bytes, tensors }
    }
}

impl TensorEntry {
    fn new(name: &str, dtype: ElementType, shape: &[usize]) -> Self {
        let dtype = dtype.to_string().to_lowercase();
        Self { name: name.into(), dtype, shape: shape.to_vec() }
    }
}

impl fmt::Display for FileReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "file        {}", self.path.display())?;
        write_size(f, self.parameters, self.bytes)?;
        TensorTable(&self.tensors).fmt(f)
    }
}

/// A table of tensors. Tensors whose names differ only in numbers share a line, with `*` for the
/// numbers, if shape and dtype are equal.
pub struct TensorTable<'a>(pub &'a [TensorEntry]);

impl fmt::Display for TensorTable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<(String, &TensorEntry, usize)> = Vec::new();
        for tensor in self.0 {
            let pattern = name_pattern(&tensor.name);
            let matching = lines.iter_mut().find(|(other, line, _)| {
                *other == pattern && line.shape == tensor.shape && line.dtype == tensor.dtype
            });
            match matching {
                Some((_, _, count)) => *count += 1,
                None => lines.push((pattern, tensor, 1)),
            }
        }
        writeln!(f, "\ntensors ({})", self.0.len())?;
        let name = |pattern: &str, line: &TensorEntry, count: usize| {
            // Names come from files: control characters must not reach the terminal.
            let name = if count > 1 { pattern } else { &line.name };
            name.escape_debug().to_string()
        };
        let names = lines.iter().map(|(pattern, line, count)| name(pattern, line, *count).len());
        let width = names.max().unwrap_or(0);
        for (pattern, line, count) in &lines {
            let (name, shape) = (name(pattern, line, *count), format!("{:?}", line.shape));
            let dtype = &line.dtype;
            match count {
                1 => writeln!(f, "  {name:width$}  {shape:14}  {dtype}")?,
                _ => writeln!(f, "  {name:width$}  {shape:14}  {dtype:5} x {count}")?,
            }
        }
        Ok(())
    }
}

fn name_pattern(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let parts = name.split('.').map(|part| if is_number(part) { "*" } else { part });
    parts.collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching_tensors_share_a_line() {
        let line = |name: &str, rows| TensorEntry {
            name: name.into(),
            dtype: "f32".into(),
            shape: vec![rows, 2],
        };
        let tensors =
            [line("layers.0.a", 3), line("layers.10.a", 3), line("layers.2.a", 4), line("b", 1)];
        insta::assert_snapshot!(TensorTable(&tensors), @r"

        tensors (4)
          layers.*.a  [3, 2]          f32   x 2
          layers.2.a  [4, 2]          f32
          b           [1, 2]          f32
        ");
    }
}
