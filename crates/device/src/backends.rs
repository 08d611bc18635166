//! Burn's backends. No other file of the workspace names them.
//!
//! ```text
//! name ─► candidates: the devices of this machine ─► start: the device and its driver's info
//! ```

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
mod panics;

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::{DeviceKind, wgpu::WgpuBackend};
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::{DeviceType, Tensor};

use crate::info::{DeviceClass, DeviceLimits};

/// A backend of Burn that this workspace supports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts")]
#[non_exhaustive]
pub struct Backend {
    /// Name of the backend and of its cargo feature.
    pub name: &'static str,
    /// Whether an index may follow the name, as in `cuda:1`.
    pub indexed: bool,
    /// Whether this build includes it.
    pub compiled: bool,
    /// The 16-bit dtype of the backend; a GPU may lack it.
    pub half_dtype: Option<&'static str>,
    /// Whether layers use the fused kernels of `crates/kernels`.
    pub fused: bool,
    /// Whether memory plans were validated with measured peaks.
    pub memory_plan_measured: bool,
}

impl Backend {
    const fn new(name: &'static str, compiled: bool) -> Self {
        Self {
            name,
            indexed: false,
            compiled,
            half_dtype: None,
            fused: false,
            memory_plan_measured: false,
        }
    }

    const fn gpu(name: &'static str, compiled: bool, half: &'static str) -> Self {
        Self { indexed: true, half_dtype: Some(half), ..Self::new(name, compiled) }
    }
}

/// Every backend. The first one in a build is its default.
pub const BACKENDS: [Backend; 9] = [
    Backend {
        half_dtype: Some("bf16"),
        fused: true,
        memory_plan_measured: true,
        ..Backend::new("flex", cfg!(feature = "flex"))
    },
    Backend { memory_plan_measured: true, ..Backend::new("ndarray", cfg!(feature = "ndarray")) },
    Backend { half_dtype: Some("bf16"), ..Backend::new("cpu", cfg!(feature = "cpu")) },
    Backend::gpu("cuda", cfg!(feature = "cuda"), "bf16"),
    Backend::gpu("rocm", cfg!(feature = "rocm"), "bf16"),
    Backend::gpu("metal", cfg!(feature = "metal"), "f16"),
    Backend::gpu("vulkan", cfg!(feature = "vulkan"), "f16"),
    Backend::gpu("webgpu", cfg!(feature = "webgpu"), "f16"),
    Backend::gpu("wgpu", cfg!(feature = "wgpu"), "f16"),
];

/// Reference backends for device checks, in order of preference. They use neither a driver nor a
/// kernel compiler, which could have errors.
pub(crate) const REFERENCE_BACKENDS: [&str; 2] = ["flex", "ndarray"];

/// Names of the backends in this build, comma-separated.
pub fn compiled() -> String {
    let names = BACKENDS.iter().filter(|backend| backend.compiled).map(|backend| backend.name);
    names.collect::<Vec<_>>().join(", ")
}

/// A device that a backend has found, before its start.
pub(crate) struct Candidate {
    pub device: Device,
    pub kind: DeviceClass,
    start: StartFn,
}

/// Starts a device; the error is the driver's message.
type StartFn = Box<dyn Fn(&Device) -> Result<DriverInfo, String>>;

/// What the driver reports about a device.
#[derive(Default)]
pub(crate) struct DriverInfo {
    pub description: String,
    pub api: Option<String>,
    pub driver: Option<String>,
    pub limits: Option<DeviceLimits>,
}

impl Candidate {
    /// Starts the device.
    pub fn start(&self) -> Result<DriverInfo, String> {
        (self.start)(&self.device)
    }

    #[cfg(any(feature = "flex", feature = "ndarray", feature = "cpu"))]
    fn cpu(device: Device, description: &'static str) -> Self {
        let start = Box::new(move |_: &Device| {
            Ok(DriverInfo { description: description.into(), ..DriverInfo::default() })
        });
        Self { device, kind: DeviceClass::Cpu, start }
    }
}

