//! AttentionInputs that own their numbers, and the kernels' answers for them.

use super::super::{
    AttentionDims, AttentionInputs, Cache, Prompt, PromptGradients, Rotation, Sequence,
    backward::{self, Given, backward},
    forward::{self, forward},
};
use super::wide::Portable16;
use crate::cpu::simd::SimdLevel;

/// What a kernel runs on.
#[derive(Debug, Clone, Copy)]
pub enum On {
    /// What the processor has.
    Level(SimdLevel),
    /// Sixteen lanes, whatever it has.
    Portable16,
}

impl On {
    /// All there are.
    pub fn all() -> impl Iterator<Item = Self> {
        SimdLevel::available().into_iter().map(Self::Level).chain([Self::Portable16])
    }

    /// The fastest.
    pub fn best() -> Self {
        Self::Level(SimdLevel::best())
    }

    pub fn forward(
        self,
        inputs: &AttentionInputs,
        cache: Option<Cache>,
        out: &mut [f32],
        lse: Option<&mut [f32]>,
    ) {
        match self {
            Self::Level(level) => forward(level, inputs, cache, out, lse),
            Self::Portable16 => forward::run(Portable16, inputs, cache, out, lse),
        }
    }

    pub fn backward(
        self,
        inputs: &AttentionInputs,
        given: Given,
        d_qkv: Option<&mut [f32]>,
        d_prompt: Option<PromptGradients>,
    ) {
        let Given { out, lse, d_out } = given;
        match self {
            Self::Level(level) => backward(level, inputs, out, lse, d_out, d_qkv, d_prompt),
            Self::Portable16 => backward::run(Portable16, inputs, given, d_qkv, d_prompt),
        }
    }
}

/// Numbers from -1 to 1 that look random.
pub fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..len).map(|_| next()).collect()
}

/// What a case is made of.
#[derive(Debug, Clone)]
pub struct Sizes {
    pub heads: AttentionDims,
    /// Length and padding of each text.
    pub texts: Vec<(usize, usize)>,
    /// Rows before each text that belong to none.
    pub gap: usize,
    pub rotated: bool,
    pub window: Option<usize>,
    /// Tokens of the prompt, and whether each text has its own.
    pub prompt: Option<(usize, bool)>,
}

/// AttentionInputs that own their numbers.
pub struct Case {
    pub heads: AttentionDims,
    pub sequences: Vec<Sequence>,
    pub window: Option<usize>,
    pub qkv: Vec<f32>,
    pub rotation: Option<[Vec<f32>; 2]>,
    pub prompt: Option<OwnPrompt>,
    pub d_out: Vec<f32>,
}

pub struct OwnPrompt {
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    pub gate: Vec<f32>,
    pub lens: Vec<usize>,
    pub len: usize,
}

/// What the kernels give.
#[derive(Debug, PartialEq)]
pub struct Found {
    pub out: Vec<f32>,
    pub lse: Vec<f32>,
    pub d_qkv: Vec<f32>,
    pub d_key: Vec<f32>,
    pub d_value: Vec<f32>,
    pub d_gate: Vec<f32>,
}

impl Case {
    pub fn new(sizes: &Sizes, seed: u32) -> Self {
        let AttentionDims { heads, kv_heads, head_dim } = sizes.heads;
        let mut rows = 0;
        let sequences: Vec<_> = sizes
            .texts
            .iter()
            .map(|&(len, padding)| {
                let first_row = rows + sizes.gap;
                rows = first_row + len;
                Sequence { first_row, len, past: 0, padding }
            })
            .collect();
        rows += sizes.gap;
        let angles = numbers(rows * head_dim / 2, seed + 1);
        let rotation = sizes.rotated.then(|| {
            [f32::cos, f32::sin].map(|turn| angles.iter().map(|x| turn(3.0 * x)).collect())
        });
        let prompt = sizes.prompt.map(|(len, each)| {
            let batches = if each { sequences.len() } else { 1 };
            let size = batches * kv_heads * len * head_dim;
            OwnPrompt {
                key: numbers(size, seed + 2),
                value: numbers(size, seed + 3),
                gate: numbers(batches * heads, seed + 4),
                lens: (0..batches).map(|batch| len - batch.min(len - 1)).collect(),
                len,
            }
        });
        let mut qkv = numbers(rows * (heads + 2 * kv_heads) * head_dim, seed);
        // Scores that differ from each other.
        for x in &mut qkv {
            *x *= 2.0;
        }
        let d_out = numbers(rows * heads * head_dim, seed + 5);
        Self { heads: sizes.heads, sequences, window: sizes.window, qkv, rotation, prompt, d_out }
    }

