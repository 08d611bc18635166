//! Training compared with PEFT, and invariants of the trainer.

mod devices;
mod gradients;
mod held_out;
mod images;
mod label_rows;
mod methods;
mod prefix_cache;
mod ranks;
mod steps;
#[path = "../../../adaption-prompt/tests/adapter/golden_models.rs"]
mod tiny;

use std::path::Path;

use adaption_prompt::{AdapterWeights, AdaptionPrompt};
use burn::module::Param;
use burn::optim::momentum::MomentumConfig;
use burn::optim::{LambConfig, Optimizer, SgdConfig};
use burn::tensor::Tensor;
use llama::Llama;
use safetensors::SafeTensors;
use testing::{Golden, assert_close, assert_values_close};
use tiny::{CASES, golden_prompt_config, open_adapter, open_base};
use train::run::CHECKPOINT_FILE;
use train::{
    Batch, Error, Example, LearningRateDecay, LearningRateSchedule, ModuleGradients,
    OptimizerConfig, ParameterOptimizer, StepReport, TrainLength, Trainer, TrainerBuilder,
    evaluate_loss, label_loss,
};

/// The two rows of the golden file.
fn golden_batch(golden: &Golden) -> Batch {
    let labels = golden.int_rows("labels");
    let rows = golden.int_rows("input_ids").into_iter().zip(labels);
    let examples = rows.map(|(tokens, labels)| {
        let tokens = tokens.into_iter().map(|id| u32::try_from(id).unwrap()).collect();
        Example::with_labels_from(tokens, labels.iter().position(|&label| label >= 0).unwrap())
    });
    Batch::new(&examples.collect::<Vec<_>>().iter().collect::<Vec<_>>())
}

/// Synthetic examples of different lengths.
fn examples(count: u32) -> Vec<Example> {
    (0..count)
        .map(|row| {
            let tokens = (0..6 + row % 5).map(|i| (row * 31 + i * 17) % 127 + 1).collect();
            Example::with_labels_from(tokens, 2 + row as usize % 3)
        })
        .collect()
}

fn mean_loss(llama: &Llama, adapter: &AdapterWeights, batch: &Batch) -> Tensor<1> {
    label_loss(llama, &adapter.prepare(llama), batch).unwrap() / batch.n_labels() as f64
}

/// One warmup step, then a cosine.
fn schedule(peak_learning_rate: f64, total_steps: usize) -> LearningRateSchedule {
    let decay = LearningRateDecay::Cosine;
    LearningRateSchedule { peak_learning_rate, warmup_steps: 1, total_steps, decay }
}

fn builder<'a>(llama: &'a Llama, examples: &[Example], total_steps: usize) -> TrainerBuilder<'a> {
    let device = llama.device().autodiff();
    let adapter = golden_prompt_config().init(llama, 3, &device).unwrap();
    Trainer::builder(llama, adapter, examples)
        .batch_size(2)
        .gradient_accumulation_steps(2)
        .seed(5)
        .max_gradient_norm(Some(0.5))
        .schedule(schedule(0.05, total_steps))
}

fn trainer<'a>(llama: &'a Llama, examples: &[Example], total_steps: usize) -> Trainer<'a> {
    builder(llama, examples, total_steps).build().unwrap()
}

/// The reports of the next steps.
fn reports(trainer: &mut Trainer, steps: usize) -> Vec<StepReport> {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    assert_eq!(trainer.pending_reports(), steps);
    trainer.reports().unwrap()
}

/// The current adapter of a trainer.
fn adapter(trainer: &Trainer) -> AdapterWeights {
    trainer.trainable().adapter().unwrap().clone()
}

/// The current prompts of a trainer.
fn prompts(trainer: &Trainer) -> AdaptionPrompt {
    adapter(trainer).prompts.unwrap()
}

/// The values of all adapter parameters, exactly.
fn adapter_values(trainer: &Trainer) -> String {
    // As text, because there NaN equals itself.
    format!("{:?}", adapter(trainer).to_data(adaption_prompt::BaseInfo::default()).unwrap())
}

