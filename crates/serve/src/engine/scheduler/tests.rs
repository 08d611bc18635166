//! The scheduler on the fake model: whatever else runs, an answer is that of a lone run.

mod bench;

use llama::{FinishReason, SamplingConfig};
use proptest::prelude::*;

use super::*;
use crate::engine::BLOCK_TOKENS;
use crate::engine::fake::{FakeAnswer, FakeFailure, FakeModel};
use crate::engine::request::Event;
use bench::{Bench, Setup, answer, lone_answer, prompt, request, seeded, tokenizer, without_cache};

/// A request of the property test.
#[derive(Debug, Clone)]
struct Arrival {
    request: GenerationRequest,
    adapter: usize,
    /// Step before which it arrives.
    at: usize,
    /// Step before which its receiver is dropped.
    cancelled: Option<usize>,
}

fn arrival() -> impl Strategy<Value = Arrival> {
    let prompt = (0_u32..3, 1_usize..150, 0_u32..3, 0_usize..80)
        .prop_map(|(shared, len, own, more)| [prompt(shared, len), prompt(own, more)].concat());
    let sampling = prop_oneof![Just(SamplingConfig::default()), (0_u64..5).prop_map(seeded)];
    let rest = (0_usize..60, 1_usize..3, any::<bool>(), any::<bool>(), 0_usize..4);
    let times = (0_usize..40, prop_oneof![4 => Just(None), 1 => (0_usize..80).prop_map(Some)]);
    (prompt, sampling, rest, times).prop_map(|(prompt, sampling, rest, (at, cancelled))| {
        let (max_new_tokens, choices, logprobs, prompt_logprobs, adapter) = rest;
        let request = GenerationRequest {
            sampling,
            stop_tokens: vec![3, 5, 8],
            stop_strings: vec!["e".into()],
            logprobs: logprobs.then_some(2),
            prompt_logprobs: logprobs && prompt_logprobs,
            choices,
            ..request(prompt, max_new_tokens)
        };
        Arrival { request, adapter, at, cancelled }
    })
}

fn setup() -> impl Strategy<Value = Setup> {
    let blocks = prop_oneof![Just(10_usize), 10_usize..40];
    let fixed = prop_oneof![Just(None), Just(Some(32)), Just(Some(64))];
    (blocks, 1_usize..8, 1_usize..200, any::<bool>(), fixed).prop_map(
        |(blocks, max_rows, chunk, prefix_cache, fixed_chunk)| Setup {
            blocks,
            max_rows,
            chunk,
            prefix_cache,
            fixed_chunk,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn answers_do_not_depend_on_other_requests(
        setup in setup(),
        arrivals in proptest::collection::vec(arrival(), 1..10),
    ) {
        let tokenizer = tokenizer();
        let mut bench = Bench::new(&tokenizer, setup);
        let mut receivers = arrivals.iter().map(|_| None).collect::<Vec<_>>();
        for step in 0..=80 {
            for (own, receiver) in arrivals.iter().zip(&mut receivers) {
                if own.at == step {
                    *receiver = Some(bench.submit(own.request.clone(), own.adapter));
                }
                if own.cancelled == Some(step) {
                    *receiver = None;
                }
            }
            bench.scheduler.sweep();
            if bench.scheduler.has_rows() {
                bench.scheduler.step().unwrap();
            }
        }
        bench.finish();
        for (own, receiver) in arrivals.iter().zip(receivers) {
            let Some(receiver) = receiver else { continue };
            let found = answer(receiver, own.request.choices).unwrap();
            let alone = lone_answer(&tokenizer, setup.fixed_chunk, &own.request, own.adapter);
            prop_assert_eq!(without_cache(found), without_cache(alone));
        }
    }
}

#[test]
fn a_full_cache_preempts_the_newest_and_changes_nothing() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup { blocks: 6, ..Setup::default() });
    let requests = (0..3).map(|seed| request(prompt(seed, 40), 100)).collect::<Vec<_>>();
    let receivers = requests.iter().map(|own| bench.submit(own.clone(), 0)).collect::<Vec<_>>();
    bench.finish();
    assert!(bench.stats().preemptions > 0);
    for (request, receiver) in requests.iter().zip(receivers) {
        let alone = lone_answer(&tokenizer, None, request, 0);
        assert_eq!(alone.choices[0].generated, 100);
        assert_eq!(answer(receiver, 1).unwrap(), alone);
    }
}

