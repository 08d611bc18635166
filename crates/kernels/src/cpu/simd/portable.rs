//! Eight lanes of plain Rust.

use super::Simd;

/// What every processor can do.
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
    const ROWS: usize = 2;

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
        // SAFETY: the caller's; an array of f32 is aligned as f32.
        unsafe { from.cast::<F>().read() }
    }

    #[inline(always)]
    unsafe fn store(self, to: *mut f32, value: F) {
        // SAFETY: the caller's; an array of f32 is aligned as f32.
        unsafe { to.cast::<F>().write(value) }
    }

    #[inline(always)]
    unsafe fn load_bf16(self, from: *const u16) -> F {
        // SAFETY: the caller's.
        let bits = unsafe { from.cast::<[u16; LANES]>().read() };
        bits.map(|bits| f32::from_bits(u32::from(bits) << 16))
    }

    #[inline(always)]
    unsafe fn load_f16(self, from: *const u16) -> F {
        // SAFETY: the caller's.
        let bits = unsafe { from.cast::<[u16; LANES]>().read() };
        bits.map(|bits| half::f16::from_bits(bits).to_f32())
    }

    #[inline(always)]
    unsafe fn load_u8(self, from: *const u8) -> F {
        // SAFETY: the caller's.
        unsafe { from.cast::<[u8; LANES]>().read() }.map(f32::from)
    }

    #[inline(always)]
    unsafe fn load_nibbles(self, from: *const u8) -> (F, F) {
        // SAFETY: the caller's.
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
        // Where it is no instruction it is a call of the C library for each lane.
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
    fn sum(self, a: F) -> f32 {
        let [a, b, c, d, e, f, g, h] = a;
        ((a + e) + (c + g)) + ((b + f) + (d + h))
    }

    #[inline(always)]
    fn largest(self, a: F) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |a, b| if b > a { b } else { a })
    }
}
