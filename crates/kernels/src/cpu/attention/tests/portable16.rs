//! Sixteen lanes in plain Rust: tests the code for 16 lanes on processors without AVX-512.

use half::{bf16, f16};

use crate::cpu::simd::Simd;

const LANES: usize = 16;
type F = [f32; LANES];

/// Vectors of 16 lanes with the tile size of AVX-512.
#[derive(Debug, Clone, Copy)]
pub struct Portable16;

fn zip(a: F, b: F, work: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| work(a[i], b[i]))
}

impl Simd for Portable16 {
    type F = F;
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 12;

    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    fn splat(self, value: f32) -> F {
        [value; LANES]
    }

    unsafe fn load(self, from: *const f32) -> F {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        unsafe { from.cast::<F>().read() }
    }

    unsafe fn store(self, to: *mut f32, value: F) {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        unsafe { to.cast::<F>().write(value) }
    }

    unsafe fn load_bf16(self, _from: *const bf16) -> F {
        unimplemented!("attention reads f32 only")
    }

    unsafe fn load_f16(self, _from: *const f16) -> F {
        unimplemented!("attention reads f32 only")
    }

    unsafe fn load_u8(self, _from: *const u8) -> F {
        unimplemented!("attention reads f32 only")
    }

    unsafe fn load_nibbles(self, _from: *const u8) -> (F, F) {
        unimplemented!("attention reads f32 only")
    }

    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }

    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }

    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }

    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }

    fn max(self, a: F, b: F) -> F {
        zip(a, b, f32::max)
    }

    fn min(self, a: F, b: F) -> F {
        zip(a, b, f32::min)
    }

    fn mul_add(self, a: F, b: F, c: F) -> F {
        std::array::from_fn(|i| a[i] * b[i] + c[i])
    }

    fn power_of_two(self, n: F) -> F {
        n.map(f32::exp2)
    }

    fn reduce_sum(self, a: F) -> f32 {
        a.into_iter().sum()
    }

    fn reduce_max(self, a: F) -> f32 {
        a.into_iter().fold(f32::MIN, f32::max)
    }
}
