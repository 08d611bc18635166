//! What a step is made of: accumulation, batches by tokens, noise, moving average, learning rates of
//! groups.

use adaption_prompt::{AdapterConfig, AdapterWeights, LoraConfig, PartKind};
use burn::module::Module;
use burn::optim::SgdConfig;
use burn::tensor::TensorData;
use llama::Llama;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use train::run::CHECKPOINT_FILE;
use train::{
    Batch, Error, Example, GroupLearningRates, Instruction, StepReport, TrainConfig, Trainer,
    TrainerBuilder, evaluate_loss,
};

use crate::label_rows::opened;
use crate::methods::parameter_values;
use crate::tiny::{golden_prompt_config, open_base};
use crate::{adapter, adapter_values, builder, examples, reports, schedule};

/// A builder with an opened adapter.
fn open_builder<'a>(llama: &'a Llama, examples: &[Example]) -> TrainerBuilder<'a> {
    let adapter = golden_prompt_config().init(llama, 3, &llama.device().autodiff()).unwrap();
    Trainer::builder(llama, opened(adapter), examples).seed(5).schedule(schedule(0.05, 30))
}

/// The largest difference of two lists of parameters, relative to the largest value.
fn relative_difference(found: &[TensorData], expected: &[TensorData]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let values = |data: &[TensorData]| {
        data.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let (found, expected) = (values(found), values(expected));
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    f64::from(differences.fold(0.0, f32::max) / largest)
}

#[test]
fn any_division_of_a_global_batch_gives_the_same_steps() {
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let examples = examples(30);
        for noise in [None, Some(5.0)] {
            // Gradients of one step, through plain SGD; then three steps of AdamW.
            let train = |batch_size: usize, accumulation: usize| {
                let builder = || {
                    open_builder(&llama, &examples)
                        .batch_size(batch_size)
                        .gradient_accumulation_steps(accumulation)
                        .noise_alpha(noise)
                };
                let mut sgd = builder().optimizer(SgdConfig::new().build()).build().unwrap();
                let report = reports(&mut sgd, 1);
                let mut adamw = builder().build().unwrap();
                let adamw_reports = reports(&mut adamw, 3);
                let values = [&sgd, &adamw].map(|trainer| parameter_values(&trainer.trainable()));
                ([report, adamw_reports].concat(), values)
            };
            let (expected_reports, expected) = train(12, 1);
            for (batch_size, accumulation) in [(6, 2), (4, 3), (3, 4), (2, 6), (1, 12)] {
                let what = format!("{batch_size} x {accumulation}, noise {noise:?}");
                let (reports, found) = train(batch_size, accumulation);
                for (found, expected) in reports.iter().zip(&expected_reports) {
                    let StepReport { loss, gradient_norm, labels, .. } = *found;
                    assert_eq!(labels, expected.labels, "{what}");
                    for (found, expected) in
                        [(loss, expected.loss), (gradient_norm, expected.gradient_norm)]
                    {
                        assert!(
                            (found / expected - 1.0).abs() < 1e-6,
                            "{what}: {found} {expected}"
                        );
                    }
                }
                for (found, expected) in found.iter().zip(&expected) {
                    let difference = relative_difference(found, expected);
                    assert!(difference < 1e-6, "{what}: {difference}");
                }
            }
        }
    }
}

/// The fraction of the slots of an epoch that is padding, and the number of its batches.
fn waste(llama: &Llama, examples: &[Example], config: &TrainConfig) -> (f64, usize) {
    let sampler = config.sampler(examples.iter().map(|example| example.tokens.len()));
    let (mut slots, mut tokens, mut batches) = (0, 0, 0);
    for rows in sampler.epoch_steps(0, &[]).concat() {
        let rows = rows.iter().map(|&row| &examples[row]).collect::<Vec<_>>();
        let batch = Batch::new(&rows);
        let processed = batch.n_processed_tokens(llama);
        assert!(rows.len() == 1 || processed <= config.batch_tokens.unwrap_or(usize::MAX));
        slots += processed;
        tokens += batch.inputs().iter().map(|row| row.len()).sum::<usize>();
        batches += 1;
    }
    (1.0 - tokens as f64 / slots as f64, batches)
}

/// Rows with the lengths of the Alpaca data set in tokens: a prompt of about 60, and an output whose
/// length is log-normal with a median of 45, up to 512 together.
fn alpaca_lengths(count: usize) -> Vec<Example> {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut normal = || {
        let uniform = (0..12).map(|_| f64::from(rng.next_u32()) / f64::from(u32::MAX));
        uniform.sum::<f64>() - 6.0
    };
    let mut example = |row: u32| {
        let prompt = (58.0 * (0.25 * normal()).exp()) as usize;
        let output = (45.0 * (0.95 * normal()).exp()) as usize;
        let len = (prompt + output.max(2)).min(512);
        let tokens = (0..len as u32).map(|at| (row * 31 + at * 17) % 127 + 1).collect();
        Example::with_labels_from(tokens, prompt.min(len - 1))
    };
    (0..count as u32).map(&mut example).collect()
}

