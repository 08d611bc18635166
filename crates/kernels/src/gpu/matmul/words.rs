//! The words of a matrix on a device, and how a kernel unpacks them.
//!
//! ```text
//! elements [rows][words of a row] │ scales [rows][blocks] │ minima [rows][blocks]      one buffer of u32
//! ```
//!
//! A piece is 8 columns of a row: 8 words in f32, 4 in 16 bits, 2 in 8 bits, 1 in 4 bits, with the
//! first column in the lowest bits. Rows are padded with zeros to whole pieces. Scales and minima are
//! f32, or f16 in pairs.

use cubecl::prelude::*;

/// Columns that a unit unpacks at a time.
pub(super) const PIECE: usize = 8;

/// How elements are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Element {
    F32,
    F16,
    Bf16,
    Bits8,
    Bits4,
}

impl Element {
    /// Words of a piece.
    pub fn piece_words(self) -> usize {
        self.bits() * PIECE / 32
    }

    pub fn bits(self) -> usize {
        match self {
            Self::F32 => 32,
            Self::F16 | Self::Bf16 => 16,
            Self::Bits8 => 8,
            Self::Bits4 => 4,
        }
    }
}

/// What a kernel is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Format {
    pub element: Element,
    /// Columns that share a scale: 32 or 16; 0 if elements are floats.
    pub block_len: usize,
    /// Whether scales and minima are f16 in pairs.
    pub half_scales: bool,
    /// Whether blocks have a minimum; otherwise `zero_point` is subtracted from each element.
    pub has_mins: bool,
    pub zero_point: u32,
}

impl Format {
    pub fn is_quantized(&self) -> bool {
        self.block_len > 0
    }
}

/// Offsets in the words of a matrix.
#[derive(CubeType, CubeLaunch, Clone, Copy)]
pub(super) struct MatrixDims {
    /// Pieces of a row.
    pub pieces: u32,
    /// Words before the scales.
    pub scales: u32,
    /// Words before the minima.
    pub mins: u32,
}

/// The value of an f16, whose bits are the lowest 16 of `bits`. Not for infinities and NaN.
#[cube]
fn decode_f16(bits: u32) -> f32 {
    let sign = (bits & 0x8000u32) << 16u32;
    let magnitude = bits & 0x7fffu32;
    // The exponent's bias is 127 instead of 15. Subnormal numbers are multiples of 2^-24.
    let normal = (magnitude << 13u32) + 0x3800_0000u32;
    let subnormal = u32::reinterpret(f32::cast_from(magnitude) * 5.960_464_5e-8f32);
    f32::reinterpret(sign | select(magnitude < 0x400u32, subnormal, normal))
}

/// The `index`-th scale or minimum after word `start`.
#[cube]
fn block_value(words: &[u32], start: u32, index: u32, #[comptime] half: bool) -> f32 {
    if comptime!(half) {
        let word = words[(start + index / 2u32) as usize];
        decode_f16(word >> ((index % 2u32) * 16u32))
    } else {
        f32::reinterpret(words[(start + index) as usize])
    }
}

/// Eight columns of a row in f32.
#[cube]
pub(super) fn unpack_piece(
    words: &[u32],
    dims: &MatrixDims,
    row: u32,
    piece: u32,
    #[comptime] format: Format,
) -> Array<f32> {
    let mut values = Array::<f32>::new(8usize);
    let n_words = comptime!(format.element.piece_words());
    let start = (row * dims.pieces + piece) * comptime!(n_words as u32);
    if comptime!(format.is_quantized()) {
        let blocks_of_row = dims.pieces / comptime!((format.block_len / PIECE) as u32);
        let block = row * blocks_of_row + piece / comptime!((format.block_len / PIECE) as u32);
        let scale = block_value(words, dims.scales, block, format.half_scales);
        let offset = if comptime!(format.has_mins) {
            block_value(words, dims.mins, block, format.half_scales)
        } else {
            scale * comptime!(-(format.zero_point as f32))
        };
        let bits = comptime!(format.element.bits());
        let per_word = comptime!(32 / bits);
        #[unroll]
        for w in 0..n_words {
            let word = words[start as usize + w];
            #[unroll]
            for i in 0..per_word {
                let quant = (word >> comptime!((i * bits) as u32)) & comptime!((1u32 << bits) - 1);
                values[comptime!(w * per_word + i)] = f32::cast_from(quant) * scale + offset;
            }
        }
    } else {
        #[unroll]
        for w in 0..n_words {
            let word = words[start as usize + w];
            match comptime!(format.element) {
                Element::F16 => {
                    values[comptime!(2 * w)] = decode_f16(word);
                    values[comptime!(2 * w + 1)] = decode_f16(word >> 16u32);
                }
                Element::Bf16 => {
                    values[comptime!(2 * w)] = f32::reinterpret(word << 16u32);
                    values[comptime!(2 * w + 1)] = f32::reinterpret(word & 0xffff_0000u32);
                }
                _ => {
                    values[w] = f32::reinterpret(word);
                }
            }
        }
    }
    values
}
