//! Rotary embedding, and the layouts that products read.

use crate::cpu::simd::Simd;

use super::{AttentionInputs, PANEL, Sequence};

/// Cosines and sines of a row, if it is rotated.
pub type Turn<'a> = Option<(&'a [f32], &'a [f32])>;

/// `to = scale * rotated(from)`
#[inline(always)]
pub fn rotate<S: Simd>(simd: S, from: &[f32], turn: Turn, scale: f32, to: &mut [f32]) {
    turn_by(simd, from, turn, 1.0, scale, to);
}

/// `to = scale * from`, rotated by the opposite angles: the gradient of [`rotate`].
#[inline(always)]
pub fn rotate_backward<S: Simd>(simd: S, from: &[f32], turn: Turn, scale: f32, to: &mut [f32]) {
    turn_by(simd, from, turn, -1.0, scale, to);
}

#[inline(always)]
fn turn_by<S: Simd>(simd: S, from: &[f32], turn: Turn, direction: f32, scale: f32, to: &mut [f32]) {
    let to = &mut to[..from.len()];
    let Some((cos, sin)) = turn else { return scaled(simd, from, scale, to) };
    let half = from.len() / 2;
    let (first, second) = (&from[..half], &from[half..2 * half]);
    let (to_first, to_second) = to.split_at_mut(half);
    let (to_second, cos, sin) = (&mut to_second[..half], &cos[..half], &sin[..half]);
    let [scale_vector, sin_scale] = [scale, direction * scale].map(|factor| simd.splat(factor));
    let whole = half / S::LANES * S::LANES;
    for i in (0..whole).step_by(S::LANES) {
        let [first, second] = [first, second].map(|from| simd.read(&from[i..]));
        let cos = simd.mul(simd.read(&cos[i..]), scale_vector);
        let sin = simd.mul(simd.read(&sin[i..]), sin_scale);
        let less = simd.mul(second, sin);
        simd.write(&mut to_first[i..], simd.sub(simd.mul(first, cos), less));
        simd.write(&mut to_second[i..], simd.mul_add(second, cos, simd.mul(first, sin)));
    }
    for i in whole..half {
        let (cos, sin) = (scale * cos[i], scale * direction * sin[i]);
        to_first[i] = first[i] * cos - second[i] * sin;
        to_second[i] = second[i] * cos + first[i] * sin;
    }
}

/// `to = factor * from`
#[inline(always)]
pub fn scaled<S: Simd>(simd: S, from: &[f32], factor: f32, to: &mut [f32]) {
    let factor_vector = simd.splat(factor);
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        simd.write(to, simd.mul(simd.read(from), factor_vector));
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to = factor * from;
    }
}

/// `to += factor * from`
#[inline(always)]
pub fn add_scaled<S: Simd>(simd: S, from: &[f32], factor: f32, to: &mut [f32]) {
    let factor_vector = simd.splat(factor);
    let (mut from, mut to) = (from.chunks_exact(S::LANES), to.chunks_exact_mut(S::LANES));
    for (from, to) in from.by_ref().zip(to.by_ref()) {
        simd.write(to, simd.mul_add(simd.read(from), factor_vector, simd.read(to)));
    }
    for (from, to) in from.remainder().iter().zip(to.into_remainder()) {
        *to += factor * from;
    }
}

/// Puts `rows`, of `head_dim` numbers and `row` apart, into panels of keys from slot `first` on.
/// `panels` starts with that slot's panel.
pub fn pack_key_panels<S: Simd>(
    simd: S,
    rows: &[f32],
    row: usize,
    head_dim: usize,
    first: usize,
    panels: &mut [f32],
) {
    let count = if rows.len() < head_dim { 0 } else { (rows.len() - head_dim) / row + 1 };
    let mut lane = first % PANEL;
    let mut done = 0;
    for panel in panels.chunks_exact_mut(PANEL * head_dim) {
        let lanes = (PANEL - lane).min(count - done);
        let rows = &rows[(done * row).min(rows.len())..];
        simd.vectorize(
            #[inline(always)]
            || {
                if lanes == PANEL {
                    let rows: [&[f32]; PANEL] =
                        std::array::from_fn(|i| &rows[i * row..][..head_dim]);
                    for (d, to) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                        *to = std::array::from_fn(|i| rows[i][d]);
                    }
                } else {
                    for i in 0..lanes {
                        let from = &rows[i * row..][..head_dim];
                        for (to, from) in panel.chunks_exact_mut(PANEL).zip(from) {
                            to[lane + i] = *from;
                        }
                    }
                }
            },
        );
        done += lanes;
        lane = 0;
        if done == count {
            return;
        }
    }
    assert!(done == count, "{count} rows in too few panels");
}

/// Writes the rotated keys and the values of a sequence's new tokens: `keys` and `values` are
/// those of all its slots.
pub fn append_kv<S: Simd>(
    simd: S,
    inputs: &AttentionInputs,
    sequence: &Sequence,
    kv_head: usize,
    buffer: &mut [f32],
    keys: &mut [f32],
    values: &mut [f32],
) {
    let head_dim = inputs.heads.head_dim;
    let Sequence { first_row, len, past, .. } = *sequence;
    let mut done = 0;
    while done < len {
        let slot = past + done;
        let count = (PANEL - slot % PANEL).min(len - done);
        let rows = &mut buffer[..count * head_dim];
        simd.vectorize(
            #[inline(always)]
            || {
                for (i, to) in rows.chunks_exact_mut(head_dim).enumerate() {
                    let row = first_row + done + i;
                    rotate(simd, inputs.key(row, kv_head), inputs.turn(row), 1.0, to);
                }
            },
        );
        let panel = &mut keys[slot / PANEL * PANEL * head_dim..][..PANEL * head_dim];
        pack_key_panels(simd, rows, head_dim, head_dim, slot, panel);
        for i in 0..count {
            let value = inputs.value(first_row + done + i, kv_head);
            values[(slot + i) * head_dim..][..head_dim].copy_from_slice(value);
        }
        done += count;
    }
}

/// Copies rows of `head_dim` numbers into rows of `width`, filled up with zeros.
pub fn widen(rows: &[f32], head_dim: usize, width: usize, to: &mut [f32]) {
    for (from, to) in rows.chunks_exact(head_dim).zip(to.chunks_exact_mut(width)) {
        to[..head_dim].copy_from_slice(from);
        to[head_dim..].fill(0.0);
    }
}
