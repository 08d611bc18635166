//! An adapter's tensors in host memory, and their names in files.

pub(crate) mod host_tensor;
pub(crate) mod names;