#[test]
fn the_oldest_request_ends_first_in_a_full_cache() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup { blocks: 5, ..Setup::default() });
    let mut first = bench.submit(request(prompt(0, 40), 100), 0);
    let mut second = bench.submit(request(prompt(1, 40), 100), 0);
    let mut ends = Vec::new();
    while bench.scheduler.has_rows() {
        bench.scheduler.step().unwrap();
        for (number, receiver) in [&mut first, &mut second].into_iter().enumerate() {
            while let Ok(event) = receiver.try_recv() {
                if matches!(event, Event::Finished { .. }) {
                    ends.push(number);
                }
            }
        }
    }
    assert_eq!(ends, [0, 1]);
}

#[test]
fn a_common_beginning_is_computed_once() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup::default());
    let beginning = prompt(0, 2 * BLOCK_TOKENS);
    let with = |more: &[u32]| request([&beginning[..], more].concat(), 3);
    let cached = |receiver| answer(receiver, 1).unwrap().cached_tokens;

    let first = bench.submit(with(&[1, 2, 3]), 1);
    // It arrives while the first reads its prompt, and waits for that.
    let second = bench.submit(with(&[4, 5]), 1);
    bench.finish();
    assert_eq!((cached(first), cached(second)), (0, 2 * BLOCK_TOKENS));

    // The last token is computed in any case: the next one follows from it.
    let exact = bench.submit(with(&[]), 1);
    let other_adapter = bench.submit(with(&[1, 2, 3]), 2);
    let base = bench.submit(with(&[1, 2, 3]), 0);
    bench.finish();
    assert_eq!(cached(exact), BLOCK_TOKENS);
    assert_eq!((cached(other_adapter), cached(base)), (0, 0));
}

#[test]
fn generated_tokens_are_shared_with_the_next_turn() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup::default());
    let prompt = prompt(0, 40);
    let receiver = bench.submit(request(prompt.clone(), 60), 0);
    bench.finish();
    let first = answer(receiver, 1).unwrap();
    let next = [prompt, first.token_ids().remove(0), vec![7, 8, 9]].concat();
    let receiver = bench.submit(request(next, 3), 0);
    bench.finish();
    assert_eq!(answer(receiver, 1).unwrap().cached_tokens, 3 * BLOCK_TOKENS);
}

#[test]
fn choices_draw_from_streams_of_one_seed_and_share_the_prompt() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup::default());
    let one = GenerationRequest { sampling: seeded(5), ..request(prompt(0, 70), 20) };
    let receiver = bench.submit(GenerationRequest { choices: 3, ..one.clone() }, 0);
    bench.finish();
    let all = answer(receiver, 3).unwrap();
    let ids = all.token_ids();
    assert!(ids[0] != ids[1] && ids[1] != ids[2], "{ids:?}");
    assert_eq!(lone_answer(&tokenizer, None, &one, 0).token_ids(), ids[..1]);
    assert_eq!(bench.stats().prompt_tokens, 70);
}

#[test]
fn a_dropped_receiver_frees_its_blocks_at_once() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup { prefix_cache: false, ..Setup::default() });
    let receiver = bench.submit(request(prompt(0, 40), 1000), 0);
    for _ in 0..5 {
        bench.scheduler.step().unwrap();
    }
    assert_eq!(bench.stats().used_blocks, 2);
    drop(receiver);
    bench.scheduler.sweep();
    bench.assert_nothing_is_left();
    assert_eq!(bench.stats().free_blocks, 1000);
}

#[test]
fn a_long_prompt_does_not_stop_others() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup { chunk: 16, ..Setup::default() });
    let mut first = bench.submit(request(prompt(0, 1), 100), 0);
    bench.scheduler.step().unwrap();
    let _long = bench.submit(request(prompt(1, 1000), 1), 0);
    while first.try_recv().is_ok() {}
    for _step in 0..20 {
        bench.scheduler.step().unwrap();
    }
    assert_eq!(bench.stats().prefilling, 1);
    let mut tokens = 0;
    while let Ok(event) = first.try_recv() {
        if let Event::Text { tokens: new, .. } = event {
            tokens += new.len();
        }
    }
    assert!(tokens > 10, "{tokens}");
}

