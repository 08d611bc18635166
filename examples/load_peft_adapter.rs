//! Can an adapter that was trained with Hugging Face's PEFT be used from Rust?
//!
//! ```sh
//! cargo run --release --example load_peft_adapter
//! ```
//!
//! You should see the contents of a PEFT folder, logits that equal PEFT's to four digits, and the same
//! bytes after saving the adapter again.

#![expect(clippy::disallowed_methods, reason = "a stand-alone program may wait for the device")]

use std::path::Path;

use burn::tensor::{DType, Int, Tensor, TensorData};
use llama_adapter::adapter::AdapterSummary;
use llama_adapter::adapter::files::peft::TENSORS_FILE;
use llama_adapter::{AdapterWeights, ModelSource, Precision, device};

use safetensors::SafeTensors;

fn main() -> anyhow::Result<()> {
    // A tiny random model, and an adapter that `save_pretrained` of PEFT wrote for it.
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/llama-gqa-tied");
    let device = device::parse(device::default_name()?)?;
    let llama = ModelSource::open(case.join("base"))?.load(Precision::F32, &device)?;

    let folder = case.join("adapter");
    let summary = AdapterSummary::read(&folder)?;
    let prompts = summary.prompts.expect("PEFT's adapters have prompts");
    println!("prompt length {}, d_model {}", prompts.adapter_len, prompts.d_model);
    for layer in &prompts.layers {
        println!("  layer {}, gate {:+.3}", layer.layer, layer.gates[0]);
    }

    let adapter = AdapterWeights::load(&folder, &llama, &device)?;
    let prepared = adapter.prepare(&llama);
    // Token ids and the logits that PEFT computes for them.
    let bytes = std::fs::read(case.join("golden.safetensors"))?;
    let golden = SafeTensors::deserialize(&bytes)?;
    let data = |name: &str, dtype| {
        let view = golden.tensor(name)?;
        let data = TensorData::from_bytes_vec(view.data().to_vec(), view.shape().to_vec(), dtype);
        Ok::<_, anyhow::Error>(data)
    };
    let tokens = Tensor::<2, Int>::from_data(data("input_ids", DType::I64)?, &device);
    let found = llama.logits(llama.forward(tokens, None, &prepared)?, &prepared);
    let expected = Tensor::<3>::from_data(data("logits", DType::F32)?, &device);
    let difference = (found - expected).abs().max().into_scalar::<f32>();
    println!("logits differ from PEFT's by at most {difference:.1e}");
    assert!(difference < 2e-4);

    let copy = std::env::temp_dir().join("load-peft-adapter");
    adapter.save(&copy, &llama, "llama-gqa-tied")?;
    let [ours, theirs] = [&copy, &folder].map(|folder| std::fs::read(folder.join(TENSORS_FILE)));
    let same = ours? == theirs?;
    println!("saved again: {}", if same { "the same bytes" } else { "other bytes" });
    assert!(same);
    Ok(())
}
