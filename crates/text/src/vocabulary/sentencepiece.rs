//! SentencePiece BPE with byte fallback, as in Llama 1 and 2 and Mistral.
//!
//! Spaces become `▁` and a space prefix is added; the adjacent pair whose merge has the best score is merged
//! first. The `tokenizers` crate takes a ranked list of pairs instead of scores: every split of a token into
//! two tokens, best score first.
//!
//! Source: `transformers`, `convert_slow_tokenizer.py`, `generate_merges` and `LlamaConverter`.

use std::cmp::Ordering;
use std::path::Path;

use tokenizers::decoders::byte_fallback::ByteFallback;
use tokenizers::decoders::fuse::Fuse;
use tokenizers::decoders::sequence::Sequence as Decoders;
use tokenizers::decoders::strip::Strip;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{Prepend, Replace, Sequence as Normalizers};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use super::{TokenType, Vocabulary, invalid};
use crate::error::Result;

/// Represents a space.
const SPACE: &str = "▁";

/// Settings of a file.
pub(crate) struct Settings {
    /// Id of the unknown token.
    pub(crate) unknown: Option<u32>,
    /// Where a space prefix is added.
    pub(crate) space: SpacePrefix,
}

/// Where a space prefix is added, so that the first word of a text has the same token as any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    /// Nowhere.
    Never,
    /// Before every text and after every special token.
    EachPart,
    /// Before every text that does not start with one.
    Start,
}

/// A tokenizer of a vocabulary with scores.
///
/// # Errors
/// [`Error::Tokenizer`](crate::Error::Tokenizer)
pub(crate) fn build(
    path: &Path,
    vocabulary: &Vocabulary<'_>,
    scores: &[f64],
    settings: &Settings,
) -> Result<tokenizers::Tokenizer> {
    if scores.len() != vocabulary.tokens.len() {
        let (tokens, scores) = (vocabulary.tokens.len(), scores.len());
        return Err(invalid(path, format!("{tokens} tokens but {scores} scores")));
    }
    let mut model = BPE::builder()
        .vocab_and_merges(
            vocabulary.ids.clone(),
            merges(vocabulary, scores, TieBreak::LongerHalvesFirst),
        )
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(id) = settings.unknown {
        model = model.unk_token(vocabulary.tokens[id as usize].into());
    }
    let model = model.build().map_err(|error| invalid(path, format!("merges: {error}")))?;

    let replace = |from: &str, to: &str| Replace::new(from, to).expect("a plain text");
    let mut normalizers = vec![replace(" ", SPACE).into()];
    let mut decoders =
        vec![replace(SPACE, " ").into(), ByteFallback::new().into(), Fuse::new().into()];
    if settings.space == SpacePrefix::EachPart {
        normalizers.insert(0, Prepend::new(SPACE.into()).into());
    }
    if settings.space != SpacePrefix::Never {
        decoders.push(Strip::new(' ', 1, 0).into());
    }
    let mut inner = tokenizers::Tokenizer::new(model);
    if settings.space == SpacePrefix::Start {
        inner.with_pre_tokenizer(Some(Metaspace::new('▁', PrependScheme::First, false)));
    } else {
        inner.with_normalizer(Some(Normalizers::new(normalizers)));
    }
    inner.with_decoder(Some(Decoders::new(decoders)));
    Ok(inner)
}

/// Order of merges with the same score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TieBreak {
    /// As in SentencePiece.
    LongerHalvesFirst,
    /// As in tiktoken.
    LowerIdsFirst,
}

/// Every merge of two tokens into one, best score first.
pub(crate) fn merges(
    vocabulary: &Vocabulary<'_>,
    scores: &[f64],
    ties: TieBreak,
) -> Vec<(String, String)> {
    struct Merge<'a> {
        score: f64,
        /// In characters.
        lengths: (usize, usize),
        halves: (&'a str, &'a str),
    }
    // Text must not merge into a control or byte token.
    let id = |token: &str| {
        let id = *vocabulary.ids.get(token)?;
        let token_type = vocabulary.types[id as usize];
        matches!(token_type, TokenType::Normal | TokenType::UserDefined).then_some(id)
    };
    let mut merges = Vec::new();
    for (&token, &score) in vocabulary.tokens.iter().zip(scores) {
        if id(token).is_none() {
            continue;
        }
        let len = token.chars().count();
        let mut splits = Vec::new();
        for (index, (place, _)) in token.char_indices().enumerate().skip(1) {
            let halves = token.split_at(place);
            if let (Some(left), Some(right)) = (id(halves.0), id(halves.1)) {
                splits
                    .push(((left, right), Merge { score, lengths: (index, len - index), halves }));
            }
        }
        splits.sort_by_key(|(ids, _)| *ids);
        merges.extend(splits.into_iter().map(|(_, merge)| merge));
    }
    merges.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then(match ties {
            TieBreak::LongerHalvesFirst => b.lengths.cmp(&a.lengths),
            // They are already in that order.
            TieBreak::LowerIdsFirst => Ordering::Equal,
        })
    });
    let owned = |merge: Merge<'_>| (merge.halves.0.to_owned(), merge.halves.1.to_owned());
    merges.into_iter().map(owned).collect()
}
