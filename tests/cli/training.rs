//! `train` and `eval`: the JSON summary, the output folder, resuming.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use checkpoint::{ByteSource, SafetensorsFile};
use serde_json::Value;

use crate::program::{Program, keys};

/// The arguments of a short run on the built-in model; those of `more` begin with the held-out data.
pub fn short_train_args<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut args = vec!["train", "--exact-match-rows", "2", "--batch-size", "4"];
    args.extend(["--output", output, "--eval-data"]);
    args.extend(more);
    args
}

/// Writes four held-out rows, for fast evaluation, and returns the path.
pub fn write_eval_rows(folder: &Path) -> String {
    let assets =
        testing::golden_folder().join("../../crates/built-in/assets/instructions/test.jsonl");
    let text = std::fs::read_to_string(assets).expect("the built-in instructions");
    let few = text.lines().take(4).map(|line| format!("{line}\n")).collect::<String>();
    let path = folder.join("few.jsonl");
    std::fs::write(&path, few).expect("written");
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// The entries of a run's log.
pub fn log(folder: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// The bytes of a run's adapter.
pub fn adapter(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("adapter_model.safetensors")).expect("an adapter")
}

#[test]
fn train_prints_the_summary_and_writes_the_folder() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let name = output.to_str().unwrap();
    let outcome = program.run(&short_train_args(name, &[&few, "--max-steps", "3"]));
    assert!(outcome.stderr.contains("base model: held-out loss"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("adapted: "), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("llama-adapter chat --adapter"), "{}", outcome.stderr);
    let line = outcome.json();
    assert_eq!(
        keys(&line),
        [
            "output",
            "steps",
            "train_loss",
            "eval_loss_before",
            "eval_loss",
            "exact_match_before",
            "exact_match",
            "trainable_parameters",
            "seconds",
            "label_tokens_per_second",
            "skipped_steps",
            "rows"
        ]
    );
    assert_eq!(line["steps"], 3);
    assert_eq!(line["output"], name);
    for key in ["train_loss", "eval_loss_before", "eval_loss", "label_tokens_per_second"] {
        assert!(line[key].as_f64().is_some_and(|x| x > 0.0), "{key}: {line}");
    }
    let mut files = std::fs::read_dir(&output)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect::<Vec<_>>();
    files.sort();
    assert_eq!(
        files,
        [
            "adapter_config.json",
            "adapter_model.safetensors",
            "checkpoint.safetensors",
            "llama_adapter.json",
            "metrics.jsonl",
            "plots",
            "report.html",
            "run.json",
            "run.lock",
            "samples.json"
        ]
    );
    let events =
        log(&output).iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    let expected =
        ["start", "gates", "eval", "step", "gates", "step", "gates", "step", "gates", "eval"];
    assert_eq!(events, expected);
    let run: Value =
        serde_json::from_str(&std::fs::read_to_string(output.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["length"]["steps"], 3);
    assert_eq!(run["batch_size"], 4);

    // `eval` measures the loss that training reported.
    let found = program.run(&["eval", "--data", &few, "--adapter", name, "--json"]).json();
    let counts = ["cut", "left_out", "changes", "unused_fields"];
    let own = ["rows", "labels", "base", "adapter", "adapters"];
    let intervals = ["differences", "clusters", "resamples", "seed"];
    assert_eq!(keys(&found), [&own[..], &intervals, &counts].concat());
    let scores = ["loss", "perplexity", "exact_match", "rouge_l", "token_f1"];
    assert_eq!(keys(&found["adapter"]), [&scores[..], &["intervals"]].concat());
    assert_eq!(keys(&found["adapter"]["intervals"]), scores);
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-4;
    assert!(close(&found["base"]["loss"], &line["eval_loss_before"]), "{found} {line}");
    assert!(close(&found["adapter"]["loss"], &line["eval_loss"]), "{found} {line}");
}

#[test]
fn eval_skips_generation_without_exact_match() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let found = program.run(&["eval", "--data", &few, "--no-exact-match", "--json"]).json();
    assert_eq!(found["rows"], 4);
    assert_eq!(found["adapter"], Value::Null);
    assert_eq!(found["base"]["exact_match"], Value::Null);
    let loss = found["base"]["loss"].as_f64().unwrap();
    assert!((found["base"]["perplexity"].as_f64().unwrap() - loss.exp()).abs() < 1e-6);
}

#[test]
fn the_same_seed_gives_the_same_adapter_and_another_seed_another() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let run = |name: &str, seed: &str| {
        let output = program.folder().join(name);
        let args = ["--max-steps", "2", "--seed", seed, "--quiet"];
        let mut more = vec![few.as_str()];
        more.extend(args);
        program.run(&short_train_args(output.to_str().unwrap(), &more)).json();
        adapter(&output)
    };
    let one = run("one", "1");
    assert_eq!(one, run("again", "1"));
    assert_ne!(one, run("two", "2"));
}

