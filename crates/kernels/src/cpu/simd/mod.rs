//! Vectors of f32, with the instruction set chosen at run time.
//!
//! ```text
//! Level::best() ─► dispatch!(level, simd => kernel(simd, ...)) ─┬─► Portable   8 lanes of plain Rust
//!                                                              ├─► Avx2       8 lanes, FMA
//!                                                              └─► Avx512    16 lanes, FMA
//! ```
//!
//! Two more levels have products of bf16 numbers, and use `Avx512` for everything else.
//!
//! A kernel is written once, generic over [`Simd`], with `#[inline(always)]` on it and on all it
//! calls; [`Simd::vectorize`] compiles it anew for each instruction set. One binary serves all.
//!
//! The types are proofs: an [`Avx2`] can only be had where the processor knows AVX2, so its
//! methods need no check.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod avx512_bf16;
mod portable;

use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
pub use amx::Amx;
#[cfg(target_arch = "x86_64")]
pub use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub use avx512::Avx512;
#[cfg(target_arch = "x86_64")]
pub use avx512_bf16::Avx512Bf16;
pub use portable::Portable;

/// Operations on `LANES` numbers at once.
pub trait Simd: Copy + Send + Sync + 'static {
    /// `LANES` numbers.
    type F: Copy;
    /// How many numbers there are in a vector: 8 or 16.
    const LANES: usize;
    /// Rows of a tile of two vectors whose sums have room in the registers: 2, 6 or 12.
    const ROWS: usize;

    /// Runs `work`, compiled for this instruction set as far as it is inlined.
    fn vectorize<R>(self, work: impl FnOnce() -> R) -> R;

    /// The same number in every lane.
    fn splat(self, value: f32) -> Self::F;
    /// Reads `LANES` numbers.
    ///
    /// # Safety
    /// `from` points to `LANES` numbers.
    unsafe fn load(self, from: *const f32) -> Self::F;
    /// Writes `LANES` numbers.
    ///
    /// # Safety
    /// `to` points to room for `LANES` numbers.
    unsafe fn store(self, to: *mut f32, value: Self::F);
    /// Reads `LANES` bfloat16 numbers.
    ///
    /// # Safety
    /// `from` points to `LANES` numbers.
    unsafe fn load_bf16(self, from: *const u16) -> Self::F;
    /// Reads `LANES` IEEE half-precision numbers.
    ///
    /// # Safety
    /// `from` points to `LANES` numbers.
    unsafe fn load_f16(self, from: *const u16) -> Self::F;
    /// Reads `LANES` bytes, each a number from 0 to 255.
    ///
    /// # Safety
    /// `from` points to `LANES` bytes.
    unsafe fn load_u8(self, from: *const u8) -> Self::F;
    /// Reads `LANES` bytes and gives their low and their high four bits.
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
    /// The larger one; the second where either is NaN.
    fn max(self, a: Self::F, b: Self::F) -> Self::F;
    /// The smaller one; the second where either is NaN.
    fn min(self, a: Self::F, b: Self::F) -> Self::F;
    /// `a * b + c`, rounded once where the processor can.
    fn mul_add(self, a: Self::F, b: Self::F, c: Self::F) -> Self::F;
    /// `2^n` for whole `n` from -126 to 127.
    fn power_of_two(self, n: Self::F) -> Self::F;
    /// The sum of all lanes.
    fn sum(self, a: Self::F) -> f32;
    /// The largest lane.
    fn largest(self, a: Self::F) -> f32;

    /// 16 x 16 numbers turned over: columns become rows.
    #[inline(always)]
    fn turn(self, from: &[f32; 256], to: &mut [f32; 256]) {
        for (column, to) in to.chunks_exact_mut(16).enumerate() {
            for (to, from) in to.iter_mut().zip(from.chunks_exact(16)) {
                *to = from[column];
            }
        }
    }

    /// `e^x` within 2 units in the last place; 0 below -87.3, and no more than 2.4e38.
    #[inline(always)]
    fn exp(self, x: Self::F) -> Self::F {
        /// Adding it to a number rounds that to a whole one.
        const ROUND: f32 = 12_582_912.0;
        // Below the range the result is multiplied by 2^-126 twice over: 1.2e-38 at the most,
        // which stands for 0 beside any other exponential.
        // Of a NaN and a limit the second operand is taken: a NaN stays one.
        let x = self.min(self.splat(88.3), self.max(self.splat(-87.3), x));
        let rounded = self.mul_add(x, self.splat(std::f32::consts::LOG2_E), self.splat(ROUND));
        let n = self.sub(rounded, self.splat(ROUND));
        // ln 2 in two parts, so that the rest is exact.
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

    /// The first `LANES` numbers of a slice.
    ///
    /// # Panics
    /// If it has fewer.
    #[inline(always)]
    fn read(self, from: &[f32]) -> Self::F {
        let from = &from[..Self::LANES];
        // SAFETY: the slice has LANES numbers.
        unsafe { self.load(from.as_ptr()) }
    }

    /// Replaces the first `LANES` numbers of a slice.
    ///
    /// # Panics
    /// If it has fewer.
    #[inline(always)]
    fn write(self, to: &mut [f32], value: Self::F) {
        let to = &mut to[..Self::LANES];
        // SAFETY: the slice has room for LANES numbers.
        unsafe { self.store(to.as_mut_ptr(), value) }
    }
}

