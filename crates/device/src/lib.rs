//! Selects a Burn [`Device`] by name among the backends of the build, and lists the devices of the
//! machine.
//!
//! Only this crate names backends. A program that embeds the other crates needs it to take a device
//! from the command line:
//!
//! ```
//! let device = device::parse("flex")?;
//! assert!(device::parse("flux").is_err());
//! for open in device::list().into_iter().flatten() {
//!     println!("{}: {} ({})", open.info.name, open.info.description, open.info.kind);
//! }
//! # let _ = device;
//! # Ok::<(), device::DeviceError>(())
//! ```
//!
//! An index selects one of several devices: `wgpu:0` is the first in [`list`], `wgpu` is the best one,
//! a discrete GPU before an integrated one.
//!
//! Burn's default features enable `fusion` and `autotune`; this workspace disables both. Fusion gave
//! wrong values on a software Vulkan driver, and autotune takes seconds for each new shape of a
//! matmul.

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

use backends::{Candidate, DriverInfo, REFERENCE_BACKENDS};

/// A started device.
#[derive(Debug, Clone)]
pub struct OpenDevice {
    /// The device, without autodiff.
    pub device: Device,
    /// Its properties.
    pub info: DeviceInfo,
}

/// The default backend of this build: the first one of [`BACKENDS`].
///
/// # Errors
/// [`DeviceError::NoBackend`]
pub fn default_name() -> Result<&'static str, DeviceError> {
    let first = BACKENDS.iter().find(|backend| backend.compiled);
    first.map(|backend| backend.name).ok_or(DeviceError::NoBackend)
}

/// The backend of a device name, with or without an index, even if it is not compiled in.
pub fn backend(device: &str) -> Option<&'static Backend> {
    let name = device.split(':').next();
    BACKENDS.iter().find(|backend| Some(backend.name) == name)
}

/// The CPU device that others are compared with in device checks, if the build has one.
pub fn reference() -> Option<OpenDevice> {
    REFERENCE_BACKENDS.iter().find_map(|name| open(name).ok())
}

/// The device with a name such as `flex`, `wgpu` or `cuda:1`.
///
/// # Errors
/// As [`open`].
pub fn parse(requested: &str) -> Result<Device, DeviceError> {
    open(requested).map(|open| open.device)
}

/// The device with a name such as `flex`, `wgpu` or `cuda:1`, and its properties.
///
/// A device starts once per process. Later calls, with the same or another name, return the same
/// device.
///
/// # Errors
/// [`DeviceError`] for an invalid name, a backend that is not in this build, or a device that does
/// not start.
pub fn open(requested: &str) -> Result<OpenDevice, DeviceError> {
    let (name, index) = match requested.split_once(':') {
        Some((name, index)) => (name, Some(index)),
        None => (requested, None),
    };
    let backend = backend(name).ok_or_else(|| DeviceError::Unknown { name: name.into() })?;
    let refuse = |reason| Err(DeviceError::InvalidIndex { requested: requested.into(), reason });
    let index = match index.map(str::parse::<usize>) {
        Some(_) if !backend.indexed => {
            return refuse("this backend has a single device and takes no index");
        }
        Some(Err(_)) => return refuse("expected an index after the colon"),
        Some(Ok(index)) => Some(index),
        None => None,
    };
    if !backend.compiled {
        return Err(DeviceError::NotCompiled { name: backend.name });
    }
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(open) = opened.get(requested) {
        return Ok(open.clone());
    }
    let candidates = backends::candidates(backend.name);
    let index = select_index(backend, &candidates, index, requested)?;
    let open = start(&mut opened, backend, index, &candidates[index])?;
    opened.insert(requested.to_owned(), open.clone());
    Ok(open)
}

/// The name of the device for one of several processes that take a device each: the best devices in turn,
/// such as `wgpu:1` of `wgpu` for the process 1. A name with an index is returned as it is.
///
/// # Errors
/// [`DeviceError`] for an unknown backend, or one without devices.
pub fn nth_best(requested: &str, process: usize) -> Result<String, DeviceError> {
    let backend =
        backend(requested).ok_or_else(|| DeviceError::Unknown { name: requested.into() })?;
    if requested.contains(':') {
        return Ok(requested.into());
    }
    let kinds = backends::candidates(backend.name).into_iter().map(|found| found.kind);
    let kinds = kinds.collect::<Vec<_>>();
    let best = kinds.iter().min().ok_or(DeviceError::NotFound { backend: backend.name })?;
    let best = (0..kinds.len()).filter(|&index| kinds[index] == *best).collect::<Vec<_>>();
    Ok(name(backend, best[process % best.len()]))
}

/// Starts every device that this build finds on this machine. A device that does not start is an error
/// in the list.
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

/// Started devices, by every requested name. A second client on the same GPU would allocate its
/// memory twice.
static OPENED: Mutex<BTreeMap<String, OpenDevice>> = Mutex::new(BTreeMap::new());

/// The index of the requested device; the best one without an index.
fn select_index(
    backend: &Backend,
    candidates: &[Candidate],
    index: Option<usize>,
    requested: &str,
) -> Result<usize, DeviceError> {
    let best = (0..candidates.len()).min_by_key(|&index| candidates[index].kind);
    let best = best.ok_or(DeviceError::NotFound { backend: backend.name })?;
    match index {
        None => Ok(best),
        Some(index) if index < candidates.len() => Ok(index),
        Some(_) => {
            let found = candidates.iter().enumerate();
            let found = found.map(|(i, found)| format!("{} ({})", name(backend, i), found.kind));
            Err(DeviceError::OutOfRange { requested: requested.into(), found: found.collect() })
        }
    }
}

/// The name of the device with an index.
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
    let driver_info =
        found.start().map_err(|reason| DeviceError::StartFailed { name: name.clone(), reason })?;
    let DriverInfo { description, api, driver, limits } = driver_info;
    let dtypes = [("f32", DType::F32), ("f16", DType::F16), ("bf16", DType::BF16)];
    let dtypes = dtypes.iter().filter(|(_, dtype)| found.device.supports_dtype(*dtype));
    let dtypes = dtypes.map(|(name, _)| *name).collect();
    let info = DeviceInfo {
        name: name.clone(),
        description,
        kind: found.kind,
        api,
        driver,
        limits,
        dtypes,
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
    fn the_table_of_backends_says_which_ones_are_fused() {
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && !backend.indexed) {
            assert_eq!(open(backend.name).unwrap().info.fused, backend.fused, "{}", backend.name);
        }
    }

    #[test]
    fn an_unknown_name_lists_the_backends() {
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
    fn an_invalid_index_is_rejected() {
        assert!(matches!(parse("flex:0"), Err(DeviceError::InvalidIndex { .. })));
        assert!(matches!(parse("cuda:x"), Err(DeviceError::InvalidIndex { .. })));
    }

    #[test]
    fn an_index_out_of_range_lists_the_devices() {
        for backend in BACKENDS.iter().filter(|backend| backend.compiled && backend.indexed) {
            let requested = format!("{}:4000", backend.name);
            match open(&requested).unwrap_err() {
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
    fn a_name_without_an_index_is_the_best_device() {
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
