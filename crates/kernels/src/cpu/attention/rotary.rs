//! Rotary embedding of one head: rotates the pairs `(x[i], x[i + head_dim / 2])`.

use crate::cpu::elementwise::scale_into;
use crate::cpu::simd::Simd;

/// Cosines and sines of a row, `[head_dim / 2]` each; `None` without rotary embedding.
pub type CosSin<'a> = Option<(&'a [f32], &'a [f32])>;

/// `to = scale * rotated(from)`
#[inline(always)]
pub fn rotate<S: Simd>(simd: S, from: &[f32], cos_sin: CosSin, scale: f32, to: &mut [f32]) {
    rotate_by(simd, from, cos_sin, 1.0, scale, to);
}

/// `to = scale * from`, rotated by the negative angles: the gradient of [`rotate`].
#[inline(always)]
pub fn rotate_backward<S: Simd>(
    simd: S,
    from: &[f32],
    cos_sin: CosSin,
    scale: f32,
    to: &mut [f32],
) {
    rotate_by(simd, from, cos_sin, -1.0, scale, to);
}

#[inline(always)]
fn rotate_by<S: Simd>(
    simd: S,
    from: &[f32],
    cos_sin: CosSin,
    direction: f32,
    scale: f32,
    to: &mut [f32],
) {
    let to = &mut to[..from.len()];
    let Some((cos, sin)) = cos_sin else { return scale_into(simd, from, scale, to) };
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
        let second_sin = simd.mul(second, sin);
        simd.write(&mut to_first[i..], simd.sub(simd.mul(first, cos), second_sin));
        simd.write(&mut to_second[i..], simd.mul_add(second, cos, simd.mul(first, sin)));
    }
    for i in whole..half {
        let (cos, sin) = (scale * cos[i], scale * direction * sin[i]);
        to_first[i] = first[i] * cos - second[i] * sin;
        to_second[i] = second[i] * cos + first[i] * sin;
    }
}
