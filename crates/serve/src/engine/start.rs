//! Starting an engine: checks, the first adapters, threads.

use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use llama::model::BlockCache;
use text::Tokenizer;

use super::adapters::{AdapterLoader, AdapterSource, AdapterStore, LlamaLoader, Loading, Registry};
use super::commands::Wake;
use super::config::{EngineConfig, PrefillChunk};
use super::fake::{FakeLoader, FakeModel, FakeStepModel};
use super::handle::{EngineHandle, ModelInfo, Shared};
use super::model::{FixedPasses, LlamaStepModel};
use super::observer::Observer;
use super::scheduler::Scheduler;
use super::stats::{EngineState, Stats, set};
use super::step_model::StepModel;
use super::worker::Worker;
use super::{BLOCK_TOKENS, Engine, EngineModel};
use crate::engine::blocks::RESERVED_BLOCKS;
use crate::error::StartError;

/// How long a look at an adapter's files is believed.
const FILES_BELIEVED: Duration = Duration::from_secs(1);

/// What an engine's thread is made of.
struct Parts<L> {
    info: ModelInfo,
    loader: L,
    /// Whether the loader has a thread of its own.
    loads_beside: bool,
    block_bytes: usize,
    sources: Vec<AdapterSource>,
    config: EngineConfig,
    observer: Arc<dyn Observer>,
}

/// Tokens of a prompt's pass on devices that are not fused.
const DEFAULT_FIXED_CHUNK: usize = 128;

impl Engine {
    /// Starts an engine: loads the adapters as far as they fit, and makes the cache.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use serve::{Engine, EngineConfig, EngineModel, GenerationRequest};
    /// # let device = testing::flex();
    ///
    /// let source = built_in::model()?;
    /// let model = EngineModel {
    ///     llama: source.load(llama::Precision::F32, &device)?,
    ///     tokenizer: source.tokenizer()?,
    ///     name: built_in::MODEL_NAME.into(),
    ///     images: None,
    /// };
    /// let engine = Engine::start(model, Vec::new(), EngineConfig::default(), Arc::new(()))?;
    ///
    /// let handle = engine.handle();
    /// let prompt = handle.model().tokenizer.encode("The plural of cow is")?;
    /// let request = GenerationRequest { max_new_tokens: 4, ..GenerationRequest::new(prompt) };
    /// let answer = handle.submit(request)?.blocking_answer()?;
    /// assert!(answer.choices[0].text.starts_with(" cows"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`StartError`]
    pub fn start(
        model: EngineModel,
        adapters: Vec<AdapterSource>,
        config: EngineConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let EngineModel { llama, tokenizer, name, images } = model;
        let block_bytes = BlockCache::block_bytes(llama.config());
        let blocks = config.cache_blocks(block_bytes)?;
        let fixed = (!llama.is_fused()).then(|| FixedPasses {
            rows: config.max_rows,
            chunk: fixed_chunk(config.prefill_chunk),
        });
        let fingerprint = llama.fingerprint()?;
        let parts = Parts {
            info: ModelInfo {
                name,
                tokenizer: Arc::new(tokenizer),
                context: llama.config().max_positions,
                vocab_size: llama.config().vocab_size,
                cache_tokens: cache_tokens(blocks),
                max_choices: config.max_choices,
                has_image_encoders: images.is_some(),
                fingerprint: fingerprint.norms.clone(),
            },
            loader: LlamaLoader { llama: llama.clone(), fingerprint, images },
            // Other devices are used by one thread at a time.
            loads_beside: fixed.is_none(),
            block_bytes,
            sources: adapters,
            config,
            observer,
        };
        Self::start_parts(parts, move || Ok(LlamaStepModel::new(llama, blocks, fixed)))
    }

    /// Starts an engine on a fake model.
    #[doc(hidden)]
    pub fn start_fake(
        fake: FakeModel,
        config: EngineConfig,
        observer: Arc<dyn Observer>,
    ) -> Result<Self, StartError> {
        config.validate()?;
        let blocks = config.cache_blocks(FakeModel::BLOCK_BYTES)?;
        let sees_images = fake.adapters.iter().any(|own| own.sees_images);
        let names = fake.adapters.iter().map(|own| own.name.clone());
        let parts = Parts {
            info: ModelInfo {
                name: fake.name.clone(),
                tokenizer: Arc::new(fake.tokenizer.clone()),
                context: fake.context,
                vocab_size: fake.tokenizer.vocab_size(),
                cache_tokens: cache_tokens(blocks),
                max_choices: config.max_choices,
                has_image_encoders: sees_images,
                fingerprint: "fake".into(),
            },
            loader: FakeLoader { adapters: fake.adapters.clone() },
            loads_beside: true,
            block_bytes: FakeModel::BLOCK_BYTES,
            sources: names.map(|name| AdapterSource::path(name, "fake")).collect(),
            config,
            observer,
        };
        Self::start_parts(parts, move || Ok(FakeStepModel::new(fake, blocks)))
    }

