//! Attention inputs that own their data, and the kernels' outputs for them.

use super::super::backward::{backward, backward_simd};
use super::super::block_tables::BlockTables;
use super::super::forward::{forward, forward_simd};
use super::super::inputs::{AttentionDims, AttentionInputs, KvCacheView, Rotation, Sequence};
use super::super::outputs::AttentionOutputs;
use super::super::packed_prompts::{PackedPrompt, PromptTable};
use super::super::prompts::{PromptGradients, PromptView, Prompts};
use super::super::query_gradients::BackwardInputs;
use super::portable16::Portable16;
use crate::cpu::simd::SimdLevel;
use crate::cpu::test_numbers::{self, largest};
use crate::sizes::BLOCK_TOKENS;

/// The vectors that a kernel runs on.
#[derive(Debug, Clone, Copy)]
pub enum TestLevel {
    /// A level of the processor.
    Processor(SimdLevel),
    /// Sixteen lanes in plain Rust.
    Portable16,
}

impl TestLevel {
    /// All levels of the processor, and sixteen lanes.
    pub fn all() -> impl Iterator<Item = Self> {
        SimdLevel::available().into_iter().map(Self::Processor).chain([Self::Portable16])
    }

    /// The fastest level of the processor.
    pub fn best() -> Self {
        Self::Processor(SimdLevel::best())
    }

    pub fn forward(
        self,
        inputs: &AttentionInputs,
        cache: Option<KvCacheView>,
        outputs: AttentionOutputs,
    ) {
        match self {
            Self::Processor(level) => forward(level, inputs, cache, outputs),
            Self::Portable16 => forward_simd(Portable16, inputs, cache, outputs),
        }
    }

    pub fn backward(
        self,
        inputs: &AttentionInputs,
        saved: BackwardInputs,
        d_qkv: Option<&mut [f32]>,
        d_prompt: Option<PromptGradients>,
    ) {
        let BackwardInputs { out, lse, d_out } = saved;
        match self {
            Self::Processor(level) => backward(level, inputs, out, lse, d_out, d_qkv, d_prompt),
            Self::Portable16 => backward_simd(Portable16, inputs, saved, d_qkv, d_prompt),
        }
    }
}

fn pseudo_random(len: usize, seed: u32) -> Vec<f32> {
    test_numbers::pseudo_random(u64::from(seed), len)
}

/// The shape of a case.
#[derive(Debug, Clone)]
pub struct CaseShape {
    pub heads: AttentionDims,
    /// Length and padding of each sequence.
    pub sequence_shapes: Vec<(usize, usize)>,
    /// Rows before each sequence that belong to none.
    pub gap: usize,
    pub rotated: bool,
    pub window: Option<usize>,
    /// Prompt length, and whether each sequence has its own prompt.
    pub prompt: Option<(usize, bool)>,
}

/// Attention inputs that own their data.
#[derive(Clone)]
pub struct AttentionCase {
    pub heads: AttentionDims,
    pub sequences: Vec<Sequence>,
    pub window: Option<usize>,
    pub qkv: Vec<f32>,
    pub rotation: Option<[Vec<f32>; 2]>,
    pub prompt: Option<OwnedPrompt>,
    pub d_out: Vec<f32>,
}

#[derive(Clone)]
pub struct OwnedPrompt {
    pub key: Vec<f32>,
    pub value: Vec<f32>,
    pub gate: Vec<f32>,
    pub lens: Vec<usize>,
    pub len: usize,
}

impl OwnedPrompt {
    pub fn view(&self) -> PromptView<'_> {
        PromptView {
            key: &self.key,
            value: &self.value,
            gate: &self.gate,
            batches: self.lens.len(),
            len: self.len,
            lens: Some(&self.lens),
        }
    }
}

/// All outputs and gradients.
#[derive(Debug, PartialEq)]
pub struct KernelOutputs {
    pub out: Vec<f32>,
    pub lse: Vec<f32>,
    pub d_qkv: Vec<f32>,
    pub d_key: Vec<f32>,
    pub d_value: Vec<f32>,
    pub d_gate: Vec<f32>,
}

impl AttentionCase {
    pub fn new(shape: &CaseShape, seed: u32) -> Self {
        let AttentionDims { heads, kv_heads, head_dim } = shape.heads;
        let mut rows = 0;
        let sequences: Vec<_> = shape
            .sequence_shapes
            .iter()
            .map(|&(len, padding)| {
                let first_row = rows + shape.gap;
                rows = first_row + len;
                Sequence { first_row, len, past: 0, padding }
            })
            .collect();
        rows += shape.gap;
        let angles = pseudo_random(rows * head_dim / 2, seed + 1);
        let rotation = shape.rotated.then(|| {
            [f32::cos, f32::sin].map(|function| angles.iter().map(|x| function(3.0 * x)).collect())
        });
        let prompt = shape.prompt.map(|(len, each)| {
            let batches = if each { sequences.len() } else { 1 };
            let size = batches * kv_heads * len * head_dim;
            OwnedPrompt {
                key: pseudo_random(size, seed + 2),
                value: pseudo_random(size, seed + 3),
                gate: pseudo_random(batches * heads, seed + 4),
                lens: (0..batches).map(|batch| len - batch.min(len - 1)).collect(),
                len,
            }
        });
        let mut qkv = pseudo_random(rows * (heads + 2 * kv_heads) * head_dim, seed);
        // Larger values make the scores differ more.
        for x in &mut qkv {
            *x *= 2.0;
        }
        let d_out = pseudo_random(rows * heads * head_dim, seed + 5);
        Self { heads: shape.heads, sequences, window: shape.window, qkv, rotation, prompt, d_out }
    }

