//! What does a training step of a 7-billion-parameter model cost in 4 bits?
//!
//! ```sh
//! cargo run --release --features ndarray,wgpu --example train_7b
//! cargo run --release --features ndarray,wgpu --example train_7b -- --layers 2
//! ```
//!
//! A model of Llama 7B's shape is drawn at random, in 4 bits from the start: what it says is noise,
//! what it costs is real. You should see the time and the peak memory of a step of 4 x 256 tokens,
//! and on Linux whether that is below 12 GiB.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use adaption_prompt::{AdaptedLayers, AdaptionPromptConfig, PromptInit};
use burn::tensor::TensorData;
use checkpoint::TensorSource;
use checkpoint::{BitWidth, BlockOffset, QuantizedBlocks};
use clap::Parser;
use llama::config::{RopeConfig, RopeScaling};
use llama::weights;
use llama::{LlamaConfig, Precision};
use train::{Example, ExampleSampler, LearningRateSchedule, OptimizerConfig, Trainer};

/// Memory that the step must fit in.
const LIMIT_GIB: f64 = 12.0;

#[derive(Parser)]
struct Args {
    /// Layers of the model; 7B has 32.
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Rows of the batch.
    #[arg(long, default_value_t = 4)]
    rows: usize,
    /// Tokens of a row, all of them labels but the first.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Steps to take.
    #[arg(long, default_value_t = 1)]
    steps: usize,
    /// Where to compute.
    #[arg(long)]
    device: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let device = match &args.device {
        Some(name) => device::parse(name)?,
        None => device::parse(device::default_name()?)?,
    };
    let config = LlamaConfig {
        n_layers: args.layers,
        n_heads: 32,
        n_kv_heads: 32,
        head_dim: 128,
        d_model: 4096,
        d_ff: 11008,
        vocab_size: 32000,
        max_positions: 2048,
        norm_eps: 1e-5,
        rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
        ..LlamaConfig::default()
    };
    let start = Instant::now();
    let llama = weights::load(config.clone(), &Noise::new(&config), Precision::Bits4, &device)?;
    let numbers: usize = weights::expected_tensors(&config)
        .iter()
        .map(|spec| spec.shape.iter().product::<usize>())
        .sum();
    let held = llama.weight_bytes();
    println!(
        "model: {:.2} billion numbers in {:.2} GiB, {:.2} bits each, made in {:.0} s",
        numbers as f64 / 1e9,
        gib(held as f64),
        held as f64 * 8.0 / numbers as f64,
        start.elapsed().as_secs_f64()
    );
    peak("after loading");

    let adapter = AdaptionPromptConfig {
        layers: AdaptedLayers::Last(args.layers.min(30)),
        // Open gates: nothing may be left out because a gradient is zero.
        init: PromptInit { prompt_std: 0.02, gate: 0.1, gate_std: 0.0 },
        ..Default::default()
    };
    let adapter = adapter.init(&config, 0, &device.autodiff())?;
    let examples = (0..args.rows)
        .map(|row| Example {
            tokens: (0..args.tokens)
                .map(|at| ((row * 7919 + at * 104_729) % 32000) as u32)
                .collect(),
            labels_from: 1,
            image: None,
        })
        .collect::<Vec<_>>();
    let order = ExampleSampler {
        n_examples: args.rows,
        batch_size: args.rows,
        gradient_accumulation_steps: 1,
        seed: 0,
        shuffle: true,
    };
    let schedule =
        LearningRateSchedule { peak_learning_rate: 1e-2, warmup_steps: 0, total_steps: args.steps };
    let optimizer = OptimizerConfig::default();
    let mut trainer = Trainer::new(&llama, adapter, examples, order, schedule, &optimizer);
    while !trainer.is_done() {
        let start = Instant::now();
        trainer.step()?;
        let report = trainer.reports()?[0];
        let seconds = start.elapsed().as_secs_f64();
        println!(
            "step {}: {seconds:.1} s, {:.2} tokens/s, loss {:.3}, gradient norm {:.3e}",
            report.step,
            report.processed_tokens as f64 / seconds,
            report.loss,
            report.gradient_norm
        );
    }
    if let Some(found) = peak("after training") {
        let verdict = if found <= LIMIT_GIB { "fits" } else { "DOES NOT FIT" };
        println!("{verdict} in {LIMIT_GIB} GiB");
    }
    Ok(())
}

/// Prints and gives the most memory that the process has had so far, in GiB, where the system
/// tells.
fn peak(when: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let found = gib(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0);
    println!("peak resident memory {when}: {found:.2} GiB");
    Some(found)
}

fn gib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 30)
}

/// Weights at random, in blocks as `--precision q4` makes them, with a standard deviation of about
/// 0.02; norms at one.
struct Noise {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl Noise {
    fn new(config: &LlamaConfig) -> Self {
        let specs = weights::expected_tensors(config);
        Self { shapes: specs.into_iter().map(|spec| (spec.name, spec.shape)).collect() }
    }
}

impl TensorSource for Noise {
    fn path(&self) -> &Path {
        Path::new("noise")
    }

    fn shapes(&self) -> &BTreeMap<String, Vec<usize>> {
        &self.shapes
    }

    fn read(&self, name: &str) -> checkpoint::Result<TensorData> {
        let shape = self.shapes[name].clone();
        Ok(TensorData::new(vec![1.0_f32; shape.iter().product()], shape))
    }

    fn read_blocks(&self, name: &str) -> checkpoint::Result<Option<QuantizedBlocks>> {
        const BLOCK: usize = 32;
        let &[rows, columns] = &self.shapes[name][..] else { return Ok(None) };
        // Xorshift: fast, and random enough to be no pattern.
        let mut state =
            name.bytes().fold(1_u64, |sum, byte| sum.wrapping_mul(31) + u64::from(byte));
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let eight =
            (0..rows * columns / 8).flat_map(|_| (next() & 0x0f0f_0f0f_0f0f_0f0f).to_le_bytes());
        let quants = eight.collect::<Vec<_>>();
        // All of these are f16 numbers.
        let scale = |block: usize| (3 + block % 3) as f32 / 1024.0;
        let blocks = 0..rows * columns / BLOCK;
        Ok(Some(QuantizedBlocks {
            shape: [rows, columns],
            bits: BitWidth::Four,
            block_len: BLOCK,
            quants,
            scales: blocks.clone().map(scale).collect(),
            offset: BlockOffset::Mins(blocks.map(|block| -7.5 * scale(block)).collect()),
        }))
    }
}
