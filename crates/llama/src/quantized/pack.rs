//! Blocks on the host ─► packed words on a device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoint::{Bits, BlockOffset, QuantizedBlocks};
use half::f16;

use super::tensor::QuantizedWeight;

impl QuantizedWeight {
    /// Packs blocks on a device.
    ///
    /// Scales and minima are kept in f16 where that loses nothing, as in most of GGUF's types, and
    /// the device has it; in f32 otherwise.
    ///
    /// # Panics
    /// If the lengths do not fit the shape, or a number its width.
    pub fn new(blocks: QuantizedBlocks, device: &Device) -> Self {
        // Not every GPU can address bytes.
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
            DType::U8 if bits == Bits::Eight => TensorData::new(quants, [rows, columns]),
            DType::U8 => pack::<u8>(&quants, [rows, columns], bits),
            DType::U32 => pack::<u32>(&quants, [rows, columns], bits),
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
        let (mins, zero) = match offset {
            BlockOffset::Zero(zero) => (None, zero),
            BlockOffset::Mins(mins) => {
                assert_eq!(mins.len(), blocks, "minima");
                (Some(upload(mins)), 0)
            }
        };
        Self { quants, scales, mins, columns, bits: bits.count(), zero }
    }
}

/// Words of `W` from numbers of `bits` bits. With `n` numbers in a word, a row's first word holds
/// its numbers `0, columns / n, 2 columns / n, ...`, from the lowest bits up: so a row is unpacked
/// into `n` pieces that lie one behind the other.
fn pack<W>(quants: &[u8], [rows, columns]: [usize; 2], bits: Bits) -> TensorData
where
    W: Default + Copy + From<u8> + std::ops::Shl<usize, Output = W> + std::ops::BitOrAssign,
    W: burn::tensor::Element,
{
    assert!(quants.iter().all(|&quant| quant <= bits.largest()), "a number wider than its bits");
    let in_a_word = size_of::<W>() * 8 / bits.count();
    let words = columns / in_a_word;
    let mut packed = vec![W::default(); rows * words];
    for (row, packed) in quants.chunks_exact(columns).zip(packed.chunks_exact_mut(words)) {
        for (place, piece) in row.chunks_exact(words).enumerate() {
            for (word, &quant) in packed.iter_mut().zip(piece) {
                *word |= W::from(quant) << (place * bits.count());
            }
        }
    }
    TensorData::new(packed, [rows, words])
}
