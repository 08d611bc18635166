//! SwiGLU, `silu(gate) * up`, and its gradient: one unit an element.
//!
//! Gates and ups are two tensors, or the halves of each row of one.

use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;

use super::launch::cube_count;
use super::tensors::{buffer, dims, empty, empty_like};

/// Units of a cube.
const UNITS: usize = 256;

/// # Shapes
/// - `gate`, `up` and output: the same
pub(super) fn swiglu_pair(gate: &CubeTensor, up: &CubeTensor) -> CubeTensor {
    let elements = elements_of(&[gate, up]);
    let out = empty_like(gate);
    // SAFETY: the kernel reads and writes the first `elements` elements, which all tensors have.
    unsafe {
        pair_kernel::launch_unchecked(
            &gate.client,
            cube_count(elements.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            buffer(gate),
            buffer(up),
            buffer(&out),
            elements as u32,
        );
    }
    out
}

/// The gradients of gates and ups.
pub(super) fn swiglu_pair_backward(
    gate: &CubeTensor,
    up: &CubeTensor,
    d_out: &CubeTensor,
) -> [CubeTensor; 2] {
    let elements = elements_of(&[gate, up, d_out]);
    let [d_gate, d_up] = [empty_like(gate), empty_like(gate)];
    // SAFETY: as in `swiglu_pair`.
    unsafe {
        pair_backward_kernel::launch_unchecked(
            &gate.client,
            cube_count(elements.div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            buffer(gate),
            buffer(up),
            buffer(d_out),
            buffer(&d_gate),
            buffer(&d_up),
            elements as u32,
        );
    }
    [d_gate, d_up]
}

/// # Shapes
/// - `gate_up`: `[n, 2 * width]`, gates first
/// - output: `[n, width]`
pub(super) fn swiglu(gate_up: &CubeTensor) -> CubeTensor {
    let [n, both] = dims(gate_up);
    let width = both / 2;
    let out = empty(gate_up, [n, width]);
    // SAFETY: the kernel reads `n` rows of `2 * width` elements and writes `n` rows of `width`.
    unsafe {
        joined_kernel::launch_unchecked(
            &gate_up.client,
            cube_count((n * width).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            buffer(gate_up),
            buffer(&out),
            (n * width) as u32,
            width as u32,
        );
    }
    out
}

/// The gradient of `gate_up`.
pub(super) fn swiglu_backward(gate_up: &CubeTensor, d_out: &CubeTensor) -> CubeTensor {
    let [n, both] = dims(gate_up);
    let width = both / 2;
    assert_eq!(d_out.meta.num_elements(), n * width, "elements of the gradient");
    let d_gate_up = empty_like(gate_up);
    // SAFETY: as in `swiglu`; `d_gate_up` has the shape of `gate_up`, `d_out` that of the output.
    unsafe {
        joined_backward_kernel::launch_unchecked(
            &gate_up.client,
            cube_count((n * width).div_ceil(UNITS)),
            CubeDim::new_1d(UNITS as u32),
            buffer(gate_up),
            buffer(d_out),
            buffer(&d_gate_up),
            (n * width) as u32,
            width as u32,
        );
    }
    d_gate_up
}

fn elements_of(tensors: &[&CubeTensor]) -> usize {
    let elements = tensors[0].meta.num_elements();
    for tensor in tensors {
        assert_eq!(tensor.meta.num_elements(), elements, "elements of gates, ups and gradients");
    }
    elements
}

#[cube]
fn sigmoid(x: f32) -> f32 {
    1.0f32 / (1.0f32 + (-x).exp())
}

/// The derivative of g·σ(g) is σ(g)·(1 + g·(1 - σ(g))).
#[cube]
fn silu_slope(gate: f32) -> f32 {
    let sigmoid = sigmoid(gate);
    sigmoid * (1.0f32 + gate * (1.0f32 - sigmoid))
}

#[cube(launch_unchecked)]
fn pair_kernel(gate: &[f32], up: &[f32], out: &mut [f32], elements: u32) {
    let at = ABSOLUTE_POS;
    if at < elements as usize {
        let gate = gate[at];
        out[at] = gate * sigmoid(gate) * up[at];
    }
}

#[cube(launch_unchecked)]
fn pair_backward_kernel(
    gate: &[f32],
    up: &[f32],
    d_out: &[f32],
    d_gate: &mut [f32],
    d_up: &mut [f32],
    elements: u32,
) {
    let at = ABSOLUTE_POS;
    if at < elements as usize {
        let gate = gate[at];
        let d_out = d_out[at];
        d_gate[at] = d_out * up[at] * silu_slope(gate);
        d_up[at] = d_out * gate * sigmoid(gate);
    }
}

#[cube(launch_unchecked)]
fn joined_kernel(gate_up: &[f32], out: &mut [f32], elements: u32, width: u32) {
    let at = ABSOLUTE_POS;
    if at < elements as usize {
        let width = width as usize;
        let first = at / width * width + at;
        let gate = gate_up[first];
        out[at] = gate * sigmoid(gate) * gate_up[first + width];
    }
}

#[cube(launch_unchecked)]
fn joined_backward_kernel(
    gate_up: &[f32],
    d_out: &[f32],
    d_gate_up: &mut [f32],
    elements: u32,
    width: u32,
) {
    let at = ABSOLUTE_POS;
    if at < elements as usize {
        let width = width as usize;
        let first = at / width * width + at;
        let gate = gate_up[first];
        let d_out = d_out[at];
        d_gate_up[first] = d_out * gate_up[first + width] * silu_slope(gate);
        d_gate_up[first + width] = d_out * gate * sigmoid(gate);
    }
}