    pub fn inputs(&self) -> AttentionInputs<'_> {
        AttentionInputs {
            heads: self.heads,
            qkv: &self.qkv,
            rotation: self.rotation.as_ref().map(|[cos, sin]| Rotation { cos, sin }),
            sequences: &self.sequences,
            window: self.window,
            prompts: self
                .prompt
                .as_ref()
                .map_or(Prompts::None, |prompt| Prompts::Stacked(prompt.view())),
        }
    }

    /// The prompts as the forward pass with a cache takes them.
    pub fn prompt_table(&self) -> PromptTable {
        let Some(prompt) = &self.prompt else { return PromptTable::default() };
        let batches = prompt.lens.len();
        let pack = |batch| PackedPrompt::pack(Portable16, self.heads, &prompt.view(), batch);
        let batch = |sequence| if batches == 1 { 0 } else { sequence as u32 };
        PromptTable {
            prompts: (0..batches).map(pack).collect(),
            of_sequence: (0..self.sequences.len())
                .map(|sequence| batch(sequence)..batch(sequence) + 1)
                .collect(),
        }
    }

    pub fn rows(&self) -> usize {
        let AttentionDims { heads, kv_heads, head_dim } = self.heads;
        self.qkv.len() / ((heads + 2 * kv_heads) * head_dim)
    }

    /// Output and log-sum-exps.
    pub fn forward(&self, level: TestLevel) -> [Vec<f32>; 2] {
        let rows = self.rows() * self.heads.heads;
        let mut found = [rows * self.heads.head_dim, rows].map(|len| vec![f32::NAN; len]);
        let [out, lse] = &mut found;
        let outputs = AttentionOutputs { heads: out, branch: None, lse: Some(lse) };
        level.forward(&self.inputs(), None, outputs);
        found
    }

    /// Runs the forward and the backward pass.
    pub fn run(&self, level: TestLevel) -> KernelOutputs {
        let [out, lse] = self.forward(level);
        let prompt = |part: fn(&OwnedPrompt) -> usize| self.prompt.as_ref().map_or(0, part);
        let mut found = KernelOutputs {
            d_qkv: vec![f32::NAN; self.qkv.len()],
            d_key: vec![f32::NAN; prompt(|p| p.key.len())],
            d_value: vec![f32::NAN; prompt(|p| p.value.len())],
            d_gate: vec![f32::NAN; prompt(|p| p.gate.len())],
            out,
            lse,
        };
        let KernelOutputs { out, lse, d_qkv, d_key, d_value, d_gate } = &mut found;
        let d_prompt = self.prompt.is_some().then_some(PromptGradients {
            key: d_key,
            value: d_value,
            gate: d_gate,
        });
        let saved = BackwardInputs { out, lse, d_out: &self.d_out };
        level.backward(&self.inputs(), saved, Some(d_qkv), d_prompt);
        found
    }

    /// Output and log-sum-exps of several passes with a cache: `pieces` new tokens at a time, then
    /// the rest. The cache has room for `spare` more tokens.
    pub fn forward_in_pieces(
        &self,
        level: TestLevel,
        pieces: &[usize],
        spare: usize,
    ) -> [Vec<f32>; 2] {
        let AttentionDims { heads, kv_heads, head_dim } = self.heads;
        let longest = self.sequences.iter().map(|sequence| sequence.len).max().unwrap_or(0);
        let blocks = (longest + spare).div_ceil(BLOCK_TOKENS);
        let size = self.sequences.len() * blocks * kv_heads * BLOCK_TOKENS * head_dim;
        let (mut keys, mut values) = (vec![f32::NAN; size], vec![f32::NAN; size]);
        // Blocks of all sequences alternate, the last come first.
        let mut tables = BlockTables::new();
        for sequence in 0..self.sequences.len() {
            let table = (0..blocks).rev().map(|block| block * self.sequences.len() + sequence);
            tables.push(&table.map(|block| block as u32).collect::<Vec<_>>());
        }
        let prompts = self.prompt_table();
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
            let inputs = AttentionInputs {
                sequences: &sequences,
                prompts: Prompts::Listed(&prompts),
                ..self.inputs()
            };
            let mut now = [rows * head_dim, rows].map(|len| vec![f32::NAN; len]);
            let [out, lse] = &mut now;
            let cache = KvCacheView { keys: &mut keys, values: &mut values, tables: &tables };
            let outputs = AttentionOutputs { heads: out, branch: None, lse: Some(lse) };
            level.forward(&inputs, Some(cache), outputs);
            for (all, now) in found.iter_mut().zip(&now) {
                // Rows of other pieces are zero.
                all.iter_mut().zip(now).for_each(|(all, now)| *all += now);
            }
        }
        found
    }
}

/// # Panics
/// If a value differs by more than 1e-5 of the largest.
#[track_caller]
pub fn assert_close(what: &str, found: &[f32], expected: &[f64]) {
    test_numbers::assert_close(what, found, expected, 1e-5 * largest(expected, 1e-3));
}
