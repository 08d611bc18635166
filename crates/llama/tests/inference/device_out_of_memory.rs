//! Out of device memory. GPU backends report a failed allocation; CPU backends get memory that the system
//! overcommits, and the process is killed. So the test needs a GPU device: `LLAMA_ADAPTER_TEST_DEVICES` names
//! one, as in CI.

use burn::tensor::Tensor;
use llama::{Advice, Diagnostic, read_back};

#[test]
fn a_tensor_too_large_for_its_device_is_an_error_and_the_next_one_is_computed() {
    let has_own_memory = |device: &burn::tensor::Device| device.memory_pool_usage().is_some();
    for device in testing::devices().into_iter().filter(has_own_memory) {
        // 4 TiB.
        let large = Tensor::<2>::ones([1 << 20, 1 << 20], &device) * 2.0;
        let error = read_back(large.narrow(0, 0, 1)).unwrap_err();
        assert!(error.to_string().contains("cannot allocate 4194304 MiB"), "{error}");
        assert_eq!(error.advice(), Some(Advice::ReduceMemory));
        assert!(read_back(Tensor::<1>::ones([2], &device)).is_ok());
    }
}
