//! Can an adapter that was trained with Hugging Face's PEFT be used from Rust?
//!
//! ```sh
//! cargo run --release --example load_peft_adapter
//! ```
//!
//! You should see what is in PEFT's folder, scores that equal PEFT's own to four digits, and the same
//! bytes when the adapter is saved again.

#![expect(clippy::disallowed_methods, reason = "programs of their own wait as they like")]

use std::path::Path;

use adaption_prompt::files::peft::TENSORS_FILE;
use adaption_prompt::{AdapterSummary, AdapterWeights};
use llama::{ModelSource, Precision};

fn main() -> anyhow::Result<()> {
    // A tiny random model, and an adapter that PEFT's `save_pretrained` wrote for it.
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-gqa-tied");
    let device = device::parse(device::default_name()?)?;
    let llama = ModelSource::open(case.join("base"))?.load(Precision::F32, &device)?;

    let folder = case.join("adapter");
    let summary = AdapterSummary::read(&folder)?;
    let prompts = summary.prompts.expect("PEFT's adapters have prompts");
    println!("{} prompt tokens of width {} in", prompts.adapter_len, prompts.d_model);
    for layer in &prompts.layers {
        println!("  layer {}, gate {:+.3}", layer.layer, layer.gates[0]);
    }

    let adapter = AdapterWeights::load(&folder, &llama, &device)?;
    let prepared = adapter.prepare(&llama);
    // What PEFT computes, written down by a Python script.
    let golden = testing::Golden::open("llama-gqa-tied/golden.safetensors");
    let tokens = golden.int_tensor("input_ids", &device);
    let found = llama.logits(llama.forward(tokens, None, &prepared)?, &prepared);
    let theirs = golden.tensor::<3>("logits", &device);
    let difference = (found - theirs).abs().max().into_scalar::<f32>();
    println!("scores differ from PEFT's by at most {difference:.1e}");
    assert!(difference < 2e-4);

    let copy = std::env::temp_dir().join("load-peft-adapter");
    adapter.save(&copy, &llama, "llama-gqa-tied")?;
    let [ours, theirs] = [&copy, &folder].map(|at| std::fs::read(at.join(TENSORS_FILE)));
    let same = ours? == theirs?;
    println!("saved again: {}", if same { "the same bytes" } else { "other bytes" });
    assert!(same);
    Ok(())
}
