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
