//! The memory plan against what a process really takes at its peak, on the CPU.
//!
use std::sync::{Mutex, PoisonError};

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdaptionPromptConfig, LoraConfig, V2Config};
use burn::tensor::Device;
use llama::{GenerationConfig, Llama, LlamaConfig, NoAdapter, Precision, generate, weights};
use memory_plan::{DeviceTraits, MemoryPlan, Workload, WorkloadKind};
use peak_alloc::PeakAlloc;
use train::{
    Example, ExampleSampler, FineTuningMethod, LearningRateSchedule, OptimizerConfig, Trainer,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// How far plan and measurement may lie apart.
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

fn adaption_prompts(last: usize) -> FineTuningMethod {
    AdaptionPromptConfig { layers: AdaptedLayers::Last(last), ..Default::default() }.into()
}

/// A step on rows of `seq` tokens, the last `labels` of which are labels.
fn training_workload(
    config: LlamaConfig,
    method: FineTuningMethod,
    [batch, seq, labels]: [usize; 3],
    recompute: bool,
) -> Workload {
    Workload {
        config,
        precision: Precision::F32,
        method,
        kind: WorkloadKind::Train { labels, activation_checkpointing: recompute },
        batch_size: batch,
        seq_len: seq,
        device: DeviceTraits::fused(),
    }
}

fn generation_workload(config: LlamaConfig, [batch, seq, new_tokens]: [usize; 3]) -> Workload {
    let purpose = WorkloadKind::Generate { max_new_tokens: new_tokens };
    Workload {
        kind: purpose,
        ..training_workload(config, adaption_prompts(1), [batch, seq, 1], false)
    }
}

/// Bytes that a request takes at its peak, everything counted. On a thread of its own: what a thread
/// keeps from call to call would otherwise be there before it is counted.
fn peak_bytes(request: &Workload, device: &Device) -> usize {
    std::thread::scope(|scope| scope.spawn(|| measure_here(request, device)).join().unwrap())
}

fn measure_here(request: &Workload, device: &Device) -> usize {
    let before = ALLOCATOR.current_usage();
    let llama = load(request, device);
    let rows = (0..request.batch_size).map(|row| {
        (0..request.seq_len)
            .map(|i| ((row * 31 + i * 17) % request.config.vocab_size) as u32)
            .collect()
    });
    let rows = rows.collect::<Vec<Vec<u32>>>();
    match request.kind {
        WorkloadKind::Generate { max_new_tokens: new_tokens } => {
            let config = GenerationConfig { max_new_tokens: new_tokens, ..Default::default() };
            ALLOCATOR.reset_peak_usage();
            generate(&llama, &NoAdapter, &rows, &config).unwrap();
        }
        WorkloadKind::Train { labels, activation_checkpointing: recompute } => {
            let labels_from = request.seq_len - labels;
            let examples =
                rows.into_iter().map(|tokens| Example { tokens, labels_from, image: None });
            let examples = examples.collect::<Vec<_>>();
            let order = ExampleSampler {
                n_examples: request.batch_size,
                batch_size: request.batch_size,
                gradient_accumulation_steps: 1,
                seed: 0,
                shuffle: true,
            };
            let schedule =
                LearningRateSchedule { peak_learning_rate: 1e-2, warmup_steps: 1, total_steps: 2 };
            let learner = request.method.init(&llama, 0).unwrap();
            let optimizer = OptimizerConfig::default();
            let mut trainer =
                Trainer::new(&llama, learner, &examples[..], order, schedule, &optimizer)
                    .with_activation_checkpointing(recompute);
            // Only the second step has moments from its start.
            trainer.step().unwrap();
            ALLOCATOR.reset_peak_usage();
            trainer.step().unwrap();
        }
    }
    ALLOCATOR.peak_usage() - before
}

/// A model of random weights in the precision asked for, as it comes from a file.
fn load(request: &Workload, device: &Device) -> Llama {
    let llama = weights::random_init(request.config.clone(), device).unwrap();
    let folder = tempfile::tempdir().unwrap();
    weights::huggingface::save(&llama, folder.path(), burn::tensor::DType::F32).unwrap();
    drop(llama);
    let source = llama::ModelSource::open(folder.path()).unwrap();
    source.load(request.precision, device).unwrap()
}

/// Steps in which one part or another is the largest.
fn training_cases() -> Vec<(&'static str, Workload)> {
    let small = || model(3, [8, 8], 700, 512);
    let v2 = |v2: V2Config| FineTuningMethod::from(v2);
    let both = AdapterConfig {
        v2: Some(V2Config::paper()),
        ..AdaptionPromptConfig { layers: AdaptedLayers::Last(2), ..Default::default() }.into()
    };
    let with = |precision, request: Workload| Workload { precision, ..request };
    vec![
        ("every layer", training_workload(small(), adaption_prompts(3), [4, 128, 20], false)),
        (
            "one layer",
            training_workload(model(6, [8, 8], 700, 512), adaption_prompts(1), [4, 128, 20], false),
        ),
        (
            "grouped heads",
            training_workload(model(3, [8, 2], 700, 512), adaption_prompts(3), [4, 128, 20], false),
        ),
        (
            "long rows, scores",
            training_workload(model(3, [8, 8], 128, 512), adaption_prompts(3), [2, 512, 20], false),
        ),
        (
            "short rows, wide",
            training_workload(model(3, [8, 8], 2400, 512), adaption_prompts(3), [16, 32, 8], false),
        ),
        (
            "weights",
            training_workload(
                model(4, [16, 4], 1400, 2048),
                adaption_prompts(2),
                [1, 32, 8],
                false,
            ),
        ),
        (
            "logits",
            training_workload(
                model(2, [8, 8], 300, 32_000),
                adaption_prompts(2),
                [2, 128, 100],
                false,
            ),
        ),
        (
            "recomputed",
            training_workload(model(6, [8, 8], 700, 512), adaption_prompts(6), [4, 128, 20], true),
        ),
        (
            "recomputed scores",
            training_workload(model(3, [8, 8], 128, 512), adaption_prompts(3), [2, 512, 20], true),
        ),
        (
            "recomputed, one",
            training_workload(model(4, [8, 8], 700, 512), adaption_prompts(1), [4, 128, 20], true),
        ),
        ("v2", training_workload(small(), v2(V2Config::paper()), [4, 128, 20], false)),
        (
            "v2 on inputs",
            training_workload(small(), v2(V2Config::input_scale()), [4, 128, 20], false),
        ),
        ("v2 with the head", training_workload(small(), v2(V2Config::lit()), [4, 128, 20], false)),
        (
            "prompts and v2",
            training_workload(small(), FineTuningMethod::from(both.clone()), [4, 128, 20], false),
        ),
        (
            "prompts and v2, recomputed",
            training_workload(small(), FineTuningMethod::from(both), [4, 128, 20], true),
        ),
        ("lora", training_workload(small(), LoraConfig::default().into(), [4, 128, 20], false)),
        (
            "q8",
            with(
                Precision::Bits8,
                training_workload(small(), adaption_prompts(3), [4, 128, 20], false),
            ),
        ),
        (
            "q4",
            with(
                Precision::Bits4,
                training_workload(small(), adaption_prompts(2), [2, 256, 20], false),
            ),
        ),
        (
            "bf16",
            with(
                Precision::BF16,
                training_workload(small(), adaption_prompts(3), [4, 128, 20], false),
            ),
        ),
        (
            "bf16 head",
            with(
                Precision::BF16,
                training_workload(
                    model(2, [8, 8], 700, 16_000),
                    adaption_prompts(1),
                    [2, 64, 20],
                    false,
                ),
            ),
        ),
        ("whole model", training_workload(small(), FineTuningMethod::Full, [2, 64, 20], false)),
    ]
}

/// The same of answers.
fn generation_cases() -> Vec<(&'static str, Workload)> {
    let with = |precision, request: Workload| Workload { precision, ..request };
    vec![
        ("answers, cache", generation_workload(model(4, [8, 8], 300, 512), [8, 128, 16])),
        ("answers, long", generation_workload(model(2, [8, 2], 300, 512), [2, 1024, 8])),
        ("answers, wide", generation_workload(model(2, [8, 8], 2400, 512), [2, 256, 8])),
        ("answers, head", generation_workload(model(2, [8, 8], 300, 32_000), [8, 16, 8])),
        (
            "answers, bf16",
            with(Precision::BF16, generation_workload(model(2, [8, 8], 700, 16_000), [2, 64, 8])),
        ),
        (
            "answers, q8",
            with(Precision::Bits8, generation_workload(model(4, [8, 8], 1000, 2_000), [2, 64, 8])),
        ),
    ]
}

/// Plans and measures, one case after the other.
fn check(cases: Vec<(&'static str, Workload)>, device: &Device) {
    // The allocator counts for the whole process: one at a time.
    static EXCLUSIVE: Mutex<()> = Mutex::new(());
    let _alone = EXCLUSIVE.lock().unwrap_or_else(PoisonError::into_inner);
    // Threads and their buffers are there from now on.
    peak_bytes(
        &training_workload(model(1, [8, 8], 700, 512), adaption_prompts(1), [4, 128, 20], false),
        device,
    );
    let mut apart = Vec::new();
    for (name, request) in cases {
        let plan = MemoryPlan::new(&request).unwrap();
        let measured = peak_bytes(&request, device) as f64;
        let ratio = plan.total() as f64 / measured;
        println!(
            "{name:28} {ratio:.3} of {:6.1} MiB, {:?}",
            measured / 1_048_576.0,
            plan.components()
        );
        if (ratio - 1.0).abs() > TOLERANCE {
            apart.push(format!("{name}: planned {} of {measured} bytes: {plan:?}", plan.total()));
        }
    }
    assert!(apart.is_empty(), "{}", apart.join("\n"));
}

#[test]
fn training_peak_matches_the_plan() {
    check(training_cases(), &testing::flex());
}

#[test]
fn generation_peak_matches_the_plan() {
    check(generation_cases(), &testing::flex());
}

#[test]
fn the_plan_holds_on_composed_backends() {
    let Some(ndarray) = device::BACKENDS.iter().find(|own| own.name == "ndarray" && own.compiled)
    else {
        return;
    };
    let device = device::parse(ndarray.name).unwrap();
    let traits = DeviceTraits::composed(None);
    let few = training_cases().into_iter().take(3).chain(generation_cases().into_iter().take(2));
    check(
        few.map(|(name, request)| (name, Workload { device: traits, ..request })).collect(),
        &device,
    );
}