/// Waits until a run has logged a step.
fn wait_for_step(child: &mut Child, folder: &Path, step: u64) {
    while !log(folder).iter().any(|entry| entry["step"].as_u64() >= Some(step)) {
        assert_eq!(child.try_wait().expect("known"), None, "the run ended before step {step}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A test of the crate `train`, which can stop a run at an exact step, covers that the results are equal
/// bit for bit.
#[test]
fn a_killed_run_resumes_and_its_folder_is_locked() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    // Long enough not to end before it is killed.
    let more = [&few, "--max-steps", "1000000", "--checkpoint-every", "5"];
    let args = short_train_args(output.to_str().unwrap(), &more);
    let again = [&args[..], &["--resume"]].concat();

    let mut child = program.command(&args).spawn().expect("the program starts");
    wait_for_step(&mut child, &output, 7);
    let error = program.run(&again).fails(1);
    assert!(error.contains("run: another run is using this folder\nhint: wait"), "{error}");
    child.kill().expect("killed");
    child.wait().expect("ended");

    let done = log(&output).last().and_then(|entry| entry["step"].as_u64()).expect("a step");
    let mut child = program.command(&again).spawn().expect("the program starts");
    wait_for_step(&mut child, &output, done + 7);
    child.kill().expect("killed");
    let stderr = child.wait_with_output().expect("ended").stderr;
    let stderr = String::from_utf8(stderr).expect("UTF-8");
    assert!(stderr.contains("resuming after step"), "{stderr}");
    // The log has no gap and no step twice.
    let log = log(&output);
    let steps = log.iter().filter(|entry| entry["event"] == "step");
    let steps = steps.map(|entry| entry["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
}

#[test]
fn quantized_bases_train_and_generate() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    for (name, more, precision, recomputes) in [
        ("four", &["--precision", "q4"][..], "Bits4", true),
        ("eight", &["--precision", "q8"], "Bits8", true),
        ("requested", &["--activation-checkpointing"], "F32", true),
        ("plain", &[], "F32", false),
    ] {
        let output = program.folder().join(name);
        let output = output.to_str().unwrap();
        let args = short_train_args(output, &[&few, "--max-steps", "2", "--quiet"]);
        let line = program.run(&[&args[..], more].concat()).json();
        assert!(line["eval_loss"].as_f64().unwrap() < line["eval_loss_before"].as_f64().unwrap());
        let run = std::fs::read_to_string(Path::new(output).join("run.json")).unwrap();
        let run: Value = serde_json::from_str(&run).unwrap();
        assert_eq!(run["precision"], precision, "{name}");
        assert_eq!(run["recompute"], recomputes, "{name}");

        let dtype = if precision == "F32" { &[][..] } else { more };
        let args = ["eval", "--data", &few, "--adapter", output, "--no-exact-match", "--json"];
        let found = program.run(&[&args[..], dtype].concat()).json();
        let (found, expected) = (&found["adapter"]["loss"], &line["eval_loss"]);
        let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
        assert!((found - expected).abs() < 1e-4, "{name}: {found} {expected}");
        let args = ["generate", "--instruction", "Say hello.", "--max-new-tokens", "3", "--json"];
        program.run(&[&args[..], &["--adapter", output], dtype].concat()).json();
    }
}

#[test]
fn every_cpu_device_of_this_build_trains_and_generates() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    for backend in device::BACKENDS.iter().filter(|b| b.compiled && !b.indexed) {
        let output = program.folder().join(backend.name);
        let name = output.to_str().unwrap();
        let more = [&few, "--max-steps", "2", "--quiet", "--device", backend.name];
        let line = program.run(&short_train_args(name, &more)).json();
        assert!(line["eval_loss"].as_f64().unwrap() < line["eval_loss_before"].as_f64().unwrap());
        let args = ["generate", "--instruction", "Say hello.", "--max-new-tokens", "3", "--json"];
        let more = ["--adapter", name, "--device", backend.name];
        program.run(&[&args[..], &more].concat()).json();
    }
}

#[test]
fn a_diverging_run_stops_and_keeps_the_checkpoint() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "40", "--learning-rate", "1e30", "--warmup-ratio", "0"];
    let mut args = short_train_args(output.to_str().unwrap(), &more);
    args.extend(["--checkpoint-every", "1", "--quiet"]);
    let error = program.run(&args).fails(1);
    assert!(error.contains("training has diverged"), "{error}");
    assert!(error.contains("and 10 steps in a row were skipped: training has diverged"), "{error}");
    let hint =
        "\nhint: the last checkpoint is kept; try --learning-rate 1e-2 or --max-gradient-norm 1";
    assert!(error.contains(hint), "{error}");
    let skipped = log(&output).iter().filter(|entry| entry["event"] == "skipped").count();
    assert_eq!(skipped, 10);
    // The checkpoint is of an earlier step and finite.
    for name in ["checkpoint.safetensors", "adapter_model.safetensors"] {
        let file = SafetensorsFile::new(ByteSource::open(output.join(name)).unwrap()).unwrap();
        for tensor in file.shapes().keys() {
            let data = file.read(tensor).unwrap();
            assert!(data.iter::<f32>().all(f32::is_finite), "{name}: {tensor}");
        }
    }
}

