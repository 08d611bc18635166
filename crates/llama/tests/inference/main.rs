//! A model at work: what it generates, in which precision, and what it asks of a device.

mod batch_sampling;
mod device_out_of_memory;
mod generation;
mod quantized;
mod streaming;
#[path = "../tiny/mod.rs"]
mod tiny;
