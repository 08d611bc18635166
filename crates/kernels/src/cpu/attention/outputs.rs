//! The outputs of attention, which tasks write to.

use crate::cpu::elementwise::{add_scaled, scale_into};
use crate::cpu::simd::Simd;
use crate::cpu::threads::SharedSlice;

use super::online_softmax::OnlineSoftmax;

/// The outputs of the forward pass.
#[derive(Debug)]
pub struct AttentionOutputs<'a> {
    /// `[rows, heads head_dim]`
    pub heads: &'a mut [f32],
    /// What the prompts add, `[rows, heads head_dim]`; `None` if it is added to `heads`.
    pub branch: Option<&'a mut [f32]>,
    /// The log-sum-exp of each token's causal scores, without the prompts', `[rows, heads]`:
    /// [`backward`](super::backward()) needs it.
    pub lse: Option<&'a mut [f32]>,
}

/// Outputs that several tasks write to.
#[derive(Debug)]
pub struct SharedOutputs<'a> {
    heads: SharedSlice<'a, f32>,
    branch: Option<SharedSlice<'a, f32>>,
    lse: Option<SharedSlice<'a, f32>>,
    head_dim: usize,
}

impl<'a> SharedOutputs<'a> {
    /// Shares the outputs for as long as they are borrowed.
    pub fn new(outputs: AttentionOutputs<'a>, head_dim: usize) -> Self {
        let AttentionOutputs { heads, branch, lse } = outputs;
        let [branch, lse] = [branch, lse].map(|output| output.map(SharedSlice::new));
        Self { heads: SharedSlice::new(heads), branch, lse, head_dim }
    }

    /// Writes the attention to the text of one head of a token: row `row` of `sums`.
    ///
    /// # Safety
    /// Nobody else accesses output `at`, which is `token * heads + head`.
    #[inline(always)]
    pub unsafe fn write_text<S: Simd>(
        &self,
        simd: S,
        at: usize,
        sums: &OnlineSoftmax,
        row: usize,
        width: usize,
    ) {
        let Self { heads, lse, head_dim, .. } = self;
        let total = sums.denominators[row];
        let values = &sums.values[row * width..][..*head_dim];
        // SAFETY: the caller guarantees that nobody else accesses them.
        let out = unsafe { heads.slice_mut(at * head_dim, *head_dim) };
        scale_into(simd, values, total.recip(), out);
        if let Some(lse) = lse {
            // SAFETY: as above.
            let lse = unsafe { lse.slice_mut(at, 1) };
            lse[0] = sums.maxima[row] + total.ln();
        }
    }

    /// Adds the attention to a prompt, times its gate, as [`write_text`](Self::write_text).
    ///
    /// # Safety
    /// As [`write_text`](Self::write_text).
    #[inline(always)]
    pub unsafe fn add_prompt<S: Simd>(
        &self,
        simd: S,
        at: usize,
        gate: f32,
        sums: &OnlineSoftmax,
        row: usize,
        width: usize,
    ) {
        // A zero gate changes no bit, not even the sign of a zero.
        if gate == 0.0 {
            return;
        }
        let Self { heads, branch, head_dim, .. } = self;
        let values = &sums.values[row * width..][..*head_dim];
        let to = branch.as_ref().unwrap_or(heads);
        // SAFETY: the caller guarantees that nobody else accesses them.
        let to = unsafe { to.slice_mut(at * head_dim, *head_dim) };
        add_scaled(simd, values, gate / sums.denominators[row], to);
    }
}
