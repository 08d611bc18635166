//! Several ranks train what one process trains with the same batches. The ranks are threads here; `tests/mpi`
//! starts processes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig};
use burn::module::Param;
use burn::tensor::{Device, Tensor};
use communicator::{Communicator, Threads};
use llama::Llama;
use serde_json::json;
use train::data::RowStore;
use train::run::METRICS_FILE;
use train::{
    Error, Event, Example, Instruction, PrefixCacheConfig, PrefixCacheMode, StepReport,
    TrainConfig, TrainLength, Trainer, TrainerBuilder, TrainingRun, WorkDivision,
};

use crate::tiny::{golden_prompt_config, open_base};
use crate::{adapter, adapter_values, reports, schedule};

const CASE: &str = "llama-gqa-tied";
/// Two epochs of three steps.
const STEPS: usize = 6;

/// Eleven examples from 4 to 40 tokens; some have no labels.
fn examples() -> Vec<Example> {
    let example = |row: usize| {
        let len = 4 + row * row % 37;
        let tokens = (0..len).map(|i| ((row * 31 + i * 17) % 127 + 1) as u32).collect();
        let labels = if row % 5 == 1 { vec![] } else { vec![1 + row % 2..len] };
        Example { tokens, label_spans: labels, image: None }
    };
    (0..11).map(example).collect()
}

/// An adapter whose gates are open.
fn open_adapter(llama: &Llama) -> AdapterWeights {
    let device = llama.device().autodiff();
    let mut prompts = golden_prompt_config().init(llama, 3, &device).unwrap();
    for layer in &mut prompts.layers {
        let gate = Tensor::from_floats([0.5], &device);
        layer.gate = Param::from_tensor(gate);
    }
    prompts.into()
}

fn builder(llama: &Llama) -> TrainerBuilder<'_> {
    Trainer::builder(llama, open_adapter(llama), examples())
        .batch_size(2)
        .gradient_accumulation_steps(2)
        .seed(5)
        .max_gradient_norm(Some(0.5))
        .schedule(schedule(0.05, STEPS))
}

/// What one rank has trained.
#[derive(Debug, Clone, PartialEq)]
struct Trained {
    reports: Vec<StepReport>,
    weights: Vec<f32>,
    exact: String,
    division: Option<WorkDivision>,
}

fn train(
    ranks: &dyn Communicator,
    device: &Device,
    change: impl Fn(TrainerBuilder) -> TrainerBuilder,
) -> Trained {
    let llama = open_base(CASE, device);
    let mut trainer = change(builder(&llama)).ranks(ranks).build().unwrap();
    let reports = reports(&mut trainer, STEPS);
    let prompts = adapter(&trainer).prompts.unwrap();
    let weights = prompts.layers.iter().flat_map(|layer| {
        let gate = testing::values(layer.gate.val().inner().flatten::<1>(0, 0));
        [testing::values(layer.prompt.val().inner()), gate].concat()
    });
    Trained {
        reports,
        weights: weights.collect(),
        exact: adapter_values(&trainer),
        division: trainer.division(),
    }
}

fn assert_close(found: &Trained, expected: &Trained) {
    for (found, expected) in found.reports.iter().zip(&expected.reports) {
        let difference = (found.loss - expected.loss).abs();
        assert!(difference <= 1e-5 * expected.loss, "{found:?} {expected:?}");
        assert_eq!((found.step, found.labels), (expected.step, expected.labels));
    }
    assert_weights_close(&found.weights, &expected.weights);
}

/// Compares weights as a whole: AdamW divides by the size of a gradient, and that of a single value may be as
/// small as its rounding.
fn assert_weights_close(found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f32>| {
        values.map(|x| f64::from(x).powi(2)).sum::<f64>().sqrt()
    };
    let difference = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let size = norm(&mut expected.iter().copied());
    assert!(difference < 1e-5 * size, "{difference:e} of {size}");
}

/// Ranks with a change of the settings train what one process trains, and the same bits each time.
fn check(change: impl Fn(TrainerBuilder) -> TrainerBuilder + Sync) {
    for device in testing::devices() {
        let expected = train(&communicator::Alone, &device, &change);
        assert_eq!(expected.division, None);
        for world in [2, 3] {
            let run = || Threads::run(world, |ranks| train(ranks, &device, &change));
            let found = run();
            for rank in &found {
                assert_close(rank, &expected);
                assert_eq!(rank.exact, found[0].exact, "all ranks have the same weights");
            }
            let again = run();
            assert_eq!(again[0].exact, found[0].exact);
            assert_eq!(again[0].reports, found[0].reports);
        }
    }
}