/// Asks for the cache line at an address ahead of its use; any address will do.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every such processor has the instruction, and it never fails.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(at.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// An instruction set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SimdLevel {
    /// Plain Rust, whatever the compiler makes of it: SSE2 on x86-64, NEON on ARM.
    Portable,
    /// AVX2, FMA and F16C.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// As `Avx512`; products with matrices in bf16 round what goes in to bf16.
    Avx512Bf16,
    /// As `Avx512Bf16`, such products in AMX's tiles.
    Amx,
}

impl fmt::Display for SimdLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Portable => "plain Rust",
            Self::Avx2 => "AVX2",
            Self::Avx512 => "AVX-512",
            Self::Avx512Bf16 => "AVX512-BF16",
            Self::Amx => "AMX",
        })
    }
}

impl SimdLevel {
    /// Those that this processor has, from the slowest to the fastest.
    pub fn available() -> Vec<Self> {
        let mut levels = vec![Self::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            levels.extend(Avx2::new().map(|_| Self::Avx2));
            levels.extend(Avx512::new().map(|_| Self::Avx512));
            levels.extend(Avx512Bf16::new().map(|_| Self::Avx512Bf16));
            levels.extend(Amx::new().map(|_| Self::Amx));
        }
        levels
    }

    /// Whether products of more than a few rows with matrices in bf16 round what goes in to bf16.
    pub fn rounds_inputs_to_bf16(self) -> bool {
        self >= Self::Avx512Bf16
    }

    /// The fastest that this processor has.
    pub fn best() -> Self {
        static BEST: OnceLock<SimdLevel> = OnceLock::new();
        *BEST.get_or_init(|| *Self::available().last().expect("one is always there"))
    }
}

