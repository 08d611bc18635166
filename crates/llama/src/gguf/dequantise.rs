//! Blocks ─► f32.
//!
//! A block holds 32 or 256 numbers of a few bits each and what scales them. In ggml's order the low
//! halves of the bytes come first, then the high halves.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c>, `dequantize_row_*`.

use burn::tensor::{DType, TensorData};
use half::f16;

use super::block_type::BlockType;

/// Numbers in a block of the simple types.
const SMALL: usize = 32;
/// Numbers in a block of the K types.
const LARGE: usize = 256;

/// Numbers of whole blocks: f16 and bf16 as they are, everything else as f32.
pub(super) fn decode(block_type: BlockType, bytes: Vec<u8>, shape: Vec<usize>) -> TensorData {
    let convert = match block_type {
        BlockType::F32 => return TensorData::from_bytes_vec(bytes, shape, DType::F32),
        BlockType::F16 => return TensorData::from_bytes_vec(bytes, shape, DType::F16),
        BlockType::BF16 => return TensorData::from_bytes_vec(bytes, shape, DType::BF16),
        BlockType::Q8_0 => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q8_0),
        BlockType::Q4_0 => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q4_0),
        BlockType::Q4_1 => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q4_1),
        BlockType::Q5_0 => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q5_0),
        BlockType::Q5_1 => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q5_1),
        BlockType::Q4_K => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q4_k),
        BlockType::Q5_K => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q5_k),
        BlockType::Q6_K => |bytes: &[u8], out: &mut [f32]| blocks(bytes, out, q6_k),
    };
    let mut out = vec![0.0; shape.iter().product()];
    convert(&bytes, &mut out);
    TensorData::new(out, shape)
}

/// Every block by itself. Sizes are constants, so that the inner loops need no checks.
fn blocks<const BYTES: usize, const LEN: usize>(
    bytes: &[u8],
    out: &mut [f32],
    convert: impl Fn(&[u8; BYTES], &mut [f32; LEN]),
) {
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (out, rest_out) = out.as_chunks_mut::<LEN>();
    assert!(rest.is_empty() && rest_out.is_empty() && blocks.len() == out.len(), "whole blocks");
    for (block, out) in blocks.iter().zip(out) {
        convert(block, out);
    }
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// scale, 32 signed bytes
fn q8_0(block: &[u8; 34], out: &mut [f32; SMALL]) {
    let scale = half(block[0], block[1]);
    for (out, &q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q as i8) * scale;
    }
}

/// scale, 16 bytes of two numbers each
fn q4_0(block: &[u8; 18], out: &mut [f32; SMALL]) {
    let scale = half(block[0], block[1]);
    for (j, &q) in block[2..].iter().enumerate() {
        out[j] = f32::from((q & 0xf) as i8 - 8) * scale;
        out[j + 16] = f32::from((q >> 4) as i8 - 8) * scale;
    }
}

/// scale, minimum, 16 bytes of two numbers each
fn q4_1(block: &[u8; 20], out: &mut [f32; SMALL]) {
    let (scale, min) = (half(block[0], block[1]), half(block[2], block[3]));
    for (j, &q) in block[4..].iter().enumerate() {
        out[j] = f32::from(q & 0xf) * scale + min;
        out[j + 16] = f32::from(q >> 4) * scale + min;
    }
}

/// The 5-bit numbers at `j` and `j + 16`: four bits in a byte, the fifth in `high`.
fn five_bits(high: u32, q: u8, j: usize) -> (u8, u8) {
    let fifth = |at: usize| ((high >> at) & 1) as u8 * 16;
    ((q & 0xf) | fifth(j), (q >> 4) | fifth(j + 16))
}

/// scale, 32 fifth bits, 16 bytes of two numbers each
fn q5_0(block: &[u8; 22], out: &mut [f32; SMALL]) {
    let scale = half(block[0], block[1]);
    let high = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
    for (j, &q) in block[6..].iter().enumerate() {
        let (first, second) = five_bits(high, q, j);
        out[j] = f32::from(first as i8 - 16) * scale;
        out[j + 16] = f32::from(second as i8 - 16) * scale;
    }
}

/// scale, minimum, 32 fifth bits, 16 bytes of two numbers each
fn q5_1(block: &[u8; 24], out: &mut [f32; SMALL]) {
    let (scale, min) = (half(block[0], block[1]), half(block[2], block[3]));
    let high = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
    for (j, &q) in block[8..].iter().enumerate() {
        let (first, second) = five_bits(high, q, j);
        out[j] = f32::from(first) * scale + min;
        out[j + 16] = f32::from(second) * scale + min;
    }
}

/// The 6-bit scale and minimum of one of eight groups, packed into 12 bytes.
fn scale_min(packed: &[u8], group: usize) -> (f32, f32) {
    let (scale, min) = if group < 4 {
        (packed[group] & 63, packed[group + 4] & 63)
    } else {
        (
            (packed[group + 4] & 0xf) | ((packed[group - 4] >> 6) << 4),
            (packed[group + 4] >> 4) | ((packed[group] >> 6) << 4),
        )
    };
    (f32::from(scale), f32::from(min))
}

/// What a group's numbers are multiplied by and what is taken away from them.
fn group_scales(packed: &[u8], index: usize, scale: f32, min: f32) -> (f32, f32) {
    let (group_scale, group_min) = scale_min(packed, index);
    (scale * group_scale, min * group_min)
}

