//! The whole engine, with its threads, on the fake model.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use image::RgbImage;
use llama::FinishReason;
use text::Tokenizer;

use super::fake::{FakeAdapter, FakeAnswer, FakeFailure, FakeModel};
use super::*;
use crate::error::{LoadError, RequestError, SubmitError};

fn fake(answer: FakeAnswer) -> FakeModel {
    let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    FakeModel::new(Tokenizer::from_folder(&folder).unwrap(), answer)
}

/// Answers so slowly that nothing ends by itself.
fn slow() -> FakeModel {
    FakeModel { step_time: Duration::from_millis(20), ..fake(FakeAnswer::Hash) }
}

fn adapter(name: &str, sees_images: bool) -> FakeAdapter {
    let answer = Some(FakeAnswer::text(format!(" I am {name}.")));
    FakeAdapter { name: name.into(), sees_images, answer, bytes: 1000 }
}

fn start(model: FakeModel, config: EngineConfig) -> Engine {
    Engine::start_fake(model, EngineConfig { threads: Some(1), ..config }, Arc::new(())).unwrap()
}

fn request(engine: &Engine, text: &str) -> GenerationRequest {
    let tokenizer = Arc::clone(&engine.handle().model().tokenizer);
    let stop_tokens = tokenizer.eos.clone();
    let prompt = tokenizer.encode(text).unwrap();
    GenerationRequest { stop_tokens, ..GenerationRequest::new(prompt) }
}

fn endless(engine: &Engine) -> GenerationRequest {
    let stop_tokens = Vec::new();
    GenerationRequest { stop_tokens, max_new_tokens: 2000, ..request(engine, "Once") }
}

fn text(generation: Generation) -> String {
    generation.blocking_answer().unwrap().choices.remove(0).text
}

