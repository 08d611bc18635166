//! Whatever runs beside it, a request has the answer that it has alone.
//!
//! Random-weight models with open gates: prompts, V2, LoRA, mixes and the base, prompts of one token to several
//! chunks, greedy and seeded, in a cache that is too small for all.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use llama::architecture::ARCHITECTURES;
use llama::{NoAdapter, Precision, generate};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serve::{AdapterChoice, Answer, CacheSize, Engine, EngineConfig, EngineStats, PrefillChunk};
use serve::{GenerationRequest, engine::BLOCK_TOKENS};

use crate::world::World;

/// A request and the time before it is submitted.
type Arrival = (Duration, GenerationRequest);

/// Runs requests together in a small cache.
fn together(
    world: &World,
    arrivals: &[Arrival],
    config: EngineConfig,
) -> (Vec<Answer>, EngineStats) {
    let engine = world.engine(config);
    let handle = engine.handle();
    let generations = arrivals.iter().map(|(pause, request)| {
        thread::sleep(*pause);
        handle.submit(request.clone()).unwrap()
    });
    let generations = generations.collect::<Vec<_>>();
    let answers = generations.into_iter().map(|own| own.blocking_answer().unwrap()).collect();
    let stats = wait_until_idle(&engine);
    (answers, stats)
}

/// Runs requests one after the other, each in an empty cache with room for it.
fn alone(world: &World, arrivals: &[Arrival], config: &EngineConfig) -> Vec<Answer> {
    let engine = world.engine(EngineConfig {
        cache: CacheSize::Blocks(1000),
        prefix_cache: false,
        prefill_chunk: match config.prefill_chunk {
            // The shape of passes on other devices is this number's.
            fixed @ PrefillChunk::Tokens(_) if !world.llama.is_fused() => fixed,
            _ => PrefillChunk::Tokens(512),
        },
        ..config.clone()
    });
    let handle = engine.handle();
    let answer =
        |(_, request): &Arrival| handle.submit(request.clone()).unwrap().blocking_answer().unwrap();
    arrivals.iter().map(answer).collect()
}

