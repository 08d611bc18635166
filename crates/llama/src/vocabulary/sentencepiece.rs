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
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};

use std::cmp::Ordering;
use std::path::Path;

use super::{TokenKind, Vocabulary, fail};
use crate::error::Result;

/// What stands for a space.
const SPACE: &str = "▁";

/// What a file says beside tokens and scores.
pub(crate) struct Settings {
    /// Token of what no token is.
    pub(crate) unknown: Option<u32>,
    /// Where a space is put in front.
    pub(crate) space: SpacePrefix,
}

/// Where a space is put in front, so that the first word of a text is a word like others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SpacePrefix {
    /// Nowhere.
    Never,
    /// Before every text and every part of one behind a special token.
    EachPart,
    /// Before every text that has none there.
    Start,
}

/// The tokenizer of tokens and their scores.
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
        return Err(fail(path, format!("{tokens} tokens but {scores} scores")));
    }
    let mut model = BPE::builder()
        .vocab_and_merges(
            vocabulary.ids.clone(),
            merges(vocabulary, scores, Ties::LongerHalvesFirst),
        )
        .fuse_unk(true)
        .byte_fallback(true);
    if let Some(id) = settings.unknown {
        model = model.unk_token(vocabulary.tokens[id as usize].into());
    }
    let model = model.build().map_err(|error| fail(path, format!("merges: {error}")))?;

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

/// Which of the ways to make one token comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ties {
    /// Of equal scores, as SentencePiece has it.
    LongerHalvesFirst,
    /// As tiktoken has it.
    LowerIdsFirst,
}

/// Every way to make a token of two, best score first.
pub(super) fn merges(
    vocabulary: &Vocabulary<'_>,
    scores: &[f64],
    ties: Ties,
) -> Vec<(String, String)> {
    struct Merge<'a> {
        score: f64,
        /// In characters.
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
    merges.sort_by(|a, b| {
        b.score.total_cmp(&a.score).then(match ties {
            Ties::LongerHalvesFirst => b.lengths.cmp(&a.lengths),
            // They are in that order already.
            Ties::LowerIdsFirst => Ordering::Equal,
        })
    });
    let owned = |merge: Merge<'_>| (merge.halves.0.to_owned(), merge.halves.1.to_owned());
    merges.into_iter().map(owned).collect()
}
