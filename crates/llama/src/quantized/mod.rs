//! Weights of 8 or 4 bits.
//!
//! ```text
//! a GGUF's blocks, as stored ─┐
//!                             ├─► QuantizedBlocks, on the host ─► Quantized, packed on the device
//! f32 ─ quantize ─────────────┘                             │
//!                            some rows in f32 ◄─ dequantize ┴─► x · Wᵀ, some rows of W at a time
//! ```
//!
//! A weight is `scale * (quant - zero)` or `scale * quant + min`; 32 or 16 neighbors of a row share
//! scale and minimum. This holds every type that GGUF has for them to the last bit. Burn's own quantized
//! tensors know no minimum, and on CPUs a product with them converts the whole weight anyway.

mod pack;
mod tensor;

pub use tensor::QuantizedWeight;
