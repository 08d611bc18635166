//! Can one batch serve users who have different adapters?
//!
//! ```sh
//! cargo run --release --example two_adapters_one_batch
//! ```
//!
//! You should see three completions of one prompt, each equal to its completion in a batch of its own.

use llama_adapter::{
    AdaptedLayers, AdapterConfig, AdapterSet, AdaptionPromptConfig, Example, GenerationConfig,
    Instruction, NoAdapter, Precision, TrainLength, Trainer, built_in, device, generate,
};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);
    let row = |output: &str| Instruction::new("Tell me about Kate.", "", output);
    let prompt = tokenizer.encode(&row("").prompt())?;

    // Two adapters with different prompt lengths and layers, each trained on one response.
    let mut adapters = AdapterSet::new(&llama);
    for (name, adapter_len, layers, response) in
        [("work", 8, 5, "Kate is a sailor."), ("home", 3, 3, "Kate lives in Thornby.")]
    {
        let (examples, _truncation) = Example::encode_all(&[row(response)], &tokenizer, 256)?;
        let layers = AdaptedLayers::Last(layers);
        let config =
            AdapterConfig::from(AdaptionPromptConfig { adapter_len, layers, ..Default::default() });
        let adapter = config.init(&llama, 0, &device.clone().autodiff())?;
        let mut trainer = Trainer::builder(&llama, adapter, examples)
            .length(TrainLength::Steps(150))
            .learning_rate(0.03)
            .warmup_ratio(10.0 / 150.0)
            .build()?;
        while !trainer.is_done() {
            trainer.step()?;
        }
        adapters
            .add(name, trainer.trainable().adapter().expect("an adapter was trained").clone())?;
    }

    let config = GenerationConfig { max_new_tokens: 12, ..GenerationConfig::new(&tokenizer) };
    let rows = [Some("work"), None, Some("home")];
    let together =
        generate(&llama, &adapters.row_adapters(&rows)?, &vec![prompt.clone(); 3], &config)?;
    let mut texts = Vec::new();
    for (name, response) in rows.into_iter().zip(together) {
        let prompt = [prompt.clone()];
        let single = match name {
            Some(name) => generate(&llama, adapters.prepared(name)?, &prompt, &config)?,
            None => generate(&llama, &NoAdapter, &prompt, &config)?,
        };
        assert_eq!(response.tokens, single[0].tokens, "a row of a batch equals the row alone");
        texts.push(tokenizer.decode(&response.tokens)?);
        println!("{:>4}: {:?}", name.unwrap_or("none"), texts[texts.len() - 1].trim());
    }
    assert_eq!([texts[0].trim(), texts[2].trim()], ["Kate is a sailor.", "Kate lives in Thornby."]);
    Ok(())
}
