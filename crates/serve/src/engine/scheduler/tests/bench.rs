//! A scheduler on the fake model, and lone runs to compare with.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use llama::SamplingConfig;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::super::*;
use crate::engine::adapters::{AdapterLoader, Registry};
use crate::engine::blocks::RESERVED_BLOCKS;
use crate::engine::commands::Places;
use crate::engine::config::PrefillChunk;
use crate::engine::fake::{
    FakeAdapter, FakeAnswer, FakeLoader, FakeModel, FakePrepared, FakeStepModel,
};
use crate::engine::handle::ModelInfo;
use crate::engine::request::{Answer, Event};
use crate::engine::stats::Stats;

pub(super) fn tokenizer() -> Tokenizer {
    let folder = testing::golden_folder().join("../../crates/built-in/assets/tiny-llama");
    Tokenizer::from_folder(&folder).unwrap()
}

fn shared(tokenizer: &Tokenizer) -> Arc<Shared> {
    Arc::new(Shared {
        model: ModelInfo {
            name: "fake".into(),
            tokenizer: Arc::new(tokenizer.clone()),
            context: 4096,
            vocab_size: tokenizer.vocab_size(),
            cache_tokens: 4096,
            max_choices: 16,
            has_image_encoders: false,
            fingerprint: String::new(),
        },
        stats: Stats::default(),
        registry: Registry::default(),
        places: Arc::new(AtomicUsize::new(0)),
        max_places: 1000,
        finished_per_kilosecond: AtomicU64::new(0),
    })
}

/// A scheduler, and the receivers of its requests.
pub(super) struct Bench<'t> {
    pub(super) scheduler: Scheduler<'t, FakeStepModel>,
    shared: Arc<Shared>,
    adapters: Vec<Arc<Instance<FakePrepared>>>,
}

/// How a bench is set up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) blocks: usize,
    pub(super) max_rows: usize,
    pub(super) chunk: usize,
    pub(super) prefix_cache: bool,
    pub(super) fixed_chunk: Option<usize>,
}

impl Default for Setup {
    fn default() -> Self {
        Self { blocks: 1000, max_rows: 8, chunk: 512, prefix_cache: true, fixed_chunk: None }
    }
}

impl<'t> Bench<'t> {
    pub(super) fn new(tokenizer: &'t Tokenizer, setup: Setup) -> Self {
        Self::with_model(tokenizer, setup, FakeModel::new(tokenizer.clone(), FakeAnswer::Hash))
    }

    pub(super) fn with_model(tokenizer: &'t Tokenizer, setup: Setup, model: FakeModel) -> Self {
        let model = FakeModel { fixed_chunk: setup.fixed_chunk, ..model };
        let model = FakeStepModel::new(model, setup.blocks + RESERVED_BLOCKS);
        let config = EngineConfig {
            max_rows: setup.max_rows,
            prefill_chunk: PrefillChunk::Tokens(setup.chunk),
            prefix_cache: setup.prefix_cache,
            ..EngineConfig::default()
        };
        let shared = shared(tokenizer);
        let adapter = |id: u64| {
            let name = format!("adapter-{id}");
            let own = FakeAdapter { name, sees_images: false, answer: None, bytes: 0 };
            let mut loader = FakeLoader { adapters: Vec::new() };
            let (prepared, bytes) = loader.prepare(&[(own, 1.0)], None).unwrap();
            Arc::new(Instance { id, prepared, bytes })
        };
        let adapters = (1..=3).map(adapter).collect();
        let scheduler = Scheduler::new(model, config, tokenizer, Arc::clone(&shared), Arc::new(()));
        Self { scheduler, shared, adapters }
    }

    /// Submits a request for the base (0) or an adapter.
    pub(super) fn submit(
        &mut self,
        request: GenerationRequest,
        adapter: usize,
    ) -> UnboundedReceiver<Event> {
        let (events, receiver) = unbounded_channel();
        let places = Places::take(&self.shared.places, request.choices, 1000).unwrap();
        let submitted = Submitted { request, events, arrived: Instant::now(), places };
        let (id, request) = self.scheduler.accept(submitted);
        let adapter = adapter.checked_sub(1).map(|index| Arc::clone(&self.adapters[index]));
        self.scheduler.start(id, &request, adapter);
        receiver
    }

    /// Steps until nothing is left.
    pub(super) fn finish(&mut self) {
        for _step in 0..100_000 {
            self.scheduler.sweep();
            if !self.scheduler.has_rows() {
                break;
            }
            self.scheduler.step().unwrap();
        }
        self.assert_nothing_is_left();
    }

    pub(super) fn assert_nothing_is_left(&self) {
        assert!(self.scheduler.is_empty() && !self.scheduler.has_rows());
        self.scheduler.update_gauges(0);
        let stats = self.shared.stats.read();
        assert_eq!((stats.queued, stats.prefilling, stats.decoding), (0, 0, 0));
        assert_eq!(stats.used_blocks, 0);
        assert_eq!(self.shared.places.load(Ordering::SeqCst), 0);
    }

    pub(super) fn stats(&self) -> crate::EngineStats {
        self.scheduler.update_gauges(0);
        self.shared.stats.read()
    }
}

/// All events of a request that has ended.
pub(super) fn answer(
    mut receiver: UnboundedReceiver<Event>,
    choices: usize,
) -> Result<Answer, RequestError> {
    let mut answer = Answer::new(choices);
    while let Ok(event) = receiver.try_recv() {
        answer.push(event)?;
    }
    assert!(answer.choices.iter().all(|own| own.reason.is_some()), "{answer:?}");
    Ok(answer)
}

/// The answer of a request that runs alone, with all the room it can use.
pub(super) fn lone_answer(
    tokenizer: &Tokenizer,
    fixed_chunk: Option<usize>,
    request: &GenerationRequest,
    adapter: usize,
) -> Answer {
    let setup = Setup { prefix_cache: false, fixed_chunk, max_rows: 1, ..Setup::default() };
    let mut bench = Bench::new(tokenizer, setup);
    let receiver = bench.submit(request.clone(), adapter);
    bench.finish();
    answer(receiver, request.choices).unwrap()
}

/// What must not depend on others: all but the number of cached tokens.
pub(super) fn without_cache(answer: Answer) -> Answer {
    Answer { cached_tokens: 0, ..answer }
}

pub(super) fn prompt(seed: u32, len: usize) -> Vec<u32> {
    (0..len as u32).map(|index| (index * 7 + seed * 13 + 1) % 250).collect()
}

pub(super) fn request(prompt: Vec<u32>, max_new_tokens: usize) -> GenerationRequest {
    GenerationRequest { max_new_tokens, ..GenerationRequest::new(prompt) }
}

pub(super) fn seeded(seed: u64) -> SamplingConfig {
    SamplingConfig { temperature: 1.0, seed, ..SamplingConfig::default() }
}
