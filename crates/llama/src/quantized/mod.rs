//! Quantized weights of 8 or 4 bits, for devices without packed weights.
//!
//! ```text
//! blocks of a GGUF, as stored ─┐
//!                              ├─► QuantizedBlocks on the host ─► QuantizedWeight, packed on the device
//! f32 ─ quantize ──────────────┘                                  │
//!                                      rows in f32 ◄─ dequantize ─┴─► x · Wᵀ, a chunk of rows at a time
//! ```
//!
//! A weight is `scale * (quant - zero_point)` or `scale * quant + min`. Blocks of 32 or 16 adjacent weights
//! of a row share a scale and a minimum. This represents every block type of GGUF without loss. A matmul
//! dequantizes a chunk of rows at a time with plain tensor operations, so it runs on every backend and the
//! matrix is never whole in f32.
//!
//! Burn's quantized tensors are symmetric, which half of GGUF's types are not, and on CPUs a matmul with
//! them converts the whole weight.
//!
//! Public because tools that check a device, such as `device-check`, compare it with a reference.

mod pack;
mod quantized_weight;

pub use quantized_weight::QuantizedWeight;
