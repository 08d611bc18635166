//! A readable summary of a file.

use std::fmt;

use serde::Serialize;

use super::file::GgufFile;
use super::value::Value;

/// Number of shown elements of a list.
const SHOWN_ELEMENTS: usize = 4;
/// Number of shown characters of a string.
const SHOWN_CHARACTERS: usize = 72;

/// Summary of a file, for display and serialization.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Summary {
    /// Version of the format.
    pub version: u32,
    /// Keys and values, long ones abbreviated.
    pub metadata: Vec<(String, String)>,
    /// In file order.
    pub tensors: Vec<TensorSummary>,
    /// Number of elements of all tensors.
    pub n_parameters: usize,
    /// Size of the file.
    pub len_bytes: u64,
}

/// One tensor of a [`Summary`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TensorSummary {
    /// llama.cpp's name.
    pub name: String,
    /// Rows first.
    pub shape: Vec<usize>,
    /// ggml's name of the storage type, such as `Q4_K`.
    pub block_type: &'static str,
    /// Bytes in the file.
    pub len_bytes: usize,
}

impl GgufFile {
    /// Summary of metadata and tensors.
    pub fn summary(&self) -> Summary {
        let metadata =
            self.metadata().iter().map(|(key, value)| (key.into(), abbreviated(value))).collect();
        let mut infos = self.tensors().values().collect::<Vec<_>>();
        infos.sort_by_key(|info| (info.part, info.offset));
        let tensors = infos.iter().map(|info| TensorSummary {
            name: info.name.clone(),
            shape: info.shape.clone(),
            block_type: info.block_type.name(),
            len_bytes: info.len_bytes,
        });
        Summary {
            version: self.version(),
            metadata,
            tensors: tensors.collect(),
            n_parameters: infos.iter().map(|info| info.n_elements()).sum(),
            len_bytes: self.len_bytes(),
        }
    }
}

fn abbreviated(value: &Value) -> String {
    match value {
        Value::Bool(flag) => flag.to_string(),
        Value::Unsigned(number) => number.to_string(),
        Value::Signed(number) => number.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        // Debug formatting escapes control characters.
        Value::Text(text) => match text.char_indices().nth(SHOWN_CHARACTERS) {
            None => format!("{text:?}"),
            Some((end, _)) => {
                format!("{:?}... ({} characters)", &text[..end], text.chars().count())
            }
        },
        Value::Array(values) => {
            let shown = values.iter().take(SHOWN_ELEMENTS).map(abbreviated).collect::<Vec<_>>();
            let shown = shown.join(", ");
            if values.len() > SHOWN_ELEMENTS {
                format!("[{shown}, ...] ({} elements)", values.len())
            } else {
                format!("[{shown}]")
            }
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "GGUF version {}, {} bytes", self.version, self.len_bytes)?;
        writeln!(f, "\nmetadata ({})", self.metadata.len())?;
        for (key, value) in &self.metadata {
            writeln!(f, "  {} = {value}", key.escape_debug())?;
        }
        writeln!(f, "\ntensors ({}), {} parameters", self.tensors.len(), self.n_parameters)?;
        let names = self.tensors.iter().map(|tensor| tensor.name.len());
        let width = names.max().unwrap_or(0);
        for TensorSummary { name, shape, block_type, len_bytes } in &self.tensors {
            let (name, shape) = (name.escape_debug().to_string(), format!("{shape:?}"));
            writeln!(f, "  {name:width$}  {shape:14}  {block_type:4}  {len_bytes:>11} bytes")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::open;

    #[test]
    fn a_file_is_summarized() {
        let mut fixture = Fixture::small();
        fixture.value("long list", &Value::Array((0..9).map(Value::Unsigned).collect()));
        fixture.value("long text", &Value::Text("é\n".repeat(40)));
        let summary = open(fixture.bytes()).unwrap().summary();
        assert_eq!((summary.n_parameters, summary.tensors.len()), (8, 2));
        let text = summary.to_string();
        assert!(text.contains("general.name = \"small\"\n"), "{text}");
        assert!(text.contains("lists = [[0.5, 1.5], [0.5, 1.5]]\n"), "{text}");
        assert!(text.contains("long list = [0, 1, 2, 3, ...] (9 elements)\n"), "{text}");
        assert!(text.contains("é\\n\"... (80 characters)\n"), "{text}");
        assert!(text.contains("a  [2, 3]          F32            24 bytes\n"), "{text}");
    }
}
