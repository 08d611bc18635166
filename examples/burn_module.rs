//! Can an adapter be part of a Burn module, together with other layers?
//!
//! ```sh
//! cargo run --release --example burn_module
//! ```
//!
//! You should see Burn's optimizer train an adapter and a classification head on three kinds of
//! instructions, and the accuracy on held-out instructions.

#![expect(clippy::disallowed_methods, reason = "a stand-alone program may wait for the device")]

use burn::module::{Initializer, Module};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Int, Tensor};
use llama_adapter::{
    AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig, Instruction, Llama,
    Precision, Tokenizer, built_in, device,
};

/// The trainable parameters: an adapter of the frozen model, and a head on its output.
#[derive(Module, Debug)]
struct Classifier {
    adapter: AdapterWeights,
    head: Linear,
}

impl Classifier {
    /// Logits of the three classes for each text, from the hidden state of its last token.
    fn forward(&self, llama: &Llama, texts: &[Vec<u32>]) -> anyhow::Result<Tensor<2>> {
        let seq = texts.iter().map(Vec::len).max().unwrap_or(0);
        // The causal mask hides the padding after a text from the text.
        let padded = texts.iter().map(|text| [text.clone(), vec![0; seq - text.len()]].concat());
        let tokens = llama.tokens(&padded.collect::<Vec<_>>())?;
        let hidden = llama.forward(tokens, None, &self.adapter.prepare(llama))?;
        let last = texts.iter().enumerate().map(|(row, text)| {
            hidden.clone().narrow(0, row, 1).narrow(1, text.len() - 1, 1).squeeze_dim::<2>(1)
        });
        Ok(self.head.forward(Tensor::cat(last.collect(), 0)))
    }
}

/// Token ids and classes: a yes-or-no question, an instruction with an input, any other instruction.
fn rows(rows: &[Instruction], tokenizer: &Tokenizer) -> anyhow::Result<Vec<(Vec<u32>, i64)>> {
    let encode = |row: &Instruction| {
        let yes_or_no = row.output.starts_with("Yes,") || row.output.starts_with("No,");
        let class = if yes_or_no { 0 } else { 2 - i64::from(!row.input.is_empty()) };
        Ok((tokenizer.encode(&row.instruction)?, class))
    };
    rows.iter().map(encode).collect()
}

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);
    let train_rows = rows(&built_in::INSTRUCTIONS.train()?, &tokenizer)?;
    let test_rows = rows(&built_in::INSTRUCTIONS.test()?, &tokenizer)?;

    let autodiff_device = device.autodiff();
    let layers = AdaptedLayers::Last(4);
    let config = AdapterConfig::from(AdaptionPromptConfig { layers, ..Default::default() });
    let head = LinearConfig::new(llama.config().d_model, 3).with_initializer(Initializer::Zeros);
    let adapter = config.init(&llama, 0, &autodiff_device)?;
    let mut classifier = Classifier { adapter, head: head.init(&autodiff_device) };
    let mut optimizer = AdamWConfig::new().init();
    let cross_entropy = CrossEntropyLossConfig::new().init(&llama.device());
    for (step, batch) in train_rows.chunks(16).take(40).enumerate() {
        let (texts, classes): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
        let classes = Tensor::<1, Int>::from_ints(classes.as_slice(), &llama.device());
        let loss = cross_entropy.forward(classifier.forward(&llama, &texts)?, classes);
        if step % 10 == 0 {
            println!("step {step:2}  loss {:.3}", loss.clone().inner().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &classifier);
        classifier = optimizer.step(0.01, classifier, gradients);
    }

    let classifier = classifier.valid();
    let mut correct = 0;
    for batch in test_rows.chunks(25) {
        let (texts, classes): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
        let predicted = classifier.forward(&llama, &texts)?.argmax(1).into_data();
        let pairs = predicted.iter::<i64>().zip(classes);
        correct += pairs.filter(|(predicted, class)| predicted == class).count();
    }
    println!("{correct} of {} held-out instructions classified correctly", test_rows.len());
    assert!(correct * 10 > test_rows.len() * 9);
    let prompts = classifier.adapter.prompts.expect("the adapter has prompts");
    let gates = prompts.layers.iter().map(|layer| layer.gate.val().into_scalar::<f32>());
    assert!(gates.into_iter().all(|gate| gate != 0.0), "the adapter was trained too");
    Ok(())
}
