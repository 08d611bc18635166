//! Eight lanes of plain Rust.

use half::{bf16, f16};

use super::vector::Simd;

/// Plain Rust, for every processor.
#[derive(Debug, Clone, Copy)]
pub struct Portable;

const LANES: usize = 8;
type F = [f32; LANES];

#[inline(always)]
fn zip(a: F, b: F, work: impl Fn(f32, f32) -> f32) -> F {
    std::array::from_fn(|i| work(a[i], b[i]))
}

impl Simd for Portable {
    type F = F;
    const LANES: usize = LANES;
    const TILE_ROWS: usize = 2;

    #[inline(always)]
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R {
        work()
    }

    #[inline(always)]
    fn splat(self, value: f32) -> F {
        [value; LANES]
    }

    #[inline(always)]
    unsafe fn load(self, from: *const f32) -> F {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        unsafe { from.cast::<F>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: F) {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        unsafe { to.cast::<F>().write(value) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const bf16) -> F {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        let elements = unsafe { from.cast::<[bf16; LANES]>().read() };
        elements.map(|element| f32::from_bits(u32::from(element.to_bits()) << 16))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const f16) -> F {
        // SAFETY: the caller guarantees LANES elements; an array is aligned as its elements are.
        unsafe { from.cast::<[f16; LANES]>().read() }.map(f16::to_f32)
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> F {
        // SAFETY: the caller guarantees LANES bytes.
        unsafe { from.cast::<[u8; LANES]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> (F, F) {
        // SAFETY: the caller guarantees LANES bytes.
        let bytes = unsafe { from.cast::<[u8; LANES]>().read() };
        (bytes.map(|byte| f32::from(byte & 15)), bytes.map(|byte| f32::from(byte >> 4)))
    }

    #[inline(always)]
    fn add(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: F, b: F) -> F {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn max(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn min(self, a: F, b: F) -> F {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn mul_add(self, a: F, b: F, c: F) -> F {
        // Without such an instruction, `f32::mul_add` calls the C library for each lane.
        if cfg!(target_arch = "aarch64") {
            std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
        } else {
            std::array::from_fn(|i| a[i] * b[i] + c[i])
        }
    }

    #[inline(always)]
    fn power_of_two(self, n: F) -> F {
        n.map(|n| f32::from_bits(((n as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn reduce_sum(self, a: F) -> f32 {
        let [a, b, c, d, e, f, g, h] = a;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn reduce_max(self, a: F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}
