//! What does a stand-alone Burn program need to train and use an adapter on any device?
//!
//! ```sh
//! cargo run --release --manifest-path examples/standalone/Cargo.toml
//! ```
//!
//! One word in its `Cargo.toml`: the features of `train` select the backends, and the code names none.
//! [`Device::default`] is the best one; the environment variable `BURN_DEVICE` names another. With "flex"
//! the program runs on CPUs with fused layers, with "wgpu" on a GPU. You should see the loss fall, and the
//! trained response.

use adaption_prompt::{AdaptedLayers, AdaptionPromptConfig};
use burn::tensor::Device;
use llama::{GenerationConfig, ModelSource, Precision, generate};
use train::{Example, ExampleSampler, Instruction, LearningRateSchedule, OptimizerConfig, Trainer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let device = Device::default();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/built-in/assets/tiny-llama");
    let source = ModelSource::open(folder)?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);

    let row = Instruction::new("Say where you work.", "", "At the old mill in Oakham.");
    let (examples, _truncation) = Example::encode_all(std::slice::from_ref(&row), &tokenizer, 256)?;
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(5), ..Default::default() };
    let adapter = prompts.init(llama.config(), 0, &device.autodiff())?;
    let sampler = ExampleSampler {
        n_examples: 1,
        batch_size: 1,
        gradient_accumulation_steps: 1,
        seed: 0,
        shuffle: true,
    };
    let schedule =
        LearningRateSchedule { peak_learning_rate: 0.05, warmup_steps: 5, total_steps: 80 };
    let optimizer = OptimizerConfig::default();
    let mut trainer = Trainer::new(&llama, adapter, examples, sampler, schedule, &optimizer);
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
