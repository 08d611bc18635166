//! Burn's backends: the one file that names them.
//!
//! ```text
//! name ─► candidates: what the machine has ─► start: device, and what it says about itself
//! ```

#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
#[path = "panics.rs"]
mod panics;

use burn::tensor::Device;
#[cfg(feature = "wgpu")]
use burn::tensor::{DeviceKind, wgpu::WgpuBackend};
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
use burn::tensor::{DeviceType, Tensor};

use crate::info::{DeviceClass, DeviceLimits};

/// A backend that this workspace knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "facts, each of its own")]
pub struct Backend {
    /// Name on the command line, and of the cargo feature.
    pub name: &'static str,
    /// Whether a number may follow, as in `cuda:1`.
    pub indexed: bool,
    /// Whether this build has it.
    pub compiled: bool,
    /// The 16-bit numbers that it multiplies, as far as all of its devices go; a card may lack them.
    pub half_dtype: Option<&'static str>,
    /// Whether layers are made of fused operations, those of `crates/kernels`.
    pub fused: bool,
    /// Whether memory plans for it were held against measured peaks.
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

/// Every backend, in the order in which a default is looked for.
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

/// Backends whose numbers others are compared with, the best first: neither has a driver or a
/// compiler of kernels that could be wrong.
pub(crate) const REFERENCE_BACKENDS: [&str; 2] = ["flex", "ndarray"];

/// Names of the backends in this build, separated by commas.
pub fn compiled() -> String {
    let names = BACKENDS.iter().filter(|backend| backend.compiled).map(|backend| backend.name);
    names.collect::<Vec<_>>().join(", ")
}

/// A device that a backend has found, not started yet.
pub(crate) struct Candidate {
    pub device: Device,
    pub kind: DeviceClass,
    start: Start,
}

/// How a device comes up; what went wrong, in the driver's words.
type Start = Box<dyn Fn(&Device) -> Result<Adapter, String>>;

/// What a device says about itself.
#[derive(Default)]
pub(crate) struct Adapter {
    pub description: String,
    pub api: Option<String>,
    pub driver: Option<String>,
    pub limits: Option<DeviceLimits>,
}

impl Candidate {
    /// Brings the device up.
    pub fn start(&self) -> Result<Adapter, String> {
        (self.start)(&self.device)
    }

    #[cfg(any(feature = "flex", feature = "ndarray", feature = "cpu"))]
    fn cpu(device: Device, description: &'static str) -> Self {
        let start = Box::new(move |_: &Device| {
            Ok(Adapter { description: description.into(), ..Adapter::default() })
        });
        Self { device, kind: DeviceClass::Cpu, start }
    }
}

/// The devices of a backend on this machine; none if it is not in this build.
#[cfg_attr(feature = "ndarray", expect(deprecated, reason = "kept as a second CPU backend"))]
pub(crate) fn candidates(backend: &str) -> Vec<Candidate> {
    match backend {
        #[cfg(feature = "flex")]
        "flex" => vec![Candidate::cpu(Device::flex(), "the processor, Burn's own operations")],
        #[cfg(feature = "ndarray")]
        "ndarray" => vec![Candidate::cpu(Device::ndarray(), "the processor, through ndarray")],
        #[cfg(feature = "cpu")]
        "cpu" => vec![Candidate::cpu(Device::cpu(), "the processor, kernels compiled by LLVM")],
        #[cfg(feature = "cuda")]
        "cuda" => gpus(DeviceType::Cuda),
        #[cfg(feature = "rocm")]
        "rocm" => gpus(DeviceType::Rocm),
        #[cfg(feature = "metal")]
        "metal" => adapters(DeviceType::Metal, WgpuBackend::Metal, Device::metal),
        #[cfg(feature = "vulkan")]
        "vulkan" => adapters(DeviceType::Vulkan, WgpuBackend::Vulkan, Device::vulkan),
        #[cfg(feature = "webgpu")]
        "webgpu" => adapters(DeviceType::WebGpu, WgpuBackend::WebGpu, Device::webgpu),
        #[cfg(feature = "wgpu")]
        "wgpu" => adapters(DeviceType::Wgpu, WgpuBackend::Auto, Device::wgpu),
        _ => Vec::new(),
    }
}

/// Devices that come up at their first use.
#[cfg(any(feature = "cuda", feature = "rocm"))]
fn gpus(wanted: DeviceType) -> Vec<Candidate> {
    let found = Device::enumerate(wanted).into_vec().into_iter();
    found
        .map(|device| Candidate { device, kind: Kind::Gpu, start: Box::new(at_first_use) })
        .collect()
}

/// Devices of a graphics interface, each with all that its driver tells.
#[cfg(feature = "wgpu")]
fn adapters(
    wanted: DeviceType,
    api: WgpuBackend,
    of_kind: fn(DeviceKind) -> Device,
) -> Vec<Candidate> {
    let found = Device::enumerate(wanted).into_vec();
    // Burn lists devices, but starts kinds: the kind of each is the one that makes the same device.
    let kinds = |device: &Device| {
        let numbered = (0..found.len()).flat_map(|n| {
            [
                (DeviceKind::DiscreteGpu(n), DeviceClass::DiscreteGpu),
                (DeviceKind::IntegratedGpu(n), DeviceClass::IntegratedGpu),
                (DeviceKind::VirtualGpu(n), DeviceClass::VirtualGpu),
            ]
        });
        let mut all = numbered.chain([(DeviceKind::Cpu, DeviceClass::Software)]);
        all.find(|(kind, _)| of_kind(kind.clone()) == *device)
    };
    let candidate = |device: &Device| {
        let (kind, start): (_, Start) = match kinds(device) {
            Some((selector, kind)) => {
                (kind, Box::new(move |device| start_adapter(device, selector.clone(), api)))
            }
            None => (DeviceClass::Gpu, Box::new(at_first_use)),
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
) -> Result<Adapter, String> {
    use burn::tensor::wgpu::WgpuInitError;

    let options = Device::wgpu_options().device_kind(selector).graphics_api(api);
    let setup = match options.init_with_setup() {
        Ok((_device, setup)) => setup,
        // The program that this is a part of has started it already.
        Err(WgpuInitError::Registration { .. }) => return at_first_use(device),
        Err(error) => return Err(error.to_string()),
    };
    let (about, limits) = (setup.adapter.get_info(), setup.device.limits());
    let driver = format!("{} {}", about.driver, about.driver_info);
    Ok(Adapter {
        description: about.name,
        api: Some(format!("{:?}", setup.backend)),
        driver: Some(driver.trim().to_owned()).filter(|driver| !driver.is_empty()),
        limits: Some(DeviceLimits {
            buffer: limits.max_buffer_size,
            binding: limits.max_storage_buffer_binding_size,
            workgroup: limits.max_compute_workgroup_storage_size.into(),
        }),
    })
}

/// Starts a device that panics where it cannot come up, by computing something.
#[cfg(any(feature = "wgpu", feature = "cuda", feature = "rocm"))]
fn at_first_use(device: &Device) -> Result<Adapter, String> {
    panics::caught(|| {
        let _sum = Tensor::<1>::ones([1], device) + 1.0;
        device.sync().map_err(|error| error.to_string())?;
        let name = device.identity().map(|identity| identity.name);
        let description = name.unwrap_or_else(|| "a device without a name".into());
        Ok(Adapter { description, ..Adapter::default() })
    })?
}
