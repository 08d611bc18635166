//! Products with a frozen matrix on GPUs, read as it is stored: f32, f16, bf16, or blocks of 8 or 4
//! bits.
//!
//! ```text
//! few rows (decode)            gemv.rs   every lane unpacks 8 columns of some rows and sums in registers
//! many rows (prefill, train)   gemm.rs   tiles of the matrix are unpacked in shared memory
//!                              dense.rs  Burn's matmul, for f32 and for types of the device's matrix units
//! dy · W (backward)            as many rows, with the tile not transposed
//! rows (embedding)             rows.rs
//! ```
//!
//! The matrix is never whole in f32. Sums are in f32. Elements are unpacked with shifts from words of
//! 32 bits, so that a device needs no arithmetic in f16 or bf16, nor 8-bit integers.

mod backward;
mod dense;
mod device_matrix;
mod gemm;
mod gemv;
mod ops;
mod rows;
mod words;

pub(crate) use device_matrix::DeviceMatrix;
pub(crate) use ops::{linears, select_rows, to_dense};
pub(super) use ops::{linears_backward, linears_forward};

use burn::tensor::Device;
use burn_cubecl::CubeDevice;

use crate::gpu_kernel::{GpuKernel, has_gpu_kernel};

/// Units of a workgroup of the GEMM, the largest of these kernels.
const WORKGROUP: u32 = 256;
/// Shared memory of a workgroup: what WebGPU guarantees.
const SHARED_MEMORY: usize = 16 << 10;

/// The device of these kernels; `None` if they cannot run on it.
fn cube_device(device: &Device) -> Option<CubeDevice> {
    let device = device.clone().without_autodiff();
    let device = super::gpu(&device)?;
    let client = device.client();
    let hardware = &client.properties().hardware;
    let fits = hardware.max_units_per_cube >= WORKGROUP
        && hardware.max_shared_memory_size >= SHARED_MEMORY;
    fits.then(|| device.clone())
}

/// Whether a device has these kernels.
pub(crate) fn is_supported(device: &Device) -> bool {
    has_gpu_kernel(device, GpuKernel::Matmul) && cube_device(device).is_some()
}
