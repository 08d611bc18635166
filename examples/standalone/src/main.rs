//! What does a stand-alone Burn program need to train and use an adapter on any device?
//!
//! ```sh
//! cargo run --release --manifest-path examples/standalone/Cargo.toml
//! ```
//!
//! One feature in its `Cargo.toml` selects the backend, and the code names none.
//! [`Device::default`] is the best one; the environment variable `BURN_DEVICE` names another. With "flex"
//! the program runs on CPUs with fused layers, with "wgpu" on a GPU. You should see the loss fall, and the
//! trained response.

use llama_adapter::{
    AdaptedLayers, AdaptionPromptConfig, Device, Example, GenerationConfig, Instruction, Precision,
    TrainLength, Trainer, built_in, generate,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let source = built_in::model()?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);

    let row = Instruction::new("Say where you work.", "", "At the old mill in Oakham.");
    let (examples, _truncation) = Example::encode_all(std::slice::from_ref(&row), &tokenizer, 256)?;
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(5), ..Default::default() };
    let adapter = prompts.init(&llama, 0, &device.autodiff())?;
    let mut trainer = Trainer::builder(&llama, adapter, examples)
        .batch_size(1)
        .length(TrainLength::Steps(80))
        .learning_rate(0.05)
        .build()?;
    while !trainer.is_done() {
        trainer.step()?;
    }
    let reports = trainer.reports()?;
    println!("layers are {}", if llama.is_fused() { "fused" } else { "composed" });
    println!("loss {:.3} -> {:.3}", reports[0].loss, reports[reports.len() - 1].loss);

    let trainable = trainer.trainable();
    let adapter = trainable.adapter().ok_or("an adapter was trained")?.prepare(&llama);
    let prompt = tokenizer.encode(&row.prompt())?;
    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(&tokenizer) };
    let responses = generate(&llama, &adapter, &[prompt], &config)?;
    println!("{} {}", row.instruction, tokenizer.decode(&responses[0].tokens)?.trim());
    Ok(())
}
