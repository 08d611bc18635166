//! Invariants of decoding: results do not depend on the cache or on the other rows of a batch.

use burn::tensor::Tensor;
use llama::{
    Error, FinishReason, GenerationConfig, Generator, KvCache, Llama, LlamaConfig, NoAdapter,
    Request, SamplingConfig, StepOutput, generate,
};

use testing::tiny_model;

fn greedy(max_new_tokens: usize) -> GenerationConfig {
    GenerationConfig { max_new_tokens, ..GenerationConfig::default() }
}

fn stochastic(seed: u64) -> GenerationConfig {
    let sampling = SamplingConfig {
        temperature: 1.0,
        top_k: 20,
        top_p: 0.9,
        repetition_penalty: 1.2,
        seed,
        ..SamplingConfig::default()
    };
    GenerationConfig { sampling, ..greedy(12) }
}

/// Greedy decoding without a cache: a pass over the whole sequence at every step.
fn uncached(llama: &Llama, prompt: &[u32], new: usize) -> Vec<u32> {
    let mut text = prompt.to_vec();
    for _ in 0..new {
        let tokens = llama.tokens(std::slice::from_ref(&text)).unwrap();
        let [_batch, seq] = tokens.dims();
        let hidden = llama.forward(tokens, None, &NoAdapter).unwrap();
        let logits = llama.logits(hidden.narrow(1, seq - 1, 1), &NoAdapter);
        let next = llama::read_back(logits.argmax(2)).unwrap().iter::<u32>().next().unwrap();
        text.push(next);
    }
    text[prompt.len()..].to_vec()
}

fn tokens_of(llama: &Llama, prompts: &[Vec<u32>], config: &GenerationConfig) -> Vec<Vec<u32>> {
    let completions = generate(llama, &NoAdapter, prompts, config).unwrap();
    completions.into_iter().map(|completion| completion.tokens).collect()
}

fn prompts() -> Vec<Vec<u32>> {
    [5, 1, 17, 9].map(|len| tiny_model::tokens(len as u64, len)).to_vec()
}

#[test]
fn cached_logits_equal_uncached_logits() {
    for device in testing::devices() {
        for config in tiny_model::configs() {
            let llama = tiny_model::model(config.clone(), &device);
            let text = tiny_model::tokens(1, 24);
            let whole = llama.tokens(std::slice::from_ref(&text)).unwrap();
            let expected =
                llama.logits(llama.forward(whole, None, &NoAdapter).unwrap(), &NoAdapter);

            let mut cache = KvCache::new(&config, vec![0], 24, &device).unwrap();
            // Parts of one, several and one token: prefill, continuation, single steps.
            let parts = [&text[..1], &text[1..11], &text[11..12], &text[12..23], &text[23..]];
            let parts = parts.map(|part| {
                let tokens = llama.tokens(&[part.to_vec()]).unwrap();
                llama.logits(
                    llama.forward(tokens, Some(&mut cache), &NoAdapter).unwrap(),
                    &NoAdapter,
                )
            });
            testing::assert_close("logits", Tensor::cat(parts.to_vec(), 1), expected, 1e-4);
        }
    }
}

#[test]
fn cached_greedy_tokens_equal_uncached_tokens() {
    for device in testing::devices() {
        for config in tiny_model::configs() {
            let llama = tiny_model::model(config, &device);
            let prompt = tiny_model::tokens(2, 6);
            let found = tokens_of(&llama, std::slice::from_ref(&prompt), &greedy(20));
            assert_eq!(found, [uncached(&llama, &prompt, 20)]);
        }
    }
}

#[test]
fn a_row_of_a_batch_equals_the_row_alone() {
    for device in testing::devices() {
        for config in tiny_model::configs() {
            let llama = tiny_model::model(config, &device);
            let batched = tokens_of(&llama, &prompts(), &greedy(20));
            for (prompt, batched) in prompts().into_iter().zip(batched) {
                assert_eq!(tokens_of(&llama, &[prompt], &greedy(20)), [batched]);
            }
        }
    }
}

#[test]
fn requests_in_a_batch_sample_as_they_would_alone() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        let requests = (0..).zip(prompts()).map(|(seed, prompt)| Request {
            prompt,
            config: GenerationConfig { max_new_tokens: 4 + seed as usize, ..stochastic(seed) },
        });
        let requests = requests.collect::<Vec<_>>();
        let mut batched = vec![Vec::new(); requests.len()];
        for steps in Generator::from_requests(&llama, &NoAdapter, requests.clone()).unwrap() {
            for (tokens, step) in batched.iter_mut().zip(steps.unwrap()) {
                if let StepOutput::Token(token) = step {
                    tokens.push(token);
                }
            }
        }
        for (Request { prompt, config }, batched) in requests.into_iter().zip(batched) {
            assert_eq!(batched.len(), config.max_new_tokens);
            assert_eq!(tokens_of(&llama, &[prompt], &config), [batched]);
        }
    }
}

#[test]
fn seeds_are_reproducible_and_differ() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        let prompts = vec![tiny_model::tokens(3, 4); 2];
        let first = tokens_of(&llama, &prompts, &stochastic(5));
        assert_eq!(first, tokens_of(&llama, &prompts, &stochastic(5)));
        assert_ne!(first, tokens_of(&llama, &prompts, &stochastic(6)));
        assert_ne!(first[0], first[1], "rows of one seed sample from different streams");
    }
}

