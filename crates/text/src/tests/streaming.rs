//! Streamed text: characters are never split, stop strings are never emitted.

use std::sync::LazyLock;

use proptest::prelude::*;
use tokenizers::models::TrainerWrapper;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, ModelWrapper, PreTokenizerWrapper};

use crate::{Detokenizer, TextStream, Tokenizer};

/// Text whose characters take one to four bytes.
const LINES: [&str; 6] = [
    "Grüße aus Köln: schöne Äpfel, größere Straßen, naïve Façade",
    "ラマはアンデスの動物です。毛は柔らかく、性格は穏やかです。",
    "Ламы живут в Андах и едят траву высоко в горах",
    "😀😃😄 🦙🦙 👩‍👩‍👧‍👦 🇵🇪🇧🇴 emoji of several characters",
    "اللاما حيوان يعيش في جبال الأنديز",
    "plain text, with commas; and stops. And 1234 numbers!",
];

/// Byte-level BPE over [`LINES`], with as few merges as keep most characters in pieces.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| {
    let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default()));
    let byte_level = ByteLevel::new(false, true, true);
    inner.with_pre_tokenizer(Some(PreTokenizerWrapper::ByteLevel(byte_level)));
    inner.with_decoder(Some(DecoderWrapper::ByteLevel(byte_level)));
    let mut alphabet = ByteLevel::alphabet().into_iter().collect::<Vec<_>>();
    alphabet.sort_unstable();
    let trainer = BpeTrainer::builder()
        .vocab_size(400)
        .min_frequency(0)
        .show_progress(false)
        .special_tokens(vec![AddedToken::from("<|end|>", true)])
        .initial_alphabet(alphabet.into_iter().collect())
        .build();
    let mut trainer = TrainerWrapper::BpeTrainer(trainer);
    let lines = LINES.iter().map(|line| (*line).to_owned());
    inner.train(&mut trainer, lines).unwrap();
    Tokenizer::new(inner, "trained in the test")
});

/// The piece of each token, then the pending text at the end.
fn pieces(tokens: &[u32]) -> Vec<String> {
    let mut stream = Detokenizer::new(&TOKENIZER);
    let mut pieces = tokens.iter().map(|&token| stream.push(token).unwrap()).collect::<Vec<_>>();
    pieces.push(stream.finish().unwrap());
    pieces
}

/// Text up to the first of `stops`.
fn before_stop(text: &str, stops: &[String]) -> String {
    let first = stops.iter().filter_map(|stop| text.find(stop)).min();
    text[..first.unwrap_or(text.len())].to_owned()
}

fn streamed(tokens: &[u32], stops: &[String]) -> (String, bool) {
    let mut stream = TextStream::new(&TOKENIZER, stops);
    let mut text = String::new();
    for &token in tokens {
        text += &stream.push(token).unwrap();
        if stream.is_stopped() {
            return (text, true);
        }
    }
    text += &stream.finish().unwrap();
    (text, stream.is_stopped())
}

#[test]
fn the_tokenizer_splits_characters() {
    let tokens = TOKENIZER.encode(LINES[1]).unwrap();
    let split =
        tokens.iter().filter(|&&token| TOKENIZER.decode(&[token]).unwrap().contains('\u{FFFD}'));
    assert!(split.count() > 5, "some characters are split");
}

#[test]
fn special_tokens_have_no_text() {
    let end = TOKENIZER.id("<|end|>").unwrap();
    let tokens = [TOKENIZER.encode("né").unwrap(), vec![end], TOKENIZER.encode("é").unwrap()];
    assert_eq!(pieces(&tokens.concat()).concat(), "néé");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_piece_splits_a_character(
        words in prop::collection::vec((0..LINES.len(), 0..60_usize, 1..30_usize), 1..8),
        stranger in "\\PC{0,12}",
    ) {
        let mut text = stranger;
        for (line, skip, take) in words {
            text.extend(LINES[line].chars().skip(skip).take(take));
        }
        prop_assume!(!text.contains('\u{FFFD}'));
        let tokens = TOKENIZER.encode(&text).unwrap();
        let pieces = pieces(&tokens);
        prop_assert!(!pieces.iter().any(|piece| piece.contains('\u{FFFD}')), "{:?}", pieces);
        prop_assert_eq!(pieces.concat(), text);
    }

    #[test]
    fn streamed_text_equals_decoded_text(tokens in prop::collection::vec(0..400_u32, 0..120)) {
        let tokens = tokens.into_iter().filter(|&id| TOKENIZER.token(id).is_some());
        let tokens = tokens.collect::<Vec<_>>();
        prop_assert_eq!(pieces(&tokens).concat(), TOKENIZER.decode(&tokens).unwrap());
    }

    #[test]
    fn a_stop_string_is_found_wherever_tokens_end(
        line in 0..LINES.len(),
        place in 0..40_usize,
        len in 1..6_usize,
        other in "[a-z,. ]{1,3}",
    ) {
        let stop = LINES[line].chars().skip(place).take(len).collect::<String>();
        prop_assume!(!stop.is_empty());
        let tokens = TOKENIZER.encode(LINES[line]).unwrap();
        // With one stop string, token boundaries do not matter.
        let (text, stopped) = streamed(&tokens, std::slice::from_ref(&stop));
        prop_assert_eq!(&text, &before_stop(LINES[line], std::slice::from_ref(&stop)));
        prop_assert!(stopped);
        // With two, the one that ends first may hide one that started before it.
        let stops = [stop, other];
        let (text, stopped) = streamed(&tokens, &stops);
        prop_assert!(stopped);
        prop_assert!(LINES[line].starts_with(&text));
        prop_assert!(!stops.iter().any(|stop| text.contains(stop)), "{:?} in {:?}", stops, text);
    }
}
