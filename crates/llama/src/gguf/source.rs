//! llama.cpp's names and row order ─► Hugging Face's.
//!
//! Both rotate pairs of a head's rows. llama.cpp pairs neighbours, Hugging Face rows half a head
//! apart; whoever wrote the file interleaved the rows of Wq and Wk, and here they go back.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::TensorData;

use super::dequantise::{decode, unpack};
use super::file::GgufFile;
use super::tensor_info::TensorInfo;
use crate::error::{Error, Result};
use crate::quantised::Blocks;
use crate::weights::TensorSource;

/// Divisors of the rotary frequencies: part of the config, not a weight.
pub(super) const ROPE_DIVISORS: &str = "rope_freqs.weight";

/// A GGUF file as the source of a Llama's weights.
#[derive(Debug)]
pub struct GgufSource {
    file: Arc<GgufFile>,
    head_dim: usize,
    shapes: BTreeMap<String, Vec<usize>>,
    /// llama.cpp's name by Hugging Face's.
    names: BTreeMap<String, String>,
}

impl GgufSource {
    /// Names the tensors of a file as Hugging Face does. Unknown ones keep their names, so that
    /// [`load`](crate::weights::load) reports them.
    ///
    /// # Errors
    /// As [`GgufFile::config`].
    pub fn new(file: impl Into<Arc<GgufFile>>) -> Result<Self> {
        let file = file.into();
        let head_dim = file.config()?.head_dim;
        let (mut shapes, mut names) = (BTreeMap::new(), BTreeMap::new());
        for (name, info) in file.tensors() {
            if name == ROPE_DIVISORS {
                continue;
            }
            let theirs = huggingface_name(name).unwrap_or_else(|| name.clone());
            shapes.insert(theirs.clone(), info.shape.clone());
            if let Some(other) = names.insert(theirs.clone(), name.clone()) {
                let reason = format!("tensors {other} and {name} are both {theirs}");
                return Err(Error::Format { path: file.path().into(), format: "GGUF", reason });
            }
        }
        Ok(Self { file, head_dim, shapes, names })
    }
}

impl TensorSource for GgufSource {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&self, name: &str) -> Result<TensorData> {
        let info = self.info(name)?;
        Ok(decode(info.block_type, self.read_bytes(info)?, info.shape.clone()))
    }

    fn read_blocks(&self, name: &str) -> Result<Option<Blocks>> {
        let info = self.info(name)?;
        let &[rows, columns] = &info.shape[..] else { return Ok(None) };
        // Plain numbers are large, and would be read to no use.
        if info.block_type.block_len() == 1 {
            return Ok(None);
        }
        Ok(unpack(info.block_type, &self.read_bytes(info)?, [rows, columns]))
    }
}

impl GgufSource {
    fn info(&self, name: &str) -> Result<&TensorInfo> {
        self.file.info(self.names.get(name).map_or(name, String::as_str))
    }

    /// A tensor's bytes, its rows in Hugging Face's order.
    fn read_bytes(&self, info: &TensorInfo) -> Result<Vec<u8>> {
        let bytes = self.file.read_bytes(info)?;
        if [".attn_q.", ".attn_k."].iter().any(|part| info.name.contains(part)) {
            return self.put_rows_back(info, &bytes);
        }
        Ok(bytes)
    }

    /// Rows `0 2 4 ... 1 3 5 ...` of every head. Rows are whole blocks, so their bytes move.
    fn put_rows_back(&self, info: &TensorInfo, bytes: &[u8]) -> Result<Vec<u8>> {
        let (rows, half) = (info.shape[0], self.head_dim / 2);
        let row_bytes = bytes.len() / rows;
        let rows_are_whole = info.shape.len() > 1 || info.block_type.block_len() == 1;
        if !rows.is_multiple_of(self.head_dim) || !rows_are_whole {
            return Err(Error::Format {
                path: self.file.path().into(),
                format: "GGUF",
                reason: format!(
                    "tensor {} has {rows} rows in {}, expected whole rows in heads of {}",
                    info.name,
                    info.block_type.name(),
                    self.head_dim
                ),
            });
        }
        let mut out = Vec::with_capacity(bytes.len());
        for head in bytes.chunks_exact(self.head_dim * row_bytes) {
            for part in 0..2 {
                for pair in 0..half {
                    let row = 2 * pair + part;
                    out.extend_from_slice(&head[row * row_bytes..(row + 1) * row_bytes]);
                }
            }
        }
        Ok(out)
    }
}

/// Hugging Face's name for one of llama.cpp's.
fn huggingface_name(name: &str) -> Option<String> {
    let whole = match name {
        "token_embd.weight" => "model.embed_tokens.weight",
        "output_norm.weight" => "model.norm.weight",
        "output.weight" => "lm_head.weight",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(whole.into());
    }
    let (layer, rest) = name.strip_prefix("blk.")?.split_once('.')?;
    let (part, kind) = rest.split_once('.')?;
    // `01` and `+1` would be other names for layer 1.
    let canonical = layer.parse::<usize>().is_ok_and(|number| number.to_string() == layer);
    if !canonical || !["weight", "bias"].contains(&kind) {
        return None;
    }
    let part = match part {
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "attn_norm" => "input_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        "ffn_norm" => "post_attention_layernorm",
        // Old files have the rotary table, which nobody needs.
        "attn_rot_embd" => return Some(format!("model.layers.{layer}.rotary_emb.inv_freq")),
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{Fixture, open};
    use super::*;
    use crate::weights::{LoadReport, expected_tensors};

    fn report(fixture: &Fixture) -> LoadReport {
        let file = open(fixture.bytes()).unwrap();
        let config = file.config().unwrap();
        let source = GgufSource::new(file).unwrap();
        LoadReport::compare(&expected_tensors(&config), source.shapes())
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
            [
                "blk.0.attn_q_norm.weight",
                "blk.00.ffn_up.weight",
                "model.layers.0.self_attn.v_proj.bias"
            ]
        );
    }

    #[test]
    fn rows_of_queries_and_keys_go_back() {
        let mut fixture = Fixture::model();
        fixture.floats("blk.1.attn_q.bias", &[16]);
        let source = GgufSource::new(open(fixture.bytes()).unwrap()).unwrap();
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
        let error = GgufSource::new(open(fixture.bytes()).unwrap()).unwrap_err().to_string();
        assert!(error.contains("are both model.norm.weight"), "{error}");
    }
}
