//! Scores on a device ─► argmax, top-k candidates, inverse-CDF sampling ─► what the host needs.
//!
//! A vocabulary has a hundred thousand scores, sampling needs a few. The device splits each row into
//! chunks of adjacent tokens and returns the chunks with the highest maxima. They contain the highest
//! scores: a score of any other chunk is at most the lowest maximum among those returned. For rows that
//! sample from the whole vocabulary the device also sums the chunks' softmax weights and returns the
//! chunk in which the inverse CDF of the random number is.
//!
//! Nothing is sorted on the device: Burn sorts a GPU's tensors on the host.

use burn::tensor::{Int, Tensor};

use super::candidates::{Candidates, UnlistedTokens, sample_cdf};

/// Tokens per chunk.
const CHUNK_LEN: usize = 32;
/// Chunks that are returned of each group.
pub(super) const TOP_CHUNKS: usize = 64;
/// Groups of chunks for rows with top-p, which may take many tokens. More chunks of a single group would
/// do too, but devices select few of many much faster.
pub(super) const TOP_P_GROUPS: usize = 4;

/// What the rows of a batch need from the device.
#[derive(Debug, Clone, Copy)]
pub(super) struct CandidateRequest {
    /// Number of groups of which the top chunks are returned; 0 for none. Chunk `i` is in group
    /// `i % groups`.
    pub(super) groups: usize,
    /// All chunks: a row wants more of the highest scores than the top chunks are sure to contain.
    pub(super) all_chunks: bool,
    /// The sum of all weights, and the chunk in which the inverse CDF of the random number is.
    pub(super) inverse_cdf: bool,
}

/// What was read back of one row.
pub(super) struct RowCandidates<'a> {
    /// The first token with the highest score.
    pub(super) argmax: u32,
    /// Its score; NaN if any score is.
    pub(super) max_score: f32,
    /// With [`CandidateRequest::inverse_cdf`]: the sum of all weights, and the remainder of the random
    /// number's target weight at the start of the last chunk.
    inverse_cdf: Option<(f64, f64)>,
    /// Chunks with their indices. With [`CandidateRequest::inverse_cdf`] the last one is that of the
    /// inverse CDF.
    chunks: Vec<(usize, &'a [f32])>,
    request: CandidateRequest,
    vocab: usize,
}

/// What the host needs of the scores, in the order of [`RowCandidates::new`].
///
/// # Shapes
/// - `scores`: `[batch, vocab]`
/// - `temperature`, `uniform`: `[batch, 1]`, 0 <= uniform < 1; for [`CandidateRequest::inverse_cdf`]
/// - output: `[batch, values]`
pub(super) fn top_candidates(
    request: CandidateRequest,
    scores: Tensor<2>,
    temperature: &Tensor<2>,
    uniform: impl FnOnce() -> Tensor<2>,
) -> Tensor<2> {
    let [_batch, vocab] = scores.dims();
    let device = scores.device();
    // The first of equal scores; NaN counts as the highest.
    let (max_score, argmax) = scores.clone().max_dim_with_indices(1);
    let mut values = vec![argmax.float(), max_score.clone()];
    if request.groups == 0 && !request.inverse_cdf {
        return Tensor::cat(values, 1);
    }
    let chunks = split_chunks(scores);
    let [batch, count, width] = chunks.dims();
    let mut chunk_ids = Vec::new();
    if request.groups > 0 {
        chunk_ids.push(top_chunks(&chunks, request));
    }
    if request.inverse_cdf {
        // If all scores are minus infinity, all weights are 0 instead of NaN.
        let max_score = max_score.clamp_min(f32::MIN).unsqueeze_dim::<3>(2);
        let temperature = temperature.clone().unsqueeze_dim::<3>(2);
        let weights = ((chunks.clone() - max_score) / temperature).exp();
        let cdf_chunk = CdfChunk::new(weights.sum_dim(2).squeeze_dim(2), uniform());
        values.extend([cdf_chunk.total, cdf_chunk.remaining]);
        // If all weights are 0, the index is past the vocabulary.
        let last = (vocab - 1) / CHUNK_LEN;
        chunk_ids.push(cdf_chunk.chunk.clamp_max(last as i64));
    }
    // NaN has no order and may give any index: keep it in range, the host reports the NaN.
    let chunk_ids = Tensor::cat(chunk_ids, 1).clamp(0, count as i64 - 1); // [batch, selected]
    let [_batch, n_selected] = chunk_ids.dims();
    let starts = Tensor::<1, Int>::arange(0..batch as i64, &device) * count as i64;
    let flat = (chunk_ids.clone() + starts.unsqueeze_dim(1)).reshape([batch * n_selected]);
    let selected = chunks.reshape([batch * count, width]).select(0, flat);
    values.extend([chunk_ids.float(), selected.reshape([batch, n_selected * width])]);
    Tensor::cat(values, 1)
}

/// `[batch, vocab] -> [batch, chunks, CHUNK_LEN]`, padded with minus infinity.
fn split_chunks(scores: Tensor<2>) -> Tensor<3> {
    let [batch, vocab] = scores.dims();
    let count = vocab.div_ceil(CHUNK_LEN * TOP_P_GROUPS) * TOP_P_GROUPS;
    let missing = count * CHUNK_LEN - vocab;
    let scores = if missing == 0 {
        scores
    } else {
        let padding = Tensor::full([batch, missing], f32::NEG_INFINITY, &scores.device());
        Tensor::cat(vec![scores, padding], 1)
    };
    scores.reshape([batch, count, CHUNK_LEN])
}

