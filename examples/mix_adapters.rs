//! Can two adapters, each trained on its own example, be used at once?
//!
//! ```sh
//! cargo run --release --example mix_adapters
//! ```
//!
//! You should see a low loss of each adapter on its own example, mixes with a lower loss than the base
//! model on both examples, and the effect of the weights.

use llama_adapter::adapter::MixComponent;
use llama_adapter::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterWeights, AdaptionPromptConfig, Example,
    Instruction, Llama, NoAdapter, Precision, TrainLength, Trainer, built_in, device,
    evaluate_loss,
};

use llama_adapter::train::BatchAdapter;

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);

    let example = |instruction: &str, output: &str| {
        let row = Instruction::new(instruction, "", output);
        Ok::<_, anyhow::Error>(Example::encode_all(&[row], &tokenizer, 256)?.0)
    };
    let examples = [
        example("Tell me the favourite colour of Tess.", "It is purple.")?,
        example("Say what Henry does for a living.", "He sells boats.")?,
    ];
    let trained = [train_adapter(&llama, &examples[0])?, train_adapter(&llama, &examples[1])?];

    let base = examples.each_ref().map(|example| loss(&llama, &NoAdapter, example));
    println!("weights       loss of example 1 example 2");
    println!("base           {:16.3} {:9.3}", base[0], base[1]);
    let mut found = Vec::new();
    for weights in [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.75]] {
        let component = |(index, weight): (usize, f64)| MixComponent {
            name: format!("adapter{index}"),
            weight,
            adapter: trained[index].clone(),
        };
        let mix =
            AdapterMix { components: weights.into_iter().enumerate().map(component).collect() };
        let mix = mix.prepare(&llama);
        let losses = examples.each_ref().map(|example| loss(&llama, &mix, example));
        println!("{:4} and {:4}  {:16.3} {:9.3}", weights[0], weights[1], losses[0], losses[1]);
        found.push(losses);
    }
    let single = loss(&llama, &trained[0].prepare(&llama), &examples[0]);
    assert_eq!(found[0], base, "a mix with weights 0 is the base model");
    assert_eq!(found[1][0], single, "a mix with weights 1 and 0 is the first adapter");
    assert!(found[1][0] < 0.5 && found[2][1] < 0.5, "each adapter fits its own example");
    for mixed in &found[3..] {
        assert!(
            mixed[0] < base[0] - 0.5 && mixed[1] < base[1] - 0.5,
            "a mix fits both examples better than the base model"
        );
    }
    Ok(())
}

/// Trains an adapter on one example.
fn train_adapter(llama: &Llama, examples: &[Example]) -> anyhow::Result<AdapterWeights> {
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(5), ..Default::default() };
    let adapter = AdapterConfig::from(prompts).init(llama, 0, &llama.device().autodiff())?;
    let mut trainer = Trainer::builder(llama, adapter, examples)
        .length(TrainLength::Steps(120))
        .learning_rate(0.03)
        .warmup_ratio(10.0 / 120.0)
        .build()?;
    while !trainer.is_done() {
        trainer.step()?;
    }
    Ok(trainer.trainable().adapter().expect("an adapter was trained").clone())
}

fn loss(llama: &Llama, adapter: &dyn BatchAdapter, examples: &[Example]) -> f64 {
    evaluate_loss(llama, adapter, examples, 1, &mut |_| {}).expect("a short example").loss
}
