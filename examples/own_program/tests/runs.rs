//! The program is built with one feature for GPUs, and runs: on a GPU where tests are told of one.

use std::process::Command;

#[test]
fn it_teaches_and_answers() {
    let told = std::env::var("LLAMA_ADAPTER_TEST_DEVICES").unwrap_or_default();
    // Tests are built with flex as well.
    let device = if told.contains("wgpu") { "wgpu" } else { "flex" };
    let run = Command::new(env!("CARGO_BIN_EXE_own-program"))
        .env("BURN_DEVICE", device)
        .output()
        .expect("the program starts");
    let (told, trouble) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{trouble}");
    assert!(told.contains("Say where you work. At the old mill in Oakham."), "{told}");
    // No feature of Burn's or of the kernels' was named.
    let layers = if device == "flex" { "fused" } else { "composed" };
    assert!(told.starts_with(&format!("layers are {layers}\n")), "{told}");
}
