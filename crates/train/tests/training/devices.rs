//! One seed on several devices, and the synchronizations of a step.
//!
//! `LLAMA_ADAPTER_TEST_DEVICES=flex,ndarray,wgpu` names the devices.

use std::path::Path;

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig, LoraConfig, V2Config};
use burn::tensor::Device;
use kernels::{GpuKernel, Launches, count_launches, has_gpu_kernel};
use llama::read_back::read_back_count;
use llama::{Llama, LlamaConfig, ModelSource, NoAdapter, Precision};
use text::Tokenizer;
use train::data::RowEncoder;
use train::eval::generate_responses;
use train::{
    Batch, Example, FineTuningMethod, Instruction, LearningRateDecay, LearningRateSchedule,
    TrainableWeights, Trainer, TrainerBuilder, evaluate_loss, label_loss,
};

fn asset(path: &str) -> std::path::PathBuf {
    testing::golden_folder().join("../../crates/built-in/assets").join(path)
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

fn builder<'a>(
    llama: &'a Llama,
    method: &FineTuningMethod,
    examples: Vec<Example>,
    total_steps: usize,
) -> TrainerBuilder<'a> {
    // The default learning rate of the built-in model.
    let schedule = LearningRateSchedule {
        peak_learning_rate: 0.03,
        warmup_steps: 3,
        total_steps,
        decay: LearningRateDecay::Cosine,
    };
    Trainer::builder(llama, method.init(llama, 0).unwrap(), examples).schedule(schedule)
}

/// Twenty steps as in `llama-adapter train`: the losses and the trained weights.
fn twenty_steps(llama: &Llama, tokenizer: &Tokenizer) -> (Vec<f64>, TrainableWeights) {
    let rows = Instruction::read(&asset("instructions/train.jsonl")).unwrap();
    let (examples, _fitted) = Example::encode_all(&rows, tokenizer, 256).unwrap();
    let mut trainer = builder(llama, &prompts(llama).into(), examples, 20).build().unwrap();
    while !trainer.is_done() {
        trainer.step().unwrap();
    }
    let losses = trainer.reports().unwrap().iter().map(|report| report.loss).collect();
    (losses, trainer.trainable())
}

/// The responses of the adapter in a folder to the first held-out rows.
fn generate_answers(folder: &Path, llama: &Llama, tokenizer: &Tokenizer) -> Vec<String> {
    let rows = Instruction::read(&asset("instructions/test.jsonl")).unwrap();
    let encoder = RowEncoder::alpaca(tokenizer).unwrap();
    let method = prompts(llama).into();
    let trainable = TrainableWeights::load(folder, &method, llama).unwrap();
    trainable.with_adapter(llama, None, |llama, adapter| {
        generate_responses(llama, adapter, &encoder, &rows[..12], 6, &mut |_| {}).unwrap()
    })
}

#[test]
fn one_seed_gives_the_same_loss_curve_on_every_device() {
    let (reference, tokenizer) = built_in(&testing::flex());
    let (expected, trainable) = twenty_steps(&reference, &tokenizer);
    assert!(expected[19] < 0.6 * expected[0], "the loss falls: {expected:?}");
    let reference_folder = tempfile::tempdir().unwrap();
    trainable.save(reference_folder.path(), &reference, &tokenizer, "tiny-llama").unwrap();

    for device in testing::devices() {
        let (llama, _tokenizer) = built_in(&device);
        let (losses, trainable) = twenty_steps(&llama, &tokenizer);
        for (step, (loss, expected)) in losses.iter().zip(&expected).enumerate() {
            let difference = (loss / expected - 1.0).abs();
            assert!(
                difference < 1e-3,
                "{device:?}: step {}: {loss} instead of {expected}",
                step + 1
            );
        }
        let device_folder = tempfile::tempdir().unwrap();
        trainable.save(device_folder.path(), &llama, &tokenizer, "tiny-llama").unwrap();
        for folder in [reference_folder.path(), device_folder.path()] {
            let (here, there) = (
                generate_answers(folder, &llama, &tokenizer),
                generate_answers(folder, &reference, &tokenizer),
            );
            assert_eq!(here, there, "{device:?}");
        }
    }
}

#[test]
fn steps_do_not_synchronize_and_reports_synchronize_once() {
    let tokens = |row: u32| (0..5 + row % 3).map(|at| row * 7 + at + 1).collect();
    let rows = (0..6).map(|row| Example::with_labels_from(tokens(row), 2));
    let rows = rows.collect::<Vec<_>>();
    for device in testing::devices() {
        let (llama, _tokenizer) = built_in(&device);
        let methods: [(&str, FineTuningMethod, bool); 4] = [
            ("prompts", prompts(&llama).into(), false),
            ("prompts, activation checkpointing", prompts(&llama).into(), true),
            ("v2", AdapterConfig::from(V2Config::paper()).into(), false),
            ("lora", AdapterConfig::from(LoraConfig::default()).into(), false),
        ];
        for (name, method, checkpointing) in methods {
            let mut trainer = builder(&llama, &method, rows.clone(), 4)
                .batch_size(2)
                .gradient_accumulation_steps(2)
                .activation_checkpointing(checkpointing)
                .build()
                .unwrap();
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
fn a_half_precision_base_matches_f32_or_is_rejected() {
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
                Ok(logits) => {
                    testing::assert_close_relative(
                        &precision.to_string(),
                        logits,
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

/// Launches of a training step of a model of this many layers in SmolLM2's shape.
fn launches_of_a_step(n_layers: usize, device: &Device) -> Launches {
    let config = LlamaConfig {
        n_layers,
        n_heads: 9,
        n_kv_heads: 3,
        head_dim: 64,
        d_model: 576,
        d_ff: 1536,
        vocab_size: 64,
        max_positions: 64,
        ..LlamaConfig::default()
    };
    let llama = llama::weights::random_init(config, device).unwrap();
    let layers = AdaptedLayers::Last(n_layers);
    let prompts = AdaptionPromptConfig { layers, ..Default::default() };
    let adapter = AdapterConfig::from(prompts).init(&llama, 0, &device.clone().autodiff()).unwrap();
    let rows = [5, 9].map(|len| Example::with_labels_from((1..len).collect(), 2));
    let batch = Batch::new(&rows.iter().collect::<Vec<_>>());
    let step = || label_loss(&llama, &adapter.prepare(&llama), &batch).unwrap().backward();
    count_launches(step).1
}

/// Burn's GEMMs, with copies and sums around them, are most of them.
#[test]
fn a_layer_of_a_training_step_launches_few_kernels() {
    const MOST: usize = 50;
    for device in testing::devices() {
        if !GpuKernel::ALL.iter().all(|&kernel| has_gpu_kernel(&device, kernel)) {
            continue;
        }
        let [two, three] = [2, 3].map(|layers| launches_of_a_step(layers, &device));
        let (layer, fused) = (three.all - two.all, three.fused - two.fused);
        println!("{device:?}: {layer} launches a layer, {fused} of them of fused kernels");
        assert!(layer <= MOST, "{layer} launches");
        // Two norms, SwiGLU and attention, forward and backward; keys and prompts are launches of
        // their own.
        assert_eq!(fused, 4 + 3 + 4);
    }
}