/// scale, scale of the minima, 8 groups' scales and minima, 128 bytes of two numbers each
fn q4_k(block: &[u8; 144], out: &mut [f32; LARGE]) {
    let (scale, min) = (half(block[0], block[1]), half(block[2], block[3]));
    let (packed, quants) = (&block[4..16], &block[16..]);
    let group = |index| group_scales(packed, index, scale, min);
    for (pair, (out, quants)) in out.chunks_exact_mut(64).zip(quants.chunks_exact(32)).enumerate() {
        let (low_scale, low_min) = group(2 * pair);
        let (high_scale, high_min) = group(2 * pair + 1);
        let (low, high) = out.split_at_mut(32);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(quants) {
            *low = low_scale * f32::from(q & 0xf) - low_min;
            *high = high_scale * f32::from(q >> 4) - high_min;
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits, one bit for each group, before the quants
fn q5_k(block: &[u8; 176], out: &mut [f32; LARGE]) {
    let (scale, min) = (half(block[0], block[1]), half(block[2], block[3]));
    let (packed, fifth, quants) = (&block[4..16], &block[16..48], &block[48..]);
    let group = |index| group_scales(packed, index, scale, min);
    for (pair, (out, quants)) in out.chunks_exact_mut(64).zip(quants.chunks_exact(32)).enumerate() {
        let (low_scale, low_min) = group(2 * pair);
        let (high_scale, high_min) = group(2 * pair + 1);
        let (low, high) = out.split_at_mut(32);
        for (((low, high), &q), &fifth) in low.iter_mut().zip(high).zip(quants).zip(fifth) {
            let bits = fifth >> (2 * pair);
            *low = low_scale * f32::from((q & 0xf) | ((bits & 1) << 4)) - low_min;
            *high = high_scale * f32::from((q >> 4) | ((bits & 2) << 3)) - high_min;
        }
    }
}

/// 128 bytes of low halves, 64 bytes of upper two bits, 16 signed scales, scale
fn q6_k(block: &[u8; 210], out: &mut [f32; LARGE]) {
    let scale = half(block[208], block[209]);
    let (low, rest) = block.split_at(128);
    let (upper, scales) = rest.split_at(64);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let low = &low[64 * half..64 * (half + 1)];
        let upper = &upper[32 * half..32 * (half + 1)];
        let scales = &scales[8 * half..8 * (half + 1)];
        for (l, &upper) in upper.iter().enumerate() {
            let quants = [
                (low[l] & 0xf) | ((upper & 3) << 4),
                (low[l + 32] & 0xf) | (((upper >> 2) & 3) << 4),
                (low[l] >> 4) | (((upper >> 4) & 3) << 4),
                (low[l + 32] >> 4) | ((upper >> 6) << 4),
            ];
            for (part, q) in quants.into_iter().enumerate() {
                let scale = scale * f32::from(scales[l / 16 + 2 * part] as i8);
                out[l + 32 * part] = scale * f32::from(q as i8 - 32);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(block_type: BlockType, bytes: Vec<u8>) -> Vec<f32> {
        let len = bytes.len() / block_type.block_bytes() * block_type.block_len();
        decode(block_type, bytes, vec![len]).iter::<f32>().collect()
    }

    /// 0.5 and -2 as f16.
    const SCALE: [u8; 2] = [0x00, 0x38];
    const MIN: [u8; 2] = [0x00, 0xc0];

    #[test]
    fn low_halves_come_before_high_halves() {
        let mut block = SCALE.to_vec();
        block.extend([0xf0; 16]);
        let values = decoded(BlockType::Q4_0, block);
        assert_eq!((values[0], values[15]), (-4.0, -4.0));
        assert_eq!((values[16], values[31]), (3.5, 3.5));
    }

    #[test]
    fn a_minimum_is_added() {
        let block = [SCALE, MIN].concat().into_iter().chain([0x21; 16]).collect();
        let values = decoded(BlockType::Q4_1, block);
        assert_eq!((values[0], values[16]), (-1.5, -1.0));
    }

    #[test]
    fn the_fifth_bit_is_worth_sixteen() {
        let mut block = SCALE.to_vec();
        block.extend(0x8000_0001_u32.to_le_bytes());
        block.extend([0; 16]);
        let values = decoded(BlockType::Q5_0, block);
        assert_eq!((values[0], values[1], values[30], values[31]), (0.0, -8.0, -8.0, 0.0));
    }

    #[test]
    fn every_type_fills_two_blocks() {
        for block_type in
            [BlockType::Q8_0, BlockType::Q5_1, BlockType::Q4_K, BlockType::Q5_K, BlockType::Q6_K]
        {
            // Small enough for every scale to be finite.
            let block = (0..block_type.block_bytes()).map(|i| (i % 59) as u8).collect::<Vec<_>>();
            let bytes = block.repeat(2);
            let values = decoded(block_type, bytes);
            let (first, second) = values.split_at(block_type.block_len());
            assert_eq!(first, second, "{block_type:?}");
            assert!(values.iter().all(|value| value.is_finite()), "{block_type:?}");
            assert!(values.iter().any(|value| *value != first[0]), "{block_type:?}");
        }
    }
}
