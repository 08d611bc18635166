//! A loaded model is in the device's memory once, in the requested precision, and not in host memory. A test
//! binary of its own, since it counts the process's allocations.

use llama::read_back::read_back_count;
use llama::{LlamaConfig, Precision, weights};
use peak_alloc::PeakAlloc;
use testing::tiny_model::{self, SeededWeights};

#[global_allocator]
static HOST: PeakAlloc = PeakAlloc;

/// Matrices of at most half a megabyte, 21 megabytes in total in f32.
fn config() -> LlamaConfig {
    LlamaConfig {
        n_layers: 8,
        d_model: 256,
        d_ff: 512,
        n_heads: 8,
        n_kv_heads: 8,
        head_dim: 32,
        ..tiny_model::config()
    }
}

#[test]
fn a_model_is_in_memory_once() {
    for device in testing::devices() {
        let in_use = || device.memory_pool_usage().map(|usage| usage.bytes_in_use as usize);
        for precision in [Precision::F32, Precision::F16, Precision::Bits8, Precision::Bits4] {
            if !precision.is_supported(&device) {
                continue;
            }
            let (device_before, host_before) = (in_use(), HOST.current_usage());
            HOST.reset_peak_usage();
            let read_backs = read_back_count();
            let llama = weights::load(config(), &SeededWeights::new(&config()), precision, &device)
                .unwrap();
            assert_eq!(read_back_count(), read_backs, "loading does not read back");
            device.sync().unwrap();
            let bytes = llama.weight_bytes();
            // Norms, and the rounding of allocations.
            let allowed = bytes + bytes / 20;
            let peak = HOST.peak_usage() - host_before;
            let name = format!("{precision} on {device:?}");
            match in_use().zip(device_before) {
                Some((now, before)) => {
                    assert!(now - before <= allowed, "{name}: {} of {bytes}", now - before);
                    // Only while a tensor is uploaded.
                    assert!(
                        peak < bytes,
                        "{name}: {peak} of {bytes} bytes were on the host at once"
                    );
                    let left = HOST.current_usage().saturating_sub(host_before);
                    assert!(left < bytes / 4, "{name}: {left} of {bytes} bytes remain on the host");
                }
                // Host memory is device memory: the model, and one tensor while it is read.
                None => assert!(peak <= allowed + (1 << 20), "{name}: {peak} of {bytes}"),
            }
        }
    }
}
