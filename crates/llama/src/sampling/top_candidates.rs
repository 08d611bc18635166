//! scores on a device ─► the best token, the likeliest chunks ─► what the host needs
//!
//! A vocabulary has a hundred thousand scores, a draw needs a few. The device cuts each row into
//! chunks of neighbors and gives those whose maxima are the highest: they hold the highest scores
//! for sure, because a score that is left behind is at most the lowest maximum that came along.
//! For rows that draw from the whole vocabulary it adds the chunks up, and gives the one in which
//! the random number falls.
//!
//! Nothing is sorted on the device: Burn sorts a GPU's tensors on the host.

use burn::tensor::{Int, Tensor};

use crate::draw::{Scores, UnlistedTokens, pick};

/// Neighbors in a chunk.
const WIDTH: usize = 32;
/// Chunks of a group that are read.
pub(crate) const READ: usize = 64;
/// Groups of chunks where rows want a part of everything, which may take many tokens. More chunks
/// in one group would do too, but devices find few of many much faster.
pub(crate) const GROUPS: usize = 4;

/// What the rows of one batch ask of the device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The likeliest chunks of how many groups; 0 for none. Chunk `i` is in group `i % groups`.
    pub(crate) groups: usize,
    /// All chunks, because a row wants more of the highest scores than the likeliest must hold.
    pub(crate) whole: bool,
    /// The sum of everything, and the chunk in which the random number falls.
    pub(crate) mass: bool,
}

/// What was read of one row.
pub(crate) struct Reading<'a> {
    /// The first of the highest scores.
    pub(crate) best: u32,
    /// Its score; NaN if any is.
    pub(crate) highest: f32,
    /// With [`Asked::mass`]: the sum of all weights, and what is left of the random number at the
    /// start of the last chunk.
    mass: Option<(f64, f64)>,
    /// Chunks by their places; with [`Asked::mass`] the last is the one in which the number falls.
    chunks: Vec<(usize, &'a [f32])>,
    asked: Asked,
    vocab: usize,
}

/// What the host needs of the scores, in the order of [`Reading::new`].
///
/// # Shapes
/// - `scores`: `[batch, vocab]`
/// - `temperature`, `uniform`: `[batch, 1]`, 0 <= uniform < 1; for [`Asked::mass`]
/// - output: `[batch, numbers]`
pub(crate) fn shortlist(
    asked: Asked,
    scores: Tensor<2>,
    temperature: &Tensor<2>,
    uniform: impl FnOnce() -> Tensor<2>,
) -> Tensor<2> {
    let [_batch, vocab] = scores.dims();
    let device = scores.device();
    // Of equal scores the first; NaN counts as higher than all.
    let (highest, best) = scores.clone().max_dim_with_indices(1);
    let mut found = vec![best.float(), highest.clone()];
    if asked.groups == 0 && !asked.mass {
        return Tensor::cat(found, 1);
    }
    let chunks = chunked(scores);
    let [batch, count, width] = chunks.dims();
    let mut places = Vec::new();
    if asked.groups > 0 {
        places.push(likeliest(&chunks, asked));
    }
    if asked.mass {
        // Where nothing scores more than minus infinity, all weights are 0.
        let highest = highest.clamp_min(f32::MIN).unsqueeze_dim::<3>(2);
        let temperature = temperature.clone().unsqueeze_dim::<3>(2);
        let weights = ((chunks.clone() - highest) / temperature).exp();
        let fall = Fall::of(weights.sum_dim(2).squeeze_dim(2), uniform());
        found.extend([fall.total, fall.left]);
        // Where all weights are 0, it falls behind the vocabulary.
        let last = (vocab - 1) / WIDTH;
        places.push(fall.place.clamp_max(last as i64));
    }
    // Broken scores have no order, and so no place: whatever is read of them must be there.
    let places = Tensor::cat(places, 1).clamp(0, count as i64 - 1); // [batch, read]
    let [_batch, read] = places.dims();
    let starts = Tensor::<1, Int>::arange(0..batch as i64, &device) * count as i64;
    let flat = (places.clone() + starts.unsqueeze_dim(1)).reshape([batch * read]);
    let taken = chunks.reshape([batch * count, width]).select(0, flat);
    found.extend([places.float(), taken.reshape([batch, read * width])]);
    Tensor::cat(found, 1)
}

/// `[batch, vocab] -> [batch, chunks, WIDTH]`, minus infinity behind the vocabulary.
fn chunked(scores: Tensor<2>) -> Tensor<3> {
    let [batch, vocab] = scores.dims();
    let count = vocab.div_ceil(WIDTH * GROUPS) * GROUPS;
    let missing = count * WIDTH - vocab;
    let scores = if missing == 0 {
        scores
    } else {
        let padding = Tensor::full([batch, missing], f32::NEG_INFINITY, &scores.device());
        Tensor::cat(vec![scores, padding], 1)
    };
    scores.reshape([batch, count, WIDTH])
}

