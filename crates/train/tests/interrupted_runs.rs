//! Runs that are killed, and runs that use the same folder. Each is a separate process, which does not
//! clean up.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdaptionPromptConfig, ImageConfig, ImageFusion,
    ImageProjectorConfig,
};
use llama::{Llama, ModelSource, Precision};
use serde_json::{Value, json};
use train::run::CHECKPOINTS_FOLDER;
use train::{
    Alone, Error, Event, ImageFeatureCache, Instruction, PrefixCacheMode, RunSummary, TrainConfig,
    TrainLength, TrainingRun,
};
use vision::{EncoderSource, FeatureExtractor, FeatureSpec};

/// Variables with the folder of the other process, the kind of its run, and the step at which it waits; 0: in
/// the evaluation before the first step, no number: never.
const FOLDER: &str = "STOPPED_RUN_FOLDER";
const KIND: &str = "STOPPED_RUN_KIND";
const STEP: &str = "STOPPED_RUN_STEP";
/// What it prints when it waits, and after each step.
const WAITING: &str = "waiting to be killed";
const STEPPED: &str = "a step is complete";

/// Steps of a run; it has a checkpoint after the fifth.
const STEPS: usize = 8;

/// What a run trains, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Text,
    /// Many steps with a checkpoint after each.
    ManyCheckpoints,
    /// As many checkpoints, with images.
    Images,
    /// As many checkpoints, with the frozen-prefix cache in a file.
    CacheOnDisk,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Text, Self::ManyCheckpoints, Self::Images, Self::CacheOnDisk];

    fn config(self) -> TrainConfig {
        let layers = if self == Self::CacheOnDisk { 2 } else { 4 };
        let layers = AdaptedLayers::Last(layers);
        let prompts = AdaptionPromptConfig { layers, ..Default::default() };
        let mut config = TrainConfig {
            method: AdapterConfig::from(prompts.clone()).into(),
            batch_size: 2,
            length: TrainLength::Steps(STEPS),
            checkpoint_every: 5,
            exact_match_rows: 0,
            ..TrainConfig::default()
        };
        if self != Self::Text {
            config.length = TrainLength::Steps(70);
            config.checkpoint_every = 1;
            config.kept_checkpoints = 3;
        }
        if self == Self::CacheOnDisk {
            config.length = TrainLength::Steps(25);
            config.prefix_cache.mode = PrefixCacheMode::Disk;
        }
        if self == Self::Images {
            let image = ImageConfig {
                features: encoder(&testing::flex()).width(),
                form: ImageProjectorConfig::Global { hidden: 8 },
                fusion: ImageFusion::Prompts { gate: 0.5 },
                encoder: None,
            };
            config.length = TrainLength::Steps(25);
            config.method =
                AdapterConfig { image: Some(image), ..AdapterConfig::from(prompts) }.into();
        }
        config
    }

    fn rows(self) -> Vec<Instruction> {
        let photo = |n: usize| {
            let name = ["astronaut.png", "coffee.webp", "coffee.jpg"][n % 3];
            testing::golden_folder().join("vision/photos").join(name).display().to_string()
        };
        let row = |n: usize| Instruction {
            image: (self == Self::Images && n % 4 != 3).then(|| photo(n)),
            ..Instruction::new(format!("Count to {n}."), "", format!("{n}, {n}."))
        };
        (0..40).map(row).collect()
    }
}

fn encoder(device: &burn::tensor::Device) -> FeatureExtractor {
    let source = EncoderSource::open(testing::golden_folder().join("vision/dinov2-small")).unwrap();
    FeatureExtractor::load(&source, FeatureSpec::global(source.config(), 28), device).unwrap()
}

fn image_features(llama: &Llama, rows: &[Instruction]) -> ImageFeatureCache {
    let device = llama.device();
    ImageFeatureCache::encode(&encoder(&device), rows, &device, &mut |_| {}).unwrap().0
}

