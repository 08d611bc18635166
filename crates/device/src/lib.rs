//! Picks a Burn [`Device`] by name among the backends that were compiled in, and tells what there
//! is.
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
//! A number chooses among several devices of a backend: `wgpu:0` is the first that [`list`] has,
//! whatever its kind; plain `wgpu` is the best, a discrete GPU before an integrated one.
//!
//! Burn's default features switch on `fusion` and `autotune`; this workspace leaves both off.
//! Fusion gave wrong values on a software Vulkan driver, and autotune spends seconds on every new
//! shape of a product.

mod backends;
mod error;
mod info;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use burn::tensor::{DType, Device};

pub use backends::{BACKENDS, Backend, compiled};
pub use diagnostic::{Advice, Diagnostic};
pub use error::DeviceError;
pub use info::{DeviceClass, DeviceInfo, DeviceLimits};

use backends::{Adapter, Candidate, REFERENCE_BACKENDS};

/// A device that has come up.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// To compute on, without autodiff.
    pub device: Device,
    /// What it is.
    pub info: DeviceInfo,
}

/// The first backend in this build.
///
/// # Errors
/// [`DeviceError::None`]
pub fn default_name() -> Result<&'static str, DeviceError> {
    let first = BACKENDS.iter().find(|backend| backend.compiled);
    first.map(|backend| backend.name).ok_or(DeviceError::None)
}

/// The backend of a device's name, with or without a number, whether compiled or not.
pub fn backend(device: &str) -> Option<&'static Backend> {
    let name = device.split(':').next();
    BACKENDS.iter().find(|backend| Some(backend.name) == name)
}

/// The device whose numbers others are compared with, if this build has it.
pub fn reference() -> Option<OpenDevice> {
    REFERENCE_BACKENDS.iter().find_map(|name| open(name).ok())
}

/// The device of a name such as `flex`, `wgpu` or `cuda:1`.
///
/// # Errors
/// As [`open`].
pub fn parse(given: &str) -> Result<Device, DeviceError> {
    open(given).map(|open| open.device)
}

/// The device of a name such as `flex`, `wgpu` or `cuda:1`, and what it says about itself.
///
/// A device comes up once in a process; asked for again, by the same or another name, it is the
/// same.
///
/// # Errors
/// [`DeviceError`] tells which devices there are, which feature or driver brings the one asked for,
/// or why it did not come up.
pub fn open(given: &str) -> Result<OpenDevice, DeviceError> {
    let (name, index) = match given.split_once(':') {
        Some((name, index)) => (name, Some(index)),
        None => (given, None),
    };
    let backend = backend(name).ok_or_else(|| DeviceError::Unknown { name: name.into() })?;
    let refuse = |reason| Err(DeviceError::Index { given: given.into(), reason });
    let index = match index.map(str::parse::<usize>) {
        Some(_) if !backend.indexed => {
            return refuse("this backend has one device, without a number");
        }
        Some(Err(_)) => return refuse("a number must follow the colon"),
        Some(Ok(index)) => Some(index),
        None => None,
    };
    if !backend.compiled {
        return Err(DeviceError::NotCompiled { name: backend.name });
    }
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(open) = opened.get(given) {
        return Ok(open.clone());
    }
    let candidates = backends::candidates(backend.name);
    let index = choose(backend, &candidates, index, given)?;
    let open = start(&mut opened, backend, index, &candidates[index])?;
    opened.insert(given.to_owned(), open.clone());
    Ok(open)
}

/// Every device that this build finds on this machine, started; one that does not come up is an
/// error among the others.
pub fn list() -> Vec<Result<OpenDevice, DeviceError>> {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    let mut list = Vec::new();
    for backend in BACKENDS.iter().filter(|backend| backend.compiled) {
        let candidates = backends::candidates(backend.name);
        if candidates.is_empty() {
            list.push(Err(DeviceError::NotFound { backend: backend.name }));
        }
        let candidates = candidates.iter().enumerate();
        list.extend(candidates.map(|(index, found)| start(&mut opened, backend, index, found)));
    }
    list
}

/// Devices that have come up, by every name that they were asked for by: a second client on the
/// same graphics card would take its memory twice.
static OPENED: Mutex<BTreeMap<String, OpenDevice>> = Mutex::new(BTreeMap::new());

