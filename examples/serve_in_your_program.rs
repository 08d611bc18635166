//! How does my program answer many people at once, each with their own adapter?
//!
//! ```sh
//! cargo run --release --example serve_in_your_program
//! ```
//!
//! You should see the answers to four questions, half of them by an adapter, that were computed in one
//! running batch. No answer depends on the others: the last line is the first question, asked alone.

use std::sync::Arc;
use std::thread;

use llama_adapter::serve::{
    AdapterChoice, AdapterSource, Engine, EngineConfig, EngineHandle, EngineModel, Event,
    GenerationRequest,
};
use llama_adapter::{Instruction, Precision, built_in, device};

fn main() -> anyhow::Result<()> {
    let device = device::parse(device::default_name()?)?;
    let source = built_in::model()?;
    let model = EngineModel {
        llama: source.load(Precision::F32, &device)?,
        tokenizer: source.tokenizer()?,
        name: built_in::MODEL_NAME.into(),
        images: None,
    };
    let adapters = vec![AdapterSource::data("instructions", built_in::adapter()?)];
    let engine = Engine::start(model, adapters, EngineConfig::default(), Arc::new(()))?;

    // Any thread may ask, at any time: a question joins the batch while others are being answered.
    let questions = ["Where does Kate live?", "What does Ben do?"];
    let adapters = [AdapterChoice::Named("instructions".into()), AdapterChoice::Base];
    let asked = adapters.iter().flat_map(|adapter| questions.map(|question| (adapter, question)));
    let asked = asked.collect::<Vec<_>>();
    let answers = thread::scope(|scope| {
        let answer = |&(adapter, question)| {
            let handle = engine.handle();
            scope.spawn(move || answer(&handle, adapter, question))
        };
        let threads = asked.iter().map(answer).collect::<Vec<_>>();
        threads.into_iter().map(|own| own.join().expect("no panic")).collect::<Vec<_>>()
    });
    for ((adapter, question), answer) in asked.iter().zip(&answers) {
        println!("{adapter:?}, {question}\n  {}", answer.as_ref().map_or("failed", |own| own));
    }
    let alone = answer(&engine.handle(), asked[0].0, asked[0].1)?;
    println!("alone:\n  {alone}");
    assert_eq!(alone, *answers[0].as_ref().expect("it was answered"));
    Ok(())
}

fn answer(engine: &EngineHandle, adapter: &AdapterChoice, question: &str) -> anyhow::Result<String> {
    let tokenizer = &engine.model().tokenizer;
    let prompt = tokenizer.encode(&Instruction::new(question, "", "").prompt())?;
    let mut generation = engine.submit(GenerationRequest {
        adapter: adapter.clone(),
        max_new_tokens: 20,
        stop_tokens: tokenizer.eos.clone(),
        ..GenerationRequest::new(prompt)
    })?;
    let mut answer = String::new();
    while let Some(event) = generation.blocking_recv() {
        match event {
            // The place to show it to somebody who is waiting.
            Event::Text { text, .. } => answer += &text,
            Event::Failed(error) => return Err(error.into()),
            _ => {}
        }
    }
    Ok(answer.trim().to_owned())
}
