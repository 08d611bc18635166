//! Kernels of GPUs that are switched off, in a process of their own.

use burn::tensor::Tensor;
use kernels::{
    GpuKernel, count_launches, disable_gpu_kernel, enable_gpu_kernels, has_gpu_kernel, rms_norm,
};
use testing::assert_close;

#[test]
fn an_operation_without_its_kernel_is_composed_and_gives_the_same() {
    for device in testing::devices() {
        if !has_gpu_kernel(&device, GpuKernel::RmsNorm) {
            continue;
        }
        let x = Tensor::<2>::from_floats([[1.0, -2.0, 0.5], [3.0, 0.0, 1.0]], &device);
        let weight = Tensor::<1>::from_floats([1.0, 2.0, -1.0], &device);
        let norm = || count_launches(|| rms_norm(x.clone(), weight.clone(), 1e-5));
        let (expected, with_kernel) = norm();
        assert_eq!((with_kernel.all, with_kernel.fused), (1, 1));

        enable_gpu_kernels(false);
        assert!(!GpuKernel::ALL.iter().any(|&kernel| has_gpu_kernel(&device, kernel)));
        let (found, without) = norm();
        assert!(without.fused == 0 && without.all > 1, "{without:?}");
        assert_close("all switched off", found, expected.clone(), 1e-6);
        enable_gpu_kernels(true);

        disable_gpu_kernel(&device.clone().autodiff(), GpuKernel::RmsNorm);
        assert!(!has_gpu_kernel(&device, GpuKernel::RmsNorm));
        assert!(has_gpu_kernel(&device, GpuKernel::SwiGlu));
        let (found, without) = norm();
        assert_eq!(without.fused, 0);
        assert_close("one switched off", found, expected, 1e-6);
    }
}
