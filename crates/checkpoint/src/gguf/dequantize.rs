//! Blocks of a file ─► quants, scales and minima ─► f32.
//!
//! A block has 32 or 256 quants of a few bits and their scales. ggml stores the low nibbles of a block before the
//! high nibbles; here quants are in row order, and nested scales are multiplied, which is exact in f32.
//!
//! Source: <https://github.com/ggml-org/ggml/blob/master/src/ggml-quants.c>, `dequantize_row_*`.

use burn::tensor::{DType, TensorData};
use half::f16;

use super::block_type::BlockType;
use crate::blocks::{BitWidth, BlockOffset, QuantizedBlocks};

/// Quants per block of the simple types.
const SMALL: usize = 32;
/// Quants per block of the K types.
const LARGE: usize = 256;

/// Decodes whole rows: f16 and bf16 unchanged, everything else as f32.
///
/// # Panics
/// If the length of the bytes does not match the shape.
pub fn decode(block_type: BlockType, bytes: Vec<u8>, shape: Vec<usize>) -> TensorData {
    let dtype = match block_type {
        BlockType::F32 => DType::F32,
        BlockType::F16 => DType::F16,
        BlockType::BF16 => DType::BF16,
        _ => {
            let columns = *shape.last().expect("a tensor has dimensions");
            let rows = shape.iter().product::<usize>() / columns;
            let blocks =
                unpack_blocks(block_type, &bytes, [rows, columns]).expect("a type with blocks");
            return TensorData::new(blocks.dequantize(), shape);
        }
    };
    TensorData::from_bytes_vec(bytes, shape, dtype)
}

/// The stored blocks of a matrix; `None` for types without blocks.
///
/// # Panics
/// If the length of the bytes does not match the shape.
pub fn unpack_blocks(
    block_type: BlockType,
    bytes: &[u8],
    shape: [usize; 2],
) -> Option<QuantizedBlocks> {
    let (bits, block_len, offset) = match block_type {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => return None,
        BlockType::Q8_0 => (BitWidth::Eight, 32, Some(128)),
        BlockType::Q4_0 => (BitWidth::Four, 32, Some(8)),
        BlockType::Q4_1 | BlockType::Q4_K => (BitWidth::Four, 32, None),
        BlockType::Q5_0 => (BitWidth::Eight, 32, Some(16)),
        BlockType::Q5_1 | BlockType::Q5_K => (BitWidth::Eight, 32, None),
        BlockType::Q6_K => (BitWidth::Eight, 16, Some(32)),
    };
    let mut quants = vec![0; shape.iter().product()];
    let mut scales = vec![Scale::default(); quants.len() / block_len];
    let (numbers, groups) = (&mut quants[..], &mut scales[..]);
    match block_type {
        BlockType::F32 | BlockType::F16 | BlockType::BF16 => unreachable!("they have no blocks"),
        BlockType::Q8_0 => blocks(bytes, numbers, groups, q8_0),
        BlockType::Q4_0 => blocks(bytes, numbers, groups, q4_0),
        BlockType::Q4_1 => blocks(bytes, numbers, groups, q4_1),
        BlockType::Q5_0 => blocks(bytes, numbers, groups, q5_0),
        BlockType::Q5_1 => blocks(bytes, numbers, groups, q5_1),
        BlockType::Q4_K => blocks(bytes, numbers, groups, q4_k),
        BlockType::Q5_K => blocks(bytes, numbers, groups, q5_k),
        BlockType::Q6_K => blocks(bytes, numbers, groups, q6_k),
    }
    let offset = match offset {
        Some(zero) => BlockOffset::ZeroPoint(zero),
        None => BlockOffset::Mins(scales.iter().map(|scale| scale.min).collect()),
    };
    let scales = scales.into_iter().map(|scale| scale.by).collect();
    Some(QuantizedBlocks { shape, bits, block_len, quants, scales, offset })
}

/// Scale and minimum of a group of quants.
#[derive(Debug, Clone, Copy, Default)]
struct Scale {
    by: f32,
    min: f32,
}

impl Scale {
    /// A scale without minimum.
    fn by(by: f32) -> Self {
        Self { by, min: 0.0 }
    }
}

/// Unpacks every block. Sizes are constants, so that the inner loops have no bounds checks.
fn blocks<const BYTES: usize, const LEN: usize, const GROUPS: usize>(
    bytes: &[u8],
    quants: &mut [u8],
    scales: &mut [Scale],
    unpack: impl Fn(&[u8; BYTES], &mut [u8; LEN], &mut [Scale; GROUPS]),
) {
    let (blocks, rest) = bytes.as_chunks::<BYTES>();
    let (quants, rest_quants) = quants.as_chunks_mut::<LEN>();
    let (scales, rest_scales) = scales.as_chunks_mut::<GROUPS>();
    assert!(rest.is_empty() && rest_quants.is_empty() && rest_scales.is_empty(), "whole blocks");
    assert!(blocks.len() == quants.len() && blocks.len() == scales.len(), "as many of each");
    for ((block, quants), scales) in blocks.iter().zip(quants).zip(scales) {
        unpack(block, quants, scales);
    }
}

fn half(low: u8, high: u8) -> f32 {
    f16::from_le_bytes([low, high]).to_f32()
}

