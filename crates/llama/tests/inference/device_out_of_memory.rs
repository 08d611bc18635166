//! A device that has no room for a tensor. Devices with memory of their own say so; CPU backends ask the system,
//! which promises more than it has, and ends the process that uses it. So without a graphics device there is
//! nothing to try here: `LLAMA_ADAPTER_TEST_DEVICES` names one, as CI does.

use burn::tensor::Tensor;
use llama::{Advice, Diagnostic, read_back};

#[test]
fn a_tensor_too_large_for_its_device_is_an_error_and_the_next_one_is_computed() {
    let has_memory_of_its_own =
        |device: &burn::tensor::Device| device.memory_pool_usage().is_some();
    for device in testing::devices().into_iter().filter(has_memory_of_its_own) {
        // 4 TiB.
        let large = Tensor::<2>::ones([1 << 20, 1 << 20], &device) * 2.0;
        let error = read_back(large.narrow(0, 0, 1)).unwrap_err();
        assert!(error.to_string().contains("no 4194304 MiB"), "{error}");
        assert_eq!(error.advice(), Some(Advice::ReduceMemory));
        assert!(read_back(Tensor::<1>::ones([2], &device)).is_ok());
    }
}
