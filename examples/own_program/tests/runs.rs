//! The program names one backend, in its manifest, and runs on it with all that belongs to it.

use std::process::Command;

#[test]
fn it_teaches_and_answers_with_fused_layers() {
    let run = Command::new(env!("CARGO_BIN_EXE_own-program")).output().expect("the program starts");
    let (told, trouble) =
        (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success(), "{trouble}");
    // No feature of Burn's or of the kernels' was named.
    assert!(told.starts_with("layers are fused\n"), "{told}");
    assert!(told.contains("Say where you work. At the old mill in Oakham."), "{told}");
}
