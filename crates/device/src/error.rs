//! What can be wrong with the name of a device, or with the device.

use diagnostic::{Advice, Diagnostic};

use crate::backends::{BACKENDS, compiled};

/// A device name that leads nowhere, or a device that does not come up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// No backend of that name.
    #[error("unknown device `{name}` (this build has: {})", compiled())]
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// A backend that was not compiled in.
    #[error("device `{name}` is not in this build (it has: {})", compiled())]
    NotCompiled {
        /// The backend, which is the name of its feature too.
        name: &'static str,
    },
    /// Something behind the colon that is no number, or a number where none belongs.
    #[error("device `{given}`: {reason}")]
    Index {
        /// What was asked for.
        given: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A number for which there is no device.
    #[error("there is no device `{given}` (this machine has: {})", .found.join(", "))]
    OutOfRange {
        /// What was asked for.
        given: String,
        /// Names and kinds of the devices that the backend has found.
        found: Vec<String>,
    },
    /// A backend that finds nothing to work on.
    #[error("`{backend}` finds no device on this machine")]
    NotFound {
        /// The backend.
        backend: &'static str,
    },
    /// A device that was found and does not come up.
    #[error("device `{name}` does not start: {reason}")]
    StartFailed {
        /// The device.
        name: String,
        /// What its driver said.
        reason: String,
    },
    /// The program was built without any backend.
    #[error("this build has no backend at all")]
    None,
}

impl Diagnostic for DeviceError {
    fn advice(&self) -> Option<Advice> {
        Some(match self {
            Self::NotCompiled { name } => Advice::Feature(name),
            Self::None => Advice::Feature("flex"),
            Self::Unknown { .. } | Self::Index { .. } => {
                let names = BACKENDS.map(|backend| {
                    let number = if backend.indexed { "[:N]" } else { "" };
                    format!("{}{number}", backend.name)
                });
                format!("devices: {}; each needs the feature of its name", names.join(", ")).into()
            }
            Self::OutOfRange { .. } => "take one of these, or leave the number out".into(),
            Self::NotFound { .. } => {
                "install the driver of your graphics card; without one, Debian's \
                 mesa-vulkan-drivers has a (slow) Vulkan device in software; see docs/gpu.md"
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
