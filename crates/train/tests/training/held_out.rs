//! Runs whose result depends on the held-out loss.

use std::path::Path;

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig};
use llama::{Llama, ModelSource, Precision};
use serde_json::json;
use text::Tokenizer;
use train::data::RowStore;
use train::{
    Alone, Error, Event, Example, Instruction, LearningRateDecay, RunSummary, TrainConfig,
    TrainLength, TrainableWeights, TrainingRun, evaluate_loss,
};

/// A model and rows, of which the last four are held out.
struct Setup {
    llama: Llama,
    tokenizer: Tokenizer,
    rows: Vec<Instruction>,
}

/// Steps of an epoch: sixteen rows in batches of four.
const STEPS_PER_EPOCH: usize = 4;

impl Setup {
    fn new() -> Self {
        let assets = testing::golden_folder().join("../../crates/built-in/assets");
        let source = ModelSource::open(assets.join("tiny-llama")).unwrap();
        let rows = Instruction::read(&assets.join("instructions/train.jsonl")).unwrap();
        Self {
            llama: source.load(Precision::F32, &testing::flex()).unwrap(),
            tokenizer: source.tokenizer().unwrap(),
            rows: rows[..20].to_vec(),
        }
    }

    /// The held-out loss rises soon: the learning rate is high and stays.
    fn config() -> TrainConfig {
        let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(4), ..Default::default() };
        TrainConfig {
            method: AdapterConfig::from(prompts).into(),
            learning_rate: 0.2,
            decay: LearningRateDecay::Constant,
            batch_size: 4,
            length: TrainLength::Epochs(12),
            exact_match_rows: 2,
            ..TrainConfig::default()
        }
    }

    fn run(
        &self,
        config: &TrainConfig,
        output: &Path,
        resume: bool,
    ) -> train::Result<(RunSummary, Vec<Event>)> {
        let training_run = TrainingRun {
            llama: &self.llama,
            tokenizer: &self.tokenizer,
            model_name: "tiny-llama",
            train_rows: &RowStore::from(self.rows[..16].to_vec()),
            eval_rows: &RowStore::from(self.rows[16..].to_vec()),
            image_features: None,
            config,
            output,
            metadata: &json!({}),
            token_cache: None,
            stop: None,
            ranks: &Alone,
        };
        let mut events = Vec::new();
        let summary = training_run.run(resume, &mut |event| events.push(event))?;
        Ok((summary, events))
    }

    /// Held-out loss of the adapter in a folder.
    fn loss(&self, folder: &Path, config: &TrainConfig) -> f64 {
        let trained = TrainableWeights::load(folder, &config.method, &self.llama).unwrap();
        let (examples, _counts) =
            Example::encode_all(&self.rows[16..], &self.tokenizer, 512).unwrap();
        let loss = trained.with_adapter(&self.llama, None, |llama, adapter| {
            evaluate_loss(llama, adapter, &examples, 8, &mut |_| {})
        });
        loss.unwrap().loss
    }
}

/// Step and held-out loss of the evaluations after training steps, without the last one of the exact match.
fn evaluations(events: &[Event]) -> Vec<(usize, f64)> {
    let losses = events.iter().filter_map(|event| match event {
        Event::Evaluated { step, loss, exact_match: None } if *step > 0 => Some((*step, loss.loss)),
        _ => None,
    });
    losses.collect()
}

/// The evaluation with the lowest loss.
fn lowest(evaluations: &[(usize, f64)]) -> (usize, f64) {
    *evaluations.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap()
}