/// Ids of the chunks with the highest maxima of each group, `[batch, selected]`.
fn top_chunks(chunks: &Tensor<3>, request: CandidateRequest) -> Tensor<2, Int> {
    let [batch, count, _width] = chunks.dims();
    let (device, groups) = (chunks.device(), request.groups);
    let range = |end: usize| Tensor::<1, Int>::arange(0..end as i64, &device);
    if request.all_chunks || count <= TOP_CHUNKS * groups {
        return range(count).unsqueeze::<2>().expand([batch, count]);
    }
    // Not all devices select minus infinity.
    let maxima = chunks.clone().max_dim(2).clamp_min(f32::MIN);
    let grouped = maxima.reshape([batch, count / groups, groups]).swap_dims(1, 2);
    let (_maxima, ids_in_group) = grouped.topk_with_indices(TOP_CHUNKS, 2);
    let chunk_ids = ids_in_group * groups as i64 + range(groups).reshape([1, groups, 1]);
    chunk_ids.reshape([batch, groups * TOP_CHUNKS])
}

/// The chunk of each row in which the inverse CDF of its random number is.
struct CdfChunk {
    /// `[batch, 1]`, sum of all weights.
    total: Tensor<2>,
    /// `[batch, 1]`, target weight minus the weights of all earlier chunks.
    remaining: Tensor<2>,
    /// `[batch, 1]`
    chunk: Tensor<2, Int>,
}

impl CdfChunk {
    /// # Shapes
    /// - `weights`: `[batch, chunks]`, sums of the chunks
    /// - `uniform`: `[batch, 1]`
    fn new(weights: Tensor<2>, uniform: Tensor<2>) -> Self {
        let [batch, count] = weights.dims();
        let cumulative = weights.cumsum(1);
        let total = cumulative.clone().narrow(1, count - 1, 1);
        let target = total.clone() * uniform;
        let exceeds_target = cumulative.clone().greater(target.clone().expand([batch, count]));
        let chunk = exceeds_target.clone().bool_not().int().sum_dim(1);
        let before = cumulative.mask_fill(exceeds_target, 0.0).max_dim(1);
        Self { total, remaining: target - before, chunk }
    }
}

impl<'a> RowCandidates<'a> {
    /// Parses a row of [`top_candidates`].
    pub(super) fn new(values: &'a [f32], request: CandidateRequest, vocab: usize) -> Self {
        let (argmax, max_score) = (values[0] as u32, values[1]);
        // If all scores are minus infinity, a device may give no valid index.
        let argmax = if (argmax as usize) < vocab { argmax } else { 0 };
        let values = &values[2..];
        let inverse_cdf = request.inverse_cdf.then(|| (f64::from(values[0]), f64::from(values[1])));
        let values = if request.inverse_cdf { &values[2..] } else { values };
        let (chunk_ids, scores) = values.split_at(values.len() / (CHUNK_LEN + 1));
        let chunk_ids = chunk_ids.iter().map(|id| *id as usize);
        let chunks = chunk_ids.zip(scores.chunks(CHUNK_LEN)).collect();
        Self { argmax, max_score, inverse_cdf, chunks, request, vocab }
    }

    /// The tokens of the top chunks, with bounds on all others.
    pub(super) fn top_chunk_candidates(&self) -> Candidates {
        let groups = self.request.groups;
        let count = self.chunks.len() - usize::from(self.inverse_cdf.is_some());
        let mut chunks = self.chunks[..count].to_vec();
        chunks.sort_unstable_by_key(|(chunk, _scores)| *chunk);
        let unlisted = (count * CHUNK_LEN < self.vocab).then(|| {
            let maximum = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lowest = |group: usize| {
                let in_group = chunks.iter().filter(|(chunk, _scores)| chunk % groups == group);
                in_group.map(|(_chunk, scores)| maximum(scores)).fold(f32::INFINITY, f32::min)
            };
            let max_score = (0..groups).map(lowest).fold(f32::NEG_INFINITY, f32::max);
            let total_weight = self.inverse_cdf.map_or(0.0, |(total, _remaining)| total);
            UnlistedTokens { max_score, total_weight }
        });
        Candidates { tokens: chunk_tokens(&chunks, self.vocab), unlisted }
    }

    /// The token that the random number samples from the whole vocabulary.
    pub(super) fn sample_inverse_cdf(&self, temperature: f64) -> Option<u32> {
        let (_total, remaining) = self.inverse_cdf?;
        let tokens = chunk_tokens(std::slice::from_ref(self.chunks.last()?), self.vocab);
        Some(sample_cdf(&tokens, remaining, self.max_score.max(f32::MIN), temperature))
    }
}

/// Tokens of some chunks with their scores.
fn chunk_tokens(chunks: &[(usize, &[f32])], vocab: usize) -> Vec<(u32, f32)> {
    let tokens = chunks
        .iter()
        .flat_map(|(chunk, scores)| ((chunk * CHUNK_LEN) as u32..).zip(scores.iter().copied()));
    tokens.filter(|(token, _score)| (*token as usize) < vocab).collect()
}
