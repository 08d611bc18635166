//! The choice of instructions.

use super::super::concat::OffsetWeight;
use super::super::packed_matrix::PackedData;
#[cfg(target_arch = "x86_64")]
use super::super::simd::Avx512Bf16;
use super::super::simd::SimdLevel;

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
