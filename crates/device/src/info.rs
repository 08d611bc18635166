//! The properties of a device.

use std::fmt;

/// The properties of a device, as its driver reports them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name for [`open`](crate::open): `flex`, `wgpu:0`.
    pub name: String,
    /// Name of the hardware, such as the model of a GPU.
    pub description: String,
    /// Class of the device.
    pub kind: DeviceClass,
    /// Graphics API, for devices of wgpu: `Vulkan`, `Metal`, `Dx12`.
    pub api: Option<String>,
    /// Name and version of the driver, if reported.
    pub driver: Option<String>,
    /// Size limits, if reported. Burn does not report the size of the memory.
    pub limits: Option<DeviceLimits>,
    /// Supported float dtypes: some of `f32`, `f16`, `bf16`.
    pub dtypes: Vec<&'static str>,
    /// Whether layers use fused kernels, see [`kernels::is_fused`].
    pub fused: bool,
}

/// Size limits of a device, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// Largest buffer.
    pub buffer: u64,
    /// Largest binding of a buffer in a kernel: no tensor can be larger.
    pub binding: u64,
    /// Shared memory of a workgroup.
    pub workgroup: u64,
}

/// Class of a device, in order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceClass {
    /// A GPU with its own memory.
    DiscreteGpu,
    /// A GPU that shares the memory of the CPU.
    IntegratedGpu,
    /// The GPU of a virtual machine.
    VirtualGpu,
    /// A GPU of unknown kind.
    Gpu,
    /// A software renderer: a graphics API on the CPU.
    Software,
    /// A CPU.
    Cpu,
}

impl DeviceClass {
    /// Whether it is a CPU backend, without a driver.
    pub fn is_cpu(self) -> bool {
        self == Self::Cpu
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::DiscreteGpu => "discrete GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::VirtualGpu => "virtual GPU",
            Self::Gpu => "GPU",
            Self::Software => "software",
            Self::Cpu => "CPU",
        })
    }
}
