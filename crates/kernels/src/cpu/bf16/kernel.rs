//! The choice of instructions.

use super::super::concat::OffsetWeight;
use super::super::packed_matrix::PackedData;
#[cfg(target_arch = "x86_64")]
use super::super::simd::Avx512Bf16;
use super::super::simd::SimdLevel;
#[cfg(target_arch = "x86_64")]
use super::{gemm_task::blocks_per_pass, tile_kernel::INNER_BLOCK};

/// The instructions that multiply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bf16Kernel {
    /// Plain Rust, for tests.
    #[cfg(test)]
    Reference,
    /// AVX512-BF16.
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
    /// AMX.
    #[cfg(target_arch = "x86_64")]
    Amx,
}

/// The order in which the elements of a row are multiplied and added, in f32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumOrder {
    /// As in a GEMM in f32.
    Plain,
    /// The second element of each pair before the first; sums of `inner_block` elements from zero,
    /// added in order.
    Pairs { inner_block: usize },
    /// In each block of 32, the first elements of all pairs, and the second ones, both from zero;
    /// their sum is added to the total.
    Amx,
}

impl Bf16Kernel {
    /// The instructions of a level, if it has any for bf16 and all weights are in bf16.
    pub fn select(level: SimdLevel, weights: &[OffsetWeight]) -> Option<Self> {
        let kernel = match level {
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Avx512Bf16 => Self::Avx512Bf16,
            #[cfg(target_arch = "x86_64")]
            SimdLevel::Amx => Self::Amx,
            _ => return None,
        };
        weights
            .iter()
            .all(|weight| matches!(weight.weight.data, PackedData::Bf16(_)))
            .then_some(kernel)
    }

    /// The order of its sums over rows of `columns` elements.
    pub fn sum_order(self, columns: usize) -> SumOrder {
        match self {
            #[cfg(test)]
            Self::Reference => SumOrder::Plain,
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 => {
                let blocks = blocks_per_pass(columns.div_ceil(INNER_BLOCK));
                SumOrder::Pairs { inner_block: blocks * INNER_BLOCK }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => SumOrder::Amx,
        }
    }

    /// Runs `work`, compiled for the vector instructions of the kernel.
    #[inline(always)]
    pub fn vectorize(self, work: impl FnOnce()) {
        match self {
            #[cfg(test)]
            Self::Reference => work(),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Bf16 | Self::Amx => {
                Avx512Bf16::new().expect("the level is available").vectorize(work);
            }
        }
    }
}
