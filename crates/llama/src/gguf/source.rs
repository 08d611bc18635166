//! llama.cpp's names and row order ─► Hugging Face's.
//!
//! Both rotate pairs of a head's rows. For a Llama llama.cpp pairs neighbors, Hugging Face rows
//! half a head apart; whoever wrote the file interleaved the rows of Wq and Wk, and here they go
//! back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;
use checkpoint::gguf::{GgufFile, TensorInfo, decode, unpack_blocks};
use checkpoint::{Error, QuantizedBlocks, Result, TensorSource};

use super::config::{ROPE_DIVISORS, parse_config};
use crate::config::Format;
use crate::error;
use crate::weights::{Layout, deinterleave_rotary};

/// A GGUF file as the source of a Llama's weights.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    head_dim: usize,
    /// Whether the rows of Wq and Wk are interleaved.
    interleaved: bool,
    layout: Layout,
}

impl GgufSource {
    /// Finds the tensors of the file's config in it. Unknown ones keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    ///
    /// # Errors
    /// As [`parse_config`], and [`Error::Format`] for more layers than tensors.
    pub fn new(file: impl Into<Arc<GgufFile>>) -> error::Result<Self> {
        let file = file.into();
        let config = parse_config(&file)?;
        // The names of a layer's tensors take kilobytes: a header that lies must not cost them.
        let (n_layers, present) = (config.n_layers, file.tensors().len());
        if n_layers > present {
            let reason =
                format!("the header says {n_layers} layers, the file has {present} tensors");
            return Err(Error::format(file.path(), "GGUF", reason).into());
        }
        let tensors = file.tensors().iter().filter(|(name, _)| *name != ROPE_DIVISORS);
        let shapes = tensors.map(|(name, info)| (name.clone(), info.shape.clone())).collect();
        let layout = Layout::new(&config, Format::Gguf, &shapes);
        let interleaved = config.architecture.gguf_rotary_interleaved();
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
        let place = self.layout.place(name);
        let info = self.file.info(place.map_or(name, |place| &place.name))?;
        let data = decode(info.block_type, self.read_bytes(info)?, info.shape.clone());
        Ok(match place {
            Some(place) => place.take(data),
            None => data,
        })
    }

    fn read_blocks(&self, name: &str) -> Result<Option<QuantizedBlocks>> {
        let place = self.layout.place(name);
        let info = self.file.info(place.map_or(name, |place| &place.name))?;
        let &[rows, columns] = &info.shape[..] else { return Ok(None) };
        // Plain numbers are large, and would be read to no use.
        if info.block_type.block_len() == 1 {
            return Ok(None);
        }
        let bytes = self.read_bytes(info)?;
        // Rows are whole blocks: those of one of several tensors under a name are cut out.
        let own = place.map_or(0..rows, |place| place.rows.clone());
        let row_len = bytes.len() / rows.max(1);
        let Some(own_bytes) = bytes.get(own.start * row_len..own.end * row_len) else {
            return Ok(None);
        };
        Ok(unpack_blocks(info.block_type, own_bytes, [own.len(), columns]))
    }

    fn name_in_file(&self, name: &str) -> String {
        self.layout.name_in_file(name)
    }
}

impl GgufSource {
    /// A tensor's bytes, its rows in Hugging Face's order.
    fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let bytes = self.file.read_bytes(info)?;
        if self.interleaved && [".attn_q.", ".attn_k."].iter().any(|part| info.name.contains(part))
        {
            return self.put_rows_back(info, &bytes);
        }
        Ok(bytes)
    }

    /// Rows are whole blocks, so their bytes move.
    fn put_rows_back(&self, info: &TensorInfo, bytes: &[u8]) -> Result<Vec<u8>> {
        let rows = info.shape[0];
        let rows_are_whole = info.shape.len() > 1 || info.block_type.block_len() == 1;
        let back = rows_are_whole
            .then(|| deinterleave_rotary(bytes, bytes.len() / rows.max(1), self.head_dim));
        back.flatten().ok_or_else(|| Error::Format {
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
    fn a_complete_model_leaves_nothing_to_report() {
        let mut fixture = Fixture::model();
        assert_eq!(report(&fixture), LoadReport::default());
        fixture.floats("output.weight", &[10, 8]);
        fixture.tensor("rope_freqs.weight", &[2], 0, &[0, 0, 128, 63, 0, 0, 0, 65]);
        assert_eq!(report(&fixture), LoadReport::default());
    }

    #[test]
    fn strangers_are_reported_by_their_own_name() {
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
    fn rows_of_queries_and_keys_go_back() {
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
    fn one_name_is_one_tensor() {
        let mut fixture = Fixture::model();
        fixture.floats("model.norm.weight", &[8]);
        assert_eq!(report(&fixture).unexpected, ["model.norm.weight, beside output_norm.weight"]);
    }
}
