//! logits on a device ─► penalty ─► the best token, the likeliest chunks ─► one read-back ─► tokens
//!
//! A vocabulary has a hundred thousand scores, a draw needs a few. The device cuts each row into
//! chunks of neighbours and gives those whose maxima are the highest: they hold the highest scores
//! for sure, because a score that is left behind is at most the lowest maximum that came along.
//! [`Sampler`] draws from them as it would from all. Rows that draw from the whole vocabulary are
//! different: the device adds their chunks up and gives the one in which the random number falls.
//!
//! Nothing is sorted on the device: Burn sorts a GPU's tensors on the host.

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::draw::{Rest, Scores, pick};
use crate::error::{Error, Result};
use crate::read_back::read_back;
use crate::sample::Sampler;

/// Neighbours in a chunk.
const WIDTH: usize = 32;
/// Chunks of a group that are read.
const READ: usize = 64;
/// Groups of chunks where rows want a part of everything, which may take many tokens. More chunks
/// in one group would do too, but devices find few of many much faster.
const GROUPS: usize = 4;

/// Chooses the next tokens of a batch from logits on a device, row by row what each row's
/// [`Sampler`] would choose.
///
/// ```
/// use burn::tensor::Tensor;
/// use llama::{Chooser, Sampler, SamplingConfig};
/// # let device = testing::flex();
///
/// let greedy = Sampler::new(SamplingConfig::default(), 0)?;
/// let logits = Tensor::<2>::from_floats([[0.1, 2.5, -1.0], [0.0, 0.0, 0.0]], &device);
/// let mut chooser = Chooser::new(vec![greedy.clone(), greedy], 3, &device);
/// assert_eq!(chooser.choose(logits, &[true, true])?, [1, 0]);
/// # Ok::<(), llama::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Chooser {
    samplers: Vec<Sampler>,
    vocab: usize,
    /// `[batch, 1]`, 1 where nothing is drawn.
    temperature: Tensor<2>,
    penalty: Option<Penalty>,
}

/// The repetition penalty of a batch.
#[derive(Debug, Clone)]
struct Penalty {
    /// `[batch, 1]`
    strength: Tensor<2>,
    /// `[batch, vocab]`: the strength for tokens that were seen, 1 for others.
    factors: Tensor<2>,
}

/// What a row's token is chosen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The highest score.
    Best,
    /// A number of the highest scores.
    TopK(usize),
    /// As many of the highest scores as reach a part of everything.
    TopP,
    /// All scores.
    Everything,
}

/// What the rows of one batch ask of the device.
#[derive(Debug, Clone, Copy)]
struct Asked {
    /// The likeliest chunks of how many groups; 0 for none. Chunk `i` is in group `i % groups`.
    groups: usize,
    /// All chunks, because a row wants more of the highest scores than the likeliest must hold.
    whole: bool,
    /// The sum of everything, and the chunk in which the random number falls.
    mass: bool,
}

/// What was read of one row.
struct Reading<'a> {
    best: u32,
    highest: f32,
    /// With [`Asked::mass`]: the sum of all weights, and what is left of the random number at the
    /// start of the last chunk.
    mass: Option<(f64, f64)>,
    chunks: Vec<(usize, &'a [f32])>,
}

impl Chooser {
    /// A chooser for a batch with one sampler a row, which have seen the prompts.
    ///
    /// # Panics
    /// If there are no samplers or no tokens.
    pub fn new(samplers: Vec<Sampler>, vocab: usize, device: &Device) -> Self {
        assert!(!samplers.is_empty() && vocab > 0, "nothing to choose from");
        let temperature =
            |own: &Sampler| if own.is_greedy() { 1.0 } else { own.config().temperature };
        let temperature = column(samplers.iter().map(temperature), device);
        let penalised = samplers.iter().any(|own| own.config().repetition_penalty != 1.0);
        let penalty = penalised.then(|| Penalty::new(&samplers, vocab, device));
        Self { samplers, vocab, temperature, penalty }
    }

