//! Where does the built-in model come from?
//!
//! Trains a tokenizer and a small Llama from scratch on the corpus of the `tiny_world` example, and saves
//! them as a Hugging Face folder.
//!
//! ```sh
//! cargo run --release --example tiny_world -- --out target/tiny-world
//! cargo run --release --example pretrain_tiny -- target/tiny-world crates/built-in/assets/tiny-llama
//! ```
//!
//! You should see the loss fall from 7 to below 1 in about ten minutes on two cores, and four files in
//! the folder.

#![expect(clippy::disallowed_methods, reason = "a stand-alone program may wait for the device")]

mod dataset;

use std::path::PathBuf;
use std::time::Instant;

use burn::module::{Module, ParamGroup};
use burn::optim::decay::WeightDecayConfig;
use burn::optim::{AdamWConfig, AdjustLrFn, GradientsParams, ModuleOptimizer, MuonConfig};
use burn::tensor::{DType, Int, Tensor, activation::log_softmax};
use llama::config::{RopeConfig, RopeScaling};
use llama::{Llama, LlamaConfig, NoAdapter, weights};
use train::{LearningRateDecay, LearningRateSchedule};

use crate::dataset::{TokenWindows, read_documents, train_tokenizer, write_tokenizer_config};

const VOCAB: usize = 1536;
const CONTEXT: usize = 256;
const BATCH: usize = 8;
const STEPS: usize = 2000;
const SEED: u64 = 7;

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(world), Some(folder), None) = (args.next(), args.next(), args.next()) else {
        anyhow::bail!("usage: pretrain_tiny WORLD_FOLDER OUTPUT_FOLDER");
    };
    let documents = read_documents(&world.join("corpus.jsonl"))?;
    let tokenizer = train_tokenizer(&documents, VOCAB)?;
    let mut windows = TokenWindows::new(&tokenizer, &documents, CONTEXT + 1, SEED)?;

    let device = device::parse(device::default_name()?)?;
    device.seed(SEED);
    let mut llama =
        weights::random_init(config(tokenizer.get_vocab_size(true)), &device.autodiff())?;
    println!("{} parameters, {} documents", llama.num_params(), documents.len());

    let schedule = LearningRateSchedule {
        peak_learning_rate: 5e-3,
        warmup_steps: STEPS / 50,
        total_steps: STEPS,
        decay: LearningRateDecay::Cosine,
    };
    let mut optimizer = optimizer();
    let begin = Instant::now();
    let mut recent = 0.0;
    for step in 0..STEPS {
        let loss = next_token_loss(&llama, &windows.next_batch(BATCH))?;
        recent += f64::from(loss.clone().inner().into_scalar::<f32>());
        let gradients = GradientsParams::from_grads(loss.backward(), &llama);
        llama = optimizer.step(schedule.learning_rate(step), llama, gradients);
        if (step + 1).is_multiple_of(50) {
            let seconds = begin.elapsed().as_secs_f64();
            println!("step {:5}  loss {:.4}  {seconds:.0} s", step + 1, recent / 50.0);
            recent = 0.0;
        }
    }

    weights::huggingface::save(&llama, &folder, DType::BF16)?;
    tokenizer.save(folder.join("tokenizer.json"), true).map_err(|e| anyhow::anyhow!(e))?;
    write_tokenizer_config(&folder)?;
    println!("{}", folder.display());
    Ok(())
}

fn config(vocab_size: usize) -> LlamaConfig {
    LlamaConfig {
        n_layers: 6,
        n_heads: 4,
        n_kv_heads: 2,
        head_dim: 32,
        d_model: 128,
        d_ff: 384,
        vocab_size,
        max_positions: CONTEXT,
        norm_eps: 1e-5,
        rope: RopeConfig { theta: 10_000.0, scaling: RopeScaling::None },
        tied_head: true,
        ..LlamaConfig::default()
    }
}

/// Muon for the weight matrices of the layers, which needs a fifth of the steps of AdamW here; AdamW for
/// the embedding and the norms.
fn optimizer() -> ModuleOptimizer {
    const WEIGHT_DECAY: f32 = 0.1;
    let adamw = AdamWConfig::new()
        .with_beta_2(0.95)
        .with_epsilon(1e-8)
        .with_weight_decay(WEIGHT_DECAY)
        .build();
    let muon = MuonConfig::new()
        .with_adjust_lr_fn(AdjustLrFn::MatchRmsAdamW)
        .with_weight_decay(Some(WeightDecayConfig::new(WEIGHT_DECAY)))
        .build();
    // The dots exclude `attention_norm` and `feed_forward_norm`.
    let matrices = ParamGroup::from_any_predicates(vec!["attention.", "feed_forward."]);
    ModuleOptimizer::from(adamw).with_group(matrices, muon, None)
}

/// Mean negative log-likelihood of all tokens but the first of each window.
fn next_token_loss(llama: &Llama, windows: &[Vec<u32>]) -> anyhow::Result<Tensor<1>> {
    let inputs = windows.iter().map(|w| w[..w.len() - 1].to_vec()).collect::<Vec<_>>();
    let targets = windows.iter().flat_map(|w| w[1..].iter().map(|&t| i64::from(t)));
    let targets = targets.collect::<Vec<_>>();
    let hidden = llama.forward(llama.tokens(&inputs)?, None, &NoAdapter)?;
    let [batch, seq, _d_model] = hidden.dims();
    let log_probabilities = log_softmax(llama.logits(hidden, &NoAdapter), 2);
    let plain = llama.device().without_autodiff();
    let targets = Tensor::<1, Int>::from_ints(targets.as_slice(), &plain);
    Ok(log_probabilities.gather(2, targets.reshape([batch, seq, 1])).mean().neg())
}
