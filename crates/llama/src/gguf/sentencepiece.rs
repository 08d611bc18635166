//! SentencePiece's BPE with byte fallback, as Llama 1 and 2 and Mistral have it.
//!
//! Spaces become `▁`, one is put in front, and of two neighbours the pair goes together whose
//! union scores best. The `tokenizers` crate wants a list of pairs instead of scores: every way to
//! cut a token into two tokens, best score first.
//!
//! Source: `transformers`, `convert_slow_tokenizer.py`, `generate_merges` and `LlamaConverter`.

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};

use super::metadata::Metadata;
use super::tokenizer::{Built, TokenKind, Vocabulary, fail};
use crate::error::Result;

/// What stands for a space.
const SPACE: &str = "▁";

pub(super) fn build(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Built> {
    let scores: Vec<f64> = metadata.required("tokenizer.ggml.scores")?;
    if scores.len() != vocabulary.tokens.len() {
        let (tokens, scores) = (vocabulary.tokens.len(), scores.len());
        return Err(fail(metadata, format!("{tokens} tokens but {scores} scores")));
    }
    let mut model = BPE::builder()
        .vocab_and_merges(vocabulary.ids.clone(), merges(vocabulary, &scores))
        .fuse_unk(true)
        .byte_fallback(true);
    // llama.cpp's defaults.
    let default = |id: u32| Some(id).filter(|&id| (id as usize) < vocabulary.tokens.len());
    let unknown = vocabulary.special_id(metadata, "unknown_token_id")?.or(default(0));
    if let Some(id) = unknown {
        model = model.unk_token(vocabulary.tokens[id as usize].into());
    }
    let model = model.build().map_err(|error| fail(metadata, format!("merges: {error}")))?;

    let prefix = metadata.optional("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let replace = |from: &str, to: &str| Replace::new(from, to).expect("a plain text");
    let mut normalizers = vec![replace(" ", SPACE).into()];
    let mut decoders =
        vec![replace(SPACE, " ").into(), ByteFallback::new().into(), Fuse::new().into()];
    if prefix {
        normalizers.insert(0, Prepend::new(SPACE.into()).into());
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    let mut inner = tokenizers::Tokenizer::new(model);
    inner.with_normalizer(Some(Normalizers::new(normalizers)));
    inner.with_decoder(Some(Decoders::new(decoders)));
    Ok(Built { inner, add_bos: true, bos: default(1), eos: default(2) })
}

/// Every way to make a token of two, best score first.
fn merges(vocabulary: &Vocabulary<'_>, scores: &[f64]) -> Vec<(String, String)> {
    struct Merge<'a> {
        score: f64,
        /// Lengths in characters: of equal scores, the longer halves come first.
        lengths: (usize, usize),
        halves: (&'a str, &'a str),
    }
    // Nothing that is written in a text may merge into a control token or a byte.
    let id = |token: &str| {
        let id = *vocabulary.ids.get(token)?;
        let kind = vocabulary.kinds[id as usize];
        matches!(kind, TokenKind::Normal | TokenKind::UserDefined).then_some(id)
    };
    let mut merges = Vec::new();
    for (&token, &score) in vocabulary.tokens.iter().zip(scores) {
        if id(token).is_none() {
            continue;
        }
        let len = token.chars().count();
        let mut ways = Vec::new();
        for (index, (place, _)) in token.char_indices().enumerate().skip(1) {
            let halves = token.split_at(place);
            if let (Some(left), Some(right)) = (id(halves.0), id(halves.1)) {
                ways.push(((left, right), Merge { score, lengths: (index, len - index), halves }));
            }
        }
        ways.sort_by_key(|(ids, _)| *ids);
        merges.extend(ways.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| b.score.total_cmp(&a.score).then(b.lengths.cmp(&a.lengths)));
    let owned = |merge: Merge<'_>| (merge.halves.0.to_owned(), merge.halves.1.to_owned());
    merges.into_iter().map(owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Fixture;
    use super::super::tokenizer::tests::{built, vocabulary};
    use super::super::value::Value;

    /// `ab` scores better than `bc`; both make `abc`; one byte token.
    fn small() -> Fixture {
        let tokens = [
            ("<unk>", 2, 0.0),
            ("<s>", 3, 0.0),
            ("</s>", 3, 0.0),
            ("<0xC3>", 6, 0.0),
            ("<0xA9>", 6, 0.0),
            ("ab", 1, -1.0),
            ("bc", 1, -2.0),
            ("abc", 1, -3.0),
            ("▁a", 1, -4.0),
            ("▁", 1, -5.0),
            ("a", 1, -6.0),
            ("b", 1, -7.0),
            ("c", 1, -8.0),
        ];
        let mut fixture = vocabulary("llama", &tokens.map(|(token, kind, _)| (token, kind)));
        let scores = tokens.map(|(_, _, score)| Value::F32(score));
        fixture.value("tokenizer.ggml.scores", &Value::Array(scores.into()));
        fixture
    }

    #[test]
    fn the_best_score_merges_first() {
        let tokenizer = built(&small()).unwrap();
        // ▁ ab ─► the union with ▁ is no token; c joins.
        assert_eq!(tokenizer.encode_raw("abc").unwrap(), [9, 7]);
        assert_eq!(tokenizer.encode_raw("bbc").unwrap(), [9, 11, 6]);
        assert_eq!(tokenizer.encode_raw("a").unwrap(), [8]);
    }

    #[test]
    fn bytes_stand_in_for_unknown_letters() {
        let tokenizer = built(&small()).unwrap();
        assert_eq!(tokenizer.encode_raw("é").unwrap(), [9, 3, 4]);
        assert_eq!(tokenizer.decode(&[9, 3, 4]).unwrap(), "é");
        assert_eq!(tokenizer.encode_raw("z").unwrap(), [9, 0]);
    }

    #[test]
    fn bos_and_a_space_come_first_unless_the_file_says_no() {
        let mut fixture = small();
        let tokenizer = built(&fixture).unwrap();
        assert_eq!(tokenizer.encode("a").unwrap(), [1, 8]);
        assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
        assert_eq!(tokenizer.decode(&[1, 8, 9, 11]).unwrap(), "a b");
        fixture.value("tokenizer.ggml.add_bos_token", &Value::Bool(false));
        fixture.value("tokenizer.ggml.add_space_prefix", &Value::Bool(false));
        let tokenizer = built(&fixture).unwrap();
        assert_eq!(tokenizer.encode("a b").unwrap(), [10, 9, 11]);
    }

    #[test]
    fn a_score_for_every_token() {
        let mut fixture = small();
        fixture.replace("tokenizer.ggml.scores", Some(Value::Array(vec![])));
        let message = built(&fixture).unwrap_err().to_string();
        assert!(message.contains("13 tokens but 0 scores"), "{message}");
    }
}