    /// Chooses a token for every row that is wanted, and notes it; 0 stands for the others, which
    /// draw nothing and must not be wanted again.
    ///
    /// It waits for the device once, for all rows: two numbers a row where none draws, else some
    /// 2000 a row, or 8000 where one has `top_p` without `top_k`; a `top_k` of 64 or more takes the
    /// whole vocabulary. It waits a second time, for the whole vocabulary of a row, where the
    /// likeliest tokens that were read don't reach the row's `top_p`, its distribution being very
    /// flat, or where scores that are exactly equal leave `top_k` open.
    ///
    /// # Shapes
    /// - `logits`: `[batch, vocab]`, f32
    ///
    /// # Errors
    /// [`Error::NotFinite`] if a logit of a wanted row is NaN or infinite upwards, as a broken
    /// model gives; [`Error::Device`].
    ///
    /// # Panics
    /// If the shapes are not those of the samplers and the vocabulary.
    pub fn choose(&mut self, logits: Tensor<2>, wanted: &[bool]) -> Result<Vec<u32>> {
        let batch = self.samplers.len();
        assert_eq!(logits.dims(), [batch, self.vocab], "logits of another batch");
        assert_eq!(wanted.len(), batch, "rows of another batch");
        let device = logits.device();
        let scores = match &self.penalty {
            Some(penalty) => penalty.apply(logits),
            None => logits,
        };
        let uniforms = self.samplers.iter_mut().zip(wanted);
        let uniforms = uniforms
            .map(|(own, wanted)| if *wanted && !own.is_greedy() { own.uniform() } else { 0.0 })
            .collect::<Vec<_>>();
        let asked = self.asked(wanted);
        let found = read_back(self.find(scores.clone(), asked, &uniforms))?;
        let found = found.iter::<f32>().collect::<Vec<_>>();
        let mut tokens = vec![0; batch];
        let mut refused = Vec::new();
        for (row, found) in found.chunks(found.len() / batch).enumerate() {
            if !wanted[row] {
                continue;
            }
            let reading = Reading::new(found, asked, self.vocab);
            let highest = reading.highest;
            if highest.is_nan() || highest == f32::INFINITY {
                return Err(Error::NotFinite { found: highest });
            }
            match self.chosen(row, &reading, asked, uniforms[row]) {
                Some(token) => tokens[row] = token,
                None => refused.push(row),
            }
        }
        if !refused.is_empty() {
            let rows = refused.iter().map(|row| *row as i64).collect::<Vec<_>>();
            let rows = Tensor::from_data(TensorData::new(rows, [refused.len()]), &device);
            let whole = read_back(scores.select(0, rows))?.iter::<f32>().collect::<Vec<_>>();
            for (&row, scores) in refused.iter().zip(whole.chunks(self.vocab)) {
                let drawn = self.samplers[row].draw(Scores::all(scores), uniforms[row]);
                tokens[row] = drawn.expect("all scores are there");
            }
        }
        for ((own, token), _) in self.samplers.iter_mut().zip(&tokens).zip(wanted).filter(|x| *x.1)
        {
            own.observe(&[*token]);
        }
        if let Some(penalty) = &mut self.penalty {
            penalty.note(&tokens, &device);
        }
        Ok(tokens)
    }

    fn reach(&self, row: usize) -> Reach {
        let own = &self.samplers[row];
        match (own.config().top_k, own.config().top_p) {
            _ if own.is_greedy() => Reach::Best,
            (top_k, _) if top_k > 0 && top_k < self.vocab => Reach::TopK(top_k),
            (_, top_p) if top_p < 1.0 => Reach::TopP,
            _ => Reach::Everything,
        }
    }

    fn asked(&self, wanted: &[bool]) -> Asked {
        let wanted = (0..wanted.len()).filter(|row| wanted[*row]);
        let reaches = wanted.map(|row| self.reach(row)).collect::<Vec<_>>();
        let any = |asks: fn(&Reach) -> bool| reaches.iter().any(asks);
        let any_top_k = any(|reach| matches!(reach, Reach::TopK(_)));
        Asked {
            groups: match (any(|reach| *reach == Reach::TopP), any_top_k) {
                (true, _) => GROUPS,
                (false, any_top_k) => usize::from(any_top_k),
            },
            // The last of the likeliest may be as likely as one that is left behind.
            whole: any(|reach| matches!(reach, Reach::TopK(top_k) if *top_k >= READ)),
            mass: any(|reach| matches!(reach, Reach::TopP | Reach::Everything)),
        }
    }

