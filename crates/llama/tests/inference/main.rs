//! Inference: generation, sampling, precisions, use of a device.

mod batch_sampling;
mod device_out_of_memory;
mod generation;
mod open_prompts;
mod paged;
mod quantized;
mod sample_rows;
mod streaming;
