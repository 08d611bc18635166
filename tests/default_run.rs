//! The first command of the README: trains the built-in model on the built-in instructions.

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
    let stderr = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{stderr}");
    let line: Value = serde_json::from_slice(&run.stdout).expect("one line of JSON");
    let number = |key: &str| line[key].as_f64().expect("a number");
    assert!(number("exact_match_before") < 0.05, "{line}");
    assert!(number("exact_match") > 0.6, "{line}");
    assert!(number("eval_loss") < 0.5 * number("eval_loss_before"), "{line}");
    // Three sample responses, and the command to try next.
    assert_eq!(stderr.matches("    base:    ").count(), 3, "{stderr}");
    assert_eq!(stderr.matches("    adapted: ").count(), 3, "{stderr}");
    assert!(stderr.contains("llama-adapter chat --adapter adapters/tiny-llama-1"), "{stderr}");
    assert!(folder.path().join("adapters/tiny-llama-1/adapter_model.safetensors").exists());
}
