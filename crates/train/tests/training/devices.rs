//! One seed on several devices, and what a step asks of a device.
//!
//! `LLAMA_ADAPTER_TEST_DEVICES=flex,ndarray,wgpu` names the devices.

use std::path::Path;

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig, LoraConfig, V2Config};
use burn::tensor::Device;
use llama::read_back::read_back_count;
use llama::{Llama, ModelSource, NoAdapter, Precision};
use text::Tokenizer;
use train::{
    Example, ExampleSampler, FineTuningMethod, Instruction, LearningRateSchedule, OptimizerConfig,
    TrainableWeights, Trainer, evaluate_loss, generate_responses,
};

fn asset(path: &str) -> std::path::PathBuf {
    testing::golden_folder().join("../../assets").join(path)
}

/// The built-in model and its tokenizer.
fn built_in(device: &Device) -> (Llama, Tokenizer) {
    let source = ModelSource::open(asset("tiny-llama")).unwrap();
    (source.load(Precision::F32, device).unwrap(), source.tokenizer().unwrap())
}

fn prompts(llama: &Llama) -> AdaptionPromptConfig {
    let layers = AdaptedLayers::Last(llama.config().n_layers - 1);
    AdaptionPromptConfig { layers, ..Default::default() }
}

fn trainer<'a>(
    llama: &'a Llama,
    method: &FineTuningMethod,
    examples: Vec<Example>,
    order: ExampleSampler,
    total: usize,
) -> Trainer<'a> {
    // The rate at which the built-in model learns by default.
    let schedule =
        LearningRateSchedule { peak_learning_rate: 0.03, warmup_steps: 3, total_steps: total };
    let learner = method.init(llama, order.seed).unwrap();
    Trainer::new(llama, learner, examples, order, schedule, &OptimizerConfig::default())
}

/// Twenty steps as `llama-adapter train` makes them: the losses, and what was learned.
fn twenty_steps(llama: &Llama, tokenizer: &Tokenizer) -> (Vec<f64>, TrainableWeights) {
    let rows = Instruction::read(&asset("instructions/train.jsonl")).unwrap();
    let (examples, _fitted) = Example::encode_all(&rows, tokenizer, 256).unwrap();
    let order = ExampleSampler {
        n_examples: examples.len(),
        batch_size: 8,
        gradient_accumulation_steps: 1,
        seed: 0,
        shuffle: true,
    };
    let mut trainer = trainer(llama, &prompts(llama).into(), examples, order, 20);
    while !trainer.is_done() {
        trainer.step().unwrap();
    }
    let losses = trainer.reports().unwrap().iter().map(|report| report.loss).collect();
    (losses, trainer.trainable())
}

/// What the adapter in a folder answers to the first held-out rows.
fn answers(folder: &Path, llama: &Llama, tokenizer: &Tokenizer) -> Vec<String> {
    let rows = Instruction::read(&asset("instructions/test.jsonl")).unwrap();
    let method = prompts(llama).into();
    let learner = TrainableWeights::load(folder, &method, llama).unwrap();
    learner.with_adapter(llama, None, |llama, adapter| {
        generate_responses(llama, adapter, tokenizer, &rows[..12], 6, &mut |_| {}).unwrap()
    })
}

#[test]
fn one_seed_gives_one_curve_and_adapters_for_every_device() {
    let (reference, tokenizer) = built_in(&testing::flex());
    let (expected, learner) = twenty_steps(&reference, &tokenizer);
    assert!(expected[19] < 0.6 * expected[0], "it learns: {expected:?}");
    let of_reference = tempfile::tempdir().unwrap();
    learner.save(of_reference.path(), &reference, &tokenizer, "tiny-llama").unwrap();

    for device in testing::devices() {
        let (llama, _tokenizer) = built_in(&device);
        let (losses, learner) = twenty_steps(&llama, &tokenizer);
        for (step, (found, expected)) in losses.iter().zip(&expected).enumerate() {
            let difference = (found / expected - 1.0).abs();
            assert!(
                difference < 1e-3,
                "{device:?}: step {}: {found} instead of {expected}",
                step + 1
            );
        }
        let own = tempfile::tempdir().unwrap();
        learner.save(own.path(), &llama, &tokenizer, "tiny-llama").unwrap();
        for folder in [of_reference.path(), own.path()] {
            let (here, there) =
                (answers(folder, &llama, &tokenizer), answers(folder, &reference, &tokenizer));
            assert_eq!(here, there, "{device:?}");
        }
    }
}

#[test]
fn steps_do_not_wait_for_the_device_and_reports_wait_once() {
    let rows = (0..6_u32).map(|row| Example {
        tokens: (0..5 + row % 3).map(|at| row * 7 + at + 1).collect(),
        labels_from: 2,
        image: None,
    });
    let rows = rows.collect::<Vec<_>>();
    for device in testing::devices() {
        let (llama, _tokenizer) = built_in(&device);
        let methods: [(&str, FineTuningMethod, bool); 4] = [
            ("prompts", prompts(&llama).into(), false),
            ("prompts, layers computed twice", prompts(&llama).into(), true),
            ("v2", AdapterConfig::from(V2Config::paper()).into(), false),
            ("lora", AdapterConfig::from(LoraConfig::default()).into(), false),
        ];
        for (name, method, recompute) in methods {
            let order = ExampleSampler {
                n_examples: rows.len(),
                batch_size: 2,
                gradient_accumulation_steps: 2,
                seed: 0,
                shuffle: true,
            };
            let mut trainer = trainer(&llama, &method, rows.clone(), order, 4)
                .with_activation_checkpointing(recompute);
            let before = read_back_count();
            for _ in 0..4 {
                trainer.step().unwrap();
            }
            assert_eq!(read_back_count() - before, 0, "{name}: read-backs of four steps");
            assert_eq!(trainer.reports().unwrap().len(), 4);
            assert_eq!(read_back_count() - before, 1, "{name}: read-backs of their reports");
            assert_eq!(trainer.reports().unwrap(), []);
            assert_eq!(read_back_count() - before, 1, "{name}: read-backs of no report");
        }
        let before = read_back_count();
        evaluate_loss(&llama, &NoAdapter, &rows, 2, &mut |_| {}).unwrap();
        assert_eq!(read_back_count() - before, 1, "read-backs of an evaluation");
    }
}

#[test]
fn a_base_in_half_precision_scores_as_in_f32_or_is_refused() {
    let source = ModelSource::open(asset("tiny-llama")).unwrap();
    assert_eq!(source.stored_precision().unwrap(), Precision::BF16);
    let tokens = source.tokenizer().unwrap().encode("The plural of cow is").unwrap();
    for device in testing::devices() {
        let logits = |precision| {
            let llama = source.load(precision, &device)?;
            assert_eq!(llama.precision(), precision);
            let hidden =
                llama.forward(llama.tokens(std::slice::from_ref(&tokens))?, None, &NoAdapter)?;
            Ok(llama.logits(hidden, &NoAdapter))
        };
        let expected = logits(Precision::F32).unwrap();
        for (precision, tolerance) in [(Precision::F16, 2e-3), (Precision::BF16, 2e-2)] {
            match logits(precision) {
                Ok(found) => {
                    testing::assert_close_relative(
                        &precision.to_string(),
                        found,
                        expected.clone(),
                        tolerance,
                    );
                }
                Err(llama::Error::Precision { precision: refused }) => {
                    assert_eq!(refused, precision);
                    assert!(!precision.is_supported(&device));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
}
