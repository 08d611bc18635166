//! What does a Burn program of one's own need, to teach and use an adapter on any device?
//!
//! ```sh
//! cargo run --release --manifest-path examples/own_program/Cargo.toml
//! ```
//!
//! One word in its `Cargo.toml`: the features of `train` say which backends the program has, and no
//! line of code names one. [`Device::default`] is the best of them; the environment variable
//! `BURN_DEVICE` names another. With "flex" it runs on CPUs, its layers fused; with the word "wgpu" in
//! that place, on a GPU. You should see the loss fall, and the answer that was taught.

use adaption_prompt::{AdaptedLayers, AdaptionPromptConfig};
use burn::tensor::Device;
use llama::{GenerationConfig, ModelSource, Precision, generate};
use train::{Example, Instruction, TrainLength, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tiny-llama");
    let source = ModelSource::open(folder)?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);

    let row = Instruction::new("Say where you work.", "", "At the old mill in Oakham.");
    let (lesson, _fitted) = Example::encode_all(std::slice::from_ref(&row), &tokenizer, 256)?;
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(5), ..Default::default() };
    let adapter = prompts.init(llama.config(), 0, &device.autodiff())?;
    let mut trainer = Trainer::builder(&llama, adapter, lesson)
        .length(TrainLength::Steps(80))
        .learning_rate(0.05)
        .warmup_ratio(5.0 / 80.0)
        .build()?;
    while !trainer.is_done() {
        trainer.step()?;
    }
    let reports = trainer.reports()?;
    println!("layers are {}", if llama.is_fused() { "fused" } else { "composed" });
    println!("loss {:.3} -> {:.3}", reports[0].loss, reports[reports.len() - 1].loss);

    let trained = trainer.trainable();
    let adapter = trained.adapter().ok_or("what learned is an adapter")?.prepare(&llama);
    let prompt = tokenizer.encode(&row.prompt())?;
    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(&tokenizer) };
    let answers = generate(&llama, &adapter, &[prompt], &config)?;
    println!("{} {}", row.instruction, tokenizer.decode(&answers[0].tokens)?.trim());
    Ok(())
}
