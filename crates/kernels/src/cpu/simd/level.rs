//! The instruction sets, and the dispatch to one of them.

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::{amx::Amx, avx2::Avx2, avx512::Avx512, avx512_bf16::Avx512Bf16};

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SimdLevel {
    /// Plain Rust, as the compiler vectorizes it: SSE2 on x86-64, NEON on ARM.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// `Avx512` and AVX512-BF16: GEMM with weights in bf16 rounds its inputs to bf16.
    Avx512Bf16,
    /// `Avx512Bf16` and AMX: GEMM with weights in bf16 runs on AMX tiles.
    Amx,
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "plain Rust",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
            Self::Avx512Bf16 => "AVX512-BF16",
            Self::Amx => "AMX",
        })
    }
}

impl SimdLevel {
    /// The levels that this processor has, from the slowest to the fastest.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::new().map(|_| Self::Avx2));
            levels.extend(Avx512::new().map(|_| Self::Avx512));
            levels.extend(Avx512Bf16::new().map(|_| Self::Avx512Bf16));
            levels.extend(Amx::new().map(|_| Self::Amx));
        }
        levels
    }

    /// Whether GEMM with weights in bf16 rounds its inputs to bf16; that of gradients only with more
    /// than four rows.
    pub fn rounds_inputs_to_bf16(self) -> bool {
        self >= Self::Avx512Bf16
    }

    /// The fastest level that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<SimdLevel> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("every processor has a level"))
    }
}

/// Evaluates an expression with `$simd` bound to the instruction set of a
/// [`SimdLevel`](crate::cpu::simd::SimdLevel), compiled for it.
///
/// # Panics
/// If the processor lacks the level.
macro_rules! dispatch {
    ($level:expr, $simd:ident => $work:expr) => {
        match $level {
            $crate::cpu::simd::SimdLevel::Portable => {
                let $simd = $crate::cpu::simd::Portable;
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::SimdLevel::Avx2 => {
                let $simd = $crate::cpu::simd::Avx2::new().expect("the level is available");
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::SimdLevel::Avx512
            | $crate::cpu::simd::SimdLevel::Avx512Bf16
            | $crate::cpu::simd::SimdLevel::Amx => {
                let $simd = $crate::cpu::simd::Avx512::new().expect("the level is available");
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(not(target_arch = "x86_64"))]
            level => panic!("{level:?} is not available on this architecture"),
        }
    };
}
pub(crate) use dispatch;