    pub fn inputs(&self) -> AttentionInputs<'_> {
        AttentionInputs {
            heads: self.heads,
            qkv: &self.qkv,
            rotation: self.rotation.as_ref().map(|[cos, sin]| Rotation { cos, sin }),
            sequences: &self.sequences,
            window: self.window,
            prompt: self.prompt.as_ref().map(|prompt| Prompt {
                key: &prompt.key,
                value: &prompt.value,
                gate: &prompt.gate,
                batches: prompt.lens.len(),
                len: prompt.len,
                lens: Some(&prompt.lens),
            }),
        }
    }

    pub fn rows(&self) -> usize {
        let AttentionDims { heads, kv_heads, head_dim } = self.heads;
        self.qkv.len() / ((heads + 2 * kv_heads) * head_dim)
    }

    /// Output and log-sum-exps.
    pub fn forward(&self, on: On) -> [Vec<f32>; 2] {
        let rows = self.rows() * self.heads.heads;
        let mut found = [rows * self.heads.head_dim, rows].map(|len| vec![f32::NAN; len]);
        let [out, lse] = &mut found;
        on.forward(&self.inputs(), None, out, Some(lse));
        found
    }

    pub fn all(&self, on: On) -> Found {
        let [out, lse] = self.forward(on);
        let prompt = |part: fn(&OwnPrompt) -> usize| self.prompt.as_ref().map_or(0, part);
        let mut found = Found {
            d_qkv: vec![f32::NAN; self.qkv.len()],
            d_key: vec![f32::NAN; prompt(|p| p.key.len())],
            d_value: vec![f32::NAN; prompt(|p| p.value.len())],
            d_gate: vec![f32::NAN; prompt(|p| p.gate.len())],
            out,
            lse,
        };
        let Found { out, lse, d_qkv, d_key, d_value, d_gate } = &mut found;
        let d_prompt = self.prompt.is_some().then_some(PromptGradients {
            key: d_key,
            value: d_value,
            gate: d_gate,
        });
        let given = Given { out, lse, d_out: &self.d_out };
        on.backward(&self.inputs(), given, Some(d_qkv), d_prompt);
        found
    }

    /// The output when tokens come a few at a time, `pieces` of them, into a cache.
    pub fn forward_in_pieces(&self, on: On, pieces: &[usize], spare: usize) -> [Vec<f32>; 2] {
        let AttentionDims { heads, kv_heads, head_dim } = self.heads;
        let longest = self.sequences.iter().map(|sequence| sequence.len).max().unwrap_or(0);
        let capacity = longest + spare;
        let size = self.sequences.len() * kv_heads * capacity.next_multiple_of(16) * head_dim;
        let (mut keys, mut values) = (vec![f32::NAN; size], vec![f32::NAN; size]);
        let rows = self.rows() * heads;
        let mut found = [rows * head_dim, rows].map(|len| vec![0.0; len]);
        let mut past = 0;
        let mut sequences = self.sequences.clone();
        for &piece in pieces.iter().chain([longest].iter()) {
            for (now, whole) in sequences.iter_mut().zip(&self.sequences) {
                now.past = past.min(whole.len);
                now.first_row = whole.first_row + now.past;
                now.len = piece.min(whole.len - now.past);
            }
            past += piece;
            let inputs = AttentionInputs { sequences: &sequences, ..self.inputs() };
            let mut now = [rows * head_dim, rows].map(|len| vec![f32::NAN; len]);
            let [out, lse] = &mut now;
            let cache = Cache { keys: &mut keys, values: &mut values, capacity };
            on.forward(&inputs, Some(cache), out, Some(lse));
            for (all, now) in found.iter_mut().zip(&now) {
                // What is not of this piece is zero.
                all.iter_mut().zip(now).for_each(|(all, now)| *all += now);
            }
        }
        found
    }
}

/// # Panics
/// If a number differs by more than 1e-5 of the largest.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0_f64, |a, b| a.max(b.abs()));
    for (i, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let error = (f64::from(found) - expected).abs();
        assert!(
            error <= 1e-5 * largest.max(1e-3),
            "{what}: {found} instead of {expected} at {i}, the largest being {largest}",
        );
    }
}
