//! Weights: files ─► [`TensorSource`](checkpoint::TensorSource) ─► checked tensors on the device ─►
//! [`Llama`](crate::Llama), and back.
//!
//! Loading reads, checks, converts and uploads one tensor at a time. The peak memory is the model in its
//! run-time precision plus one tensor.

mod build_model;
mod expected_tensors;
pub mod huggingface;
mod load;
pub mod meta;
mod named_tensors;
mod random_init;
mod rotary_permutation;
mod tensor_layout;
mod tied_head;

pub use expected_tensors::expected_tensors;
pub use huggingface::HuggingFaceSource;
pub(crate) use load::load_resolved;
pub use load::{compare, load, stored_precision};
pub use random_init::random_init;
pub use rotary_permutation::{deinterleave_rotary, interleave_rotary};
pub(crate) use tensor_layout::TensorLayout;
pub use tied_head::resolve_tied_head;
