//! The frozen-prefix cache: the layers below the first adapted one run once for all epochs, and the result
//! is that of training without a cache.

use std::path::Path;

use adaption_prompt::{AdapterWeights, LoraConfig, V2Config};
use burn::module::Param;
use burn::tensor::Tensor;
use llama::{Llama, Precision};
use train::run::CHECKPOINT_FILE;
use train::{
    CacheOffReason, CachePrecision, CachedPrefix, Example, FineTuningMethod, LearningRateDecay,
    LearningRateSchedule, PrefixCacheConfig, PrefixCacheDecision, PrefixCacheMode, StepReport,
    Trainer, TrainerBuilder,
};

use crate::tiny::{CASES, golden_prompt_config, open_base, open_base_in};
use crate::{adapter_values, reports};

/// Three epochs of three steps.
const STEPS: usize = 9;

/// A cache in memory for all examples.
fn in_memory() -> PrefixCacheConfig {
    PrefixCacheConfig {
        mode: PrefixCacheMode::Memory,
        max_bytes: Some(1 << 20),
        ..PrefixCacheConfig::default()
    }
}

fn off() -> PrefixCacheConfig {
    PrefixCacheConfig { mode: PrefixCacheMode::Off, ..PrefixCacheConfig::default() }
}

/// Eleven examples of different lengths; each shares a prefix with others.
fn examples() -> Vec<Example> {
    let example = |row: u32| {
        let prefix = (0..9).map(|i| row % 2 * 40 + i * 3 + 1);
        let own = (0..3 + row % 6).map(|i| (row * 31 + i * 17) % 127 + 1);
        Example::with_labels_from(prefix.chain(own).collect(), 9 + row as usize % 3)
    };
    (0..11).map(example).collect()
}

/// An adapter of the upper two of three layers, whose gates are open.
fn open_adapter(llama: &Llama) -> AdapterWeights {
    let device = llama.device().autodiff();
    let mut prompts = golden_prompt_config().init(llama, 3, &device).unwrap();
    for layer in &mut prompts.layers {
        layer.gate = Param::from_tensor(Tensor::from_floats([0.5], &device));
    }
    prompts.into()
}

fn builder(llama: &Llama, cache: PrefixCacheConfig) -> TrainerBuilder<'_> {
    Trainer::builder(llama, open_adapter(llama), examples())
        .batch_size(2)
        .gradient_accumulation_steps(2)
        .seed(5)
        .schedule(LearningRateSchedule {
            peak_learning_rate: 0.05,
            warmup_steps: 1,
            total_steps: STEPS,
            decay: LearningRateDecay::Cosine,
        })
        .prefix_cache(cache)
}

fn trainer(llama: &Llama, cache: PrefixCacheConfig) -> Trainer<'_> {
    builder(llama, cache).build().unwrap()
}

/// Everything that a training computes.
fn trained(mut trainer: Trainer) -> (Vec<StepReport>, String) {
    assert_eq!(trainer.steps_per_epoch() * 3, STEPS);
    (reports(&mut trainer, STEPS), adapter_values(&trainer))
}

fn cached(trainer: &Trainer) -> CachedPrefix {
    match trainer.prefix_cache() {
        PrefixCacheDecision::On(cached) => cached,
        PrefixCacheDecision::Off(reason) => panic!("the cache is off: {reason}"),
    }
}

#[test]
fn a_cache_in_f32_changes_no_bit_of_the_result() {
    for case in CASES {
        let llama = open_base(case, &testing::flex());
        let with = trainer(&llama, in_memory());
        let CachedPrefix { layers, examples, all_examples, bytes, .. } = cached(&with);
        assert_eq!((layers, examples, all_examples), (1, 11, 11));
        assert!(bytes > 0);
        assert_eq!(trained(with), trained(trainer(&llama, off())), "{case}");
    }
}

#[test]
fn quantized_bases_and_activation_checkpointing_use_the_cache_exactly() {
    use Precision::{BF16, Bits4, Bits8, F16, F32};
    for (precision, checkpointing) in
        [(F32, true), (BF16, false), (F16, false), (Bits8, true), (Bits4, true)]
    {
        let llama = open_base_in(precision, "llama-gqa-tied", &testing::flex());
        let train = |cache| {
            let builder = builder(&llama, cache).activation_checkpointing(checkpointing);
            trained(builder.build().unwrap())
        };
        assert_eq!(train(in_memory()), train(off()), "{precision}");
    }
}

#[test]
fn rows_that_do_not_fit_train_beside_cached_ones() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let expected = trained(trainer(&llama, off()));
    let all = cached(&trainer(&llama, in_memory())).bytes;
    for parts in [1, 4, 8] {
        let limit = all * parts / 10;
        let trainer = trainer(&llama, PrefixCacheConfig { max_bytes: Some(limit), ..in_memory() });
        let CachedPrefix { examples, bytes, .. } = cached(&trainer);
        assert!((1..11).contains(&examples) && bytes <= limit, "{examples} in {bytes} of {limit}");
        assert_eq!(trained(trainer), expected, "{examples} examples");
    }
}

