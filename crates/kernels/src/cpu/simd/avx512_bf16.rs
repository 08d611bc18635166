//! AVX512-BF16: dot products of pairs of bf16.

use super::avx512::Avx512;

/// Proof that the processor has AVX512-BF16, and what [`Avx512`] stands for.
#[derive(Debug, Clone, Copy)]
pub struct Avx512Bf16(());

impl Avx512Bf16 {
    /// The proof, if the processor has them.
    pub fn new() -> Option<Self> {
        let present = Avx512::new().is_some() && is_x86_feature_detected!("avx512bf16");
        present.then_some(Self(()))
    }

    /// Runs `work`. What is inlined into it is compiled for this instruction set.
    #[inline(always)]
    pub fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        #[target_feature(
            enable = "avx,avx2,fma,f16c,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16"
        )]
        unsafe fn run<R>(work: impl FnOnce() -> R) -> R {
            work()
        }
        // SAFETY: `self` proves that the instructions exist.
        unsafe { run(work) }
    }
}
