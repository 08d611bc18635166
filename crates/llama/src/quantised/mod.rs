//! Weights of 8 or 4 bits.
//!
//! ```text
//! a GGUF's blocks, as stored ─┐
//!                             ├─► QuantisedBlocks, on the host ─► Quantised, packed on the device
//! f32 ─ quantise ─────────────┘                             │
//!                            some rows in f32 ◄─ dequantise ┴─► x · Wᵀ, some rows of W at a time
//! ```
//!
//! A weight is `scale * (quant - zero)` or `scale * quant + min`; 32 or 16 neighbours of a row share
//! scale and minimum. This holds every type that GGUF has for them to the last bit. Burn's own quantised
//! tensors know no minimum, and on CPUs a product with them converts the whole weight anyway.

mod pack;
mod tensor;

pub use tensor::QuantisedWeight;