#[test]
fn a_stop_token_ends_its_row_and_is_not_part_of_it() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        let unstopped = tokens_of(&llama, &prompts(), &greedy(20));
        let stop = unstopped[0][7];
        let config = GenerationConfig { stop_tokens: vec![stop], ..greedy(20) };
        let stopped = generate(&llama, &NoAdapter, &prompts(), &config).unwrap();
        for (unstopped, stopped) in unstopped.iter().zip(stopped) {
            let end = unstopped.iter().position(|&token| token == stop);
            let finish_reason =
                if end.is_some() { FinishReason::Stop } else { FinishReason::Length };
            assert_eq!(stopped.tokens, unstopped[..end.unwrap_or(unstopped.len())]);
            assert_eq!(stopped.finish_reason, finish_reason);
        }
    }
}

#[test]
fn each_step_gives_a_token_or_a_finish_reason() {
    let device = testing::flex();
    let llama = tiny_model::model(tiny_model::config(), &device);
    let prompt = tiny_model::tokens(4, 3);
    let expected = uncached(&llama, &prompt, 2);
    let mut generator = Generator::new(&llama, &NoAdapter, &[prompt], &greedy(2)).unwrap();
    assert_eq!(generator.next().unwrap().unwrap(), [StepOutput::Token(expected[0])]);
    assert!(generator.prefill_seconds() > 0.0);
    assert_eq!(generator.decode_seconds(0), 0.0);
    assert_eq!(generator.next().unwrap().unwrap(), [StepOutput::Token(expected[1])]);
    assert!(generator.decode_seconds(0) > 0.0);
    assert_eq!(generator.next().unwrap().unwrap(), [StepOutput::Finished(FinishReason::Length)]);
    assert!(generator.next().is_none());
}

#[test]
fn a_stopped_row_stays_stopped_and_leaves_others_unchanged() {
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    let expected = tokens_of(&llama, &prompts(), &greedy(6));
    let mut generator = Generator::new(&llama, &NoAdapter, &prompts(), &greedy(6)).unwrap();
    generator.next().unwrap().unwrap();
    generator.stop_row(0, FinishReason::Stop);
    let steps = generator.next().unwrap().unwrap();
    assert_eq!(steps[0], StepOutput::Finished(FinishReason::Stop));
    assert_eq!(steps[2], StepOutput::Token(expected[2][1]));
}

#[test]
fn each_row_stops_at_the_context_length() {
    for device in testing::devices() {
        let llama = tiny_model::model(tiny_model::config(), &device);
        // 64 positions: 4, 59 and 0 tokens are left.
        let prompts = [60, 5, 64].map(|len| tiny_model::tokens(len as u64, len)).to_vec();
        let found = generate(&llama, &NoAdapter, &prompts, &greedy(100)).unwrap();
        for ((prompt, completion), remaining) in prompts.iter().zip(found).zip([4, 59, 0]) {
            assert_eq!(completion.tokens, uncached(&llama, prompt, remaining));
            assert_eq!(completion.finish_reason, FinishReason::Length);
        }
    }
}

#[test]
fn invalid_prompts_are_errors() {
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    let generation_error = |prompt: Vec<u32>, config| {
        generate(&llama, &NoAdapter, &[vec![1], prompt], &config).unwrap_err()
    };
    let error = generation_error(tiny_model::tokens(1, 65), greedy(1));
    assert_eq!(error.to_string(), "65 tokens do not fit: the model's context has room for 64");
    let error = generation_error(Vec::new(), greedy(1));
    assert!(matches!(error, Error::EmptyPrompt { row: 1 }), "{error}");
    let error = generation_error(vec![128], greedy(1));
    assert!(matches!(error, Error::TokenId { id: 128, .. }), "{error}");
    let config = GenerationConfig {
        sampling: SamplingConfig { top_p: 2.0, ..SamplingConfig::default() },
        ..greedy(1)
    };
    assert!(matches!(
        generation_error(vec![1], config),
        Error::SamplingSetting { name: "top_p", .. }
    ));
}

#[test]
fn an_empty_prompt_starts_with_bos() {
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    let config = GenerationConfig { bos: Some(1), ..greedy(5) };
    let found = tokens_of(&llama, &[Vec::new()], &config);
    assert_eq!(found, tokens_of(&llama, &[vec![1]], &greedy(5)));
}

#[test]
fn zero_new_tokens_and_no_prompts_give_nothing() {
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    assert_eq!(tokens_of(&llama, &[vec![1]], &greedy(0)), [[0; 0]]);
    assert!(generate(&llama, &NoAdapter, &[], &greedy(5)).unwrap().is_empty());
}

#[test]
fn a_sliding_window_changes_the_completion() {
    // Guards the tests above: with smaller weights, attention would not affect the tokens.
    let device = testing::flex();
    let generated = |config: LlamaConfig| {
        tokens_of(&tiny_model::model(config, &device), &[tiny_model::tokens(2, 6)], &greedy(20))
    };
    let [full, windowed] = tiny_model::window_configs();
    assert_ne!(generated(full), generated(windowed));
}