fn run_with(
    folder: &Path,
    kind: Kind,
    config: &TrainConfig,
    resume: bool,
    stop: Option<&AtomicBool>,
    observer: &mut dyn FnMut(Event),
) -> train::Result<RunSummary> {
    let assets = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    let source = ModelSource::open(assets).unwrap();
    let llama = source.load(Precision::F32, &testing::flex()).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    let rows = kind.rows();
    let features = (kind == Kind::Images).then(|| image_features(&llama, &rows));
    let training_run = TrainingRun {
        llama: &llama,
        tokenizer: &tokenizer,
        model_name: "tiny-llama",
        train_rows: &rows[2..].into(),
        eval_rows: &rows[..2].into(),
        token_cache: None,
        image_features: features.as_ref(),
        config,
        output: folder,
        metadata: &json!({}),
        stop,
        ranks: &Alone,
    };
    training_run.run(resume, observer)
}

fn run(folder: &Path, resume: bool, observer: &mut dyn FnMut(Event)) -> train::Result<RunSummary> {
    run_with(folder, Kind::Text, &Kind::Text.config(), resume, None, observer)
}

#[test]
#[ignore = "the other tests start it as a process and kill it"]
fn interrupted_run_process() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let stop: Option<usize> = std::env::var(STEP).unwrap().parse().ok();
    let kind = std::env::var(KIND).unwrap();
    let kind = Kind::ALL.into_iter().find(|known| format!("{known:?}") == kind).unwrap();
    let say = |text: &str| {
        println!("{text}");
        stdout().flush().unwrap();
    };
    let wait = || {
        say(WAITING);
        // Waits until it is killed, because nobody writes to its input.
        let _ = stdin().read_line(&mut String::new());
    };
    let resume = Path::new(&folder).join("run.json").exists();
    let result =
        run_with(folder.as_ref(), kind, &kind.config(), resume, None, &mut |event| match event {
            Event::Evaluating { .. } if stop == Some(0) => wait(),
            Event::Stepped(report, _) if stop == Some(report.step) => wait(),
            Event::Stepped(..) => say(STEPPED),
            _ => {}
        });
    result.unwrap();
}

