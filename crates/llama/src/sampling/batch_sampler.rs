//! logits on a device ─► penalty ─► [`shortlist`] ─► one read-back ─► each row's [`Sampler`] ─► tokens

use burn::tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData};

use crate::draw::Scores;
use crate::error::{Error, Result};
use crate::read_back::read_back;
use crate::sample::Sampler;
use crate::shortlist::{Asked, GROUPS, READ, Reading, shortlist};

/// Chooses the next tokens of a batch from logits on a device, row by row what each row's
/// [`Sampler`] would choose.
///
/// ```
/// use burn::tensor::Tensor;
/// use llama::{BatchSampler, Sampler, SamplingConfig};
/// # let device = testing::flex();
///
/// let greedy = Sampler::new(SamplingConfig::default(), 0)?;
/// let logits = Tensor::<2>::from_floats([[0.1, 2.5, -1.0], [0.0, 0.0, 0.0]], &device);
/// let mut chooser = BatchSampler::new(vec![greedy.clone(), greedy], 3, &device);
/// assert_eq!(chooser.choose(logits, &[true, true])?, [1, 0]);
/// # Ok::<(), llama::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct BatchSampler {
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

impl BatchSampler {
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
    /// [`Error::NonFiniteLogits`] if a logit of a wanted row is NaN or infinite upwards, as a broken
    /// model gives; [`Error::Device`].
    ///
    /// # Panics
    /// If the shapes are not those of the samplers and the vocabulary.
    pub fn sample(&mut self, logits: Tensor<2>, wanted: &[bool]) -> Result<Vec<u32>> {
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
        // Sent only where the device looks at it: greedy rows need nothing.
        let uniform = || column(uniforms.iter().map(|uniform| below_one(*uniform)), &device);
        let found = shortlist(asked, scores.clone(), &self.temperature, uniform);
        let found = read_back(found)?;
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
                return Err(Error::NonFiniteLogits { found: highest });
            }
            match self.chosen(row, &reading, uniforms[row]) {
                Some(token) => tokens[row] = token,
                None => refused.push(row),
            }
        }
        if !refused.is_empty() {
            for (row, token) in self.chosen_from_all(&refused, scores, &uniforms)? {
                tokens[row] = token;
            }
        }
        for (row, own) in self.samplers.iter_mut().enumerate().filter(|(row, _)| wanted[*row]) {
            own.observe(&[tokens[row]]);
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
        let any_top_p = any(|reach| *reach == Reach::TopP);
        let any_top_k = any(|reach| matches!(reach, Reach::TopK(_)));
        Asked {
            groups: if any_top_p { GROUPS } else { usize::from(any_top_k) },
            // The last of the likeliest may be as likely as one that is left behind.
            whole: any(|reach| matches!(reach, Reach::TopK(top_k) if *top_k >= READ)),
            mass: any(|reach| matches!(reach, Reach::TopP | Reach::Everything)),
        }
    }

    /// The token of a row; `None` where it takes more than what was read.
    fn chosen(&self, row: usize, reading: &Reading, uniform: f64) -> Option<u32> {
        let own = &self.samplers[row];
        match self.reach(row) {
            Reach::Best => Some(reading.best),
            Reach::TopK(_) | Reach::TopP => own.draw(reading.likeliest(), uniform),
            Reach::Everything => reading.fallen(f64::from(own.config().temperature)),
        }
    }

    /// Rows that take more than what was read, and their tokens.
    fn chosen_from_all(
        &self,
        rows: &[usize],
        scores: Tensor<2>,
        uniforms: &[f64],
    ) -> Result<Vec<(usize, u32)>> {
        let ids = rows.iter().map(|row| *row as i64).collect::<Vec<_>>();
        let ids = Tensor::<1, Int>::from_data(TensorData::new(ids, [rows.len()]), &scores.device());
        let found = read_back(scores.select(0, ids))?.iter::<f32>().collect::<Vec<_>>();
        let draw = |(&row, scores): (&usize, &[f32])| {
            let drawn = self.samplers[row].draw(Scores::all(scores), uniforms[row]);
            (row, drawn.expect("all scores are there"))
        };
        Ok(rows.iter().zip(found.chunks(self.vocab)).map(draw).collect())
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
