//! What does a training step of a 7-billion-parameter model cost in 4 bits?
//!
//! ```sh
//! cargo run --release --features ndarray,wgpu --example train_7b
//! cargo run --release --features ndarray,wgpu --example train_7b -- --layers 2
//! ```
//!
//! The model has the shapes of Llama 7B and random 4-bit weights: its output is noise, its cost is real.
//! You should see the time and the peak memory of a step with 4 x 256 tokens, and on Linux whether the
//! memory is below 12 GiB.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use burn::tensor::TensorData;
use clap::Parser;
use llama_adapter::adapter::PromptInit;
use llama_adapter::checkpoint::TensorSource;
use llama_adapter::checkpoint::{BitWidth, BlockOffset, QuantizedBlocks};
use llama_adapter::model::config::{RopeConfig, RopeScaling};
use llama_adapter::model::weights;
use llama_adapter::{
    AdaptedLayers, AdaptionPromptConfig, Example, LlamaConfig, Precision, TrainLength, Trainer,
    device,
};

/// Memory limit of the step.
const LIMIT_GIB: f64 = 12.0;

#[derive(Parser)]
struct Args {
    /// Layers of the model; 7B has 32.
    #[arg(long, default_value_t = 32)]
    layers: usize,
    /// Batch size.
    #[arg(long, default_value_t = 4)]
    rows: usize,
    /// Sequence length; all tokens but the first are labels.
    #[arg(long, default_value_t = 256)]
    tokens: usize,
    /// Number of steps.
    #[arg(long, default_value_t = 1)]
    steps: usize,
    /// Device.
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
    let llama =
        weights::load(config.clone(), &RandomWeights::new(&config), Precision::Bits4, &device)?;
    let parameters: usize = weights::expected_tensors(&config)
        .iter()
        .map(|spec| spec.shape.iter().product::<usize>())
        .sum();
    let weight_bytes = llama.weight_bytes();
    println!(
        "model: {:.2} billion parameters in {:.2} GiB, {:.2} bits each, initialized in {:.0} s",
        parameters as f64 / 1e9,
        gib(weight_bytes as f64),
        weight_bytes as f64 * 8.0 / parameters as f64,
        start.elapsed().as_secs_f64()
    );
    print_peak_memory("after loading");

    let adapter = AdaptionPromptConfig {
        layers: AdaptedLayers::Last(args.layers.min(30)),
        // Nonzero gates: with zero gates some gradients would be zero and cost less.
        init: PromptInit { prompt_std: 0.02, gate: 0.1, gate_std: 0.0 },
        ..Default::default()
    };
    let adapter = adapter.init(&llama, 0, &device.autodiff())?;
    let examples = (0..args.rows)
        .map(|row| {
            let tokens = (0..args.tokens).map(|at| ((row * 7919 + at * 104_729) % 32000) as u32);
            Example::with_labels_from(tokens.collect(), 1)
        })
        .collect::<Vec<_>>();
    let mut trainer = Trainer::builder(&llama, adapter, examples)
        .batch_size(args.rows)
        .length(TrainLength::Steps(args.steps))
        .learning_rate(1e-2)
        .warmup_ratio(0.0)
        .build()?;
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
    if let Some(found) = print_peak_memory("after training") {
        let verdict = if found <= LIMIT_GIB { "fits" } else { "DOES NOT FIT" };
        println!("{verdict} in {LIMIT_GIB} GiB");
    }
    Ok(())
}

/// Prints and returns the peak memory of the process in GiB, if the system reports it.
fn print_peak_memory(when: &str) -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let found = gib(line.trim().strip_suffix("kB")?.trim().parse::<f64>().ok()? * 1024.0);
    println!("peak resident memory {when}: {found:.2} GiB");
    Some(found)
}

fn gib(bytes: f64) -> f64 {
    bytes / f64::from(1 << 30)
}

/// Random weights in blocks like those of `--precision q4`, with a standard deviation of about 0.02;
/// norms are 1.
struct RandomWeights {
    shapes: BTreeMap<String, Vec<usize>>,
}

impl RandomWeights {
    fn new(config: &LlamaConfig) -> Self {
        let specs = weights::expected_tensors(config);
        Self { shapes: specs.into_iter().map(|spec| (spec.name, spec.shape)).collect() }
    }
}

impl TensorSource for RandomWeights {
    fn path(&self) -> &Path {
        Path::new("random weights")
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
        // Xorshift: fast, and random enough.
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
        // These values are exact in f16.
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