#[test]
fn five_adamw_steps_equal_pytorch() {
    for device in testing::devices() {
        for case in CASES {
            let llama = open_base(case, &device);
            let golden = Golden::open(&format!("{case}/golden.safetensors"));
            let device = device.clone().autodiff();
            let mut adapter = open_adapter(&golden, "", golden_prompt_config(), &llama, &device);
            let batch = golden_batch(&golden);
            let mut optimizer = OptimizerConfig::default().init();
            let mut losses = Vec::new();
            for _ in 0..5 {
                let loss = mean_loss(&llama, &adapter, &batch);
                losses.extend(testing::values(loss.clone().inner()));
                let gradients = ModuleGradients::from_grads(&adapter, loss.backward());
                let norm = gradients.norm();
                adapter = optimizer.step(adapter, gradients, &norm, 1e-2);
            }
            let (_shape, expected) = golden.floats("adamw_losses");
            assert_values_close(&format!("{case} losses"), &losses, &expected, &[5], 1e-5);
            let after = {
                // The same keys with another prefix.
                let (plain, family) = (llama.device(), llama.config().architecture);
                move |index: usize, what: &str| {
                    let attention = family.attention_module(index);
                    let key = format!("after5.base_model.model.{attention}.adaption_{what}");
                    let (_shape, values) = golden.floats(&key);
                    Tensor::<1>::from_floats(values.as_slice(), &plain)
                }
            };
            let prompts = adapter.prompts.unwrap();
            for (&index, layer) in prompts.indices().iter().zip(&prompts.layers) {
                let prompt = layer.prompt.val().inner().flatten::<1>(0, 1);
                assert_close(&format!("{case} prompt"), prompt, after(index, "prompt"), 1e-4);
                let gate = layer.gate.val().inner();
                assert_close(&format!("{case} gate"), gate, after(index, "gate"), 1e-4);
            }
        }
    }
}

#[test]
fn gradient_accumulation_weights_every_label_equally() {
    let device = testing::flex();
    let llama = open_base("llama-gqa-tied", &device);
    let golden = Golden::open("llama-gqa-tied/golden.safetensors");
    let adapter = open_adapter(&golden, "", golden_prompt_config(), &llama, &device.autodiff());
    // Unequal numbers of labels: a mean of means would be wrong.
    let examples = examples(11);
    let one = Batch::new(&examples[..3].iter().collect::<Vec<_>>());
    let halves = [Batch::new(&[&examples[0]]), Batch::new(&[&examples[1], &examples[2]])];
    let prompts = || adapter.prepare(&llama);
    let whole = label_loss(&llama, &prompts(), &one).unwrap() / one.n_labels() as f64;
    let whole = ModuleGradients::from_grads(&adapter, whole.backward());
    let mut sum = ModuleGradients::empty(&adapter);
    for half in halves {
        let loss = label_loss(&llama, &prompts(), &half).unwrap() / one.n_labels() as f64;
        sum.accumulate(&adapter, &mut loss.backward(), 1.0);
    }
    assert_eq!(sum.iter_named().count(), 4);
    for ((name, sum), (_, expected)) in sum.iter_named().zip(whole.iter_named()) {
        let (sum, expected) = (sum.unwrap().clone(), expected.unwrap().clone());
        testing::assert_close_relative(name, sum, expected, 1e-4);
    }
}

#[test]
fn prompts_keep_training_after_an_evaluation() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples(11);
    let mut trainer = trainer(&llama, &examples, 8);
    trainer.step().unwrap();
    let before =
        evaluate_loss(&llama, &adapter(&trainer).prepare(&llama), &examples, 4, &mut |_| {})
            .unwrap();
    assert_eq!(before.labels, examples.iter().map(Example::n_labels).sum::<usize>());
    let old = prompts(&trainer);
    trainer.step().unwrap();
    let new = prompts(&trainer);
    for (old, new) in old.layers.iter().zip(&new.layers) {
        let change = testing::values((old.prompt.val() - new.prompt.val()).abs().max())[0];
        assert!(change > 0.0, "a prompt did not change");
    }
}

#[test]
fn training_lowers_the_loss_of_its_rows() {
    for device in testing::devices() {
        for case in ["llama-gqa-tied", "mistral-sw8", "gpt2", "qwen3"] {
            let llama = open_base(case, &device);
            let examples = examples(11);
            let mut trainer = trainer(&llama, &examples, 30);
            let loss = |trainer: &Trainer| {
                let prompts = adapter(trainer).prepare(&llama);
                evaluate_loss(&llama, &prompts, &examples, 4, &mut |_| {}).unwrap().loss
            };
            let before = loss(&trainer);
            while !trainer.is_done() {
                trainer.step().unwrap();
            }
            let after = loss(&trainer);
            assert!(after < before - 0.2, "{case}: {before} -> {after}");
        }
    }
}

