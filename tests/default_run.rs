//! The first command of the README: the built-in model learns the built-in instructions.

use std::process::{Command, Stdio};

use serde_json::Value;

#[test]
fn train_without_options_makes_the_built_in_model_useful() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let run = Command::new(env!("CARGO_BIN_EXE_llama-adapter"))
        .arg("train")
        .current_dir(folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("the program starts");
    let told = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{told}");
    let line: Value = serde_json::from_slice(&run.stdout).expect("one line of JSON");
    let share = |key: &str| line[key].as_f64().expect("a number");
    assert!(share("exact_match_before") < 0.05, "{line}");
    assert!(share("exact_match") > 0.6, "{line}");
    assert!(share("eval_loss") < 0.5 * share("eval_loss_before"), "{line}");
    // Three instructions side by side, and the command to try next.
    assert_eq!(told.matches("    base:    ").count(), 3, "{told}");
    assert_eq!(told.matches("    adapted: ").count(), 3, "{told}");
    assert!(told.contains("llama-adapter chat --adapter adapters/tiny-llama-1"), "{told}");
    assert!(folder.path().join("adapters/tiny-llama-1/adapter_model.safetensors").exists());
}
