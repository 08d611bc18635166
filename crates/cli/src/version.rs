//! `llama-adapter --version`: which build this is, and what this machine makes of it

use std::sync::LazyLock;

use device::{BACKENDS, Backend};
use kernels::cpu::simd::Level;

/// What a report of a fault should begin with; the name of the program comes before it.
pub static LONG: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("LLAMA_ADAPTER_COMMIT").unwrap_or("not known");
    let hub = if cfg!(feature = "hub") { "yes" } else { "no" };
    let sets = Level::available().iter().map(Level::to_string).collect::<Vec<_>>().join(", ");
    format!(
        "{}\ncommit     {commit}\nbackends   {}\nhub        {hub}\nprocessor  {}: {sets}\nkernels    {}",
        env!("CARGO_PKG_VERSION"),
        device::compiled(),
        std::env::consts::ARCH,
        fused(),
    )
});

/// Where the kernels compute: asked of the devices themselves, but of none that would have to start first.
fn fused() -> String {
    let candidates = BACKENDS.iter().filter(|backend| backend.compiled && backend.fused);
    let is_fused =
        |backend: &&Backend| device::open(backend.name).is_ok_and(|open| open.info.fused);
    let names = candidates.filter(is_fused).map(|backend| backend.name).collect::<Vec<_>>();
    match names[..] {
        [] => "none: no backend of this build has fused layers".into(),
        _ => format!("fused layers on {}", names.join(", ")),
    }
}
