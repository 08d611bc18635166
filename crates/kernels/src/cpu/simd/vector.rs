//! The operations of an instruction set.

use half::{bf16, f16};

/// Operations on vectors of `LANES` f32.
pub trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` f32.
    type F: Copy;
    /// Elements of a vector: 8 or 16.
    const LANES: usize;
    /// Rows of a tile of two vectors whose sums fit into the registers: 2, 6 or 12.
    const TILE_ROWS: usize;

    /// Runs `work`. What is inlined into it is compiled for this instruction set.
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R;

    /// A vector with the same value in every lane.
    fn splat(self, value: f32) -> Self::F;
    /// Loads `LANES` elements.
    ///
    /// # Safety
    /// `from` points to `LANES` elements.
    unsafe fn load(self, from: *const f32) -> Self::F;
    /// Stores `LANES` elements.
    ///
    /// # Safety
    /// `to` points to `LANES` writable elements.
    unsafe fn store(self, to: *mut f32, value: Self::F);
    /// Loads `LANES` elements and converts them.
    ///
    /// # Safety
    /// `from` points to `LANES` elements.
    unsafe fn load_bf16(self, from: *const bf16) -> Self::F;
    /// Loads `LANES` elements and converts them.
    ///
    /// # Safety
    /// `from` points to `LANES` elements.
    unsafe fn load_f16(self, from: *const f16) -> Self::F;
    /// Loads `LANES` bytes and converts them to values from 0 to 255.
    ///
    /// # Safety
    /// `from` points to `LANES` bytes.
    unsafe fn load_u8(self, from: *const u8) -> Self::F;
    /// Loads `LANES` bytes and converts their low and their high four bits.
    ///
    /// # Safety
    /// `from` points to `LANES` bytes.
    unsafe fn load_nibbles(self, from: *const u8) -> (Self::F, Self::F);

    /// `a + b`
    fn add(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a - b`
    fn sub(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b`
    fn mul(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a / b`
    fn div(self, a: Self::F, b: Self::F) -> Self::F;
    /// The larger of both; `b` if either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller of both; `b` if either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once if the processor has such an instruction.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `2^n` for integral `n` from -126 to 127.
    fn power_of_two(self, n: Self::F) -> Self::F;
    /// The sum of all lanes.
    fn reduce_sum(self, a: Self::F) -> f32;
    /// The largest lane.
    fn reduce_max(self, a: Self::F) -> f32;

    /// Transposes 16 x 16 elements.
    #[inline(always)]
    fn transpose_16x16(self, from: &[f32; 256], to: &mut [f32; 256]) {
        for (column, to) in to.chunks_exact_mut(16).enumerate() {
            for (to, from) in to.iter_mut().zip(from.chunks_exact(16)) {
                *to = from[column];
            }
        }
    }

    /// `e^x` within 2 units in the last place; at most 1.2e-38 below -87.3, and at most 2.4e38.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        /// Adding it to a value rounds the value to an integer.
        const ROUND: f32 = 12_582_912.0;
        // The argument is clamped. The result for smaller ones, 2^-126, is 0 compared with any
        // other exponential. NaN is the second operand of `min` and `max`, which return it: the
        // result is NaN.
        let x = self.min(self.splat(88.3), self.max(self.splat(-87.3), x));
        let rounded = self.mul_add(x, self.splat(std::f32::consts::LOG2_E), self.splat(ROUND));
        let n = self.sub(rounded, self.splat(ROUND));
        // ln 2 in two parts, so that the remainder is exact.
        let rest = self.mul_add(n, self.splat(-0.693_359_4), x);
        let rest = self.mul_add(n, self.splat(2.121_944_4e-4), rest);
        let mut p = self.splat(1.987_569_1e-4);
        for c in [1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5] {
            p = self.mul_add(p, rest, self.splat(c));
        }
        let p = self.mul_add(self.mul(p, rest), rest, rest);
        self.mul(self.add(p, self.splat(1.0)), self.power_of_two(n))
    }

    /// `1 / (1 + e^-x)`
    #[inline(always)]
    fn sigmoid(self, x: Self::F) -> Self::F {
        let one = self.splat(1.0);
        self.div(one, self.add(one, self.exp(self.sub(self.splat(0.0), x))))
    }

    /// Loads the first `LANES` elements of a slice.
    ///
    /// # Panics
    /// If the slice is shorter.
    #[inline(always)]
    fn read(self, from: &[f32]) -> Self::F {
        let from = &from[..Self::LANES];
        // SAFETY: the slice has LANES elements.
        unsafe { self.load(from.as_ptr()) }
    }

    /// Overwrites the first `LANES` elements of a slice.
    ///
    /// # Panics
    /// If the slice is shorter.
    #[inline(always)]
    fn write(self, to: &mut [f32], value: Self::F) {
        let to = &mut to[..Self::LANES];
        // SAFETY: the slice has LANES elements.
        unsafe { self.store(to.as_mut_ptr(), value) }
    }
}

/// Prefetches the cache line at an address, which need not be valid.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has the instruction, and it does not fault on any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
