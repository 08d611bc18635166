//! Errors of device names and of devices.

use diagnostic::{Advice, Diagnostic};

use crate::backends::{BACKENDS, compiled};

/// An invalid device name, or a device that does not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// There is no backend of this name.
    #[error("unknown device `{name}` (this build has: {})", compiled())]
    Unknown {
        /// The requested device.
        name: String,
    },
    /// The backend is not compiled in.
    #[error("device `{name}` is not in this build (it has: {})", compiled())]
    NotCompiled {
        /// The backend; its cargo feature has the same name.
        name: &'static str,
    },
    /// The index is not a number, or the backend takes no index.
    #[error("device `{requested}`: {reason}")]
    InvalidIndex {
        /// The requested device.
        requested: String,
        /// Why the index is invalid.
        reason: &'static str,
    },
    /// There is no device with this index.
    #[error("no device `{requested}` (available: {})", .found.join(", "))]
    OutOfRange {
        /// The requested device.
        requested: String,
        /// Names and kinds of the devices of the backend.
        found: Vec<String>,
    },
    /// The backend finds no device.
    #[error("no `{backend}` device found on this machine")]
    NotFound {
        /// The backend.
        backend: &'static str,
    },
    /// The device was found, but does not start.
    #[error("device `{name}` does not start: {reason}")]
    StartFailed {
        /// The device.
        name: String,
        /// The driver's message.
        reason: String,
    },
    /// The build has no backend.
    #[error("this build has no backend")]
    NoBackend,
}

impl Diagnostic for DeviceError {
    fn advice(&self) -> Option<Advice> {
        Some(match self {
            Self::NotCompiled { name } => Advice::Feature(name),
            Self::NoBackend => Advice::Feature("flex"),
            Self::Unknown { .. } | Self::InvalidIndex { .. } => {
                let names = BACKENDS.map(|backend| {
                    let index = if backend.indexed { "[:N]" } else { "" };
                    format!("{}{index}", backend.name)
                });
                format!("devices: {}; each needs the cargo feature of its name", names.join(", "))
                    .into()
            }
            Self::OutOfRange { .. } => "use one of these, or omit the index".into(),
            Self::NotFound { .. } => {
                "install the GPU driver; without a GPU, Debian's mesa-vulkan-drivers provides a \
                 (slow) software Vulkan device; see docs/gpu.md"
                    .into()
            }
            Self::StartFailed { .. } => {
                "update the driver, or free the device's memory; see docs/gpu.md".into()
            }
        })
    }

    fn is_usage(&self) -> bool {
        !matches!(self, Self::NotFound { .. } | Self::StartFailed { .. })
    }
}