/// The gauges once everything has been given back.
fn wait_until_idle(engine: &Engine) -> EngineStats {
    let handle = engine.handle();
    loop {
        let stats = handle.stats();
        if stats.used_blocks + stats.queued + stats.prefilling + stats.decoding == 0 {
            return stats;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

pub fn without_cache(answers: Vec<Answer>) -> Vec<Answer> {
    answers.into_iter().map(|answer| Answer { cached_tokens: 0, ..answer }).collect()
}

/// Compares answers to the last bit; a message has the first token that differs, not all of them.
fn assert_same(arrivals: &[Arrival], found: &[Answer], expected: &[Answer]) {
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let tokens = |answer: &Answer| answer.choices[0].tokens.clone();
        let both = tokens(found).into_iter().zip(tokens(expected));
        if let Some((place, differing)) = both.enumerate().find(|(_, (a, b))| a != b) {
            let (prompt, adapter) = (arrivals[index].1.prompt.len(), &arrivals[index].1.adapter);
            panic!("request {index}, {prompt} tokens, {adapter:?}: token {place}: {differing:?}");
        }
        assert!(found == expected, "request {index} ends in another way");
    }
}

/// Random requests over all adapters, a mix and the base.
fn arrivals(world: &World, count: usize, most_prompt: usize, seed: u64) -> Vec<Arrival> {
    let mut rng = StdRng::seed_from_u64(seed);
    let shared = world.tokens(&mut rng, most_prompt);
    let arrival = |index: usize| {
        let len = rng.random_range(1..=most_prompt);
        // Some have a common beginning.
        let common = if index.is_multiple_of(3) { rng.random_range(0..len) } else { 0 };
        let own = world.tokens(&mut rng, len - common);
        let prompt = [&shared[..common], &own].concat();
        let adapter = match index % (world.adapters.len() + 2) {
            0 => AdapterChoice::Base,
            1 => World::mix(),
            other => AdapterChoice::Named(world.adapters[other - 2].0.clone()),
        };
        let sampling = if index.is_multiple_of(2) {
            llama::SamplingConfig::default()
        } else {
            llama::SamplingConfig {
                temperature: 0.9,
                top_p: 0.95,
                seed: index as u64,
                ..Default::default()
            }
        };
        let request = GenerationRequest {
            adapter,
            max_new_tokens: rng.random_range(1..=40),
            sampling,
            stop_tokens: vec![1, 2],
            logprobs: (index.is_multiple_of(5)).then_some(2),
            ..GenerationRequest::new(prompt)
        };
        (Duration::from_millis(rng.random_range(0..15)), request)
    };
    (0..count).map(arrival).collect()
}

/// A cache that holds about three of the largest rows.
fn small_cache(most_prompt: usize) -> EngineConfig {
    EngineConfig {
        max_rows: 8,
        cache: CacheSize::Blocks(3 * (most_prompt + 40).div_ceil(BLOCK_TOKENS) + 1),
        prefill_chunk: PrefillChunk::Tokens(64),
        ..EngineConfig::default()
    }
}

/// Compares requests in a small cache with lone ones.
fn check(world: &World, count: usize, most_prompt: usize, seed: u64) -> Vec<Arrival> {
    let arrivals = arrivals(world, count, most_prompt, seed);
    let config = small_cache(most_prompt);
    let alone = without_cache(alone(world, &arrivals, &config));
    let (found, stats) = together(world, &arrivals, config);
    assert_same(&arrivals, &without_cache(found), &alone);
    assert_eq!(stats.errors, 0);
    arrivals
}

#[test]
fn mixed_requests_have_the_answers_of_lone_ones() {
    for device in testing::devices() {
        let world = World::new(&device, Precision::F32);
        let (count, most_prompt) = if world.llama.is_fused() { (32, 400) } else { (6, 100) };
        check(&world, count, most_prompt, 1);
    }
}

#[test]
fn every_precision_has_the_answers_of_lone_requests() {
    for precision in [Precision::BF16, Precision::Bits8, Precision::Bits4] {
        let world = World::new(&testing::flex(), precision);
        check(&world, 12, 150, 2);
    }
}

#[test]
fn every_family_has_the_answers_of_lone_requests() {
    for family in ARCHITECTURES {
        let world = World::of_family(family, &testing::flex());
        check(&world, 6, 100, 3);
    }
}

#[test]
fn a_full_cache_preempts_and_recomputes() {
    let world = World::new(&testing::flex(), Precision::F32);
    let arrivals = arrivals(&world, 8, 60, 4);
    let arrivals = arrivals.into_iter().map(|(_, request)| {
        (Duration::ZERO, GenerationRequest { max_new_tokens: 200, stop_tokens: vec![], ..request })
    });
    let arrivals = arrivals.collect::<Vec<_>>();
    let config = EngineConfig { cache: CacheSize::Blocks(20), ..small_cache(60) };
    let alone = without_cache(alone(&world, &arrivals, &config));
    let (found, stats) = together(&world, &arrivals, config);
    assert!(stats.preemptions > 0);
    assert_same(&arrivals, &without_cache(found), &alone);
}

#[test]
fn a_lone_request_has_the_tokens_of_a_generator() {
    let world = World::new(&testing::flex(), Precision::F32);
    let arrivals = arrivals(&world, 12, 200, 5);
    let answers = alone(&world, &arrivals, &EngineConfig::default());
    for ((_, request), answer) in arrivals.iter().zip(answers) {
        let config = llama::GenerationConfig {
            max_new_tokens: request.max_new_tokens,
            sampling: request.sampling.clone(),
            stop_tokens: request.stop_tokens.clone(),
            bos: None,
        };
        let prompts = [request.prompt.clone()];
        let expected = match world.prepared(&request.adapter) {
            Some(adapter) => generate(&world.llama, &adapter, &prompts, &config),
            None => generate(&world.llama, &NoAdapter, &prompts, &config),
        };
        assert_eq!(answer.token_ids()[0], expected.unwrap()[0].tokens, "{request:?}");
    }
}

#[test]
fn a_common_beginning_is_computed_once_for_each_adapter() {
    let world = World::new(&testing::flex(), Precision::F32);
    let engine = world.engine(EngineConfig::default());
    let handle = engine.handle();
    let prompt = world.tokens(&mut StdRng::seed_from_u64(6), 100);
    let ask = |adapter: &str| {
        let adapter = AdapterChoice::Named(adapter.into());
        let request = GenerationRequest {
            adapter,
            max_new_tokens: 5,
            ..GenerationRequest::new(prompt.clone())
        };
        handle.submit(request).unwrap().blocking_answer().unwrap()
    };
    let first = ask("prompts");
    let second = ask("prompts");
    let other = ask("lora");
    assert_eq!((first.cached_tokens, second.cached_tokens, other.cached_tokens), (0, 96, 0));
    assert_eq!(first.choices, second.choices);
    assert_ne!(first.choices, other.choices);
}

#[test]
fn an_engine_can_be_used_by_many_threads() {
    let world = World::new(&testing::flex(), Precision::F32);
    let engine = Arc::new(world.engine(EngineConfig::default()));
    let request = GenerationRequest { max_new_tokens: 20, ..GenerationRequest::new(vec![5, 6, 7]) };
    let ask = |engine: Arc<Engine>| {
        let request = request.clone();
        thread::spawn(move || engine.handle().submit(request).unwrap().blocking_answer().unwrap())
    };
    let threads = (0..6).map(|_| ask(Arc::clone(&engine))).collect::<Vec<_>>();
    let answers = threads.into_iter().map(|own| own.join().unwrap()).collect::<Vec<_>>();
    assert!(answers.iter().all(|own| own.choices == answers[0].choices));
}
