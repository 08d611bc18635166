//! Kernels for CPUs, on slices of numbers: no tensors here.

pub mod attention;
mod bf16;
pub mod cross_entropy;
mod few_rows;
mod lines;
pub mod norm;
pub mod packed;
pub mod product;
pub mod simd;
pub mod swiglu;
mod task;
pub mod threads;
pub mod tile;
mod vectors;
pub mod workspace;

#[cfg(test)]
mod product_tests;
#[cfg(test)]
mod row_tests;