/// scale, 32 signed bytes
fn q8_0(block: &[u8; 34], quants: &mut [u8; SMALL], scales: &mut [Scale; 1]) {
    scales[0] = Scale::by(half(block[0], block[1]));
    for (quant, &q) in quants.iter_mut().zip(&block[2..]) {
        // Offset by 128.
        *quant = q ^ 0x80;
    }
}

/// 16 bytes of two quants each
fn nibbles(bytes: &[u8], quants: &mut [u8; SMALL]) {
    for (j, &q) in bytes.iter().enumerate() {
        quants[j] = q & 0xf;
        quants[j + 16] = q >> 4;
    }
}

/// scale, 16 bytes of two quants each
fn q4_0(block: &[u8; 18], quants: &mut [u8; SMALL], scales: &mut [Scale; 1]) {
    scales[0] = Scale::by(half(block[0], block[1]));
    nibbles(&block[2..], quants);
}

/// scale, minimum, 16 bytes of two quants each
fn q4_1(block: &[u8; 20], quants: &mut [u8; SMALL], scales: &mut [Scale; 1]) {
    scales[0] = Scale { by: half(block[0], block[1]), min: half(block[2], block[3]) };
    nibbles(&block[4..], quants);
}

/// Adds the fifth bits to quants of four bits.
fn fifth_bits(high: &[u8], quants: &mut [u8; SMALL]) {
    let high = u32::from_le_bytes([high[0], high[1], high[2], high[3]]);
    for (at, quant) in quants.iter_mut().enumerate() {
        *quant |= ((high >> at) & 1) as u8 * 16;
    }
}

/// scale, 32 fifth bits, 16 bytes of two quants each
fn q5_0(block: &[u8; 22], quants: &mut [u8; SMALL], scales: &mut [Scale; 1]) {
    scales[0] = Scale::by(half(block[0], block[1]));
    nibbles(&block[6..], quants);
    fifth_bits(&block[2..6], quants);
}

/// scale, minimum, 32 fifth bits, 16 bytes of two quants each
fn q5_1(block: &[u8; 24], quants: &mut [u8; SMALL], scales: &mut [Scale; 1]) {
    scales[0] = Scale { by: half(block[0], block[1]), min: half(block[2], block[3]) };
    nibbles(&block[8..], quants);
    fifth_bits(&block[4..8], quants);
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

/// scale, scale of the minima, scales and minima of 8 groups
fn group_scales(block: &[u8], scales: &mut [Scale; 8]) {
    let (all, all_min) = (half(block[0], block[1]), half(block[2], block[3]));
    for (group, scale) in scales.iter_mut().enumerate() {
        let (by, min) = scale_min(&block[4..16], group);
        *scale = Scale { by: all * by, min: -(all_min * min) };
    }
}

/// 16 bytes as [`group_scales`] reads them, 128 bytes of two quants each
fn q4_k(block: &[u8; 144], quants: &mut [u8; LARGE], scales: &mut [Scale; 8]) {
    group_scales(block, scales);
    for (quants, bytes) in quants.chunks_exact_mut(64).zip(block[16..].chunks_exact(32)) {
        let (low, high) = quants.split_at_mut(32);
        for ((low, high), &q) in low.iter_mut().zip(high).zip(bytes) {
            (*low, *high) = (q & 0xf, q >> 4);
        }
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits, one bit for each group, before the quants
fn q5_k(block: &[u8; 176], quants: &mut [u8; LARGE], scales: &mut [Scale; 8]) {
    group_scales(block, scales);
    let (fifth, bytes) = (&block[16..48], &block[48..]);
    for (pair, (quants, bytes)) in
        quants.chunks_exact_mut(64).zip(bytes.chunks_exact(32)).enumerate()
    {
        let (low, high) = quants.split_at_mut(32);
        for (((low, high), &q), &fifth) in low.iter_mut().zip(high).zip(bytes).zip(fifth) {
            let bits = fifth >> (2 * pair);
            (*low, *high) = ((q & 0xf) | ((bits & 1) << 4), (q >> 4) | ((bits & 2) << 3));
        }
    }
}

/// 128 bytes of low nibbles, 64 bytes of upper two bits, 16 signed scales, scale
fn q6_k(block: &[u8; 210], quants: &mut [u8; LARGE], scales: &mut [Scale; 16]) {
    let (low, rest) = block.split_at(128);
    let (upper, groups) = rest.split_at(64);
    let all = half(block[208], block[209]);
    for (scale, &group) in scales.iter_mut().zip(groups) {
        *scale = Scale::by(all * f32::from(group as i8));
    }
    for (half, quants) in quants.chunks_exact_mut(128).enumerate() {
        let low = &low[64 * half..64 * (half + 1)];
        let upper = &upper[32 * half..32 * (half + 1)];
        for (l, &upper) in upper.iter().enumerate() {
            quants[l] = (low[l] & 0xf) | ((upper & 3) << 4);
            quants[l + 32] = (low[l + 32] & 0xf) | (((upper >> 2) & 3) << 4);
            quants[l + 64] = (low[l] >> 4) | (((upper >> 4) & 3) << 4);
            quants[l + 96] = (low[l + 32] >> 4) | ((upper >> 6) << 4);
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
    fn low_nibbles_come_before_high_nibbles() {
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