#[test]
fn less_than_3_percent_of_the_slots_are_padding() {
    let assets = testing::golden_folder().join("../../crates/built-in/assets");
    let tokenizer =
        llama::ModelSource::open(assets.join("tiny-llama")).unwrap().tokenizer().unwrap();
    let rows = Instruction::read(&assets.join("instructions/train.jsonl")).unwrap();
    let (built_in, _counts) = Example::encode_all(&rows[..900], &tokenizer, 512).unwrap();
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        for (what, examples) in [("built-in", &built_in), ("Alpaca", &alpaca_lengths(900))] {
            for budget in [1024, 2048] {
                let by_tokens =
                    TrainConfig { batch_tokens: Some(budget), ..TrainConfig::default() };
                let (wasted, batches) = waste(&llama, examples, &by_tokens);
                println!("{what}, {budget} tokens: {:.2} % in {batches} batches", 100.0 * wasted);
                assert!(wasted < 0.03, "{what}, {budget}: {wasted}");
                // As many batches by number of examples.
                let by_rows = TrainConfig { batch_size: 900 / batches, ..TrainConfig::default() };
                let (wasted_by_rows, _) = waste(&llama, examples, &by_rows);
                println!("  by examples: {:.2} %", 100.0 * wasted_by_rows);
                if !llama.has_fused_attention() {
                    assert!(wasted_by_rows > 2.0 * wasted, "{what}: {wasted_by_rows}");
                }
            }
        }
    }
}

#[test]
fn every_option_of_a_step_resumes_bit_for_bit_in_the_middle_of_an_epoch() {
    for device in testing::devices() {
        let llama = open_base("llama-rope3", &device);
        let examples = examples(20);
        let new = || {
            let rates = GroupLearningRates { gates: Some(0.2), ..Default::default() };
            builder(&llama, &examples, 12)
                .batch_tokens(Some(30))
                .noise_alpha(Some(5.0))
                .ema_decay(Some(0.9))
                .group_learning_rates(rates)
                .build()
                .unwrap()
        };
        let mut uninterrupted = new();
        let steps_per_epoch = uninterrupted.steps_per_epoch();
        assert!(steps_per_epoch > 2, "{steps_per_epoch}");
        let middle = steps_per_epoch + 1;
        let expected = reports(&mut uninterrupted, 2 * steps_per_epoch);

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(CHECKPOINT_FILE);
        let mut first = new();
        assert_eq!(expected[..middle], reports(&mut first, middle));
        first.save_checkpoint(&path, &()).unwrap();
        let mut second = new();
        second.load_checkpoint::<()>(&path).unwrap();
        assert_eq!(parameter_values(&second.averaged()), parameter_values(&first.averaged()));
        assert_eq!(reports(&mut second, 2 * steps_per_epoch - middle), expected[middle..]);
        assert_eq!(adapter_values(&second), adapter_values(&uninterrupted));
        let averages = [&second, &uninterrupted].map(|run| parameter_values(&run.averaged()));
        assert_eq!(averages[0], averages[1]);
        assert_ne!(averages[0], parameter_values(&second.trainable()));
    }
}

#[test]
fn a_checkpoint_without_a_moving_average_is_refused_by_a_run_with_one() {
    let llama = open_base("llama-mha", &testing::flex());
    let examples = examples(11);
    let mut without = builder(&llama, &examples, 4).build().unwrap();
    without.step().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CHECKPOINT_FILE);
    without.save_checkpoint(&path, &()).unwrap();
    let mut with = builder(&llama, &examples, 4).ema_decay(Some(0.9)).build().unwrap();
    let before = adapter_values(&with);
    let error = with.load_checkpoint::<()>(&path).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    assert_eq!(adapter_values(&with), before);
}

