//! `llama-adapter --version`: which build this is, and what this machine makes of it

use std::sync::LazyLock;

use device::BACKENDS;
use kernels::cpu::simd::SimdLevel;

/// What a report of a fault should begin with; the name of the program comes before it.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("LLAMA_ADAPTER_COMMIT").unwrap_or("not known");
    let hub = if cfg!(feature = "hub") { "yes" } else { "no" };
    let sets =
        SimdLevel::available().iter().map(SimdLevel::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "{}\ncommit     {commit}\nbackends   {}\nhub        {hub}\nprocessor  {}: {sets}\nkernels    {}",
        env!("CARGO_PKG_VERSION"),
        device::compiled(),
        std::env::consts::ARCH,
        fused(),
    )
});

/// The backends of this build whose layers are fused; a test of `device` holds the table against the devices.
fn fused() -> String {
    let fused = BACKENDS.iter().filter(|backend| backend.compiled && backend.fused);
    let names = fused.map(|backend| backend.name).collect::<Vec<_>>();
    match names[..] {
        [] => "none: no backend of this build has fused layers".into(),
        _ => format!("fused layers on {}", names.join(", ")),
    }
}
