//! A hash of everything that the hidden states of a cache depend on.

use std::collections::BTreeSet;
use std::hash::Hasher;

use burn::tensor::{Int, Tensor, TensorData};
use fnv::FnvHasher;
use llama::model::PrefixSharing;
use llama::{Llama, read_back};

use super::pass_input::frozen_hidden;
use super::precision::CachePrecision;
use crate::data::Batch;
use crate::error::Result;

/// A hash, not cryptographic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentKey(u64);

impl ContentKey {
    /// The key of a cache of some examples, below `layer`.
    ///
    /// It covers the tokens, the embeddings of all of them, and the hidden states of the first example:
    /// another weight of a layer, precision of the base, device or instruction set changes their last bits.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the device fails; the errors of `examples`.
    pub fn new(
        llama: &Llama,
        layer: usize,
        precision: CachePrecision,
        examples: impl Iterator<Item = Result<Batch>>,
    ) -> Result<Self> {
        /// Embeddings that are read back at a time.
        const ROWS: usize = 1024;
        let mut hash = FnvHasher::default();
        hash.write(precision.name().as_bytes());
        hash.write_usize(layer);
        let mut tokens = BTreeSet::new();
        let mut has_probe = false;
        for example in examples {
            let example = example?;
            let inputs = example.inputs();
            if !has_probe {
                let packed = llama.pack(&inputs, &PrefixSharing::All)?;
                write_values(&mut hash, frozen_hidden(llama, &packed, layer).flatten::<1>(0, 2))?;
                has_probe = true;
            }
            for input in inputs {
                hash.write_usize(input.len());
                for &token in input {
                    hash.write_u32(token);
                    tokens.insert(token);
                }
            }
        }
        let tokens = tokens.into_iter().map(i64::from).collect::<Vec<_>>();
        for ids in tokens.chunks(ROWS) {
            let data = TensorData::new(ids.to_vec(), [ids.len()]);
            let ids = Tensor::<1, Int>::from_data(data, &llama.device().without_autodiff());
            write_values(&mut hash, llama.embedding.select(ids).flatten::<1>(0, 1))?;
        }
        Ok(Self(hash.finish()))
    }

    #[cfg(test)]
    pub fn of_number(number: u64) -> Self {
        Self(number)
    }

    /// The key as bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0.to_le_bytes()
    }
}

/// Hashes values by their checksum, which is faster.
fn write_values(hash: &mut FnvHasher, values: Tensor<1>) -> Result<()> {
    hash.write_u32(crc32c::crc32c(read_back(values)?.as_bytes()));
    Ok(())
}
