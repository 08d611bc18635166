//! A GGUF file as a [`TensorSource`]: llama.cpp's names and row order ─► canonical ones.
//!
//! llama.cpp's converter interleaves the rows of Wq and Wk for some families
//! ([`deinterleave_rotary`]); reading reverses it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use checkpoint::gguf::{GgufFile, TensorInfo, decode, unpack_blocks};
use checkpoint::{Error, QuantizedBlocks, Result, TensorSource};

use super::config::{ROPE_DIVISORS, parse_config};
use crate::config::NamingScheme;
use crate::error;
use crate::weights::{TensorLayout, deinterleave_rotary};

/// A model's weights in a GGUF file.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    head_dim: usize,
    /// Whether the rows of Wq and Wk are interleaved.
    interleaved: bool,
    layout: TensorLayout,
}

impl GgufSource {
    /// Finds the tensors of the file's config. Unknown tensors keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    ///
    /// # Errors
    /// As [`parse_config`], and [`Error::Format`] for more layers than tensors.
    pub fn new(file: impl Into<Arc<GgufFile>>) -> error::Result<Self> {
        let file = file.into();
        let config = parse_config(&file)?;
        // Names of a layer's tensors take kilobytes: a wrong number of layers must not allocate them.
        let (n_layers, present) = (config.n_layers, file.tensors().len());
        if n_layers > present {
            let reason =
                format!("the header has {n_layers} layers, but the file has {present} tensors");
            return Err(Error::format(file.path(), "GGUF", reason).into());
        }
        let tensors = file.tensors().iter().filter(|(name, _)| *name != ROPE_DIVISORS);
        let shapes = tensors.map(|(name, info)| (name.clone(), info.shape.clone())).collect();
        let layout = TensorLayout::new(&config, NamingScheme::Gguf, &shapes);
        let interleaved = config.architecture.gguf_rotary_interleaved;
        Ok(Self { file, head_dim: config.head_dim, interleaved, layout })
    }
}

impl TensorSource for GgufSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.layout.shapes
    }

    fn read(&self, name: &str) -> Result<TensorData> {
        let location = self.layout.location(name);
        let info = self.file.info(location.map_or(name, |location| &location.name))?;
        let data = decode(info.block_type, self.read_bytes(info)?, info.shape.clone());
        Ok(match location {
            Some(location) => location.extract(data),
            None => data,
        })
    }

    fn read_blocks(&self, name: &str) -> Result<Option<QuantizedBlocks>> {
        let location = self.layout.location(name);
        let info = self.file.info(location.map_or(name, |location| &location.name))?;
        let &[rows, columns] = &info.shape[..] else { return Ok(None) };
        // Unquantized tensors are large, and have no blocks.
        if info.block_type.block_len() == 1 {
            return Ok(None);
        }
        let bytes = self.read_bytes(info)?;
        // A row is whole blocks, so the rows of one part of a fused tensor can be extracted.
        let part = location.map_or(0..rows, |location| location.rows.clone());
        let row_len = bytes.len() / rows.max(1);
        let Some(part_bytes) = bytes.get(part.start * row_len..part.end * row_len) else {
            return Ok(None);
        };
        Ok(unpack_blocks(info.block_type, part_bytes, [part.len(), columns]))
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
    }
}

impl GgufSource {
    /// A tensor's bytes, with rows in Hugging Face's order.
    fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let bytes = self.file.read_bytes(info)?;
        if self.interleaved && [".attn_q.", ".attn_k."].iter().any(|part| info.name.contains(part))
        {
            return self.deinterleave(info, &bytes);
        }
        Ok(bytes)
    }

    /// Reorders rows as bytes, which is exact since a row is whole blocks.
    fn deinterleave(&self, info: &TensorInfo, bytes: &[u8]) -> Result<Vec<u8>> {
        let rows = info.shape[0];
        let rows_are_whole = info.shape.len() > 1 || info.block_type.block_len() == 1;
        let deinterleaved = rows_are_whole
            .then(|| deinterleave_rotary(bytes, bytes.len() / rows.max(1), self.head_dim));
        deinterleaved.flatten().ok_or_else(|| Error::Format {
            path: self.file.path().into(),
            format: "GGUF",
            reason: format!(
                "tensor {} has {rows} rows in {}, expected whole rows in heads of {}",
                info.name,
                info.block_type.name(),
                self.head_dim
            ),
        })
    }
}

#[cfg(test)]
mod tests {
    use testing::gguf::Fixture;

    use super::super::open;
    use super::*;
    use crate::weights::compare;
    use checkpoint::LoadReport;

    fn report(fixture: &Fixture) -> LoadReport {
        let file = open(fixture);
        let config = parse_config(&file).unwrap();
        let source = GgufSource::new(file).unwrap();
        compare(&config, source.shapes())
    }

    #[test]
    fn a_complete_model_has_a_clean_report() {
        let mut fixture = Fixture::model();
        assert_eq!(report(&fixture), LoadReport::default());
        fixture.floats("output.weight", &[10, 8]);
        fixture.tensor("rope_freqs.weight", &[2], 0, &[0, 0, 128, 63, 0, 0, 0, 65]);
        assert_eq!(report(&fixture), LoadReport::default());
    }

    #[test]
    fn unexpected_tensors_are_reported_with_the_files_names() {
        let mut fixture = Fixture::model();
        fixture.floats("blk.0.attn_q_norm.weight", &[4]);
        fixture.floats("blk.00.ffn_up.weight", &[12, 8]);
        fixture.floats("blk.0.attn_v.bias", &[8]);
        assert_eq!(
            report(&fixture).unexpected,
            ["blk.0.attn_q_norm.weight", "blk.0.attn_v.bias", "blk.00.ffn_up.weight"]
        );
    }

    #[test]
    fn rows_of_queries_and_keys_are_deinterleaved() {
        let mut fixture = Fixture::model();
        for layer in 0..2 {
            for (name, rows) in [("q", 16), ("k", 8), ("v", 8)] {
                fixture.floats(&format!("blk.{layer}.attn_{name}.bias"), &[rows]);
            }
        }
        let source = GgufSource::new(open(&fixture)).unwrap();
        let read = |name: &str| {
            let data = source.read(&format!("model.layers.1.self_attn.{name}")).unwrap();
            data.as_slice::<f32>().unwrap().to_vec()
        };
        let first_columns = read("k_proj.weight").chunks(8).map(|row| row[0]).collect::<Vec<_>>();
        assert_eq!(first_columns, [0.0, 16.0, 8.0, 24.0, 32.0, 48.0, 40.0, 56.0]);
        assert_eq!(read("q_proj.bias")[..8], [0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0]);
        assert_eq!(read("v_proj.weight")[..10], std::array::from_fn::<f32, 10, _>(|i| i as f32));
    }

    #[test]
    fn a_second_tensor_of_the_same_name_is_unexpected() {
        let mut fixture = Fixture::model();
        fixture.floats("model.norm.weight", &[8]);
        assert_eq!(
            report(&fixture).unexpected,
            ["model.norm.weight, a duplicate of output_norm.weight"]
        );
    }
}