#[test]
fn ranks_train_what_one_process_trains() {
    check(|builder| builder);
}

#[test]
fn a_last_step_smaller_than_the_ranks_counts_exactly() {
    // Steps of 5, 5 and 1 rows.
    check(|builder| builder.batch_size(5).gradient_accumulation_steps(1));
}

#[test]
fn ranks_with_activation_checkpointing_and_noise_train_the_same() {
    check(|builder| builder.activation_checkpointing(true).noise_alpha(Some(5.0)));
}

#[test]
fn ranks_with_batches_of_similar_length_train_the_same() {
    check(|builder| builder.batch_tokens(Some(60)));
}

#[test]
fn ranks_that_share_a_frozen_prefix_cache_train_the_same() {
    let cache = PrefixCacheConfig {
        mode: PrefixCacheMode::Memory,
        max_bytes: Some(1 << 20),
        ..PrefixCacheConfig::default()
    };
    check(|builder| builder.prefix_cache(cache));
}

#[test]
fn the_imbalance_and_the_bytes_of_a_step_are_told() {
    let found = Threads::run(2, |ranks| train(ranks, &testing::flex(), |builder| builder));
    let division = found[0].division.unwrap();
    let parameters = found[0].weights.len();
    assert_eq!((division.ranks, division.all_reduce_bytes), (2, (parameters + 7) * 4));
    assert!((1.0..1.5).contains(&division.imbalance), "{division:?}");
}

#[test]
fn a_nan_on_one_rank_skips_the_step_on_all() {
    let found = Threads::run(2, |ranks| {
        let llama = open_base(CASE, &testing::flex());
        let mut adapter = open_adapter(&llama);
        if ranks.rank() == 1 {
            let gate = Tensor::from_floats([f32::NAN], &llama.device().autodiff());
            let prompts = adapter.prompts.as_mut().unwrap();
            prompts.layers[0].gate = Param::from_tensor(gate);
        }
        let builder = Trainer::builder(&llama, adapter, examples());
        let mut trainer = builder.length(TrainLength::Steps(1)).ranks(ranks).build().unwrap();
        reports(&mut trainer, 1)[0].is_skipped()
    });
    assert_eq!(found, [true, true]);
}

/// A run of some ranks in a folder.
struct Run<'a> {
    folder: &'a Path,
    config: TrainConfig,
    /// The rank with other data.
    other_data: Option<usize>,
    /// The last rank is told to stop after this step.
    stop_at: Option<usize>,
}

impl Run<'_> {
    fn rank(&self, ranks: &dyn Communicator, resume: bool) -> train::Result<train::RunSummary> {
        let source = built_in_model();
        let llama = source.load(llama::Precision::F32, &testing::flex()).unwrap();
        let tokenizer = source.tokenizer().unwrap();
        let answer = if self.other_data == Some(ranks.rank()) { "No" } else { "Yes" };
        let row = |n: usize| {
            let count = "word ".repeat(n % 5);
            Instruction::new(format!("Is {n} a {count}number?"), "", format!("{answer}, {n}."))
        };
        let stop = AtomicBool::new(false);
        let rows = (0..22).map(row).collect::<Vec<_>>();
        let run = TrainingRun {
            llama: &llama,
            tokenizer: &tokenizer,
            model_name: "tiny-llama",
            train_rows: &RowStore::from(rows[..16].to_vec()),
            eval_rows: &RowStore::from(rows[16..].to_vec()),
            token_cache: None,
            image_features: None,
            config: &self.config,
            output: self.folder,
            metadata: &json!({ "rank": ranks.rank() }),
            stop: Some(&stop),
            ranks,
        };
        run.run(resume, &mut |event| {
            if let Event::Stepped(report, _) = event
                && Some(report.step) == self.stop_at
                && ranks.rank() + 1 == ranks.world()
            {
                stop.store(true, Ordering::SeqCst);
            }
        })
    }
}

fn built_in_model() -> llama::ModelSource {
    let assets = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    llama::ModelSource::open(assets).unwrap()
}

