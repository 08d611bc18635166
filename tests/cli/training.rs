//! `train` and `eval` from outside: the closing line, the folder, resuming.

use std::path::Path;
use std::process::Child;
use std::time::Duration;

use checkpoint::{ByteSource, SafetensorsFile};
use serde_json::Value;

use crate::program::{Program, keys};

/// A short run on the built-in model, into a folder of the test.
pub fn short<'a>(output: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut words = vec!["train", "--exact-match-rows", "2", "--batch-size", "4"];
    words.extend(["--output", output, "--eval-data"]);
    words.extend(more);
    words
}

/// A few held-out rows, so that evaluating them takes no time.
pub fn few_rows(folder: &Path) -> String {
    let assets = testing::golden_folder().join("../../assets/instructions/test.jsonl");
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
fn train_ends_with_the_agreed_line_and_leaves_the_agreed_folder() {
    let program = Program::new();
    let few = few_rows(program.folder());
    let output = program.folder().join("run");
    let name = output.to_str().unwrap();
    let outcome = program.run(&short(name, &[&few, "--max-steps", "3"]));
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
            "run.json",
            "run.lock"
        ]
    );
    let events =
        log(&output).iter().map(|e| e["event"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
    assert_eq!(events, ["eval", "step", "step", "step", "eval"]);
    let run: Value =
        serde_json::from_str(&std::fs::read_to_string(output.join("run.json")).unwrap()).unwrap();
    assert_eq!(run["length"]["steps"], 3);
    assert_eq!(run["batch_size"], 4);

    // The adapter answers, and `eval` finds the loss that training reported.
    let found = program.run(&["eval", "--data", &few, "--adapter", name, "--json"]).json();
    let counts = ["cut", "left_out", "changes", "unused_fields"];
    let own = ["rows", "labels", "base", "adapter", "adapters"];
    assert_eq!(keys(&found), [&own[..], &counts].concat());
    assert_eq!(keys(&found["adapter"]), ["loss", "perplexity", "exact_match"]);
    let close = |a: &Value, b: &Value| (a.as_f64().unwrap() - b.as_f64().unwrap()).abs() < 1e-4;
    assert!(close(&found["base"]["loss"], &line["eval_loss_before"]), "{found} {line}");
    assert!(close(&found["adapter"]["loss"], &line["eval_loss"]), "{found} {line}");
}

#[test]
fn eval_leaves_answers_out_when_told_to() {
    let program = Program::new();
    let few = few_rows(program.folder());
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
    let few = few_rows(program.folder());
    let run = |name: &str, seed: &str| {
        let output = program.folder().join(name);
        let words = ["--max-steps", "2", "--seed", seed, "--quiet"];
        let mut more = vec![few.as_str()];
        more.extend(words);
        program.run(&short(output.to_str().unwrap(), &more)).json();
        adapter(&output)
    };
    let one = run("one", "1");
    assert_eq!(one, run("again", "1"));
    assert_ne!(one, run("two", "2"));
}

/// Waits until a run has logged a step.
fn wait_for_step(child: &mut Child, folder: &Path, step: u64) {
    while !log(folder).iter().any(|entry| entry["step"].as_u64() >= Some(step)) {
        assert_eq!(child.try_wait().expect("known"), None, "it ended before step {step}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// That the result is the same bit for bit is a test of the crate `train`, which can stop a run at an
/// exact step.
#[test]
fn a_killed_run_goes_on_where_it_was_and_nobody_else_works_in_its_folder() {
    let program = Program::new();
    let few = few_rows(program.folder());
    let output = program.folder().join("run");
    // It cannot be over before it is killed.
    let more = [&few, "--max-steps", "1000000", "--checkpoint-every", "5"];
    let words = short(output.to_str().unwrap(), &more);
    let again = [&words[..], &["--resume"]].concat();

    let mut child = program.command(&words).spawn().expect("the program starts");
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
    assert!(stderr.contains("going on behind step"), "{stderr}");
    // The log reads as if nothing had happened.
    let log = log(&output);
    let steps = log.iter().filter(|entry| entry["event"] == "step");
    let steps = steps.map(|entry| entry["step"].as_u64().unwrap()).collect::<Vec<_>>();
    assert_eq!(steps, (1..=steps.len() as u64).collect::<Vec<_>>());
}

#[test]
fn a_base_of_few_bits_learns_and_answers() {
    let program = Program::new();
    let few = few_rows(program.folder());
    for (name, more, precision, recomputes) in [
        ("four", &["--precision", "q4"][..], "Bits4", true),
        ("eight", &["--precision", "q8"], "Bits8", true),
        ("asked", &["--recompute"], "F32", true),
        ("plain", &[], "F32", false),
    ] {
        let output = program.folder().join(name);
        let output = output.to_str().unwrap();
        let words = short(output, &[&few, "--max-steps", "2", "--quiet"]);
        let line = program.run(&[&words[..], more].concat()).json();
        assert!(line["eval_loss"].as_f64().unwrap() < line["eval_loss_before"].as_f64().unwrap());
        let run = std::fs::read_to_string(Path::new(output).join("run.json")).unwrap();
        let run: Value = serde_json::from_str(&run).unwrap();
        assert_eq!(run["precision"], precision, "{name}");
        assert_eq!(run["recompute"], recomputes, "{name}");

        let dtype = if precision == "F32" { &[][..] } else { more };
        let words = ["eval", "--data", &few, "--adapter", output, "--no-exact-match", "--json"];
        let found = program.run(&[&words[..], dtype].concat()).json();
        let (found, expected) = (&found["adapter"]["loss"], &line["eval_loss"]);
        let (found, expected) = (found.as_f64().unwrap(), expected.as_f64().unwrap());
        assert!((found - expected).abs() < 1e-4, "{name}: {found} {expected}");
        let words = ["generate", "--instruction", "Say hello.", "--max-new-tokens", "3", "--json"];
        program.run(&[&words[..], &["--adapter", output], dtype].concat()).json();
    }
}

#[test]
fn every_cpu_device_of_this_build_trains_and_answers() {
    let program = Program::new();
    let few = few_rows(program.folder());
    for backend in device::BACKENDS.iter().filter(|b| b.compiled && !b.indexed) {
        let output = program.folder().join(backend.name);
        let name = output.to_str().unwrap();
        let more = [&few, "--max-steps", "2", "--quiet", "--device", backend.name];
        let line = program.run(&short(name, &more)).json();
        assert!(line["eval_loss"].as_f64().unwrap() < line["eval_loss_before"].as_f64().unwrap());
        let words = ["generate", "--instruction", "Say hello.", "--max-new-tokens", "3", "--json"];
        let more = ["--adapter", name, "--device", backend.name];
        program.run(&[&words[..], &more].concat()).json();
    }
}

#[test]
fn a_loss_that_explodes_stops_the_run_and_keeps_the_checkpoint() {
    let program = Program::new();
    let few = few_rows(program.folder());
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "40", "--lr", "1e30", "--warmup", "0"];
    let mut words = short(output.to_str().unwrap(), &more);
    words.extend(["--checkpoint-every", "1", "--quiet"]);
    let error = program.run(&words).fails(1);
    assert!(error.contains("training has diverged"), "{error}");
    assert!(error.contains("\nhint: the last checkpoint is kept; try a lower --lr"), "{error}");
    // What was kept is of a step before, with real numbers in it.
    for name in ["checkpoint.safetensors", "adapter_model.safetensors"] {
        let file = SafetensorsFile::new(ByteSource::open(output.join(name)).unwrap()).unwrap();
        for tensor in file.shapes().keys() {
            let data = file.read(tensor).unwrap();
            assert!(data.iter::<f32>().all(f32::is_finite), "{name}: {tensor}");
        }
    }
}

#[test]
fn long_rows_are_cut_and_counted() {
    let program = Program::new();
    let few = few_rows(program.folder());
    let long = program.folder().join("long.jsonl");
    let row = |words: usize| {
        let output = "the cat sat on the mat ".repeat(words);
        serde_json::json!({"instruction": "Tell a story.", "output": output}).to_string() + "\n"
    };
    let prompt = serde_json::json!({
        "instruction": "Listen. ".repeat(300), "output": "Yes."
    });
    std::fs::write(&long, format!("{}{}{prompt}\n", row(1), row(200))).unwrap();
    let output = program.folder().join("run");
    let more = [&few, "--max-steps", "1", "--data", long.to_str().unwrap()];
    let outcome = program.run(&short(output.to_str().unwrap(), &more));
    assert!(outcome.stderr.contains("2 rows to learn from, 1 of them cut"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("1 left out, whose prompt alone"), "{}", outcome.stderr);
    outcome.json();
}
