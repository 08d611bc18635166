//! The memory plan compared with the measured peak of a process, on the CPU.

use std::sync::{Mutex, PoisonError};

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig, LoraConfig, V2Config};
use burn::tensor::Device;
use llama::{GenerationConfig, Llama, LlamaConfig, NoAdapter, Precision, generate, weights};
use memory_plan::{DeviceTraits, MemoryPlan, Workload, WorkloadKind};
use peak_alloc::PeakAlloc;
use train::{Example, FineTuningMethod, LearningRateDecay, LearningRateSchedule, Trainer};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Largest relative difference between plan and measurement.
const TOLERANCE: f64 = 0.2;

/// A model of some layers, query and key-value heads of 32, and widths.
fn model(n_layers: usize, heads: [usize; 2], d_ff: usize, vocab_size: usize) -> LlamaConfig {
    let [n_heads, n_kv_heads] = heads;
    LlamaConfig {
        n_layers,
        n_heads,
        n_kv_heads,
        head_dim: 32,
        d_model: 32 * n_heads,
        d_ff,
        vocab_size,
        tied_head: true,
        ..LlamaConfig::default()
    }
}

fn prompts(last: usize) -> FineTuningMethod {
    AdaptionPromptConfig { layers: AdaptedLayers::Last(last), ..Default::default() }.into()
}

/// Training on sequences of `seq` tokens, the last `labels` of which are labels.
fn train(
    config: LlamaConfig,
    method: impl Into<FineTuningMethod>,
    [batch_size, seq_len, labels]: [usize; 3],
) -> Workload {
    Workload {
        config,
        precision: Precision::F32,
        method: method.into(),
        kind: WorkloadKind::Train { labels, activation_checkpointing: false },
        batch_size,
        seq_len,
        device: DeviceTraits::fused(),
    }
}

/// Training with activation checkpointing.
fn checkpointed(
    config: LlamaConfig,
    method: impl Into<FineTuningMethod>,
    sizes: [usize; 3],
) -> Workload {
    let [_, _, labels] = sizes;
    let kind = WorkloadKind::Train { labels, activation_checkpointing: true };
    Workload { kind, ..train(config, method, sizes) }
}

fn generation(config: LlamaConfig, [batch, seq, max_new_tokens]: [usize; 3]) -> Workload {
    let kind = WorkloadKind::Generate { max_new_tokens };
    Workload { kind, ..train(config, prompts(1), [batch, seq, 1]) }
}

fn in_precision(precision: Precision, workload: Workload) -> Workload {
    Workload { precision, ..workload }
}

/// The peak of a workload in bytes, measured on a new thread: the buffers that a thread keeps between
/// calls would otherwise exist before the measurement.
fn peak_bytes(workload: &Workload, device: &Device) -> usize {
    std::thread::scope(|scope| scope.spawn(|| measure_here(workload, device)).join().unwrap())
}

fn measure_here(workload: &Workload, device: &Device) -> usize {
    let before = ALLOCATOR.current_usage();
    let llama = load(workload, device);
    let rows = (0..workload.batch_size).map(|row| {
        (0..workload.seq_len)
            .map(|i| ((row * 31 + i * 17) % workload.config.vocab_size) as u32)
            .collect()
    });
    let rows = rows.collect::<Vec<Vec<u32>>>();
    match workload.kind {
        WorkloadKind::Generate { max_new_tokens: new_tokens } => {
            let config = GenerationConfig { max_new_tokens: new_tokens, ..Default::default() };
            ALLOCATOR.reset_peak_usage();
            generate(&llama, &NoAdapter, &rows, &config).unwrap();
        }
        WorkloadKind::Train { labels, activation_checkpointing } => {
            let labels_from = workload.seq_len - labels;
            let examples =
                rows.into_iter().map(|tokens| Example::with_labels_from(tokens, labels_from));
            let examples = examples.collect::<Vec<_>>();
            let trainable = workload.method.init(&llama, 0).unwrap();
            let mut trainer = Trainer::builder(&llama, trainable, examples)
                .batch_size(workload.batch_size)
                .schedule(LearningRateSchedule {
                    peak_learning_rate: 1e-2,
                    warmup_steps: 1,
                    total_steps: 2,
                    decay: LearningRateDecay::Cosine,
                })
                .activation_checkpointing(activation_checkpointing)
                .build()
                .unwrap();
            // The second step has the optimizer state from its start.
            trainer.step().unwrap();
            ALLOCATOR.reset_peak_usage();
            trainer.step().unwrap();
        }
    }
    ALLOCATOR.peak_usage() - before
}

