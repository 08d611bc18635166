//! Quantized blocks on the host ─► packed words on a device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoint::{BitWidth, BlockOffset, QuantizedBlocks};
use half::f16;

use super::quantized_weight::QuantizedWeight;

impl QuantizedWeight {
    /// Packs blocks and uploads them to a device.
    ///
    /// Scales and minima are f16 if that is exact, as for most of GGUF's types, and the device supports
    /// it; otherwise f32.
    ///
    /// # Panics
    /// If lengths do not match the shape, or a value exceeds its bit width.
    pub fn new(blocks: QuantizedBlocks, device: &Device) -> Self {
        // Not every GPU supports 8-bit integers.
        let word = if device.supports_dtype(DType::U8) { DType::U8 } else { DType::U32 };
        Self::in_words(blocks, word, device)
    }

    /// As [`new`](Self::new), packed into words of `word`: U8 or U32.
    pub(super) fn in_words(blocks: QuantizedBlocks, word: DType, device: &Device) -> Self {
        let QuantizedBlocks { shape, bits, block_len, quants, scales, offset } = blocks;
        let [rows, columns] = shape;
        let blocks = rows * columns / block_len;
        assert!([16, 32].contains(&block_len) && columns.is_multiple_of(block_len), "whole blocks");
        assert_eq!(quants.len(), rows * columns, "quants");
        assert_eq!(scales.len(), blocks, "scales");
        let data = match word {
            DType::U8 if bits == BitWidth::Eight => TensorData::new(quants, [rows, columns]),
            DType::U8 => pack_words::<u8>(&quants, [rows, columns], bits),
            DType::U32 => pack_words::<u32>(&quants, [rows, columns], bits),
            other => unreachable!("words of {other:?}"),
        };
        let quants = Tensor::<2, Int>::from_data(data, (device, word));
        let upload = |values: Vec<f32>| {
            let exact = |&value: &f32| f16::from_f32(value).to_f32() == value;
            let half = device.supports_dtype(DType::F16) && values.iter().all(exact);
            let data = TensorData::new(values, [rows, columns / block_len]);
            let dtype = if half { DType::F16 } else { DType::F32 };
            Tensor::<2>::from_data(data.convert_dtype(dtype), (device, dtype))
        };
        let scales = upload(scales);
        let (mins, zero_point) = match offset {
            BlockOffset::ZeroPoint(zero_point) => (None, zero_point),
            BlockOffset::Mins(mins) => {
                assert_eq!(mins.len(), blocks, "minima");
                (Some(upload(mins)), 0)
            }
        };
        Self { quants, scales, mins, columns, bits: bits.count(), zero_point }
    }
}

/// Packs values of `bits` bits into words of `W`. With `n` values per word, the first word of a row holds
/// its values `0, columns / n, 2 columns / n, ...`, from the lowest bits up, so that unpacking a row is a
/// concatenation of `n` slices.
fn pack_words<W>(quants: &[u8], [rows, columns]: [usize; 2], bits: BitWidth) -> TensorData
where
    W: Default + Copy + From<u8> + std::ops::Shl<usize, Output = W> + std::ops::BitOrAssign,
    W: burn::tensor::Element,
{
    assert!(quants.iter().all(|&quant| quant <= bits.max_quant()), "a value exceeds its bit width");
    let values_per_word = size_of::<W>() * 8 / bits.count();
    let words = columns / values_per_word;
    let mut packed = vec![W::default(); rows * words];
    for (row, packed) in quants.chunks_exact(columns).zip(packed.chunks_exact_mut(words)) {
        for (lane, piece) in row.chunks_exact(words).enumerate() {
            for (word, &quant) in packed.iter_mut().zip(piece) {
                *word |= W::from(quant) << (lane * bits.count());
            }
        }
    }
    TensorData::new(packed, [rows, words])
}