    /// What the host needs of `[batch, vocab]` scores, in the order of [`Reading::new`].
    fn find(&self, scores: Tensor<2>, asked: Asked, uniforms: &[f64]) -> Tensor<2> {
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
            let temperature = self.temperature.clone().unsqueeze_dim::<3>(2);
            let weights = ((chunks.clone() - highest) / temperature).exp();
            let uniform = uniforms.iter().map(|uniform| below_one(*uniform));
            let fall = Fall::of(weights.sum_dim(2).squeeze_dim(2), column(uniform, &device));
            found.extend([fall.total, fall.left]);
            // Where all weights are 0, it falls behind the vocabulary.
            let last = (self.vocab - 1) / WIDTH;
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

    /// The token of a row; `None` where it takes more than what was read.
    fn chosen(&self, row: usize, reading: &Reading, asked: Asked, uniform: f64) -> Option<u32> {
        let own = &self.samplers[row];
        match self.reach(row) {
            Reach::Best => Some(reading.best),
            Reach::TopK(_) | Reach::TopP => {
                own.draw(reading.scores(asked.groups, self.vocab), uniform)
            }
            Reach::Everything => {
                let (_total, left) = reading.mass?;
                let last = reading.chunks.last()?;
                let tokens = listed(std::slice::from_ref(last), self.vocab);
                let temperature = f64::from(own.config().temperature);
                Some(pick(&tokens, left, reading.highest.max(f32::MIN), temperature))
            }
        }
    }
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

impl Penalty {
    fn new(samplers: &[Sampler], vocab: usize, device: &Device) -> Self {
        let strengths = samplers.iter().map(|own| own.config().repetition_penalty);
        let mut factors = vec![1.0; samplers.len() * vocab];
        for (row, (own, strength)) in samplers.iter().zip(strengths.clone()).enumerate() {
            for token in own.seen().filter(|token| (*token as usize) < vocab) {
                factors[row * vocab + token as usize] = strength;
            }
        }
        let factors = TensorData::new(factors, [samplers.len(), vocab]);
        let strength = column(strengths, device);
        Self { strength, factors: Tensor::from_data(factors, device) }
    }

    /// As `Sampler::penalised`.
    fn apply(&self, logits: Tensor<2>) -> Tensor<2> {
        let negative = logits.clone().lower_elem(0.0);
        let divided = logits.clone() / self.factors.clone();
        divided.mask_where(negative, logits * self.factors.clone())
    }

    fn note(&mut self, tokens: &[u32], device: &Device) {
        let ids = tokens.iter().map(|token| i64::from(*token)).collect::<Vec<_>>();
        let ids = Tensor::<2, Int>::from_data(TensorData::new(ids, [tokens.len(), 1]), device);
        let strength = self.strength.clone();
        self.factors.inplace(|all| all.scatter(1, ids, strength, IndexingUpdateOp::Assign));
    }
}

impl<'a> Reading<'a> {
    fn new(found: &'a [f32], asked: Asked, vocab: usize) -> Self {
        let (best, highest) = (found[0] as u32, found[1]);
        // A row of nothing but minus infinity may have no best.
        let best = if (best as usize) < vocab { best } else { 0 };
        let found = &found[2..];
        let mass = asked.mass.then(|| (f64::from(found[0]), f64::from(found[1])));
        let found = if asked.mass { &found[2..] } else { found };
        let (places, scores) = found.split_at(found.len() / (WIDTH + 1));
        let places = places.iter().map(|place| *place as usize);
        let chunks = places.zip(scores.chunks(WIDTH)).collect();
        Self { best, highest, mass, chunks }
    }

    /// The tokens of the likeliest chunks.
    fn scores(&self, groups: usize, vocab: usize) -> Scores {
        let count = self.chunks.len() - usize::from(self.mass.is_some());
        let mut chunks = self.chunks[..count].to_vec();
        chunks.sort_unstable_by_key(|(place, _scores)| *place);
        let rest = (count * WIDTH < vocab).then(|| {
            let maximum = |scores: &[f32]| scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let lowest = |group: usize| {
                let own = chunks.iter().filter(|(place, _scores)| place % groups == group);
                own.map(|(_place, scores)| maximum(scores)).fold(f32::INFINITY, f32::min)
            };
            let bound = (0..groups).map(lowest).fold(f32::NEG_INFINITY, f32::max);
            Rest { bound, total: self.mass.map_or(0.0, |(total, _left)| total) }
        });
        Scores { tokens: listed(&chunks, vocab), rest }
    }
}

/// The tokens of some chunks.
fn listed(chunks: &[(usize, &[f32])], vocab: usize) -> Vec<(u32, f32)> {
    let tokens = chunks
        .iter()
        .flat_map(|(place, scores)| ((place * WIDTH) as u32..).zip(scores.iter().copied()));
    tokens.filter(|(token, _score)| (*token as usize) < vocab).collect()
}

/// A number for each row, `[batch, 1]`.
fn column(numbers: impl Iterator<Item = f32>, device: &Device) -> Tensor<2> {
    let numbers = numbers.collect::<Vec<_>>();
    let batch = numbers.len();
    Tensor::from_data(TensorData::new(numbers, [batch, 1]), device)
}

/// In f32, and still below 1: times a sum it stays below the sum.
fn below_one(uniform: f64) -> f32 {
    (uniform as f32).min(1.0 - f32::EPSILON / 2.0)
}
