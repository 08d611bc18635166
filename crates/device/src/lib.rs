//! Picks a Burn [`Device`] by name among the backends that were compiled in.
//!
//! This is the only place that names backends. A program that embeds the other crates needs it
//! only if it wants to take the device from a command line:
//!
//! ```
//! let device = device::parse("flex")?;
//! assert!(device::parse("flux").is_err());
//! # let _ = device;
//! # Ok::<(), device::DeviceError>(())
//! ```
//!
//! Burn's default features switch on `fusion` and `autotune`; this workspace leaves both off.
//! Fusion gave wrong values on a software Vulkan driver, and autotune spends seconds on every new
//! shape of a product.

use burn::tensor::Device;

/// A backend that this workspace knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backend {
    /// Name on the command line, and of the cargo feature.
    pub name: &'static str,
    /// Whether a number may follow, as in `cuda:1`.
    pub indexed: bool,
    /// Whether this build has it.
    pub compiled: bool,
}

/// Every backend, in the order in which a default is looked for.
pub const BACKENDS: [Backend; 9] = [
    Backend { name: "flex", indexed: false, compiled: cfg!(feature = "flex") },
    Backend { name: "ndarray", indexed: false, compiled: cfg!(feature = "ndarray") },
    Backend { name: "cpu", indexed: false, compiled: cfg!(feature = "cpu") },
    Backend { name: "cuda", indexed: true, compiled: cfg!(feature = "cuda") },
    Backend { name: "rocm", indexed: true, compiled: cfg!(feature = "rocm") },
    Backend { name: "metal", indexed: true, compiled: cfg!(feature = "metal") },
    Backend { name: "vulkan", indexed: true, compiled: cfg!(feature = "vulkan") },
    Backend { name: "webgpu", indexed: true, compiled: cfg!(feature = "webgpu") },
    Backend { name: "wgpu", indexed: true, compiled: cfg!(feature = "wgpu") },
];

/// A device name that leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// The program was built without any backend.
    #[error("this build has no backend at all")]
    None,
}

impl DeviceError {
    /// What to do about it.
    pub fn hint(&self) -> String {
        match self {
            Self::NotCompiled { name } => format!("build with `--features {name}`"),
            Self::None => "build with `--features flex`".into(),
            Self::Unknown { .. } | Self::Index { .. } => {
                let names = BACKENDS.map(|backend| {
                    let number = if backend.indexed { "[:N]" } else { "" };
                    format!("{}{number}", backend.name)
                });
                format!("devices: {}; each needs the feature of its name", names.join(", "))
            }
        }
    }
}

/// Names of the backends in this build, separated by commas.
pub fn compiled() -> String {
    let names = BACKENDS.iter().filter(|backend| backend.compiled).map(|backend| backend.name);
    names.collect::<Vec<_>>().join(", ")
}

/// The first backend in this build.
///
/// # Errors
/// [`DeviceError::None`]
pub fn default_name() -> Result<&'static str, DeviceError> {
    let first = BACKENDS.iter().find(|backend| backend.compiled);
    first.map(|backend| backend.name).ok_or(DeviceError::None)
}

/// The device of a name such as `flex`, `wgpu` or `cuda:1`.
///
/// # Errors
/// [`DeviceError`] tells which devices there are and which feature brings the one asked for.
pub fn parse(given: &str) -> Result<Device, DeviceError> {
    let (name, index) = match given.split_once(':') {
        Some((name, index)) => (name, Some(index)),
        None => (given, None),
    };
    let backend = BACKENDS
        .iter()
        .find(|backend| backend.name == name)
        .ok_or_else(|| DeviceError::Unknown { name: name.into() })?;
    let refuse = |reason| Err(DeviceError::Index { given: given.into(), reason });
    let index = match index.map(str::parse::<usize>) {
        Some(_) if !backend.indexed => {
            return refuse("this backend has one device, without a number");
        }
        Some(Err(_)) => return refuse("a number must follow the colon"),
        Some(Ok(index)) => Some(index),
        None => None,
    };
    open(backend.name, index).ok_or(DeviceError::NotCompiled { name: backend.name })
}

#[cfg_attr(
    not(any(feature = "wgpu", feature = "cuda", feature = "rocm")),
    expect(unused_variables, reason = "only backends with several devices look at the index")
)]
#[cfg_attr(feature = "ndarray", expect(deprecated, reason = "kept as a second CPU backend"))]
fn open(name: &str, index: Option<usize>) -> Option<Device> {
    match name {
        #[cfg(feature = "flex")]
        "flex" => Some(Device::flex()),
        #[cfg(feature = "ndarray")]
        "ndarray" => Some(Device::ndarray()),
        #[cfg(feature = "cpu")]
        "cpu" => Some(Device::cpu()),
        #[cfg(feature = "cuda")]
        "cuda" => Some(Device::cuda(index.unwrap_or(0))),
        #[cfg(feature = "rocm")]
        "rocm" => Some(Device::rocm(index.unwrap_or(0))),
        #[cfg(feature = "metal")]
        "metal" => Some(Device::metal(gpu(index))),
        #[cfg(feature = "vulkan")]
        "vulkan" => Some(Device::vulkan(gpu(index))),
        #[cfg(feature = "webgpu")]
        "webgpu" => Some(Device::webgpu(gpu(index))),
        #[cfg(feature = "wgpu")]
        "wgpu" => Some(Device::wgpu(gpu(index))),
        _ => None,
    }
}

#[cfg(feature = "wgpu")]
fn gpu(index: Option<usize>) -> burn::tensor::DeviceKind {
    index.map_or_else(Default::default, burn::tensor::DeviceKind::DiscreteGpu)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiled_backend_opens() {
        let name = default_name().unwrap();
        assert!(parse(name).is_ok());
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = parse("tpu").unwrap_err();
        assert!(error.to_string().contains("unknown device `tpu`"));
        assert!(error.to_string().contains(default_name().unwrap()));
        assert!(error.hint().contains("cuda[:N]"));
    }

    #[test]
    fn an_absent_backend_names_its_feature() {
        let absent = BACKENDS.iter().find(|backend| !backend.compiled).unwrap();
        let error = parse(absent.name).unwrap_err();
        assert_eq!(error, DeviceError::NotCompiled { name: absent.name });
        assert_eq!(error.hint(), format!("build with `--features {}`", absent.name));
    }

    #[test]
    fn a_number_must_belong_and_be_one() {
        assert!(matches!(parse("flex:0"), Err(DeviceError::Index { .. })));
        assert!(matches!(parse("cuda:x"), Err(DeviceError::Index { .. })));
    }
}