#[test]
fn a_stop_token_is_counted_but_not_shown() {
    let tokenizer = tokenizer();
    let eos = tokenizer.eos[0];
    let model = FakeModel::new(tokenizer.clone(), FakeAnswer::text(" cows live"));
    let mut bench = Bench::with_model(&tokenizer, Setup::default(), model);
    let own = GenerationRequest { stop_tokens: vec![eos], ..request(prompt(0, 5), 50) };
    let receiver = bench.submit(own, 0);
    bench.finish();
    let own = answer(receiver, 1).unwrap().choices.remove(0);
    assert_eq!((own.text.as_str(), own.reason), (" cows live", Some(FinishReason::Stop)));
    assert_eq!(own.generated, own.tokens.len() + 1);
}

#[test]
fn the_text_ends_before_a_stop_string() {
    let tokenizer = tokenizer();
    let model = FakeModel::new(tokenizer.clone(), FakeAnswer::text(" one two three"));
    let mut bench = Bench::with_model(&tokenizer, Setup::default(), model);
    let own = GenerationRequest { stop_strings: vec!["two".into()], ..request(prompt(0, 5), 50) };
    let receiver = bench.submit(own, 0);
    bench.finish();
    let own = answer(receiver, 1).unwrap().choices.remove(0);
    assert_eq!((own.text.as_str(), own.reason), (" one ", Some(FinishReason::Stop)));
}

#[test]
fn prompts_can_be_scored_without_an_answer() {
    let tokenizer = tokenizer();
    let mut bench = Bench::new(&tokenizer, Setup { chunk: 7, ..Setup::default() });
    let own =
        GenerationRequest { logprobs: Some(1), prompt_logprobs: true, ..request(prompt(0, 40), 0) };
    // What is in the cache has no logits.
    let warm = bench.submit(request(prompt(0, 40), 1), 0);
    bench.finish();
    drop(warm);
    let receiver = bench.submit(own, 0);
    bench.finish();
    let answer = answer(receiver, 1).unwrap();
    assert_eq!(answer.prompt.iter().map(|own| own.id).collect::<Vec<_>>(), prompt(0, 40));
    assert!(answer.prompt[0].logprob.is_none());
    let scored = |own: &crate::Token| own.logprob.unwrap() < 0.0 && own.top.len() == 1;
    assert!(answer.prompt[1..].iter().all(scored));
    assert_eq!(answer.choices[0].reason, Some(FinishReason::Length));
}

#[test]
fn a_failed_pass_fails_running_requests_and_no_later_ones() {
    let tokenizer = tokenizer();
    for failure in [FakeFailure::Device, FakeFailure::Panic] {
        let mut model = FakeModel::new(tokenizer.clone(), FakeAnswer::Hash);
        model.failure = Some((251, failure));
        let setup = Setup { max_rows: 2, ..Setup::default() };
        let mut bench = Bench::with_model(&tokenizer, setup, model);
        let healthy = request(prompt(0, 40), 10);
        let beside = bench.submit(healthy.clone(), 0);
        let broken = bench.submit(request(vec![251], 10), 0);
        let waiting = bench.submit(healthy.clone(), 0);
        assert!(bench.scheduler.step().is_err());
        bench.finish();
        for failed in [beside, broken] {
            assert!(matches!(answer(failed, 1), Err(RequestError::Internal { .. })));
        }
        assert_eq!(answer(waiting, 1).unwrap(), lone_answer(&tokenizer, None, &healthy, 0));
        assert_eq!(bench.stats().errors, 1);
    }
}

#[test]
fn logits_that_are_not_numbers_fail_their_request_alone() {
    let tokenizer = tokenizer();
    let mut model = FakeModel::new(tokenizer.clone(), FakeAnswer::Hash);
    model.failure = Some((251, FakeFailure::NotANumber));
    let mut bench = Bench::with_model(&tokenizer, Setup::default(), model);
    let healthy = request(prompt(0, 40), 10);
    let beside = bench.submit(healthy.clone(), 0);
    let broken = bench.submit(request(vec![251], 10), 0);
    bench.finish();
    assert!(matches!(answer(broken, 1), Err(RequestError::Model(_))));
    assert_eq!(answer(beside, 1).unwrap(), lone_answer(&tokenizer, None, &healthy, 0));
}
