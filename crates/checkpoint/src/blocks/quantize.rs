//! f32 ─► blocks: minimum and maximum of a block define its scale.

use half::f16;

use super::{BitWidth, BlockOffset, QuantizedBlocks};

impl QuantizedBlocks {
    /// Quantizes a matrix to blocks of `bits` bits. The error of a weight is at most half its block's scale, up
    /// to rounding in f32.
    ///
    /// Blocks have 32 weights, or 16 if the columns are not a multiple of 32; `None` if they are not a multiple of
    /// 16 either.
    ///
    /// # Panics
    /// If the number of values does not match the shape.
    pub fn quantize(values: &[f32], shape: [usize; 2], bits: BitWidth) -> Option<Self> {
        let [rows, columns] = shape;
        assert_eq!(values.len(), rows * columns, "values");
        let block_len = [32, 16].into_iter().find(|&len| columns.is_multiple_of(len))?;
        let max_quant = f32::from(bits.max_quant());
        let mut quants = Vec::with_capacity(values.len());
        let mut scales = Vec::with_capacity(values.len() / block_len);
        let mut mins = Vec::with_capacity(scales.capacity());
        for block in values.chunks_exact(block_len) {
            let low = block.iter().copied().fold(f32::INFINITY, f32::min);
            let high = block.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            // Rounded outwards, so that the quants cover the whole block.
            let min = f16_round_down(low);
            let scale = -f16_round_down(-((high - min) / max_quant));
            // A constant block has a scale of 0, for which any quant is exact.
            quants.extend(
                block.iter().map(|value| ((value - min) / scale).round().min(max_quant) as u8),
            );
            scales.push(scale);
            mins.push(min);
        }
        Some(Self { shape, bits, block_len, quants, scales, offset: BlockOffset::Mins(mins) })
    }
}

/// The largest f16 that is not above the value; the value itself outside the range of f16.
fn f16_round_down(value: f32) -> f32 {
    let near = f16::from_f32(value);
    let bits = near.to_bits();
    let rounded = if near.to_f32() <= value {
        near
    } else if near.to_f32() > 0.0 {
        f16::from_bits(bits - 1)
    } else if near.to_f32() == 0.0 {
        -f16::MIN_POSITIVE_SUBNORMAL
    } else {
        f16::from_bits(bits + 1)
    };
    if rounded.is_finite() { rounded.to_f32() } else { value }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn f16_round_down_is_the_next_lower_f16() {
        assert_eq!(f16_round_down(0.5), 0.5);
        assert_eq!(f16_round_down(0.1), 0.099_975_586);
        assert_eq!(f16_round_down(-0.1), -0.100_036_62);
        assert_eq!(f16_round_down(0.0), 0.0);
        assert_eq!(f16_round_down(-1e-12), -5.960_464_5e-8);
        assert_eq!(f16_round_down(1e6), 65504.0);
        assert_eq!(f16_round_down(-1e6), -1e6);
    }

    #[test]
    fn rows_that_are_not_whole_blocks_are_not_quantized() {
        assert!(QuantizedBlocks::quantize(&[0.5; 80], [2, 40], BitWidth::Four).is_none());
        let blocks = QuantizedBlocks::quantize(&[0.5; 96], [2, 48], BitWidth::Four).unwrap();
        assert_eq!((blocks.block_len, blocks.scales.len()), (16, 6));
        assert_eq!(blocks.dequantize(), [0.5; 96]);
    }

    proptest! {
        #[test]
        fn the_error_is_at_most_half_a_scale(
            values in proptest::collection::vec(-1.0_f32..1.0, 64),
            exponent in -30_i32..30,
            shift in -4.0_f32..4.0,
            eight in any::<bool>(),
        ) {
            let size = 2.0_f32.powi(exponent);
            let values = values.iter().map(|value| (value + shift) * size).collect::<Vec<_>>();
            let bits = if eight { BitWidth::Eight } else { BitWidth::Four };
            let blocks = QuantizedBlocks::quantize(&values, [2, 32], bits).unwrap();
            let found = blocks.dequantize();
            for (index, (found, value)) in found.iter().zip(&values).enumerate() {
                let allowed = blocks.scales[index / 32] / 2.0 + value.abs() * 1e-6 + size * 1e-6;
                prop_assert!((found - value).abs() <= allowed, "{value} became {found}");
            }
            // The scale is not too large: one quant of every block is near the maximum.
            let largest = blocks.quants[..32].iter().max().unwrap();
            prop_assert!(exponent < -10 || *largest >= bits.max_quant() / 2, "{largest}");
        }
    }
}
