//! Does an untrained adapter change the model?
//!
//! ```sh
//! cargo run --release --example zero_gate
//! ```
//!
//! You should see a difference of exactly 0 with zero gates, and a growing one with larger gates.

use llama_adapter::adapter::PromptInit;
use llama_adapter::{
    AdaptedLayers, Adapter, AdapterConfig, AdaptionPromptConfig, Llama, NoAdapter, Precision,
    built_in, device,
};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let llama = source.load(Precision::F32, &device)?;
    let tokens = source.tokenizer()?.encode("The plural of cow is")?;

    let base = next_logits(&llama, &tokens, &NoAdapter)?;
    let mut differences = Vec::new();
    for gate in [0.0, 0.01, 0.1, 1.0] {
        // Ten random prompt tokens in each of the last four layers, scaled by a gate.
        let init = PromptInit { gate, ..PromptInit::default() };
        let layers = AdaptedLayers::Last(4);
        let config =
            AdapterConfig::from(AdaptionPromptConfig { layers, init, ..Default::default() });
        let adapter = config.init(&llama, 0, &device)?;
        let adapted = next_logits(&llama, &tokens, &adapter.prepare(&llama))?;
        let pairs = base.iter().zip(&adapted);
        let difference = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        println!("gate {gate:4}: logits differ by up to {difference}");
        differences.push(difference);
    }
    assert!(differences[0] == 0.0, "with zero gates the logits are those of the base model");
    assert!(differences.is_sorted_by(|a, b| a < b), "larger gates change the logits more");
    Ok(())
}

/// Logits of the next token.
fn next_logits(llama: &Llama, tokens: &[u32], adapter: &dyn Adapter) -> anyhow::Result<Vec<f32>> {
    let hidden = llama.forward(llama.tokens(&[tokens.to_vec()])?, None, adapter)?;
    let logits = llama.logits(hidden.narrow(1, tokens.len() - 1, 1), adapter);
    Ok(llama::read_back(logits)?.iter::<f32>().collect())
}