/// A model with random weights, loaded from a file in the precision of the workload.
fn load(workload: &Workload, device: &Device) -> Llama {
    let llama = weights::random_init(workload.config.clone(), device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    weights::huggingface::save(&llama, folder.path(), burn::tensor::DType::F32).unwrap();
    drop(llama);
    let source = llama::ModelSource::open(folder.path()).unwrap();
    source.load(workload.precision, device).unwrap()
}

fn small() -> LlamaConfig {
    model(3, [8, 8], 700, 512)
}

/// Training steps in which different parts are the largest.
fn training_cases() -> Vec<(&'static str, Workload)> {
    let six_layers = || model(6, [8, 8], 700, 512);
    let small_ff = || model(3, [8, 8], 128, 512);
    vec![
        ("every layer", train(small(), prompts(3), [4, 128, 20])),
        ("one layer", train(six_layers(), prompts(1), [4, 128, 20])),
        ("grouped heads", train(model(3, [8, 2], 700, 512), prompts(3), [4, 128, 20])),
        ("long rows, scores", train(small_ff(), prompts(3), [2, 512, 20])),
        ("short rows, wide", train(model(3, [8, 8], 2400, 512), prompts(3), [16, 32, 8])),
        ("weights", train(model(4, [16, 4], 1400, 2048), prompts(2), [1, 32, 8])),
        ("logits", train(model(2, [8, 8], 300, 32_000), prompts(2), [2, 128, 100])),
        ("checkpointed", checkpointed(six_layers(), prompts(6), [4, 128, 20])),
        ("checkpointed scores", checkpointed(small_ff(), prompts(3), [2, 512, 20])),
        ("checkpointed, one", checkpointed(model(4, [8, 8], 700, 512), prompts(1), [4, 128, 20])),
    ]
}

/// Training steps of other methods and precisions.
fn method_cases() -> Vec<(&'static str, Workload)> {
    use Precision::{BF16, Bits4, Bits8};
    let sizes = [4, 128, 20];
    let prompts_and_v2 = || AdapterConfig {
        v2: Some(V2Config::paper()),
        ..AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() }.into()
    };
    let head = train(model(2, [8, 8], 700, 16_000), prompts(1), [2, 64, 20]);
    vec![
        ("v2", train(small(), V2Config::paper(), sizes)),
        ("v2 on inputs", train(small(), V2Config::input_scale(), sizes)),
        ("v2 with the head", train(small(), V2Config::lit(), sizes)),
        ("prompts and v2", train(small(), prompts_and_v2(), sizes)),
        ("prompts and v2, checkpointed", checkpointed(small(), prompts_and_v2(), sizes)),
        ("lora", train(small(), LoraConfig::default(), sizes)),
        ("q8", in_precision(Bits8, train(small(), prompts(3), sizes))),
        ("q4", in_precision(Bits4, train(small(), prompts(2), [2, 256, 20]))),
        ("bf16", in_precision(BF16, train(small(), prompts(3), sizes))),
        ("bf16 head", in_precision(BF16, head)),
        ("whole model", train(small(), FineTuningMethod::Full, [2, 64, 20])),
    ]
}

/// Generations in which different parts are the largest.
fn generation_cases() -> Vec<(&'static str, Workload)> {
    use Precision::{BF16, Bits8};
    let head = generation(model(2, [8, 8], 700, 16_000), [2, 64, 8]);
    let weights = generation(model(4, [8, 8], 1000, 2_000), [2, 64, 8]);
    vec![
        ("cache", generation(model(4, [8, 8], 300, 512), [8, 128, 16])),
        ("long prompt", generation(model(2, [8, 2], 300, 512), [2, 1024, 8])),
        ("wide", generation(model(2, [8, 8], 2400, 512), [2, 256, 8])),
        ("head", generation(model(2, [8, 8], 300, 32_000), [8, 16, 8])),
        ("bf16", in_precision(BF16, head)),
        ("q8", in_precision(Bits8, weights)),
    ]
}

/// Plans and measures each case.
fn check(cases: Vec<(&'static str, Workload)>, device: &Device) {
    // The allocator counts for the whole process, so tests must not overlap.
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    let _alone = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    // Creates the threads and their buffers before the measurements.
    let warmup = train(model(1, [8, 8], 700, 512), prompts(1), [4, 128, 20]);
    peak_bytes(&warmup, device);
    let mut failures = Vec::new();
    for (name, workload) in cases {
        let plan = MemoryPlan::new(&workload).unwrap();
        let measured = peak_bytes(&workload, device) as f64;
        let ratio = plan.total() as f64 / measured;
        println!(
            "{name:28} {ratio:.3} of {:6.1} MiB, {:?}",
            measured / 1_048_576.0,
            plan.components()
        );
        if (ratio - 1.0).abs() > TOLERANCE {
            failures
                .push(format!("{name}: planned {} of {measured} bytes: {plan:?}", plan.total()));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn training_peak_matches_the_plan() {
    check([training_cases(), method_cases()].concat(), &testing::flex());
}

#[test]
fn generation_peak_matches_the_plan() {
    check(generation_cases(), &testing::flex());
}

#[test]
fn the_plan_holds_on_composed_backends() {
    let Some(ndarray) =
        device::BACKENDS.iter().find(|backend| backend.name == "ndarray" && backend.compiled)
    else {
        return;
    };
    let device = device::parse(ndarray.name).unwrap();
    let traits = DeviceTraits::composed(None);
    let few = training_cases().into_iter().take(3).chain(generation_cases().into_iter().take(2));
    check(
        few.map(|(name, workload)| (name, Workload { device: traits, ..workload })).collect(),
        &device,
    );
}