/// Which of a backend's devices is meant.
fn choose(
    backend: &Backend,
    candidates: &[Candidate],
    index: Option<usize>,
    given: &str,
) -> Result<usize, DeviceError> {
    let best = (0..candidates.len()).min_by_key(|&index| candidates[index].kind);
    let best = best.ok_or(DeviceError::NotFound { backend: backend.name })?;
    match index {
        None => Ok(best),
        Some(index) if index < candidates.len() => Ok(index),
        Some(_) => {
            let found = candidates.iter().enumerate();
            let found = found.map(|(i, found)| format!("{} ({})", name(backend, i), found.kind));
            Err(DeviceError::OutOfRange { given: given.into(), found: found.collect() })
        }
    }
}

/// What the device with that number is called.
fn name(backend: &Backend, index: usize) -> String {
    if backend.indexed { format!("{}:{index}", backend.name) } else { backend.name.into() }
}

fn start(
    opened: &mut BTreeMap<String, OpenDevice>,
    backend: &Backend,
    index: usize,
    found: &Candidate,
) -> Result<OpenDevice, DeviceError> {
    let name = name(backend, index);
    if let Some(open) = opened.get(&name) {
        return Ok(open.clone());
    }
    let adapter =
        found.start().map_err(|reason| DeviceError::StartFailed { name: name.clone(), reason })?;
    let Adapter { description, api, driver, limits } = adapter;
    let formats = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
    let formats = formats.iter().filter(|(_, dtype)| found.device.supports_dtype(*dtype));
    let formats = formats.map(|(name, _)| *name).collect();
    let info = DeviceInfo {
        name: name.clone(),
        description,
        kind: found.kind,
        api,
        driver,
        limits,
        dtypes: formats,
        fused: kernels::is_fused(&found.device),
    };
    let open = OpenDevice { device: found.device.clone(), info };
    opened.insert(name, open.clone());
    Ok(open)
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
    fn a_backend_is_found_by_its_devices() {
        assert_eq!(backend("cuda:1").unwrap().name, "cuda");
        assert_eq!(backend(default_name().unwrap()).unwrap().name, default_name().unwrap());
        assert_eq!(backend("cud"), None);
    }

    #[test]
    fn the_table_of_backends_knows_which_one_is_fused() {
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && !backend.indexed) {
            assert_eq!(open(backend.name).unwrap().info.fused, backend.fused, "{}", backend.name);
        }
    }

    #[test]
    fn an_unknown_name_lists_what_there_is() {
        let error = parse("tpu").unwrap_err();
        assert!(error.to_string().contains("unknown device `tpu`"));
        assert!(error.to_string().contains(default_name().unwrap()));
        assert!(error.advice().unwrap().to_string().contains("cuda[:N]"));
    }

    #[test]
    fn an_absent_backend_names_its_feature() {
        let absent = BACKENDS.iter().find(|backend| !backend.compiled).unwrap();
        let error = parse(absent.name).unwrap_err();
        assert_eq!(error, DeviceError::NotCompiled { name: absent.name });
        assert_eq!(error.advice(), Some(Advice::Feature(absent.name)));
    }

    #[test]
    fn a_number_must_belong_and_be_one() {
        assert!(matches!(parse("flex:0"), Err(DeviceError::Index { .. })));
        assert!(matches!(parse("cuda:x"), Err(DeviceError::Index { .. })));
    }

    #[test]
    fn a_number_beyond_the_last_device_lists_them() {
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && backend.indexed) {
            let given = format!("{}:4000", backend.name);
            match open(&given).unwrap_err() {
                DeviceError::OutOfRange { found, .. } => {
                    assert!(found[0].starts_with(&format!("{}:0 (", backend.name)), "{found:?}");
                }
                error => assert_eq!(error, DeviceError::NotFound { backend: backend.name }),
            }
        }
    }

    #[test]
    fn every_listed_device_opens_by_its_name_and_is_the_same() {
        let listed = list();
        assert!(listed.iter().any(Result::is_ok));
        for listed in listed {
            let Ok(listed) = listed else { continue };
            let again = open(&listed.info.name).unwrap();
            assert_eq!((&again.device, &again.info), (&listed.device, &listed.info));
            assert!(listed.info.dtypes.contains(&"f32"));
            assert!(!listed.info.description.is_empty());
        }
    }

    #[test]
    fn a_name_without_a_number_is_the_best_device() {
        let listed = list();
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && backend.indexed) {
            let prefix = format!("{}:", backend.name);
            let own = listed.iter().flatten().filter(|open| open.info.name.starts_with(&prefix));
            let Some(best) = own.min_by_key(|open| open.info.kind) else { continue };
            assert_eq!(open(backend.name).unwrap().info, best.info);
        }
    }

    #[test]
    fn the_reference_is_a_cpu() {
        assert!(reference().is_none_or(|open| open.info.kind.is_cpu()));
    }
}