#[test]
fn the_moving_average_is_the_decayed_mean_of_the_weights_after_each_step() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let decay = 0.25_f32;
    let mut trainer =
        builder(&llama, &examples(11), 6).ema_decay(Some(f64::from(decay))).build().unwrap();
    let values = |weights: &train::TrainableWeights| {
        let data = parameter_values(weights);
        data.iter().flat_map(|data| data.iter::<f32>().collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let mut expected = values(&trainer.averaged());
    assert_eq!(expected, values(&trainer.trainable()));
    for step in 1..=4_u16 {
        trainer.step().unwrap();
        // In the first steps the decay is smaller: 2/11, 3/12, then the setting.
        let step = f32::from(step);
        let decay = decay.min((1.0 + step) / (10.0 + step));
        let weights = values(&trainer.trainable());
        for (average, weight) in expected.iter_mut().zip(weights) {
            *average = decay * *average + (1.0 - decay) * weight;
        }
        for (found, expected) in values(&trainer.averaged()).iter().zip(&expected) {
            assert!((found - expected).abs() < 1e-6, "step {step}: {found} {expected}");
        }
    }
}

/// Largest change of the gates, of the prompts, and of LoRA's matrices.
fn changes(before: &AdapterWeights, after: &AdapterWeights) -> [f32; 3] {
    let of = |adapter: &AdapterWeights| {
        let prompts = adapter.prompts.as_ref().unwrap();
        let gates = prompts.layers.iter().flat_map(|own| testing::values(own.gate.val()));
        let texts = prompts.layers.iter().flat_map(|own| testing::values(own.prompt.val()));
        let pairs = adapter.lora.as_ref().unwrap().layers.iter().flat_map(|own| &own.pairs);
        let matrices = pairs.flat_map(|pair| testing::values(pair.b.val()));
        [gates.collect::<Vec<_>>(), texts.collect(), matrices.collect()]
    };
    let (before, after) = (of(before), of(after));
    std::array::from_fn(|group| {
        let pairs = before[group].iter().zip(&after[group]);
        pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
    })
}

#[test]
fn a_group_has_its_own_learning_rate() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let config =
        AdapterConfig { lora: Some(LoraConfig::default()), ..golden_prompt_config().into() };
    let device = llama.device().autodiff();
    let start = opened(config.init(&llama, 3, &device).unwrap());
    let train = |rates: GroupLearningRates| {
        let mut trainer = Trainer::builder(&llama, start.clone(), examples(6))
            .group_learning_rates(rates)
            .schedule(schedule(0.01, 4))
            .build()
            .unwrap();
        reports(&mut trainer, 1);
        adapter(&trainer)
    };
    let start = start.valid();
    // AdamW's first step changes a parameter by its learning rate, and by a little weight decay.
    let near = |change: f32, rate: f32| (change / rate - 1.0).abs() < 0.1;
    let [gates, prompts, lora] = changes(&start, &train(GroupLearningRates::default()));
    assert!([gates, prompts, lora].iter().all(|&change| near(change, 0.01)));
    let rates = GroupLearningRates { gates: Some(0.2), parts: [(PartKind::Lora, 0.003)].into() };
    let [gates, prompts, lora] = changes(&start, &train(rates));
    assert!(
        near(gates, 0.2) && near(prompts, 0.01) && near(lora, 0.003),
        "{gates} {prompts} {lora}"
    );
    let [gates, prompts, _lora] =
        changes(&start, &train(GroupLearningRates { gates: Some(0.0), ..Default::default() }));
    assert_eq!(gates, 0.0);
    assert!(near(prompts, 0.01));
}

#[test]
fn a_learning_rate_of_a_group_that_is_not_trained_is_refused() {
    let llama = open_base("llama-mha", &testing::flex());
    let device = llama.device().autodiff();
    let build = |adapter: AdapterWeights, rates: GroupLearningRates| {
        let trainer = Trainer::builder(&llama, adapter, examples(3)).group_learning_rates(rates);
        trainer.build().err().unwrap().to_string()
    };
    let lora = AdapterConfig::from(LoraConfig::default()).init(&llama, 3, &device).unwrap();
    let gates = GroupLearningRates { gates: Some(0.1), ..Default::default() };
    let expected = "the learning rate of gates is 0.1, expected none: no gate is trained";
    assert_eq!(build(lora.clone(), gates), expected);
    let v2 = GroupLearningRates { parts: [(PartKind::V2, 0.1)].into(), ..Default::default() };
    let expected = "the learning rate of a part is v2=0.1, expected parts that are trained";
    assert_eq!(build(lora, v2), expected);
}

#[test]
fn noise_changes_the_loss_of_training_steps_and_of_no_evaluation() {
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let examples = examples(6);
        let first_loss = |noise: Option<f64>, seed: u64, checkpointing: bool| {
            let mut trainer = open_builder(&llama, &examples)
                .seed(seed)
                .batch_size(6)
                .noise_alpha(noise)
                .activation_checkpointing(checkpointing)
                .build()
                .unwrap();
            let held_out = {
                let adapter = adapter(&trainer).prepare(&llama);
                evaluate_loss(&llama, &adapter, &examples, 6, &mut |_| {}).unwrap().loss
            };
            (reports(&mut trainer, 1)[0].loss, held_out)
        };
        let (plain, held_out) = first_loss(None, 5, false);
        // Without noise a training step sees what an evaluation sees.
        assert!((plain / held_out - 1.0).abs() < 1e-6);
        let (noisy, with_noise) = first_loss(Some(5.0), 5, false);
        assert_eq!(with_noise, held_out);
        assert!((noisy / plain - 1.0).abs() > 1e-5, "{noisy} {plain}");
        assert!((first_loss(Some(5.0), 6, false).0 / noisy - 1.0).abs() > 1e-6, "another seed");
        let checkpointed = first_loss(Some(5.0), 5, true).0;
        assert!((checkpointed / noisy - 1.0).abs() < 1e-5, "{checkpointed} {noisy}");
    }
}