#[test]
fn a_run_stops_after_some_evaluations_without_improvement() {
    let setup = Setup::new();
    let config = TrainConfig { early_stop: Some(2), ..Setup::config() };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let (summary, events) = setup.run(&config, &output, false).unwrap();
    let evaluations = evaluations(&events);
    let (best_step, _) = lowest(&evaluations);
    assert!(summary.stopped_early);
    assert_eq!(summary.steps, best_step + 2 * STEPS_PER_EPOCH);
    assert!(summary.steps < 12 * STEPS_PER_EPOCH, "it never stopped");
    assert!(events.contains(&Event::StoppedEarly { step: summary.steps, best_step }));
    // The last adapter is the result, and it has an exact match.
    let (_, last) = *evaluations.last().unwrap();
    assert_eq!((summary.eval_loss, summary.best_step), (Some(last), None));
    assert!(summary.exact_match.is_some() && (setup.loss(&output, &config) - last).abs() < 1e-5);

    // It stays stopped.
    let (mut resumed, events) = setup.run(&config, &output, true).unwrap();
    // A rate that was stored as text may differ in its last digit.
    resumed.seconds = summary.seconds;
    resumed.label_tokens_per_second = summary.label_tokens_per_second;
    assert_eq!(resumed, summary);
    assert!(!events.iter().any(|event| matches!(event, Event::Stepped(..))));
}

#[test]
fn the_adapter_with_the_lowest_held_out_loss_is_kept() {
    let setup = Setup::new();
    let config = TrainConfig { keep_best: true, checkpoint_every: 3, ..Setup::config() };
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    let (summary, events) = setup.run(&config, &output, false).unwrap();
    let evaluations = evaluations(&events);
    let (best_step, best) = lowest(&evaluations);
    assert_eq!(evaluations.len(), 12);
    assert!(best_step < summary.steps, "the last adapter is the best: {evaluations:?}");
    assert_eq!((summary.best_step, summary.eval_loss), (Some(best_step), Some(best)));
    assert!(summary.exact_match.is_some());
    let saved = setup.loss(&output, &config);
    assert!((saved - best).abs() < 1e-5, "{saved} {best}");
    // Without the option the last one is saved.
    let config = TrainConfig { keep_best: false, ..config };
    let (last, _) = setup.run(&config, &folder.path().join("last"), false).unwrap();
    assert!(last.best_step.is_none() && last.eval_loss.unwrap() > best);
}

#[test]
fn the_moving_average_is_evaluated_and_saved() {
    let setup = Setup::new();
    let config = TrainConfig { length: TrainLength::Epochs(2), ..Setup::config() };
    let averaged = TrainConfig { ema_decay: Some(0.9), ..config.clone() };
    let folder = tempfile::tempdir().unwrap();
    let outputs = ["plain", "averaged"].map(|name| folder.path().join(name));
    let (plain, _) = setup.run(&config, &outputs[0], false).unwrap();
    let (summary, _) = setup.run(&averaged, &outputs[1], false).unwrap();
    assert_eq!(plain.train_loss, summary.train_loss, "the steps are the same");
    assert_ne!(plain.eval_loss, summary.eval_loss);
    assert!((setup.loss(&outputs[1], &config) - summary.eval_loss.unwrap()).abs() < 1e-5);
}

#[test]
fn an_early_stop_without_held_out_rows_is_refused() {
    let setup = Setup::new();
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("run");
    for (config, expected) in [
        (
            TrainConfig { early_stop: Some(3), ..Setup::config() },
            "the early stop is after 3 evaluations, expected none: there are no held-out rows",
        ),
        (
            TrainConfig { keep_best: true, ..Setup::config() },
            "the adapter to keep is the best, expected none: there are no held-out rows",
        ),
    ] {
        let training_run = TrainingRun {
            llama: &setup.llama,
            tokenizer: &setup.tokenizer,
            model_name: "tiny-llama",
            train_rows: &RowStore::from(setup.rows.clone()),
            eval_rows: &RowStore::default(),
            image_features: None,
            config: &config,
            output: &output,
            metadata: &json!({}),
            token_cache: None,
            stop: None,
            ranks: &Alone,
        };
        let error = training_run.run(false, &mut |_| {}).unwrap_err();
        assert!(matches!(error, Error::Config { .. }));
        assert_eq!(error.to_string(), expected);
        assert!(!output.exists());
    }
}
