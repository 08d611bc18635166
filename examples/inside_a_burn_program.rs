//! Can an adapter be a part of an ordinary Burn program, beside layers of one's own?
//!
//! ```sh
//! cargo run --release --example inside_a_burn_program
//! ```
//!
//! You should see Burn's own optimizer teach an adapter and a small head together which kind of
//! instruction a text is, and most of the instructions that it has never seen told apart.

#![expect(clippy::disallowed_methods, reason = "programs of their own wait as they like")]

use adaption_prompt::{AdaptedLayers, AdapterConfig, AdapterWeights, AdaptionPromptConfig};
use burn::module::{Initializer, Module};
use burn::nn::loss::CrossEntropyLossConfig;
use burn::nn::{Linear, LinearConfig};
use burn::optim::{AdamWConfig, GradientsParams};
use burn::tensor::{Int, Tensor};
use llama::{Llama, ModelSource, Precision};
use text::Tokenizer;
use train::Instruction;

/// What learns: an adapter in the frozen model, a head behind it. Burn sees one module.
#[derive(Module, Debug)]
struct Classifier {
    adapter: AdapterWeights,
    head: Linear,
}

impl Classifier {
    /// Scores of the three kinds for each text, from what the model makes of its last token.
    fn forward(&self, llama: &Llama, texts: &[Vec<u32>]) -> anyhow::Result<Tensor<2>> {
        let width = texts.iter().map(Vec::len).max().unwrap_or(0);
        // Attention looks back only: what fills a text up behind its end changes nothing in it.
        let filled = texts.iter().map(|text| [text.clone(), vec![0; width - text.len()]].concat());
        let tokens = llama.tokens(&filled.collect::<Vec<_>>())?;
        let hidden = llama.forward(tokens, None, &self.adapter.prepare(llama))?;
        let last = texts.iter().enumerate().map(|(row, text)| {
            hidden.clone().narrow(0, row, 1).narrow(1, text.len() - 1, 1).squeeze_dim::<2>(1)
        });
        Ok(self.head.forward(Tensor::cat(last.collect(), 0)))
    }
}

/// Kinds: a question for yes or no, a task with an input, any other question.
fn rows(text: &str, tokenizer: &Tokenizer) -> anyhow::Result<Vec<(Vec<u32>, i64)>> {
    let encode = |row: &Instruction| {
        let yes_or_no = row.output.starts_with("Yes,") || row.output.starts_with("No,");
        let kind = if yes_or_no { 0 } else { 2 - i64::from(!row.input.is_empty()) };
        Ok((tokenizer.encode(&row.instruction)?, kind))
    };
    Instruction::parse("instructions".as_ref(), text)?.iter().map(encode).collect()
}

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../crates/built-in/assets/tiny-llama");
    let source = ModelSource::open(folder)?;
    let (llama, tokenizer) = (source.load(Precision::F32, &device)?, source.tokenizer()?);
    let seen =
        rows(include_str!("../crates/built-in/assets/instructions/train.jsonl"), &tokenizer)?;
    let unseen =
        rows(include_str!("../crates/built-in/assets/instructions/test.jsonl"), &tokenizer)?;

    let learning = device.autodiff();
    let layers = AdaptedLayers::Last(4);
    let config = AdapterConfig::from(AdaptionPromptConfig { layers, ..Default::default() });
    let head = LinearConfig::new(llama.config().d_model, 3).with_initializer(Initializer::Zeros);
    let adapter = config.init(&llama, 0, &learning)?;
    let mut classifier = Classifier { adapter, head: head.init(&learning) };
    let mut optimizer = AdamWConfig::new().init();
    let cross_entropy = CrossEntropyLossConfig::new().init(&llama.device());
    for (step, batch) in seen.chunks(16).take(40).enumerate() {
        let (texts, kinds): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
        let kinds = Tensor::<1, Int>::from_ints(kinds.as_slice(), &llama.device());
        let loss = cross_entropy.forward(classifier.forward(&llama, &texts)?, kinds);
        if step % 10 == 0 {
            println!("step {step:2}  loss {:.3}", loss.clone().inner().into_scalar::<f32>());
        }
        let gradients = GradientsParams::from_grads(loss.backward(), &classifier);
        classifier = optimizer.step(0.01, classifier, gradients);
    }

    let classifier = classifier.valid();
    let mut right = 0;
    for batch in unseen.chunks(25) {
        let (texts, kinds): (Vec<_>, Vec<_>) = batch.iter().cloned().unzip();
        let found = classifier.forward(&llama, &texts)?.argmax(1).into_data();
        right += found.iter::<i64>().zip(kinds).filter(|(found, kind)| found == kind).count();
    }
    println!("{right} of {} new instructions told apart", unseen.len());
    assert!(right * 10 > unseen.len() * 9);
    let prompts = classifier.adapter.prompts.expect("the adapter has prompts");
    let gates = prompts.layers.iter().map(|layer| layer.gate.val().into_scalar::<f32>());
    assert!(gates.into_iter().all(|gate| gate != 0.0), "the adapter has learned too");
    Ok(())
}