/// Starts a run in another process.
fn spawn(folder: &Path, kind: Kind, step: Option<usize>) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["interrupted_run_process", "--exact", "--ignored", "--nocapture"])
        .env(FOLDER, folder)
        .env(KIND, format!("{kind:?}"))
        .env(STEP, step.map_or("never".into(), |step| step.to_string()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Starts a run in another process and waits until it waits at a step.
fn spawn_until_step(folder: &Path, step: usize) -> Child {
    let mut child = spawn(folder, Kind::Text, Some(step));
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

/// A number from 0 to 1, excluding 1, from a fixed sequence.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*state >> 33) as f64 / f64::from(1_u32 << 31)
}

/// Kills a run again and again, each time after up to three steps and a part of the next one, or while it
/// starts, resumes it, and compares the result with that of an uninterrupted run.
fn assert_survives(kind: Kind, kills: usize) {
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = folder.path().join("uninterrupted");
    let begin = Instant::now();
    let expected =
        run_with(&uninterrupted, kind, &kind.config(), false, None, &mut |_| {}).unwrap();
    let step_time = begin.elapsed() / expected.steps as u32;
    let (killed, mut state) = (folder.path().join("killed"), kind as u64 + 1);
    for _ in 0..kills {
        let mut child = spawn(&killed, kind, None);
        let steps = (random(&mut state) * 4.0) as usize;
        // Starting takes about as long as some steps.
        let time = step_time * if steps == 0 { 10 } else { 1 };
        let output = BufReader::new(child.stdout.as_mut().unwrap());
        let lines = output.lines().map_while(Result::ok);
        lines.filter(|line| line.contains(STEPPED)).take(steps).for_each(drop);
        std::thread::sleep(time.mul_f64(random(&mut state)));
        kill(child);
    }
    let resume = killed.join("run.json").exists();
    let summary = run_with(&killed, kind, &kind.config(), resume, None, &mut |_| {}).unwrap();
    assert_eq!(adapter(&killed), adapter(&uninterrupted));
    assert_eq!(log(&killed), log(&uninterrupted));
    assert_eq!((summary.steps, summary.train_loss), (expected.steps, expected.train_loss));
    assert_eq!(summary.eval_loss, expected.eval_loss);
    let files = |folder: &Path| {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names = entries.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        names.sort();
        names
    };
    assert_eq!(files(&killed), files(&uninterrupted), "files left by killed processes");
    let kept = |folder: &Path| files(&folder.join(CHECKPOINTS_FOLDER));
    assert_eq!(kept(&killed), kept(&uninterrupted));
}

#[test]
fn a_run_killed_thirty_times_equals_an_uninterrupted_one() {
    assert_survives(Kind::ManyCheckpoints, 30);
}

#[test]
fn a_run_with_images_survives_kills() {
    assert_survives(Kind::Images, 8);
}

#[test]
fn a_run_with_a_prefix_cache_on_disk_survives_kills() {
    assert_survives(Kind::CacheOnDisk, 8);
}

#[test]
fn a_run_that_is_told_to_stop_saves_its_state_and_can_be_resumed() {
    let folder = tempfile::tempdir().unwrap();
    let uninterrupted = folder.path().join("uninterrupted");
    run(&uninterrupted, false, &mut |_| {}).unwrap();
    // In the first evaluation; at a step without a checkpoint; in the evaluation after the last step.
    for stop_at in [0, 3, STEPS] {
        let (path, stop) =
            (folder.path().join(format!("stopped-{stop_at}")), AtomicBool::new(false));
        let mut steps = 0;
        let config = Kind::Text.config();
        let error = run_with(&path, Kind::Text, &config, false, Some(&stop), &mut |event| {
            if let Event::Stepped(report, _) = event {
                steps = report.step;
            }
            let is_evaluating = matches!(event, Event::Prepared { .. }) && stop_at == 0;
            if is_evaluating || (steps == stop_at && stop_at > 0) {
                stop.store(true, Ordering::SeqCst);
            }
        });
        let Error::Interrupted { step, total_steps, .. } = error.unwrap_err() else {
            panic!("not interrupted at {stop_at}")
        };
        assert!((stop_at..=stop_at + 16).contains(&step) && total_steps == STEPS, "{step}");
        let mut resumed = None;
        run(&path, true, &mut |event| {
            if let Event::Resumed { step } = event {
                resumed = Some(step);
            }
        })
        .unwrap();
        assert_eq!(resumed, Some(step));
        assert_eq!(adapter(&path), adapter(&uninterrupted), "stopped at {stop_at}");
        assert_eq!(log(&path), log(&uninterrupted), "stopped at {stop_at}");
    }
}

#[test]
fn checkpoints_are_saved_by_time_and_the_last_ones_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let config = TrainConfig {
        checkpoint_every: 1000,
        checkpoint_minutes: Some(1e-9),
        kept_checkpoints: 2,
        ..Kind::Text.config()
    };
    let mut saved = Vec::new();
    run_with(&path, Kind::Text, &config, false, None, &mut |event| {
        if let Event::Saved { step } = event {
            saved.push(step);
        }
    })
    .unwrap();
    assert_eq!(saved, (1..=STEPS).collect::<Vec<_>>());
    let kept = path.join(CHECKPOINTS_FOLDER);
    assert_eq!(std::fs::read_dir(&kept).unwrap().count(), 2);
    let last = kept.join(format!("step-{STEPS}"));
    assert_eq!(adapter(&last), adapter(&path));
    let earlier = kept.join(format!("step-{}", STEPS - 1));
    assert_ne!(adapter(&earlier), adapter(&path));
    // An earlier checkpoint can be resumed from.
    let expected = adapter(&path);
    let name = "checkpoint.safetensors";
    std::fs::copy(earlier.join(name), path.join(name)).unwrap();
    run_with(&path, Kind::Text, &config, true, None, &mut |_| {}).unwrap();
    assert_eq!(adapter(&path), expected);
}

#[cfg(unix)]
#[test]
fn a_run_whose_folder_is_removed_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let error = run(&path, false, &mut |event| {
        if let Event::Evaluated { step: 0, .. } = event {
            std::fs::remove_dir_all(&path).unwrap();
        }
    });
    let error = error.unwrap_err();
    assert!(matches!(&error, Error::OutputRemoved { path: found } if *found == path), "{error}");
    assert!(!path.exists(), "nothing is written into a new folder");
}
