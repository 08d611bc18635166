//! Kernels for GPUs, one source for every backend on CubeCL: wgpu, Vulkan, Metal, CUDA, ROCm.

pub(crate) mod matmul;