#[test]
fn long_rows_are_truncated_and_counted() {
    let program = Program::new();
    let few = write_eval_rows(program.folder());
    let long = program.folder().join("long.jsonl");
    let row = |args: usize| {
        let output = "the cat sat on the mat ".repeat(args);
        serde_json::json!({"instruction": "Tell a story.", "output": output}).to_string() + "\n"
    };
    let prompt = serde_json::json!({
        "instruction": "Listen. ".repeat(300), "output": "Yes."
    });
    std::fs::write(&long, format!("{}{}{prompt}\n", row(1), row(200))).unwrap();
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "1", "--data", long.to_str().unwrap()];
    let outcome = program.run(&short_train_args(output.to_str().unwrap(), &more));
    assert!(outcome.stderr.contains("2 training rows, 1 of them truncated"), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("1 skipped because the prompt exceeds it"),
        "{}",
        outcome.stderr
    );
    outcome.json();
}

/// Two epochs over a few rows.
fn train_twice(program: &Program, name: &str, more: &[&str]) -> (String, Vec<u8>) {
    let few = write_eval_rows(program.folder());
    let output = program.folder().join(name);
    let args = ["train", "--data", &few, "--eval-fraction", "0", "--exact-match-rows", "0"];
    let rest = ["--epochs", "2", "--batch-size", "2", "--output", output.to_str().unwrap()];
    let outcome = program.run(&[&args[..], &rest, more].concat());
    let stderr = outcome.stderr.clone();
    outcome.json();
    let is_cache = |file: std::io::Result<std::fs::DirEntry>| {
        file.unwrap().file_name().to_string_lossy().contains("cache")
    };
    assert!(!std::fs::read_dir(&output).unwrap().any(is_cache), "a finished run keeps no cache");
    (stderr, adapter(&output))
}

#[test]
fn the_frozen_prefix_cache_is_reported_and_changes_no_byte_of_the_adapter() {
    let program = Program::new();
    let (said, expected) = train_twice(&program, "off", &["--cache", "off"]);
    assert!(said.contains("frozen-prefix cache: off, it is disabled\n"), "{said}");
    let (said, found) = train_twice(&program, "default", &[]);
    assert!(said.contains("frozen-prefix cache: 1 layer runs once for all rows, "), "{said}");
    assert!(said.contains(" in f32 in memory\n"), "{said}");
    assert_eq!(found, expected);
    let (said, found) = train_twice(&program, "disk", &["--cache", "disk"]);
    assert!(said.contains(" in f32 on disk\n"), "{said}");
    assert_eq!(found, expected);
    let part = ["--cache-bytes", "40KiB", "--cache-precision", "bf16"];
    let (said, found) = train_twice(&program, "part", &part);
    assert!(said.contains(" of 4 rows, ") && said.contains(" in bf16 in memory\n"), "{said}");
    assert_ne!(found, expected);
    let (said, _) = train_twice(&program, "v2", &["--method", "v2"]);
    assert!(said.contains("frozen-prefix cache: off, no layer below"), "{said}");
}