/// Runs an expression with `$simd` bound to the instruction set of a [`Level`], compiled for it.
///
/// # Panics
/// If the processor lacks it.
macro_rules! dispatch {
    ($level:expr, $simd:ident => $work:expr) => {
        match $level {
            $crate::cpu::simd::SimdLevel::Portable => {
                let $simd = $crate::cpu::simd::Portable;
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::SimdLevel::Avx2 => {
                let $simd = $crate::cpu::simd::Avx2::new().expect("the level is available");
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(target_arch = "x86_64")]
            $crate::cpu::simd::SimdLevel::Avx512
            | $crate::cpu::simd::SimdLevel::Avx512Bf16
            | $crate::cpu::simd::SimdLevel::Amx => {
                let $simd = $crate::cpu::simd::Avx512::new().expect("the level is available");
                $crate::cpu::simd::Simd::vectorize(
                    $simd,
                    #[inline(always)]
                    || $work,
                )
            }
            #[cfg(not(target_arch = "x86_64"))]
            level => panic!("{level:?} on another kind of processor"),
        }
    };
}
pub(crate) use dispatch;

#[cfg(test)]
mod tests {
    use super::*;

    /// Applies `work` to vectors filled from `values`, at every level, and gives what it made of them.
    fn at_every_level(values: &[f32; 16], work: impl Fn(SimdLevel, &[f32; 16]) -> Vec<f32>) {
        let expected = work(SimdLevel::Portable, values);
        for level in SimdLevel::available() {
            let found = work(level, values);
            for (found, expected) in found.iter().zip(&expected) {
                let error = (found - expected).abs() / expected.abs().max(1e-30);
                assert!(error < 3e-7, "{level:?}: {found} instead of {expected}");
            }
        }
    }

    fn map<S: Simd>(simd: S, values: &[f32; 16], work: impl Fn(S::F) -> S::F) -> Vec<f32> {
        let mut out = vec![0.0; 16];
        for (from, to) in values.chunks(S::LANES).zip(out.chunks_mut(S::LANES)) {
            simd.write(to, work(simd.read(from)));
        }
        out
    }

    const VALUES: [f32; 16] = [
        0.0, 1.0, -1.0, 0.3, -0.7, 10.0, -10.0, 87.0, -87.0, 1e-8, -1e-8, 5.5, -33.3, 2.5, 88.0,
        -60.0,
    ];

    #[test]
    fn exponentials_are_right_to_the_last_places() {
        at_every_level(&VALUES, |level, values| {
            let found = dispatch!(level, simd => map(simd, values, |x| simd.exp(x)));
            for (found, value) in found.iter().zip(values) {
                let right = f64::from(*value).exp();
                let error = (f64::from(*found) - right).abs() / right;
                assert!(error < 2.5e-7, "{level:?}: exp({value}) is {found}, not {right}");
            }
            found
        });
        for level in SimdLevel::available() {
            let nan = dispatch!(level, simd => map(simd, &[f32::NAN; 16], |x| simd.exp(x)));
            assert!(nan.iter().all(|value| value.is_nan()), "{level:?}");
        }
        let far = dispatch!(SimdLevel::best(), simd => map(simd, &[-1e30; 16], |x| simd.exp(x)));
        assert!(far.iter().all(|&value| value < 2e-38));
    }

    #[test]
    fn lanes_are_added_up_and_compared() {
        for level in SimdLevel::available() {
            let values: [f32; 16] = std::array::from_fn(|i| (i as f32 - 5.0) * 2.0);
            let (sum, largest, lanes) = dispatch!(level, simd => {
                let vector = simd.read(&values);
                (simd.sum(vector), simd.largest(vector), lanes(simd))
            });
            assert_eq!(sum, values[..lanes].iter().sum::<f32>());
            assert_eq!(largest, values[lanes - 1]);
        }
    }

    fn lanes<S: Simd>(_simd: S) -> usize {
        S::LANES
    }

    #[test]
    fn stored_numbers_become_f32() {
        let bf16: [u16; 16] =
            std::array::from_fn(|i| half::bf16::from_f32(i as f32 * 0.5 - 3.0).to_bits());
        let mut f16: [u16; 16] =
            std::array::from_fn(|i| half::f16::from_f32(i as f32 * 0.1 - 0.7).to_bits());
        // Subnormal, largest, zero with a sign.
        (f16[0], f16[1], f16[2]) = (0x0001, 0x7bff, 0x8000);
        let bytes: [u8; 16] = std::array::from_fn(|i| (i * 17) as u8);
        for level in SimdLevel::available() {
            for i in 0..16 / dispatch!(level, simd => lanes(simd)) {
                let (found, lanes) = dispatch!(level, simd => {
                    let n = lanes(simd);
                    let mut out = [[0.0_f32; 16]; 5];
                    // SAFETY: i * n + n is at most 16.
                    let vectors = unsafe {
                        let (low, high) = simd.load_nibbles(bytes[i * n..].as_ptr());
                        [
                            simd.load_bf16(bf16[i * n..].as_ptr()),
                            simd.load_f16(f16[i * n..].as_ptr()),
                            simd.load_u8(bytes[i * n..].as_ptr()),
                            low,
                            high,
                        ]
                    };
                    for (out, vector) in out.iter_mut().zip(vectors) {
                        simd.write(out, vector);
                    }
                    (out, n)
                });
                let [wide, half, byte, low, high] = found;
                for (lane, wide) in wide.into_iter().enumerate().take(lanes) {
                    let at = i * lanes + lane;
                    assert_eq!(wide, half::bf16::from_bits(bf16[at]).to_f32());
                    let expected = half::f16::from_bits(f16[at]).to_f32();
                    assert_eq!(half[lane].to_bits(), expected.to_bits());
                    assert_eq!(byte[lane], f32::from(bytes[at]));
                    assert_eq!(low[lane], f32::from(bytes[at] & 15));
                    assert_eq!(high[lane], f32::from(bytes[at] >> 4));
                }
            }
        }
    }

    #[test]
    fn numbers_are_turned_over() {
        let from = std::array::from_fn(|i| i as f32);
        for level in SimdLevel::available() {
            let mut to = [0.0; 256];
            dispatch!(level, simd => simd.turn(&from, &mut to));
            for (at, value) in to.into_iter().enumerate() {
                assert_eq!(value, from[at % 16 * 16 + at / 16], "{level:?} at {at}");
            }
        }
    }
}
