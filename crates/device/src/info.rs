//! What is known of a device.

use std::fmt;

/// A device and what it says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// What to call it: `flex`, `wgpu:0`.
    pub name: String,
    /// What it calls itself, such as the name of a graphics card.
    pub description: String,
    /// What computes there.
    pub kind: DeviceClass,
    /// The graphics interface, where there is one: `Vulkan`, `Metal`, `Dx12`.
    pub api: Option<String>,
    /// Name and version of the driver, where it tells.
    pub driver: Option<String>,
    /// Sizes that it keeps to, where it tells. How much memory it has is not among what Burn
    /// hands on.
    pub limits: Option<DeviceLimits>,
    /// Number formats that it computes in: some of `f32`, `f16`, `bf16`.
    pub dtypes: Vec<&'static str>,
    /// Whether layers are computed by fused operations, see [`kernels::is_fused`].
    pub fused: bool,
}

/// Sizes that a device keeps to, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceLimits {
    /// One piece of memory.
    pub buffer: u64,
    /// What a kernel can see of it: no tensor can be larger.
    pub binding: u64,
    /// Memory that a group of threads shares.
    pub workgroup: u64,
}

/// What computes, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceClass {
    /// A graphics card with memory of its own.
    DiscreteGpu,
    /// Graphics in the processor, sharing its memory.
    IntegratedGpu,
    /// A graphics card behind a virtual machine.
    VirtualGpu,
    /// A graphics card whose driver says no more.
    Gpu,
    /// The processor, pretending to be a graphics card.
    Software,
    /// The processor.
    Cpu,
}

impl DeviceClass {
    /// Whether a backend made for CPUs computes: no driver stands in between that could be wrong.
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
