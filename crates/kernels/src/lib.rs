//! Fused operations of a frozen Llama and its adapter, each with its own backward pass: all of them on
//! CPUs, some of them on GPUs.
//!
//! ```text
//! rms_norm ─► linears (q, k, v) ─► attention (rotary, causal, + prompt) ─► linears (+ residual)
//! rms_norm ─► linears (gate, up) ─► swiglu ─► linears (+ residual)   cross_entropy (head, loss)
//! ```
//!
//! [`is_fused`] returns whether a device has the fused operations. [`rms_norm`], [`swiglu`] and
//! [`GatedPrompt::forward`] run on every device, composed of tensor operations where they are not
//! fused; [`linears`], [`attention`], [`cached_attention`] and [`cross_entropy`] need a fused device.
//!
//! On GPUs, [`has_gpu_kernel`] returns which operations are fused.
//!
//! Weights are frozen: a [`PackedWeight`] is packed once, into panels that the forward and the
//! backward pass both read, and has no gradient.
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
//! let d_x = x.grad(&gradients).unwrap(); // column sums of the weight: 4, 1.5
//! # testing::assert_close("d_x", d_x, Tensor::from_floats([[4.0, 1.5]], &testing::flex()), 1e-6);
//! ```

mod allocator;
mod attention;
mod attention_params;
mod backend;
// Kernels on slices. Public for the benchmarks and for callers of `SimdLevel` by its path; not part
// of the API.
#[doc(hidden)]
pub mod cpu;
#[cfg(feature = "cubecl")]
mod gpu;
#[cfg(not(feature = "cubecl"))]
#[path = "gpu_stub.rs"]
mod gpu;
mod gpu_kernel;
mod row_ops;
#[doc(hidden)]
pub mod sizes;
mod weight;

pub use allocator::keep_freed_memory;
pub use attention::{FusedKvCache, GatedPrompt, attention, cached_attention};
pub use attention_params::{
    AttentionDims, BlockTables, DeviceTables, RotaryTable, Sequence, SequenceLayout,
};
pub use backend::{is_fused, warn_if_kernels_are_missing};
pub use cpu::attention::{PackedPrompt, PromptTable};
pub use cpu::simd::SimdLevel;
#[doc(hidden)]
pub use gpu::count_launches;
#[doc(hidden)]
pub use gpu_kernel::Launches;
pub use gpu_kernel::{
    GpuKernel, disable_gpu_kernel, enable_gpu_kernels, has_fused_attention, has_gpu_kernel,
};
pub use row_ops::{rms_norm, swiglu, swiglu_pair};
pub use sizes::BLOCK_TOKENS;
pub use weight::{PackedWeight, QuantizedMatrix, cross_entropy, dense_cross_entropy, linears};
