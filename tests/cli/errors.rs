//! Errors: form, exit code, hint.

use std::process::Stdio;

use crate::program::{Program, golden, run_to_end};

#[test]
fn wrong_usage_ends_with_2() {
    let program = Program::new();
    for args in [
        &["fly"][..],
        &["generate"],
        &["generate", "--prompt", "a", "--instruction", "b"],
        &["generate", "--prompt", "a", "--input", "b"],
        &["generate", "--instruction", "a", "--raw"],
        &["generate", "--prompt", "a", "--precision", "f64"],
        &["generate", "--prompt", "a", "--max-new-tokens", "-1"],
        &["logits", "--ids", "a.json"],
        &["fetch", "--wheel", "a.whl"],
    ] {
        let error = program.run(args).fails(2);
        assert!(error.contains("Usage:") || error.contains("--help"), "{args:?}: {error}");
    }
}

#[test]
fn no_arguments_print_the_help() {
    let outcome = Program::new().run(&[]);
    assert_eq!(outcome.code, Some(2));
    assert!(outcome.stderr.contains("Usage: llama-adapter <COMMAND>"), "{}", outcome.stderr);
}

#[test]
fn a_value_out_of_range_is_wrong_usage() {
    let program = Program::new();
    let error = |option, value| program.run(&["generate", "-p", "a", option, value]).fails(2);
    assert!(error("--top-p", "1.5").starts_with("error: top_p is 1.5, expected"));
    assert!(error("--temperature", "-1").starts_with("error: temperature is -1, expected"));
    assert!(error("--repetition-penalty", "0").starts_with("error: repetition_penalty is 0"));
}

#[test]
fn an_unknown_device_lists_the_known_ones() {
    let program = Program::new();
    let error = program.run(&["generate", "-p", "a", "--device", "tpu"]).fails(2);
    assert!(error.starts_with("error: unknown device `tpu` (this build has: flex"), "{error}");
    assert!(error.contains("\nhint: devices: flex, "), "{error}");
    let error = program.run(&["generate", "-p", "a", "--device", "flex:1"]).fails(2);
    assert!(error.contains("this backend has a single device"), "{error}");
}

#[test]
fn an_absent_backend_names_its_feature() {
    let Some(absent) = device::BACKENDS.iter().find(|backend| !backend.compiled) else { return };
    let error = Program::new().run(&["chat", "--device", absent.name]).fails(2);
    assert!(error.contains("is not in this build (it has: "), "{error}");
    assert!(error.ends_with(&format!("hint: build with `--features {}`\n", absent.name)));
}

#[test]
fn a_model_that_is_not_found_lists_what_is_accepted() {
    let program = Program::new();
    for name in ["nothing-of-this-name", "folder/model.gguf", "./owner/name"] {
        let error = program.run(&["generate", "-p", "a", "--model", name]).fails(1);
        let hint = error.split_once("hint: ").expect("a hint").1;
        assert!(
            error.starts_with(&format!("error: model `{name}` not found: no such folder or file")),
            "{error}"
        );
        for accepted in ["config.json", ".gguf", "smollm2-135m-instruct", "owner/name", "built-in"]
        {
            assert!(hint.contains(accepted), "{error}");
        }
    }
}

#[test]
fn a_known_model_that_is_not_fetched_names_the_command() {
    let args = ["generate", "-p", "a", "--model", "smollm2-135m-instruct"];
    let error = Program::new().run(&args).fails(1);
    let hint = "hint: run `llama-adapter fetch smollm2-135m-instruct`\n";
    assert!(error.ends_with(hint), "{error}");
}

#[cfg(feature = "hub")]
#[test]
fn an_unreachable_hub_is_reported_after_the_path_was_tried() {
    let error = Program::new().run(&["generate", "-p", "a", "--model", "owner/name"]).fails(1);
    assert!(error.starts_with("error: `owner/name` is not a local folder or file"), "{error}");
    assert!(error.contains("\n  caused by: owner/name: cannot fetch config.json"), "{error}");
    assert!(error.contains("\nhint: check the repository id and the network"), "{error}");
}

#[test]
fn an_adapter_for_another_model_is_refused() {
    let adapter = golden("smollm2/adapter");
    let args = ["generate", "-p", "a", "--adapter", &adapter];
    let error = Program::new().run(&args).fails(1);
    assert!(error.contains("does not match the base model"), "{error}");
    assert!(error.contains("hint: use the --model it was trained on"), "{error}");
}

#[test]
fn a_folder_without_an_adapter_is_refused() {
    let program = Program::new();
    let empty = program.folder().to_str().unwrap();
    let error = program.run(&["generate", "-p", "a", "--adapter", empty]).fails(1);
    assert!(error.contains("adapter_config.json is missing\nhint: give the folder"), "{error}");
}

#[test]
fn a_prompt_longer_than_the_context_is_refused() {
    let model = golden("gguf/tiny-llama.gguf");
    let args = ["generate", "--instruction", "Name a colour.", "--model", &model];
    let error = Program::new().run(&args).fails(1);
    assert!(error.contains("the model's context has room for 64"), "{error}");
    assert!(error.ends_with("hint: shorten the prompt or ask for fewer new tokens\n"), "{error}");
}

#[test]
fn a_closed_stdout_is_not_an_error() {
    let mut child = Program::new().command(&["inspect"]).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_on_stdout_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = Program::new().command(&["inspect"]);
    command.stdout(Stdio::from(full));
    let error = run_to_end(command, "").fails(1);
    assert!(error.starts_with("error: cannot write to standard output\n  caused by: "), "{error}");
}
