//! Runs that are killed, and runs that use the same folder. Each is a separate process, which does not
//! clean up.

use std::io::{BufRead, BufReader, stdin};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
use llama::{ModelSource, Precision};
use serde_json::{Value, json};
use train::{Error, Event, Instruction, RunSummary, TrainConfig, TrainLength, TrainingRun};

/// Variables with the folder of the other process and the step at which it waits; 0: in the evaluation
/// before the first step.
const FOLDER: &str = "STOPPED_RUN_FOLDER";
const STEP: &str = "STOPPED_RUN_STEP";
/// What it prints when it waits.
const WAITING: &str = "waiting to be killed";

/// Steps of a run; it has a checkpoint after the fifth.
const STEPS: usize = 8;

fn run(folder: &Path, resume: bool, observer: &mut dyn FnMut(Event)) -> train::Result<RunSummary> {
    let assets = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let source = ModelSource::open(assets).unwrap();
    let llama = source.load(Precision::F32, &testing::flex()).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let row = |n: usize| Instruction::new(format!("Count to {n}."), "", format!("{n}, {n}."));
    let rows = (0..40).map(row).collect::<Vec<_>>();
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(4), ..Default::default() };
    let config = TrainConfig {
        method: AdapterConfig::from(prompts).into(),
        batch_size: 2,
        length: TrainLength::Steps(STEPS),
        checkpoint_every: 5,
        exact_match_rows: 0,
        ..TrainConfig::default()
    };
    let training_run = TrainingRun {
        llama: &llama,
        tokenizer: &tokenizer,
        model_name: "tiny-llama",
        train_rows: &rows[2..].into(),
        eval_rows: &rows[..2].into(),
        token_cache: None,
        image_features: None,
        config: &config,
        output: folder,
        metadata: &json!({}),
    };
    training_run.run(resume, observer)
}

#[test]
#[ignore = "the other tests start it as a process and kill it"]
fn interrupted_run_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let stop: usize = std::env::var(STEP).unwrap().parse().unwrap();
    let wait = || {
        println!("{WAITING}");
        // Waits until it is killed, because nobody writes to its input.
        let _ = stdin().read_line(&mut String::new());
    };
    let resume = Path::new(&folder).join("run.json").exists();
    let result = run(folder.as_ref(), resume, &mut |event| match event {
        Event::Evaluating { .. } if stop == 0 => wait(),
        Event::Stepped(report, _) if report.step == stop => wait(),
        _ => {}
    });
    result.unwrap();
}

/// Starts a run in another process and waits until it waits at a step.
fn spawn_until_step(folder: &Path, step: usize) -> Child {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["interrupted_run_process", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(STEP, step.to_string())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(WAITING)), "it ended before step {step}");
    child
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The entries of a run's log without durations.
fn log(folder: &Path) -> Vec<(Value, Value, Value)> {
    let text = std::fs::read_to_string(folder.join("metrics.jsonl")).unwrap();
    let entries = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.map(|e| (e["event"].clone(), e["step"].clone(), e["loss"].clone())).collect()
}

fn adapter(folder: &Path) -> Vec<u8> {
    std::fs::read(folder.join("adapter_model.safetensors")).unwrap()
}

#[test]
fn a_killed_and_resumed_run_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = folder.path().join("uninterrupted");
    let expected = run(&uninterrupted, false, &mut |_| {}).unwrap();
    // Before the first step; before a checkpoint; after one, with a step to repeat; after the last step.
    for step in [0, 3, 7, STEPS] {
        let killed = folder.path().join(format!("killed-{step}"));
        kill(spawn_until_step(&killed, step));
        let mut resumed = None;
        let summary = run(&killed, true, &mut |event| {
            if let Event::Resumed { step } = event {
                resumed = Some(step);
            }
        });
        assert_eq!(resumed, Some(if step > 5 { 5 } else { 0 }), "killed at {step}");
        assert_eq!(adapter(&killed), adapter(&uninterrupted), "killed at {step}");
        assert_eq!(log(&killed), log(&uninterrupted), "killed at {step}");
        let losses = |summary: &RunSummary| {
            (summary.steps, summary.train_loss, summary.eval_loss_before, summary.eval_loss)
        };
        assert_eq!(losses(&summary.unwrap()), losses(&expected), "killed at {step}");
    }
}

#[test]
fn a_running_process_locks_its_folder_until_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let running = spawn_until_step(&path, 6);
    let before = log(&path);
    let error = run(&path, true, &mut |_| {}).unwrap_err();
    assert!(matches!(&error, Error::OutputLocked { path: found } if *found == path), "{error}");
    assert_eq!(log(&path), before);
    kill(running);
    assert_eq!(run(&path, true, &mut |_| {}).unwrap().steps, STEPS);
}
