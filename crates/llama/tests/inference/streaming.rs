//! Streaming text of a generator.

use std::sync::LazyLock;

use llama::{FinishReason, GenerationConfig, Generator, NoAdapter, SamplingConfig, TextGenerator};
use text::Tokenizer;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

use testing::tiny_model;

/// A tokenizer whose tokens are bytes, so that characters have several.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut alphabet = ByteLevel::alphabet().into_iter().collect::<Vec<_>>();
    alphabet.sort_unstable();
    let ids = alphabet.iter().zip(0..).map(|(letter, id)| (letter.to_string(), id));
    let bpe = BPE::builder().vocab_and_merges(ids.collect::<Vocab>(), Vec::new()).build();
    let mut inner = tokenizers::Tokenizer::new(bpe.unwrap());
    let byte_level = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(byte_level));
    inner.with_decoder(Some(byte_level));
    Tokenizer::new(inner, "bytes")
});

/// Text up to the first of `stops`.
fn truncate_at_stop(text: &str, stops: &[String]) -> String {
    let first = stops.iter().filter_map(|stop| text.find(stop)).min();
    text[..first.unwrap_or(text.len())].to_owned()
}

#[test]
fn generated_text_equals_decoded_tokens_and_ends_before_a_stop_string() {
    for device in testing::devices() {
        let config = llama::LlamaConfig {
            vocab_size: TOKENIZER.vocab_size(),
            max_positions: 512,
            ..tiny_model::config()
        };
        let llama = tiny_model::model(config, &device);
        let prompt = TOKENIZER.encode("Grüße").unwrap();
        let settings = GenerationConfig {
            max_new_tokens: 60,
            sampling: SamplingConfig { temperature: 1.0, seed: 3, ..SamplingConfig::default() },
            ..GenerationConfig::new(&TOKENIZER)
        };
        let generator = || {
            Generator::new(&llama, &NoAdapter, std::slice::from_ref(&prompt), &settings).unwrap()
        };
        let tokens = llama::generate(&llama, &NoAdapter, std::slice::from_ref(&prompt), &settings)
            .unwrap()
            .remove(0)
            .tokens;
        let expected = TOKENIZER.decode(&tokens).unwrap();

        let mut unstopped = TextGenerator::new(generator(), &TOKENIZER, &[]);
        let text = unstopped.by_ref().map(Result::unwrap).collect::<Vec<_>>();
        assert!(text.iter().all(|piece| !piece.is_empty()));
        assert_eq!(text.concat(), expected);
        assert_eq!(unstopped.finish_reason(), Some(FinishReason::Length));
        assert_eq!(unstopped.tokens(), 60);

        let stops = [expected.chars().skip(20).take(3).collect::<String>()];
        let mut stopped = TextGenerator::new(generator(), &TOKENIZER, &stops);
        let text = stopped.by_ref().map(Result::unwrap).collect::<String>();
        assert_eq!(text, truncate_at_stop(&expected, &stops));
        assert_eq!(stopped.finish_reason(), Some(FinishReason::Stop));
        assert!(stopped.tokens() < 60);
        assert!(stopped.prefill_seconds() > 0.0 && stopped.decode_seconds() > 0.0);
    }
}