/// The devices of a backend on this machine; empty if the backend is not in this build.
#[cfg_attr(feature = "ndarray", expect(deprecated, reason = "kept as a second CPU backend"))]
pub(crate) fn candidates(backend: &str) -> Vec<Candidate> {
    match backend {
        #[cfg(feature = "flex")]
        "flex" => vec![Candidate::cpu(Device::flex(), "CPU (Burn flex)")],
        #[cfg(feature = "ndarray")]
        "ndarray" => vec![Candidate::cpu(Device::ndarray(), "CPU (ndarray)")],
        #[cfg(feature = "cpu")]
        "cpu" => vec![Candidate::cpu(Device::cpu(), "CPU (LLVM-compiled kernels)")],
        #[cfg(feature = "cuda")]
        "cuda" => gpus(DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        "rocm" => gpus(DeviceType::Rocm),
        #[cfg(feature = "metal")]
        "metal" => wgpu_devices(DeviceType::Metal, WgpuBackend::Metal, Device::metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => wgpu_devices(DeviceType::Vulkan, WgpuBackend::Vulkan, Device::vulkan),
        #[cfg(feature = "webgpu")]
        "webgpu" => wgpu_devices(DeviceType::WebGpu, WgpuBackend::WebGpu, Device::webgpu),
        #[cfg(feature = "wgpu")]
        "wgpu" => wgpu_devices(DeviceType::Wgpu, WgpuBackend::Auto, Device::wgpu),
        _ => Vec::new(),
    }
}

/// Devices that Burn starts on their first use.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn gpus(device_type: DeviceType) -> Vec<Candidate> {
    let found = Device::enumerate(device_type).into_vec().into_iter();
    let candidate =
        |device| Candidate { device, kind: DeviceClass::Gpu, start: Box::new(start_on_first_use) };
    found.map(candidate).collect()
}

/// The devices of a graphics API, with all that their drivers report.
#[cfg(feature = "wgpu")]
fn wgpu_devices(
    device_type: DeviceType,
    api: WgpuBackend,
    device_of: fn(DeviceKind) -> Device,
) -> Vec<Candidate> {
    let found = Device::enumerate(device_type).into_vec();
    // Burn enumerates devices, but starts a `DeviceKind`: the one whose device is equal.
    let kinds = |device: &Device| {
        let numbered = (0..found.len()).flat_map(|n| {
            [
                (DeviceKind::DiscreteGpu(n), DeviceClass::DiscreteGpu),
                (DeviceKind::IntegratedGpu(n), DeviceClass::IntegratedGpu),
                (DeviceKind::VirtualGpu(n), DeviceClass::VirtualGpu),
            ]
        });
        let mut all = numbered.chain([(DeviceKind::Cpu, DeviceClass::Software)]);
        all.find(|(kind, _)| device_of(kind.clone()) == *device)
    };
    let candidate = |device: &Device| {
        let (kind, start): (_, StartFn) = match kinds(device) {
            Some((selector, kind)) => {
                (kind, Box::new(move |device| start_adapter(device, selector.clone(), api)))
            }
            None => (DeviceClass::Gpu, Box::new(start_on_first_use)),
        };
        Candidate { device: device.clone(), kind, start }
    };
    found.iter().map(candidate).collect()
}

#[cfg(feature = "wgpu")]
fn start_adapter(
    device: &Device,
    selector: DeviceKind,
    api: WgpuBackend,
) -> Result<DriverInfo, String> {
    use burn::tensor::wgpu::WgpuInitError;

    let options = Device::wgpu_options().device_kind(selector).graphics_api(api);
    let setup = match options.init_with_setup() {
        Ok((_device, setup)) => setup,
        // The embedding program has started the device already.
        Err(WgpuInitError::Registration { .. }) => return start_on_first_use(device),
        Err(error) => return Err(error.to_string()),
    };
    let (info, limits) = (setup.adapter.get_info(), setup.device.limits());
    let driver = format!("{} {}", info.driver, info.driver_info);
    Ok(DriverInfo {
        description: info.name,
        api: Some(format!("{:?}", setup.backend)),
        driver: Some(driver.trim().to_owned()).filter(|driver| !driver.is_empty()),
        limits: Some(DeviceLimits {
            buffer: limits.max_buffer_size,
            binding: limits.max_storage_buffer_binding_size,
            workgroup: limits.max_compute_workgroup_storage_size.into(),
        }),
    })
}

/// Starts a device with a small computation. Burn panics if the start fails.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn start_on_first_use(device: &Device) -> Result<DriverInfo, String> {
    panics::catch_panic(|| {
        let _sum = Tensor::<1>::ones([1], device) + 1.0;
        device.sync().map_err(|error| error.to_string())?;
        let name = device.identity().map(|identity| identity.name);
        let description = name.unwrap_or_else(|| "unnamed device".into());
        Ok(DriverInfo { description, ..DriverInfo::default() })
    })?
}
