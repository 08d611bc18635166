//! A model is in a device's memory once, in the precision that was asked for, and not in the
//! host's beside it. A process of its own, since it counts bytes.

mod tiny;

use llama::read_back::read_back_count;
use llama::{LlamaConfig, Precision, weights};
use peak_alloc::PeakAlloc;
use tiny::SeededWeights;

#[global_allocator]
static HOST: PeakAlloc = PeakAlloc;

/// Matrices of half a megabyte or less, 21 megabytes in f32.
fn config() -> LlamaConfig {
    LlamaConfig {
        n_layers: 8,
        d_model: 256,
        d_ff: 512,
        n_heads: 8,
        n_kv_heads: 8,
        head_dim: 32,
        ..tiny::config()
    }
}

#[test]
fn a_model_is_held_once() {
    for device in testing::devices() {
        let in_use = || device.memory_pool_usage().map(|usage| usage.bytes_in_use as usize);
        for precision in [Precision::F32, Precision::F16, Precision::Bits8, Precision::Bits4] {
            if !precision.is_supported(&device) {
                continue;
            }
            let (device_before, host_before) = (in_use(), HOST.current_usage());
            HOST.reset_peak_usage();
            let waited = read_back_count();
            let llama = weights::load(config(), &SeededWeights::new(&config()), precision, &device)
                .unwrap();
            assert_eq!(read_back_count(), waited, "loading does not read back");
            device.sync().unwrap();
            let held = llama.weight_bytes();
            // Norms, and what one allocation is rounded up to.
            let most = held + held / 20;
            let peak = HOST.peak_usage() - host_before;
            let name = format!("{precision} on {device:?}");
            match in_use().zip(device_before) {
                Some((now, before)) => {
                    assert!(now - before <= most, "{name}: {} of {held}", now - before);
                    // On their way only.
                    assert!(peak < held, "{name}: {peak} bytes of {held} were on the host at once");
                    let left = HOST.current_usage().saturating_sub(host_before);
                    assert!(left < held / 4, "{name}: {left} bytes of {held} are left on the host");
                }
                // The host's memory is the device's: the model, and one tensor while it is read.
                None => assert!(peak <= most + (1 << 20), "{name}: {peak} of {held}"),
            }
        }
    }
}