#[test]
fn a_resumed_trainer_equals_an_uninterrupted_one_bit_for_bit() {
    for device in testing::devices() {
        let llama = open_base("llama-rope3", &device);
        let examples = examples(11);
        let mut uninterrupted = trainer(&llama, &examples, 9);
        let reports = reports(&mut uninterrupted, 9);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CHECKPOINT_FILE);
        // An epoch has three steps: step 4 is in the middle of the second epoch.
        let mut first = trainer(&llama, &examples, 9);
        assert_eq!(first.steps_per_epoch(), 3);
        assert_eq!(reports[..4], self::reports(&mut first, 4));
        first.save_checkpoint(&path, &"kept").unwrap();
        drop(first);
        let mut second = trainer(&llama, &examples, 9);
        assert_eq!(second.load_checkpoint::<String>(&path).unwrap(), "kept");
        assert_eq!(self::reports(&mut second, 5), reports[4..]);
        assert_eq!(adapter_values(&second), adapter_values(&uninterrupted));
    }
}

/// Names of the tensors in a checkpoint.
fn tensor_names(path: &Path) -> Vec<String> {
    let bytes = std::fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names = file.names().into_iter().map(ToString::to_string).collect::<Vec<_>>();
    names.sort_unstable();
    names
}

/// Trains and resumes with an optimizer; the checkpoint has `field` of each parameter's state.
fn check_resume<O: Optimizer>(optimizer: &O, field: &str, path: &Path) {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let examples = examples(11);
    let new = || builder(&llama, &examples, 6).optimizer(optimizer.clone()).build().unwrap();
    let mut uninterrupted = new();
    let reports = reports(&mut uninterrupted, 6);
    assert_ne!(adapter_values(&uninterrupted), adapter_values(&new()), "{field}");

    let mut first = new();
    self::reports(&mut first, 3);
    first.save_checkpoint(path, &()).unwrap();
    assert!(tensor_names(path).iter().any(|name| name.ends_with(field)), "{field}");
    let mut second = new();
    second.load_checkpoint::<()>(path).unwrap();
    assert_eq!(self::reports(&mut second, 3), reports[3..], "{field}");
    assert_eq!(adapter_values(&second), adapter_values(&uninterrupted), "{field}");
}

#[test]
fn any_burn_optimizer_trains_and_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    let sgd = SgdConfig::new().build();
    let momentum = SgdConfig::new().with_momentum(Some(MomentumConfig::new())).build();
    check_resume(&sgd, "gate", &path);
    check_resume(&momentum, "gate.momentum.velocity", &path);
    // Its time is a scalar.
    check_resume(&LambConfig::new().build(), "gate.moment_2", &path);

    // Plain SGD has no state, and rejects LAMB's.
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let mut other = builder(&llama, &examples(11), 6).optimizer(sgd).build().unwrap();
    let before = adapter_values(&other);
    let error = other.load_checkpoint::<()>(&path).unwrap_err();
    assert!(error.to_string().contains("the state of another optimizer"), "{error}");
    assert_eq!(adapter_values(&other), before);
}

#[test]
fn adamw_checkpoints_keep_their_names_and_metadata() {
    let llama = open_base("llama-mha", &testing::flex());
    let mut trainer = trainer(&llama, &examples(11), 4);
    trainer.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    trainer.save_checkpoint(&path, &7).unwrap();
    let names = tensor_names(&path);
    for parameter in ["gate", "prompt"] {
        for state in ["", ".moment_1", ".moment_2"] {
            let key = format!("prompts.layers.0.{parameter}{state}");
            assert!(names.iter().any(|name| name.ends_with(&key)), "{key}: {names:?}");
        }
    }
    let (_, metadata) = SafeTensors::read_metadata(&std::fs::read(&path).unwrap()).unwrap();
    let metadata = metadata.metadata().as_ref().unwrap();
    assert_eq!(metadata["progress"], r#"{"step":1,"caller":7}"#);
}

#[test]
fn a_builder_rejects_settings_out_of_range_and_empty_data() {
    let llama = open_base("llama-mha", &testing::flex());
    let error = builder(&llama, &examples(3), 4).batch_size(0).build().err().unwrap();
    assert_eq!(error.to_string(), "the batch size is 0, expected at least 1");
    let error = builder(&llama, &[], 4).build().err().unwrap();
    assert!(matches!(error, Error::NoRows { .. }), "{error}");
}

#[test]
fn a_damaged_checkpoint_is_rejected() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples(11);
    let mut trainer = trainer(&llama, &examples, 4);
    trainer.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    trainer.save_checkpoint(&path, &0).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = trainer.load_checkpoint::<u8>(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    }
}

