//! Can two adapters, each taught its own lesson, be used at once?
//!
//! ```sh
//! cargo run --release --example mix_adapters
//! ```
//!
//! You should see each adapter know its own lesson alone, a mix of both better at both than the base,
//! and the weights turn each of them up and down like a dial.

use adaption_prompt::{
    AdaptedLayers, AdapterConfig, AdapterMix, AdapterWeights, AdaptionPromptConfig, MixComponent,
};
use llama::{Llama, ModelSource, NoAdapter, Precision};
use train::{BatchAdapter, Example, Instruction, TrainLength, Trainer, evaluate_loss};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../assets/tiny-llama");
    let source = ModelSource::open(folder)?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);

    let lesson = |instruction: &str, output: &str| {
        let row = Instruction::new(instruction, "", output);
        Ok::<_, anyhow::Error>(Example::encode_all(&[row], &tokenizer, 256)?.0)
    };
    let lessons = [
        lesson("Tell me the favourite colour of Tess.", "It is purple.")?,
        lesson("Say what Henry does for a living.", "He sells boats.")?,
    ];
    let taught = [teach(&llama, &lessons[0])?, teach(&llama, &lessons[1])?];

    let base = lessons.each_ref().map(|lesson| loss(&llama, &NoAdapter, lesson));
    println!("weights        loss of lesson 1  lesson 2");
    println!("base           {:16.3} {:9.3}", base[0], base[1]);
    let mut found = Vec::new();
    for weights in [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.5, 0.5], [0.75, 0.75]] {
        let part = |(index, weight): (usize, f64)| MixComponent {
            name: format!("lesson{index}"),
            weight,
            adapter: taught[index].clone(),
        };
        let mix = AdapterMix { components: weights.into_iter().enumerate().map(part).collect() };
        let mix = mix.prepare(&llama);
        let losses = lessons.each_ref().map(|lesson| loss(&llama, &mix, lesson));
        println!("{:4} and {:4}  {:16.3} {:9.3}", weights[0], weights[1], losses[0], losses[1]);
        found.push(losses);
    }
    let alone = loss(&llama, &taught[0].prepare(&llama), &lessons[0]);
    assert_eq!(found[0], base, "weights of 0 are the base");
    assert_eq!(found[1][0], alone, "one part with weight 1 is that adapter");
    assert!(found[1][0] < 0.5 && found[2][1] < 0.5, "each knows its own lesson");
    for mixed in &found[3..] {
        assert!(mixed[0] < base[0] - 0.5 && mixed[1] < base[1] - 0.5, "a mix knows some of both");
    }
    Ok(())
}

/// An adapter that has learned one lesson.
fn teach(llama: &Llama, lesson: &[Example]) -> anyhow::Result<AdapterWeights> {
    let prompts = AdaptionPromptConfig { layers: AdaptedLayers::Last(5), ..Default::default() };
    let adapter = AdapterConfig::from(prompts).init(llama, 0, &llama.device().autodiff())?;
    let mut trainer = Trainer::builder(llama, adapter, lesson)
        .length(TrainLength::Steps(120))
        .learning_rate(0.03)
        .warmup_ratio(10.0 / 120.0)
        .build()?;
    while !trainer.is_done() {
        trainer.step()?;
    }
    Ok(trainer.trainable().adapter().expect("an adapter learned").clone())
}

fn loss(llama: &Llama, adapter: &dyn BatchAdapter, lesson: &[Example]) -> f64 {
    evaluate_loss(llama, adapter, lesson, 1, &mut |_| {}).expect("a short text").loss
}
