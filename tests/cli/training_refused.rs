//! Runs that `train` refuses without a change of the output folder.

use crate::program::Program;
use crate::training::{adapter, log, short_train_args, write_eval_rows};

#[test]
fn a_folder_with_another_run_in_it_is_left_alone() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "1", "--quiet"]);
    program.run(&args).ok();
    let before = adapter(&output);
    let mut other = args.clone();
    other.extend(["--seed", "9"]);
    let error = program.run(&other).fails(1);
    assert!(error.contains("holds another run already"), "{error}");
    assert!(error.contains("\nhint: choose a new or empty --output"), "{error}");
    assert_eq!(adapter(&output), before);

    other.push("--resume");
    let error = program.run(&other).fails(1);
    assert!(error.contains("\n  --seed: then 0, now 9"), "{error}");
    let hint =
        format!("for other settings start a new run with --from-adapter {} and", output.display());
    assert!(error.contains(&hint), "{error}");
    assert_eq!(adapter(&output), before);

    // Resuming a complete run prints its summary again and does not change its log.
    let mut same = args.clone();
    same.push("--resume");
    let log_before = log(&output);
    assert_eq!(program.run(&same).json()["steps"], 1);
    assert_eq!(adapter(&output), before);
    assert_eq!(log(&output), log_before);
}

#[test]
fn another_precision_is_another_run() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "1", "--quiet"]);
    program.run(&args).ok();
    let error = program.run(&[&args[..], &["--resume", "--precision", "bf16"]].concat()).fails(1);
    assert!(error.contains("--precision: then \"F32\", now \"BF16\""), "{error}");
}

#[test]
fn a_longer_run_is_another_run_and_says_why() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let output = output.to_str().unwrap();
    program.run(&short_train_args(output, &[&few, "--max-steps", "1", "--quiet"])).ok();
    let longer = short_train_args(output, &[&few, "--max-steps", "2", "--quiet", "--resume"]);
    let error = program.run(&longer).fails(1);
    assert!(error.contains("\n  --max-steps: then 1, now 2\n  (the length determines"), "{error}");
    // The hint works.
    let next = program.folder().join("next");
    let args = short_train_args(next.to_str().unwrap(), &[&few, "--max-steps", "2", "--quiet"]);
    program.run(&[&args[..], &["--from-adapter", output]].concat()).json();
}

#[test]
fn an_output_path_that_is_a_file_is_reported() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let error =
        program.run(&short_train_args(&few, &[&few, "--max-steps", "1", "--quiet"])).fails(1);
    let expected = "few.jsonl: this is a file, and a run needs a folder\nhint: choose a new or empty --output\n";
    assert!(error.ends_with(expected), "{error}");
    let below = format!("{few}/run");
    let error =
        program.run(&short_train_args(&below, &[&few, "--max-steps", "1", "--quiet"])).fails(1);
    assert!(
        error.ends_with("hint: the path contains a file where a folder is expected\n"),
        "{error}"
    );
}

#[test]
fn a_missing_run_cannot_be_resumed() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("none");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--resume"]);
    let error = program.run(&args).fails(1);
    assert!(error.contains("nothing to resume: it has no run.json"), "{error}");
    assert!(!output.exists());
}

#[test]
fn bad_data_is_named_by_file_and_line() {
    let program = Program::new();
    let data = program.folder().join("rows.jsonl");
    let train = |text: &str| {
        std::fs::write(&data, text).unwrap();
        let output = program.folder().join("run");
        let args = ["train", "--data", data.to_str().unwrap(), "--output"];
        let error = program.run(&[&args[..], &[output.to_str().unwrap()]].concat()).fails(1);
        assert!(!output.exists());
        error
    };
    let good = r#"{"instruction": "Name a colour.", "output": "Red."}"#;
    let error = train(&format!("{good}\n{good}\n{{\"instruction\": [3], \"output\": \"b\"}}\n"));
    assert!(error.contains("rows.jsonl, line 3: `instruction` is a list, not a text"), "{error}");
    assert!(error.contains("\nhint: a row is {\"instruction\""), "{error}");
    assert!(train(&format!("{good}\nnot json\n")).contains("rows.jsonl, line 2: not valid JSON"));
    assert!(train("\n\n").contains("no rows to train on: the file has none"));
    let error = program.run(&["train", "--data", "nowhere.jsonl"]).fails(1);
    assert!(error.contains("nowhere.jsonl: cannot read"), "{error}");
}

#[test]
fn invalid_settings_are_refused_before_anything_is_written() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let error = |more: &[&str]| {
        let more = [&[few.as_str()], more].concat();
        let error = program.run(&short_train_args(output.to_str().unwrap(), &more)).fails(2);
        assert!(!output.exists());
        error
    };
    let layers = error(&["--adapter-layers", "99"]);
    assert!(layers.contains("the adapter has 99 adapted layers, the model has"), "{layers}");
    assert!(layers.contains("\nhint: reduce --adapter-layers"), "{layers}");
    for len in ["0", "1000000000000", "2305843009213693952"] {
        let error = error(&["--adapter-len", len]);
        assert!(error.contains(&format!("adapter_len is {len}, expected 1 to 65536")), "{error}");
    }
    assert!(error(&["--learning-rate=-1"]).contains("the learning rate is -1, expected above 0"));
    let usage = program.run(&["train", "--epochs", "1", "--max-steps", "1"]).fails(2);
    assert!(usage.contains("cannot be used with"), "{usage}");
    let usage = program.run(&["train", "--model", "some/where"]).fails(2);
    assert!(usage.contains("--model requires --data"), "{usage}");
}

/// A full disk: the shell forbids files of more than a few kilobytes.
#[cfg(unix)]
#[test]
fn a_full_disk_is_an_error_and_leaves_no_temporary_files() {
    use std::process::{Command, Stdio};

    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let args = short_train_args(output.to_str().unwrap(), &[&few, "--max-steps", "2", "--quiet"]);
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 8; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_llama-adapter"))
        .args(&args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let error = crate::program::run_to_end(command, "").fails(1);
    assert!(error.contains("checkpoint.safetensors: cannot write"), "{error}");
    assert!(error.contains("\nhint: write to a disk that allows files of this size"), "{error}");
    let left = std::fs::read_dir(&output).unwrap().map(|file| file.unwrap().file_name());
    let left = left.map(|name| name.into_string().unwrap()).collect::<Vec<_>>();
    assert!(!left.iter().any(|name| name.contains(".tmp")), "{left:?}");
}

#[test]
fn options_of_another_method_are_refused() {
    let program = Program::new();
    for (args, option, methods) in [
        (&["--method", "lora", "--tanh"][..], "--tanh", "prompts, prompts+v2"),
        (&["--method", "v2", "--layers", "1"], "--layers", "prompts, prompts+v2, lora"),
        (&["--lora-rank", "4"], "--lora-rank", "lora"),
        (&["--method", "full", "--v2-variant", "lit"], "--v2-variant", "v2, prompts+v2"),
    ] {
        let args = [&["train"], args].concat();
        let error = program.run(&args).fails(2);
        assert!(error.contains(&format!("{option} cannot be used with --method ")), "{error}");
        let hint = format!("hint: {option} requires --method {methods}\n");
        assert!(error.contains(&hint), "{error}");
    }
}