    /// Loads the adapters and starts the threads. `model` is made on the engine's thread.
    fn start_parts<M, L>(
        parts: Parts<L>,
        model: impl FnOnce() -> Result<M, StartError> + Send + 'static,
    ) -> Result<Self, StartError>
    where
        M: StepModel,
        L: AdapterLoader<Prepared = M::Adapter>,
    {
        let Parts { info, mut loader, loads_beside, block_bytes, sources, config, observer } =
            parts;
        let shared = Arc::new(Shared {
            model: info,
            stats: Stats::default(),
            registry: Registry::default(),
            places: Arc::new(AtomicUsize::new(0)),
            max_places: config.max_rows + config.max_queue,
            finished_per_kilosecond: AtomicU64::new(0),
        });
        set(&shared.stats.block_bytes, block_bytes);
        let store = AdapterStore::new(Arc::clone(&shared), config.adapter_bytes, FILES_BELIEVED);
        let store = Arc::new(store);
        for source in &sources {
            let added = if store.is_full() {
                store.add_later(source)
            } else {
                store.add(source, &mut loader).map(drop)
            };
            added.map_err(|error| StartError::Adapter {
                name: source.name.clone(),
                source: error.into(),
            })?;
        }
        let (commands, receiver) = mpsc::channel();
        let handle = EngineHandle { shared: Arc::clone(&shared), commands };
        let mut threads = Vec::new();
        let loading = if loads_beside {
            let wake = Wake(handle.commands.clone());
            let (loading, thread) =
                Loading::thread(loader, Arc::clone(&store), wake).map_err(StartError::Thread)?;
            threads.push(thread);
            loading
        } else {
            Loading::here(loader, Arc::clone(&store))
        };
        let (ready, is_ready) = mpsc::channel();
        let run = move || {
            let _ended = EndsWithThread(Arc::clone(&shared));
            let started = start_pool(config.threads).and_then(|pool| Ok((pool, model()?)));
            let (_pool, model) = match started {
                Ok(started) => started,
                Err(error) => return drop(ready.send(Err(error))),
            };
            // Rows refer to it.
            let tokenizer: Arc<Tokenizer> = Arc::clone(&shared.model.tokenizer);
            let scheduler =
                Scheduler::new(model, config, &tokenizer, Arc::clone(&shared), observer);
            let worker = Worker {
                scheduler,
                store,
                loading,
                commands: receiver,
                shared,
                preparing: Vec::new(),
                draining: None,
                failures: Vec::new(),
            };
            // The other side waits for nothing else.
            let _ = ready.send(Ok(()));
            worker.run();
        };
        let thread = std::thread::Builder::new().name("engine".into()).spawn(run);
        threads.insert(0, thread.map_err(StartError::Thread)?);
        let engine = Self { handle, threads };
        match is_ready.recv() {
            Ok(Ok(())) => Ok(engine),
            Ok(Err(error)) => Err(error),
            Err(mpsc::RecvError) => {
                Err(StartError::ThreadPool { reason: "the engine's thread panicked".into() })
            }
        }
    }
}

/// Tokens of a chunk in whole blocks, because a chunk's blocks are shared.
fn fixed_chunk(chunk: PrefillChunk) -> usize {
    match chunk {
        PrefillChunk::Auto { .. } => DEFAULT_FIXED_CHUNK,
        PrefillChunk::Tokens(tokens) => tokens.clamp(1, 1 << 16).next_multiple_of(BLOCK_TOKENS),
    }
}

/// Tokens that the rows of a cache may have together.
fn cache_tokens(blocks: usize) -> usize {
    (blocks - RESERVED_BLOCKS) * BLOCK_TOKENS
}

/// Threads that compute, with the current one among them: it would sleep otherwise while they work. The
/// program's own pool is left alone.
fn start_pool(threads: Option<usize>) -> Result<rayon::ThreadPool, StartError> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.unwrap_or(0));
    let pool = pool.thread_name(|index| format!("engine-{index}")).use_current_thread().build();
    pool.map_err(|error| StartError::ThreadPool { reason: error.to_string() })
}

/// Marks the engine as ended when its thread is, even by a panic.
struct EndsWithThread(Arc<Shared>);

impl Drop for EndsWithThread {
    fn drop(&mut self) {
        self.0.stats.state.advance_to(EngineState::Dead);
    }
}
