//! Kernels for CPUs, on slices.
//!
//! ```text
//! gemm, small_batch_gemm, bf16      frozen matrices    packed_matrix, quantized_panels, rhs_panels
//! attention                         packed batches, gated prompts, KV cache
//! norm, swiglu, cross_entropy       rows
//! simd                              instruction sets, chosen at run time
//! ```

mod aligned_vec;
pub mod attention;
mod bf16;
mod concat;
pub mod cross_entropy;
pub mod elementwise;
pub mod gemm;
mod gemm_task;
pub mod microkernel;
pub mod norm;
pub mod packed_matrix;
mod panel_dots;
mod panels;
mod quantized_dots;
mod quantized_panels;
mod rhs_panels;
pub mod simd;
mod small_batch_gemm;
pub mod swiglu;
pub mod threads;
pub mod workspace;

#[cfg(test)]
mod gemm_tests;
#[cfg(test)]
mod row_ops_tests;
#[cfg(test)]
mod test_numbers;