#[test]
fn other_devices_and_precisions_differ_by_rounding() {
    for device in testing::devices() {
        let llama = open_base("llama-gqa-tied", &device);
        let (expected, _) = trained(trainer(&llama, off()));
        for (precision, tolerance) in
            [(CachePrecision::F32, 1e-4), (CachePrecision::F16, 1e-3), (CachePrecision::BF16, 5e-3)]
        {
            let config = PrefixCacheConfig { precision, ..in_memory() };
            let (found, _) = trained(trainer(&llama, config));
            for (found, expected) in found.iter().zip(&expected) {
                let difference = (found.loss / expected.loss - 1.0).abs();
                assert!(difference < tolerance, "{precision:?} on {device:?}: {difference}");
            }
        }
    }
}

/// Interrupts a training in the middle of its second epoch; the new one has only the checkpoint, and the
/// file of a cache on disk.
fn check_resume(llama: &Llama, cache: PrefixCacheConfig, folder: &Path) {
    let new =
        |name: &str| builder(llama, cache).prefix_cache_file(folder.join(name)).build().unwrap();
    let checkpoint = folder.join(CHECKPOINT_FILE);
    let expected = trained(new("one"));
    let mut first = new("two");
    assert_eq!(reports(&mut first, 4), expected.0[..4]);
    first.save_checkpoint(&checkpoint, &()).unwrap();
    drop(first);
    let mut second = new("two");
    second.load_checkpoint::<()>(&checkpoint).unwrap();
    assert_eq!(reports(&mut second, 5), expected.0[4..], "{cache:?}");
    assert_eq!(adapter_values(&second), expected.1, "{cache:?}");
}

#[test]
fn a_resumed_training_with_a_cache_is_bit_exact_on_every_device() {
    let folder = tempfile::tempdir().unwrap();
    for device in testing::devices() {
        let llama = open_base("llama-rope3", &device);
        for precision in CachePrecision::ALL {
            // A part of the examples.
            let part = PrefixCacheConfig { precision, max_bytes: Some(8000), ..in_memory() };
            assert!(cached(&trainer(&llama, part)).examples < 11);
            check_resume(&llama, part, folder.path());
            let mode = PrefixCacheMode::Disk;
            let on_disk = PrefixCacheConfig { mode, precision, ..in_memory() };
            check_resume(&llama, on_disk, folder.path());
        }
    }
}

#[test]
fn a_damaged_or_foreign_file_is_computed_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("cache");
    let on_disk = PrefixCacheConfig { mode: PrefixCacheMode::Disk, ..in_memory() };
    let train = |llama| trained(builder(llama, on_disk).prefix_cache_file(&file).build().unwrap());
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let expected = trained(trainer(&llama, off()));
    assert_eq!(train(&llama), expected);
    let whole = std::fs::read(&file).unwrap();
    assert!(whole.len() as u64 >= cached(&trainer(&llama, in_memory())).bytes);
    // The second run reads what the first one has written.
    assert_eq!(train(&llama), expected);
    assert_eq!(std::fs::read(&file).unwrap(), whole);
    for position in (0..whole.len()).step_by(whole.len() / 7) {
        let mut damaged = whole.clone();
        damaged[position] ^= 0x40;
        std::fs::write(&file, &damaged).unwrap();
        assert_eq!(train(&llama), expected, "byte {position}");
        assert_eq!(std::fs::read(&file).unwrap(), whole, "byte {position}");
    }
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(train(&llama), expected);
    // The file of another model with the same sizes.
    let other = open_base("llama-mha", &testing::flex());
    assert_eq!(train(&other), trained(trainer(&other, off())));
}

#[test]
fn a_cache_that_saves_nothing_is_off_and_says_why() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let decision = |method: FineTuningMethod, cache: PrefixCacheConfig, total_steps| {
        let schedule = LearningRateSchedule {
            peak_learning_rate: 0.01,
            warmup_steps: 0,
            total_steps,
            decay: LearningRateDecay::Cosine,
        };
        let trainer = Trainer::builder(&llama, method.init(&llama, 0).unwrap(), examples())
            .schedule(schedule)
            .prefix_cache(cache)
            .build();
        match trainer.unwrap().prefix_cache() {
            PrefixCacheDecision::On(_) => None,
            PrefixCacheDecision::Off(reason) => Some(reason),
        }
    };
    let prompts = || FineTuningMethod::from(golden_prompt_config());
    assert_eq!(decision(prompts(), in_memory(), 9), None);
    // Eleven examples in batches of eight: an epoch has two steps.
    assert_eq!(decision(prompts(), in_memory(), 2), Some(CacheOffReason::OneEpoch));
    assert_eq!(decision(prompts(), off(), 9), Some(CacheOffReason::Disabled));
    assert_eq!(
        decision(prompts(), PrefixCacheConfig::default(), 9),
        Some(CacheOffReason::Disabled)
    );
    let small = PrefixCacheConfig { max_bytes: Some(64), ..in_memory() };
    assert_eq!(decision(prompts(), small, 9), Some(CacheOffReason::TooSmall));
    for method in [V2Config::paper().into(), LoraConfig::default().into(), FineTuningMethod::Full] {
        assert_eq!(decision(method, in_memory(), 9), Some(CacheOffReason::NothingFrozen));
    }
}

#[test]
fn a_cache_on_disk_needs_a_file() {
    let llama = open_base("llama-gqa-tied", &testing::flex());
    let on_disk = PrefixCacheConfig { mode: PrefixCacheMode::Disk, ..in_memory() };
    let error = builder(&llama, on_disk).build().err().unwrap();
    assert_eq!(error.to_string(), "the file of a cache on disk is missing, expected a path");
}