/// The chunks with the highest maxima of each group, `[batch, read]`.
fn likeliest(chunks: &Tensor<3>, asked: Asked) -> Tensor<2, Int> {
    let [batch, count, _width] = chunks.dims();
    let (device, groups) = (chunks.device(), asked.groups);
    let upto = |end: usize| Tensor::<1, Int>::arange(0..end as i64, &device);
    if asked.whole || count <= READ * groups {
        return upto(count).unsqueeze::<2>().expand([batch, count]);
    }
    // Not all devices find minus infinity among the highest.
    let maxima = chunks.clone().max_dim(2).clamp_min(f32::MIN);
    let grouped = maxima.reshape([batch, count / groups, groups]).swap_dims(1, 2);
    let (_maxima, places) = grouped.topk_with_indices(READ, 2);
    let places = places * groups as i64 + upto(groups).reshape([1, groups, 1]);
    places.reshape([batch, groups * READ])
}

/// Where a row's random number falls.
struct Fall {
    /// `[batch, 1]`, sum of all weights.
    total: Tensor<2>,
    /// `[batch, 1]`, the number in units of the weights, less those of the chunks before.
    left: Tensor<2>,
    /// `[batch, 1]`, the chunk.
    place: Tensor<2, Int>,
}

impl Fall {
    /// # Shapes
    /// - `weights`: `[batch, chunks]`, sums of the chunks
    /// - `uniform`: `[batch, 1]`
    fn of(weights: Tensor<2>, uniform: Tensor<2>) -> Self {
        let [batch, count] = weights.dims();
        let running = weights.cumsum(1);
        let total = running.clone().narrow(1, count - 1, 1);
        let target = total.clone() * uniform;
        let ahead = running.clone().greater(target.clone().expand([batch, count]));
        let place = ahead.clone().bool_not().int().sum_dim(1);
        let before = running.mask_fill(ahead, 0.0).max_dim(1);
        Self { total, left: target - before, place }
    }
}

impl<'a> Reading<'a> {
    pub(crate) fn new(found: &'a [f32], asked: Asked, vocab: usize) -> Self {
        let (best, highest) = (found[0] as u32, found[1]);
        // A row of nothing but minus infinity may have no best.
        let best = if (best as usize) < vocab { best } else { 0 };
        let found = &found[2..];
        let mass = asked.mass.then(|| (f64::from(found[0]), f64::from(found[1])));
        let found = if asked.mass { &found[2..] } else { found };
        let (places, scores) = found.split_at(found.len() / (WIDTH + 1));
        let places = places.iter().map(|place| *place as usize);
        let chunks = places.zip(scores.chunks(WIDTH)).collect();
        Self { best, highest, mass, chunks, asked, vocab }
    }

    /// The tokens of the likeliest chunks.
    pub(crate) fn likeliest(&self) -> Scores {
        let groups = self.asked.groups;
        let count = self.chunks.len() - usize::from(self.mass.is_some());
        let mut chunks = self.chunks[..count].to_vec();
        chunks.sort_unstable_by_key(|(place, _scores)| *place);
        let rest = (count * WIDTH < self.vocab).then(|| {
            let maximum = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lowest = |group: usize| {
                let own = chunks.iter().filter(|(place, _scores)| place % groups == group);
                own.map(|(_place, scores)| maximum(scores)).fold(f32::INFINITY, f32::min)
            };
            let bound = (0..groups).map(lowest).fold(f32::NEG_INFINITY, f32::max);
            UnlistedTokens { bound, total: self.mass.map_or(0.0, |(total, _left)| total) }
        });
        Scores { tokens: listed(&chunks, self.vocab), rest }
    }

    /// The token on which the random number falls, out of all.
    pub(crate) fn fallen(&self, temperature: f64) -> Option<u32> {
        let (_total, left) = self.mass?;
        let tokens = listed(std::slice::from_ref(self.chunks.last()?), self.vocab);
        Some(pick(&tokens, left, self.highest.max(f32::MIN), temperature))
    }
}

/// The tokens of some chunks.
fn listed(chunks: &[(usize, &[f32])], vocab: usize) -> Vec<(u32, f32)> {
    let tokens = chunks
        .iter()
        .flat_map(|(place, scores)| ((place * WIDTH) as u32..).zip(scores.iter().copied()));
    tokens.filter(|(token, _score)| (*token as usize) < vocab).collect()
}