#[test]
fn steps_with_a_nan_loss_are_skipped_and_reported() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples(11);
    let device = llama.device().autodiff();
    let mut adapter = golden_prompt_config().init(&llama, 3, &device).unwrap();
    let gate = Tensor::from_floats([f32::NAN], &device);
    adapter.layers[0].gate = Param::from_tensor(gate);
    let mut trainer = Trainer::builder(&llama, adapter, examples)
        .batch_size(2)
        .length(TrainLength::Steps(3))
        .learning_rate(0.1)
        .warmup_ratio(0.0)
        .build()
        .unwrap();
    let before = adapter_values(&trainer);
    let skipped = reports(&mut trainer, 2);
    assert!(skipped.iter().all(|report| report.is_skipped() && report.loss.is_nan()));
    assert_eq!(adapter_values(&trainer), before);
}

/// The prompts of an adapter after three optimizer steps, one of which may have an infinite norm; checks that
/// this one changes nothing.
fn prompts_after_steps(
    llama: &Llama,
    optimizer: &ParameterOptimizer,
    bad: Option<usize>,
) -> Vec<f32> {
    let values = |adapter: &AdapterWeights| {
        let layers = &adapter.prompts.as_ref().unwrap().layers;
        let prompts = layers.iter().map(|layer| testing::values(layer.prompt.val().inner()));
        prompts.flatten().collect::<Vec<f32>>()
    };
    let batch = Batch::new(&examples(3).iter().collect::<Vec<_>>());
    let prompts = golden_prompt_config().init(llama, 3, &llama.device().autodiff()).unwrap();
    let (mut optimizer, mut adapter) = (optimizer.clone(), AdapterWeights::from(prompts));
    for layer in &mut adapter.prompts.as_mut().unwrap().layers {
        layer.gate = Param::from_tensor(layer.gate.val().inner().ones_like().autodiff());
    }
    for step in 0..3 {
        let gradients =
            ModuleGradients::from_grads(&adapter, mean_loss(llama, &adapter, &batch).backward());
        let norm = gradients.norm();
        let norm = if bad == Some(step) { norm * f32::INFINITY } else { norm };
        let before = values(&adapter);
        adapter = optimizer.step(adapter, gradients, &norm, 1e-2);
        assert_eq!(values(&adapter) == before, bad == Some(step), "step {step}");
    }
    values(&adapter)
}

#[test]
fn a_step_with_infinite_gradients_changes_nothing_and_training_goes_on() {
    // Burn's own optimizers decide on the host, AdamW on the device.
    let optimizers =
        [OptimizerConfig::default().init(), ParameterOptimizer::new(LambConfig::new().build())];
    for device in testing::devices() {
        let llama = open_base("llama-mha", &device);
        for optimizer in &optimizers {
            for bad in [0, 1] {
                let values = prompts_after_steps(&llama, optimizer, Some(bad));
                assert!(values.iter().all(|value| value.is_finite()));
                assert_ne!(values, prompts_after_steps(&llama, optimizer, None));
            }
        }
    }
}

#[test]
fn activation_checkpointing_trains_the_same() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let examples = examples(11);
    let mut plain = trainer(&llama, &examples, 4);
    let mut checkpointed =
        builder(&llama, &examples, 4).activation_checkpointing(true).build().unwrap();
    let steps = reports(&mut plain, 4).into_iter().zip(reports(&mut checkpointed, 4));
    for (plain, checkpointed) in steps {
        assert!((plain.loss / checkpointed.loss - 1.0).abs() < 1e-5);
        assert!((plain.gradient_norm / checkpointed.gradient_norm - 1.0).abs() < 1e-4);
    }
}
