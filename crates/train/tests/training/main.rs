//! Training against PEFT's numbers, and the invariants of a run.

mod devices;
mod gradients;
mod images;
mod methods;
#[path = "../../../adaption-prompt/tests/adapter/golden_models.rs"]
mod tiny;

use adaption_prompt::{AdapterWeights, AdaptionPrompt};
use burn::module::Param;
use burn::tensor::Tensor;
use llama::Llama;
use testing::{Golden, assert_close, assert_values_close};
use tiny::{CASES, golden_prompt_config, open_adapter, open_base};
use train::{
    Batch, Error, Example, ExampleSampler, LearningRateSchedule, ModuleGradients, OptimizerConfig,
    ParameterOptimizer, StepReport, Trainer, evaluate_loss, label_loss,
};

/// The golden file's two rows.
fn golden_batch(golden: &Golden) -> Batch {
    let labels = golden.int_rows("labels");
    let rows = golden.int_rows("input_ids").into_iter().zip(labels);
    let examples = rows.map(|(tokens, labels)| Example {
        tokens: tokens.into_iter().map(|id| u32::try_from(id).unwrap()).collect(),
        labels_from: labels.iter().position(|&label| label >= 0).unwrap(),
        image: None,
    });
    Batch::new(&examples.collect::<Vec<_>>().iter().collect::<Vec<_>>())
}

/// Rows of unequal length, made up.
fn examples() -> Vec<Example> {
    (0..11_u32)
        .map(|row| Example {
            tokens: (0..6 + row % 5).map(|i| (row * 31 + i * 17) % 127 + 1).collect(),
            labels_from: 2 + row as usize % 3,
            image: None,
        })
        .collect()
}

fn mean_loss(llama: &Llama, adapter: &AdapterWeights, batch: &Batch) -> Tensor<1> {
    label_loss(llama, &adapter.prepare(llama), batch).unwrap() / batch.n_labels() as f64
}

fn trainer<'a>(llama: &'a Llama, examples: &'a [Example], total: usize) -> Trainer<'a> {
    let device = llama.device().autodiff();
    let adapter = golden_prompt_config().init(&llama, 3, &device).unwrap();
    let order = ExampleSampler {
        n_examples: examples.len(),
        batch_size: 2,
        gradient_accumulation_steps: 2,
        seed: 5,
        shuffle: true,
    };
    let schedule =
        LearningRateSchedule { peak_learning_rate: 0.05, warmup_steps: 1, total_steps: total };
    let optimizer = OptimizerConfig { max_gradient_norm: Some(0.5), ..Default::default() };
    Trainer::new(llama, adapter, examples, order, schedule, &optimizer)
}

/// What the next steps report.
fn reports(trainer: &mut Trainer, steps: usize) -> Vec<StepReport> {
    for _ in 0..steps {
        trainer.step().unwrap();
    }
    assert_eq!(trainer.pending_reports(), steps);
    trainer.reports().unwrap()
}

/// The adapter of a trainer as it is now.
fn adapter(trainer: &Trainer) -> AdapterWeights {
    trainer.trainable().adapter().unwrap().clone()
}

/// Its prompts.
fn prompts(trainer: &Trainer) -> AdaptionPrompt {
    adapter(trainer).prompts.unwrap()
}

/// All that a trainer has learned, bit for bit.
fn adapter_values(trainer: &Trainer) -> String {
    // As text, in which NaN equals itself.
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
            let mut optimizer = ParameterOptimizer::new(&OptimizerConfig::default());
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
                // The same keys, under another prefix.
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
    let examples = examples();
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
    for ((name, found), (_, expected)) in sum.iter_named().zip(whole.iter_named()) {
        let (found, expected) = (found.unwrap().clone(), expected.unwrap().clone());
        testing::assert_close_relative(name, found, expected, 1e-4);
    }
}

#[test]
fn prompts_keep_training_after_an_evaluation() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples();
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
        let moved = testing::values((old.prompt.val() - new.prompt.val()).abs().max())[0];
        assert!(moved > 0.0, "a prompt stood still");
    }
}

#[test]
fn training_lowers_the_loss_of_its_rows() {
    for device in testing::devices() {
        for case in ["llama-gqa-tied", "mistral-sw8", "gpt2", "qwen3"] {
            let llama = open_base(case, &device);
            let examples = examples();
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
        let examples = examples();
        let mut straight = trainer(&llama, &examples, 9);
        let reports = reports(&mut straight, 9);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(train::CHECKPOINT_FILE);
        // Three steps make an epoch: step 4 lies in the middle of the second.
        let mut first = trainer(&llama, &examples, 9);
        assert_eq!(first.steps_per_epoch(), 3);
        assert_eq!(reports[..4], self::reports(&mut first, 4));
        first.save_checkpoint(&path, &"kept").unwrap();
        drop(first);
        let mut second = trainer(&llama, &examples, 9);
        assert_eq!(second.load_checkpoint::<String>(&path).unwrap(), "kept");
        assert_eq!(self::reports(&mut second, 5), reports[4..]);
        assert_eq!(adapter_values(&second), adapter_values(&straight));
    }
}

#[test]
fn a_damaged_checkpoint_is_rejected() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples();
    let mut trainer = trainer(&llama, &examples, 4);
    trainer.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(train::CHECKPOINT_FILE);
    trainer.save_checkpoint(&path, &0).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        let error = trainer.load_checkpoint::<u8>(&path).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    }
}

#[test]
fn a_nan_loss_is_reported_with_its_step() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples();
    let device = llama.device().autodiff();
    let mut adapter = golden_prompt_config().init(&llama, 3, &device).unwrap();
    let gate = Tensor::from_floats([f32::NAN], &device);
    adapter.layers[0].gate = Param::from_tensor(gate);
    let order = ExampleSampler {
        n_examples: examples.len(),
        batch_size: 2,
        gradient_accumulation_steps: 1,
        seed: 0,
        shuffle: true,
    };
    let schedule =
        LearningRateSchedule { peak_learning_rate: 0.1, warmup_steps: 0, total_steps: 3 };
    let mut trainer =
        Trainer::new(&llama, adapter, examples, order, schedule, &OptimizerConfig::default());
    trainer.step().unwrap();
    trainer.step().unwrap();
    let error = trainer.reports().unwrap_err();
    assert!(matches!(error, Error::Diverged { what: "loss", step: 1, .. }), "{error}");
    assert!(!trainer.trainable().is_finite().unwrap());
}

#[test]
fn activation_checkpointing_trains_the_same() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let examples = examples();
    let mut plain = trainer(&llama, &examples, 4);
    let mut recomputing = trainer(&llama, &examples, 4).with_activation_checkpointing(true);
    let steps = reports(&mut plain, 4).into_iter().zip(reports(&mut recomputing, 4));
    for (plain, recomputing) in steps {
        assert!((plain.loss / recomputing.loss - 1.0).abs() < 1e-5);
        assert!((plain.gradient_norm / recomputing.gradient_norm - 1.0).abs() < 1e-4);
    }
}
