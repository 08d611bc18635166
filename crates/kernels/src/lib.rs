//! Fused operations of a frozen Llama and its adapter on CPUs, each with its own backward pass, and
//! plain tensor operations for every other device.
//!
//! ```text
//! rms_norm ─► linears (q, k, v) ─► attention (rotary, causal, + gated prompt) ─► linears (+ residual)
//! rms_norm ─► linears (gate, up) ─► swiglu ─► linears (+ residual)         cross_entropy (head, loss)
//! ```
//!
//! [`is_fused`] tells whether a device has them. Weights are frozen: a [`PackedWeight`] is laid out
//! once, in panels that serve the product and its backward pass alike, and has no gradient.
//!
//! [`cpu`] holds the kernels themselves, on slices, for every instruction set; `unsafe` lives there
//! alone.
//!
//! ```
//! use burn::tensor::{Tensor, TensorData};
//! use kernels::{PackedWeight, linears};
//!
//! # let device = testing::flex();
//! let weight = TensorData::from([[1.0_f32, 2.0], [0.0, -1.0], [3.0, 0.5]]);
//! let weight = PackedWeight::new(weight, &device);
//! let x = Tensor::<2>::from_floats([[1.0, 1.0]], &device.autodiff()).require_grad();
//! let y = linears(x.clone(), None, &[&weight]); // 3, -1, 3.5
//! let gradients = y.sum().backward();
//! let d_x = x.grad(&gradients).unwrap(); // sums of the weight's columns: 4, 1.5
//! # testing::assert_close("d_x", d_x, Tensor::from_floats([[4.0, 1.5]], &testing::flex()), 1e-6);
//! ```

mod attention;
mod backend;
mod call;
pub mod cpu;
mod memory;
mod rows;
mod weight;

pub use attention::{
    AttentionDims, FusedKvCache, GatedPrompt, RotaryTable, Sequence, SequenceLayout, attention,
};
pub use backend::{is_fused, warn_if_kernels_are_missing};
pub use memory::keep_freed_memory;
pub use rows::{rms_norm, swiglu};
pub use weight::{PackedWeight, QuantizedMatrix, cross_entropy, linears};
