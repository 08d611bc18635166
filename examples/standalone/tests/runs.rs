//! The program selects one backend in its manifest, and runs on it with fused kernels.

use std::process::Command;

#[test]
fn it_trains_and_generates_with_fused_layers() {
    let run = Command::new(env!("CARGO_BIN_EXE_standalone")).output().expect("the program starts");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{stderr}");
    // The manifest names no feature of Burn's backends or of the kernels.
    assert!(stdout.starts_with("layers are fused\n"), "{stdout}");
    assert!(stdout.contains("Say where you work. At the old mill in Oakham."), "{stdout}");
}
