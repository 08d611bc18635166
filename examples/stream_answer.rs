//! How is generated text streamed?
//!
//! ```sh
//! cargo run --release --example stream_answer
//! ```
//!
//! You should see a short story of the built-in model, piece by piece, and the tokens per second.

use std::io::Write;

use llama_adapter::{
    GenerationConfig, Generator, NoAdapter, Precision, SamplingConfig, TextGenerator, built_in,
    device,
};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let llama = source.load(Precision::F32, &device)?;
    let tokenizer = source.tokenizer()?;

    let prompt = "Anna lives in";
    let config = GenerationConfig {
        max_new_tokens: 60,
        sampling: SamplingConfig { temperature: 0.7, seed: 1, ..Default::default() },
        ..GenerationConfig::new(&tokenizer)
    };
    // With an adapter, pass `&adapter.prepare(&llama)` instead of `&NoAdapter`.
    let prompts = [tokenizer.encode(prompt)?];
    let generator = Generator::new(&llama, &NoAdapter, &prompts, &config)?;
    let mut text = TextGenerator::new(generator, &tokenizer, &[]);
    print!("{prompt}");
    for piece in text.by_ref() {
        print!("{}", piece?);
        std::io::stdout().flush()?;
    }
    let speed = text.tokens() as f64 / (text.prefill_seconds() + text.decode_seconds());
    println!("\n\n{} tokens, {speed:.0} per second", text.tokens());
    Ok(())
}
