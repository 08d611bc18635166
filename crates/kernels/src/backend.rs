//! The backend that the fused operations run on. Only this file and `fused` name it.

use burn::tensor::Device;

#[cfg(feature = "flex")]
#[path = "fused/mod.rs"]
mod fused;
#[cfg(not(feature = "flex"))]
#[path = "fused_stub.rs"]
mod fused;

// Matrices in the memory of GPUs.
#[cfg(feature = "cubecl")]
pub(crate) use crate::gpu::matmul as device_matrices;
#[cfg(not(feature = "cubecl"))]
#[path = "device_matrices_stub.rs"]
pub(crate) mod device_matrices;

pub(crate) use fused::{attention, cached_attention, cross_entropy, linears, rms_norm, swiglu};

/// Returns whether a device has the fused operations.
///
/// True for Burn's flex backend, with or without autodiff, if this crate is built with its feature
/// `flex`. The crates that depend on it forward a feature of the same name.
pub fn is_fused(device: &Device) -> bool {
    #[cfg(feature = "flex")]
    {
        let device = device.clone().without_autodiff();
        matches!(device.as_dispatch(), burn::backend::DispatchDevice::Flex(_))
    }
    #[cfg(not(feature = "flex"))]
    {
        let _ = device;
        false
    }
}

/// Returns whether a device multiplies with [`PackedWeight`](crate::PackedWeight)s: a fused device, or a
/// GPU.
pub fn has_packed_weights(device: &Device) -> bool {
    is_fused(device) || device_matrices::is_supported(device)
}

/// Emits a [`tracing`] warning if the device is Burn's flex backend but this crate lacks its
/// feature `flex`. Call it when a model is loaded.
pub fn warn_if_kernels_are_missing(device: &Device) {
    if is_flex_by_name(device) && !is_fused(device) {
        tracing::warn!(
            "Burn's flex backend runs without the fused kernels, several times slower: enable the feature `flex` of \
             the crate that you depend on (train, adaption-prompt, llama)"
        );
    }
}

/// Whether a device is the flex backend's, by its name: without the feature there is no type to
/// match.
fn is_flex_by_name(device: &Device) -> bool {
    format!("{device:?}").contains("Flex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flex_is_recognized_by_device_name() {
        assert!(is_flex_by_name(&testing::flex()) && is_flex_by_name(&testing::flex().autodiff()));
        for device in testing::devices() {
            assert_eq!(is_flex_by_name(&device), is_fused(&device), "{device:?}");
        }
    }
}
