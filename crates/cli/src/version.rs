//! `llama-adapter --version`: the build and the CPU features that it uses

use std::sync::LazyLock;

use device::BACKENDS;
use kernels::cpu::simd::SimdLevel;

/// The facts that a bug report needs; clap puts the name of the program in front.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("LLAMA_ADAPTER_COMMIT").unwrap_or("unknown");
    let hub = if cfg!(feature = "hub") { "yes" } else { "no" };
    let levels =
        SimdLevel::available().iter().map(SimdLevel::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "{}\ncommit     {commit}\nbackends   {}\nhub        {hub}\nCPU        {}: {levels}\nkernels    {}",
        env!("CARGO_PKG_VERSION"),
        device::compiled(),
        std::env::consts::ARCH,
        fused_backends(),
    )
});

/// The backends of this build with fused layers.
fn fused_backends() -> String {
    let fused = BACKENDS.iter().filter(|backend| backend.compiled && backend.fused);
    let names = fused.map(|backend| backend.name).collect::<Vec<_>>();
    match names[..] {
        [] => "none".into(),
        _ => format!("fused layers on {}", names.join(", ")),
    }
}
