//! Vectors of f32, with the instruction set chosen at run time.
//!
//! ```text
//! SimdLevel::best() ─► dispatch!(level, simd => kernel(simd)) ─┬─► Portable   8 lanes, plain Rust
//!                                                             ├─► Avx2       8 lanes, FMA
//!                                                             └─► Avx512    16 lanes, FMA
//! ```
//!
//! Two more levels have instructions for bf16 GEMM and use `Avx512` for everything else.
//!
//! A kernel is written once, generic over [`Simd`]. It and everything that it calls is
//! `#[inline(always)]`, so that [`Simd::vectorize`] compiles it for each instruction set. One
//! binary runs on all processors.
//!
//! The types are proofs: an [`Avx2`] can only be created on a processor with AVX2, so that its
//! methods need no check.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod level;
mod portable;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod transpose;
mod vector;

#[cfg(target_arch = "x86_64")]
pub use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512_bf16::Avx512Bf16;
pub use level::SimdLevel;
pub(crate) use level::dispatch;
pub use portable::Portable;
pub use vector::{Simd, prefetch};
