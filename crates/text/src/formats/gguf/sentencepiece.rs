//! GGUF metadata ─► SentencePiece BPE with byte fallback, as in Llama 1 and 2 and Mistral.

use checkpoint::gguf::Metadata;

use super::parts::{Parts, special_id};
use crate::error::Result;
use crate::vocabulary::Vocabulary;
use crate::vocabulary::sentencepiece::{self, Settings, SpacePrefix};

pub(super) fn build(metadata: &Metadata, vocabulary: &Vocabulary<'_>) -> Result<Parts> {
    let scores: Vec<f64> = metadata.required("tokenizer.ggml.scores")?;
    // llama.cpp's defaults.
    let default = |id: u32| Some(id).filter(|&id| (id as usize) < vocabulary.tokens.len());
    let settings = Settings {
        unknown: special_id(metadata, vocabulary, "unknown_token_id")?.or(default(0)),
        space: if metadata.optional("tokenizer.ggml.add_space_prefix")?.unwrap_or(true) {
            SpacePrefix::EachPart
        } else {
            SpacePrefix::Never
        },
    };
    let inner = sentencepiece::build(metadata.path(), vocabulary, &scores, &settings)?;
    Ok(Parts { inner, add_bos: true, bos: default(1), eos: default(2) })
}

#[cfg(test)]
mod tests {
    use testing::gguf::{Fixture, Value};

    use super::super::tests::load;

    /// `ab` has a better score than `bc`; both merge into `abc`; two byte tokens.
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
        let mut fixture =
            Fixture::vocabulary("llama", &tokens.map(|(token, kind, _)| (token, kind)));
        let scores = tokens.map(|(_, _, score)| Value::F32(score));
        fixture.value("tokenizer.ggml.scores", &Value::Array(scores.into()));
        fixture
    }

    #[test]
    fn the_best_score_merges_first() {
        let tokenizer = load(&small()).unwrap();
        // ▁ ab: ▁ab is not a token; c merges.
        assert_eq!(tokenizer.encode_raw("abc").unwrap(), [9, 7]);
        assert_eq!(tokenizer.encode_raw("bbc").unwrap(), [9, 11, 6]);
        assert_eq!(tokenizer.encode_raw("a").unwrap(), [8]);
    }

    #[test]
    fn unknown_characters_fall_back_to_bytes() {
        let tokenizer = load(&small()).unwrap();
        assert_eq!(tokenizer.encode_raw("é").unwrap(), [9, 3, 4]);
        assert_eq!(tokenizer.decode(&[9, 3, 4]).unwrap(), "é");
        assert_eq!(tokenizer.encode_raw("z").unwrap(), [9, 0]);
    }

    #[test]
    fn bos_and_a_space_come_first_by_default() {
        let mut fixture = small();
        let tokenizer = load(&fixture).unwrap();
        assert_eq!(tokenizer.encode("a").unwrap(), [1, 8]);
        assert_eq!((tokenizer.bos, &tokenizer.eos[..]), (Some(1), &[2][..]));
        assert_eq!(tokenizer.decode(&[1, 8, 9, 11]).unwrap(), "a b");
        fixture.value("tokenizer.ggml.add_bos_token", &Value::Bool(false));
        fixture.value("tokenizer.ggml.add_space_prefix", &Value::Bool(false));
        let tokenizer = load(&fixture).unwrap();
        assert_eq!(tokenizer.encode("a b").unwrap(), [10, 9, 11]);
    }

    #[test]
    fn every_token_needs_a_score() {
        let mut fixture = small();
        fixture.replace("tokenizer.ggml.scores", Some(Value::Array(vec![])));
        let message = load(&fixture).unwrap_err().to_string();
        assert!(message.contains("13 tokens but 0 scores"), "{message}");
    }
}