fn run_config() -> TrainConfig {
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(4), ..Default::default() };
    TrainConfig {
        method: AdapterConfig::from(prompts).into(),
        batch_size: 4,
        learning_rate: 0.02,
        length: TrainLength::Epochs(2),
        checkpoint_every: 2,
        exact_match_rows: 3,
        ..TrainConfig::default()
    }
}

#[test]
fn a_run_of_ranks_evaluates_together_and_rank_0_alone_writes() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one", "three"].map(|name| folder.path().join(name));
    let run = |index: usize| Run {
        folder: &paths[index],
        config: run_config(),
        other_data: None,
        stop_at: None,
    };
    let expected = run(0).rank(&communicator::Alone, false).unwrap();
    let found = Threads::run(3, |ranks| run(1).rank(ranks, false).unwrap());
    for found in &found {
        let losses =
            |run: &train::RunSummary| [run.eval_loss_before, run.eval_loss].map(Option::unwrap);
        for (found, expected) in losses(found).into_iter().zip(losses(&expected)) {
            assert!((found / expected - 1.0).abs() < 1e-5, "{found} {expected}");
        }
        assert_eq!(found.exact_match_before, expected.exact_match_before);
        assert_eq!(found.division.unwrap().ranks, 3);
    }
    let log = std::fs::read_to_string(paths[1].join(METRICS_FILE)).unwrap();
    let steps = log.lines().filter(|line| line.contains(r#""event":"step""#)).count();
    assert_eq!(steps, 8, "each step is logged once");
}

/// The values of the adapter in a folder.
fn saved_weights(folder: &Path) -> Vec<f32> {
    let bytes = std::fs::read(folder.join("adapter_model.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let bytes = tensors.iter().flat_map(|(_name, tensor)| tensor.data()).copied();
    bytes.collect::<Vec<_>>().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[test]
fn a_run_is_stopped_and_resumed_by_any_number_of_ranks() {
    fn run(folder: &Path, stop_at: Option<usize>) -> Run<'_> {
        Run { folder, config: run_config(), other_data: None, stop_at }
    }
    let folder = tempfile::tempdir().unwrap();
    let whole = folder.path().join("whole");
    run(&whole, None).rank(&communicator::Alone, false).unwrap();
    let expected = saved_weights(&whole);
    for (first, second) in [(1, 2), (2, 3), (3, 1)] {
        let path = folder.path().join(format!("{first}-{second}"));
        let stopped = Threads::run(first, |ranks| {
            run(&path, Some(3)).rank(ranks, false).unwrap_err().to_string()
        });
        // One process stops before its next step, ranks agree with their next one.
        let step = if first == 1 { 3 } else { 4 };
        assert!(stopped[0].ends_with(&format!("stopped after step {step} of 8")), "{stopped:?}");
        assert!(stopped.iter().all(|message| *message == stopped[0]), "{stopped:?}");
        Threads::run(second, |ranks| run(&path, None).rank(ranks, true).unwrap());
        assert_weights_close(&saved_weights(&path), &expected);
    }
}

#[test]
fn the_same_number_of_ranks_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let [whole, stopped] = ["whole", "stopped"].map(|name| folder.path().join(name));
    let run = |folder, stop_at| Run { folder, config: run_config(), other_data: None, stop_at };
    Threads::run(2, |ranks| run(&whole, None).rank(ranks, false).unwrap());
    Threads::run(2, |ranks| run(&stopped, Some(3)).rank(ranks, false).unwrap_err());
    Threads::run(2, |ranks| run(&stopped, None).rank(ranks, true).unwrap());
    let adapter = |run: &Path| std::fs::read(run.join("adapter_model.safetensors")).unwrap();
    assert_eq!(adapter(&stopped), adapter(&whole));
}

#[test]
fn a_rank_with_other_data_is_named_and_nothing_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run");
    let run = Run { folder: &path, config: run_config(), other_data: Some(1), stop_at: None };
    let errors = Threads::run(2, |ranks| run.rank(ranks, false).unwrap_err());
    for error in errors {
        assert!(matches!(&error, Error::RanksDiffer { differences } if differences.len() == 1));
        let error = error.to_string();
        assert!(error.contains("rank 1 on localhost: run.data_hash: "), "{error}");
    }
    assert!(!path.exists());
}