/// Waits until nothing runs, and checks that nothing is left.
fn wait_until_idle(engine: &Engine) -> EngineStats {
    loop {
        let stats = engine.handle().stats();
        let rows = stats.queued + stats.prefilling + stats.decoding;
        let taken = engine.handle.shared.places.load(std::sync::atomic::Ordering::SeqCst);
        if rows + stats.used_blocks + taken == 0 {
            return stats;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn an_answer_is_the_fake_models_text() {
    let engine = start(fake(FakeAnswer::echo()), EngineConfig::default());
    let handle = engine.handle();
    let generation = handle.submit(request(&engine, "Cows live on farms.")).unwrap();
    assert_eq!(text(generation).trim(), "Cows live on farms.");
    let stats = wait_until_idle(&engine);
    assert_eq!((stats.finished, stats.refused, stats.errors), (1, 0, 0));
    assert!(stats.generated_tokens > 3);
}

#[test]
fn each_request_has_its_own_adapter() {
    let adapters = vec![adapter("a", false), adapter("b", false)];
    let model = FakeModel { adapters, ..fake(FakeAnswer::text(" I am the base.")) };
    let engine = start(model, EngineConfig::default());
    let ask = |adapter| {
        let request = GenerationRequest { adapter, ..request(&engine, "Who are you?") };
        engine.handle().submit(request).unwrap()
    };
    let named = |name: &str| AdapterChoice::Named(name.into());
    let asked = [AdapterChoice::Base, named("a"), named("b"), named("a")].map(ask);
    let answers = asked.map(text);
    assert_eq!(answers, [" I am the base.", " I am a.", " I am b.", " I am a."]);
}

#[test]
fn requests_that_make_no_sense_are_refused() {
    use SubmitError::{Invalid, LargerThanCache, NotMultimodal, Request, TooLong, UnknownAdapter};

    let adapters = vec![adapter("blind", false), adapter("sees", true)];
    let model = FakeModel { adapters, context: 64, ..fake(FakeAnswer::Hash) };
    let config =
        EngineConfig { cache: CacheSize::Blocks(2), max_choices: 3, ..EngineConfig::default() };
    let engine = start(model, config);
    let refused = |change: &dyn Fn(&mut GenerationRequest)| {
        let mut request = request(&engine, "a");
        change(&mut request);
        engine.handle().submit(request).unwrap_err()
    };
    assert!(matches!(
        refused(&|own| own.prompt.clear()),
        Invalid(llama::Error::EmptyPrompt { .. })
    ));
    assert!(matches!(
        refused(&|own| own.prompt = vec![u32::MAX]),
        Invalid(llama::Error::TokenId { .. })
    ));
    assert!(matches!(refused(&|own| own.prompt = vec![1; 64]), TooLong { asked: 64, context: 64 }));
    assert!(matches!(
        refused(&|own| own.prompt = vec![1; 32]),
        LargerThanCache { asked: 32, capacity: 32 }
    ));
    assert!(matches!(refused(&|own| own.choices = 0), Request { field: "choices", .. }));
    assert!(matches!(refused(&|own| own.choices = 4), Request { field: "choices", .. }));
    assert!(matches!(refused(&|own| own.logprobs = Some(usize::MAX)), Request { .. }));
    assert!(matches!(refused(&|own| own.sampling.temperature = -1.0), Invalid(_)));
    let named = |name: &str| AdapterChoice::Named(name.into());
    assert!(
        matches!(refused(&|own| own.adapter = named("x")), UnknownAdapter(name) if name == "x")
    );
    let weights = |weight| AdapterChoice::Mix(vec![("blind".into(), weight)]);
    assert!(matches!(refused(&|own| own.adapter = weights(f64::NAN)), Request { .. }));
    assert!(matches!(refused(&|own| own.adapter = AdapterChoice::Mix(vec![])), Request { .. }));
    let image = || Some(Arc::new(ImageInput::new(RgbImage::new(2, 2))));
    assert!(matches!(refused(&|own| own.image = image()), NotMultimodal(_)));
    assert!(matches!(
        refused(&|own| (own.image, own.adapter) = (image(), named("blind"))),
        NotMultimodal(_)
    ));
    let seeing =
        GenerationRequest { image: image(), adapter: named("sees"), ..request(&engine, "a") };
    assert_eq!(text(engine.handle().submit(seeing).unwrap()), " I am sees.");
}

#[test]
fn answers_are_cut_to_the_context_and_the_cache() {
    let model = FakeModel { context: 64, ..fake(FakeAnswer::Hash) };
    for (blocks, expected) in [(3, 54), (2, 22)] {
        let cache = CacheSize::Blocks(blocks);
        let engine = start(model.clone(), EngineConfig { cache, ..EngineConfig::default() });
        let request =
            GenerationRequest { max_new_tokens: usize::MAX, ..GenerationRequest::new(vec![4; 10]) };
        let answer = engine.handle().submit(request).unwrap().blocking_answer().unwrap();
        assert_eq!(answer.choices[0].generated, expected);
        assert_eq!(answer.choices[0].reason, Some(FinishReason::Length));
    }
}

#[test]
fn the_queue_is_bounded_and_frees_its_places() {
    let config = EngineConfig { max_rows: 1, max_queue: 1, ..EngineConfig::default() };
    let engine = start(slow(), config);
    let submit = || engine.handle().submit(endless(&engine));
    let two = (submit().unwrap(), submit().unwrap());
    let error = submit().unwrap_err();
    let SubmitError::QueueFull { retry_after } = error else { panic!("{error}") };
    assert!((1..=60).contains(&retry_after.as_secs()));
    drop(two);
    assert_eq!(wait_until_idle(&engine).refused, 1);
    assert!(submit().is_ok());
}

#[test]
fn a_dropped_generation_frees_its_row() {
    let engine = start(slow(), EngineConfig { max_rows: 1, ..EngineConfig::default() });
    let mut running = engine.handle().submit(endless(&engine)).unwrap();
    let waiting = engine.handle().submit(endless(&engine)).unwrap();
    assert!(matches!(running.blocking_recv(), Some(Event::Started { .. })));
    drop(waiting);
    drop(running);
    wait_until_idle(&engine);
}

#[test]
fn a_request_that_takes_too_long_fails() {
    let request_time = Some(Duration::from_millis(100));
    let engine = start(slow(), EngineConfig { request_time, ..EngineConfig::default() });
    let generation = engine.handle().submit(endless(&engine)).unwrap();
    assert!(matches!(generation.blocking_answer(), Err(RequestError::TimedOut { .. })));
    wait_until_idle(&engine);
}

#[test]
fn draining_finishes_what_runs_and_accepts_nothing() {
    let engine = start(slow(), EngineConfig::default());
    let short = GenerationRequest { max_new_tokens: 5, ..endless(&engine) };
    let generation = engine.handle().submit(short).unwrap();
    let handle = engine.handle();
    assert_eq!(engine.drain(Duration::from_mins(1)).aborted, 0);
    assert_eq!(generation.blocking_answer().unwrap().choices[0].generated, 5);
    assert!(handle.submit(request(&engine, "a")).is_err());
    assert_eq!(handle.stats().state, EngineState::Dead);
}

#[test]
fn draining_cuts_off_what_does_not_end() {
    let engine = start(slow(), EngineConfig::default());
    let generation = engine.handle().submit(endless(&engine)).unwrap();
    assert_eq!(engine.drain(Duration::from_millis(50)).aborted, 1);
    assert!(matches!(generation.blocking_answer(), Err(RequestError::Aborted)));
    assert_eq!(engine.drain(Duration::from_millis(50)).aborted, 0);
}

#[test]
fn dropping_the_engine_ends_its_requests() {
    let engine = start(slow(), EngineConfig::default());
    let handle = engine.handle();
    let request = endless(&engine);
    let generation = handle.submit(request.clone()).unwrap();
    drop(engine);
    assert!(matches!(generation.blocking_answer(), Err(RequestError::Aborted)));
    assert!(matches!(handle.submit(request), Err(SubmitError::Stopped)));
}

#[test]
fn an_engine_that_fails_again_and_again_ends() {
    let failure = Some((251, FakeFailure::Panic));
    let engine = start(FakeModel { failure, ..fake(FakeAnswer::Hash) }, EngineConfig::default());
    for _ in 0..3 {
        let generation = engine.handle().submit(GenerationRequest::new(vec![251])).unwrap();
        assert!(matches!(generation.blocking_answer(), Err(RequestError::Internal { .. })));
    }
    while engine.handle().stats().state != EngineState::Dead {
        thread::sleep(Duration::from_millis(1));
    }
    let refused = engine.handle().submit(GenerationRequest::new(vec![1]));
    assert!(matches!(refused, Err(SubmitError::Stopped)));
    assert_eq!(engine.handle().stats().errors, 3);
}

#[test]
fn adapters_are_loaded_and_removed_while_it_runs() {
    let engine = start(fake(FakeAnswer::text(" base")), EngineConfig::default());
    let handle = engine.handle();
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str, path| {
        handle.load_adapter(AdapterSource::path(name, path)).blocking_recv().unwrap()
    };
    let path = folder.path();
    assert_eq!(load("new", path.to_owned()).unwrap().name, "new");
    assert!(matches!(load("new", path.to_owned()), Err(LoadError::NameTaken(_))));
    assert!(matches!(load("a/b", path.to_owned()), Err(LoadError::Name(_))));
    assert!(matches!(load("gone", path.join("gone")), Err(LoadError::Folder { .. })));
    let adapter = AdapterChoice::Named("new".into());
    let ask =
        || handle.submit(GenerationRequest { adapter: adapter.clone(), ..request(&engine, "a") });
    assert_eq!(text(ask().unwrap()), " base");
    assert!(handle.adapters()[0].loaded);
    handle.unload_adapter("new").unwrap();
    assert!(matches!(ask(), Err(SubmitError::UnknownAdapter(_))));
    assert!(matches!(handle.unload_adapter("new"), Err(LoadError::Unknown(_))));
    assert!(handle.adapters().is_empty());
}

#[test]
fn a_request_waits_for_its_adapter() {
    let adapters = vec![adapter("a", false), adapter("b", false)];
    let model = FakeModel { adapters, ..fake(FakeAnswer::Hash) };
    // Room for one of the two: the other is loaded when it is asked for.
    let config = EngineConfig { adapter_bytes: 1500, ..EngineConfig::default() };
    let engine = start(model, config);
    for name in ["a", "b", "a", "b"] {
        let adapter = AdapterChoice::Named(name.into());
        let request = GenerationRequest { adapter, ..request(&engine, "a") };
        assert_eq!(text(engine.handle().submit(request).unwrap()), format!(" I am {name}."));
    }
    assert_eq!(engine.handle().stats().adapters, 1);
}

/// Writes down what it is told.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Observer for Notes {
    fn step(&self, step: &StepReport) {
        self.note(format!("step {} {}", step.decoding, step.prefill_tokens));
    }

    fn first_token(&self, _since_arrival: Duration) {
        self.note("first token".into());
    }

    fn token_gap(&self, _gap: Duration) {
        self.note("token".into());
    }

    fn finished(&self, request: &RequestReport) {
        self.note(format!("{} after {}", request.outcome.name(), request.generated_tokens));
    }
}

impl Notes {
    fn note(&self, text: String) {
        self.0.lock().unwrap().push(text);
    }
}

#[test]
fn an_observer_is_told_of_steps_and_tokens() {
    let notes = Arc::new(Notes::default());
    let config = EngineConfig { threads: Some(1), ..EngineConfig::default() };
    let engine =
        Engine::start_fake(fake(FakeAnswer::Hash), config, Arc::clone(&notes) as _).unwrap();
    let request = GenerationRequest { max_new_tokens: 2, ..GenerationRequest::new(vec![4, 5, 6]) };
    engine.handle().submit(request).unwrap().blocking_answer().unwrap();
    engine.drain(Duration::from_mins(1));
    let notes = notes.0.lock().unwrap().clone();
    assert_eq!(notes, ["first token", "step 0 3", "token", "length after 2", "step 1 0"]);
}
