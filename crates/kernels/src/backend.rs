//! The backend that the fused operations run on: the one file of this crate that names it.

use burn::tensor::Device;

#[cfg(feature = "flex")]
#[path = "fused/mod.rs"]
mod fused;
#[cfg(not(feature = "flex"))]
#[path = "absent.rs"]
mod fused;

pub(crate) use fused::{attention, cross_entropy, linears, rms_norm, swiglu};

/// Whether the operations of this crate run fused on a device; elsewhere they are made of plain
/// tensor operations.
///
/// Burn's flex backend is fused if this crate is built with its feature `flex`, which the crates above it
/// hand on.
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

/// Says by a warning of [`tracing`] that a device could be fused and is not: in a program that has Burn's
/// flex backend, but this crate without its feature `flex`. To be called when a model is loaded.
pub fn warn_if_kernels_are_missing(device: &Device) {
    if names_flex(device) && !is_fused(device) {
        tracing::warn!(
            "Burn's flex backend computes without the fused kernels, several times slower: build the crate \
             that you depend on (train, adaption-prompt, llama) with its feature `flex`"
        );
    }
}

/// Whether a device is the flex backend's, as far as its name tells: without the feature there is no type to
/// ask for.
fn names_flex(device: &Device) -> bool {
    format!("{device:?}").contains("Flex")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_that_could_be_fused_is_known_by_its_name() {
        assert!(names_flex(&testing::flex()) && names_flex(&testing::flex().autodiff()));
        for device in testing::devices() {
            assert_eq!(names_flex(&device), is_fused(&device), "{device:?}");
        }
    }
}
