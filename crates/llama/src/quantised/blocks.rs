//! A quantised matrix on the host, one number a byte, on its way to a device.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::f16;

use super::tensor::QuantisedWeight;

/// Width of a quantised number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Bits {
    /// 0 to 15.
    Four,
    /// 0 to 255.
    Eight,
}

impl Bits {
    /// The number of bits.
    pub fn count(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// The largest number.
    pub fn largest(self) -> u8 {
        match self {
            Self::Four => 15,
            Self::Eight => 255,
        }
    }
}

/// What stands beside the scales of a matrix in blocks.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockOffset {
    /// `scale * (quant - zero)`
    Zero(u8),
    /// `scale * quant + min`, one a block.
    Mins(Vec<f32>),
}

/// A matrix in blocks: `block_len` neighbours of a row share a scale and an offset.
#[derive(Debug, Clone, PartialEq)]
pub struct Blocks {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Width of a number when it is packed.
    pub bits: Bits,
    /// Numbers of a block, 32 or 16; a row is whole blocks.
    pub block_len: usize,
    /// One a byte, row by row.
    pub quants: Vec<u8>,
    /// One a block.
    pub scales: Vec<f32>,
    /// Where a block's numbers begin.
    pub offset: BlockOffset,
}

impl Blocks {
    /// Whether every weight is a finite number.
    pub fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let offset = match &self.offset {
            BlockOffset::Zero(_) => true,
            BlockOffset::Mins(mins) => finite(mins),
        };
        offset && finite(&self.scales)
    }

    /// The weights, row by row.
    pub fn dequantise(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.quants.len()];
        let blocks = out.chunks_exact_mut(self.block_len).zip(self.quants.chunks(self.block_len));
        for (index, (out, quants)) in blocks.enumerate() {
            let scale = self.scales[index];
            let (zero, min) = match &self.offset {
                BlockOffset::Zero(zero) => (f32::from(*zero), 0.0),
                BlockOffset::Mins(mins) => (0.0, mins[index]),
            };
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = (f32::from(quant) - zero) * scale + min;
            }
        }
        out
    }

    /// Packs the numbers and puts them on a device.
    ///
    /// Scales and minima are kept in f16 where that loses nothing, as in most of GGUF's types, and
    /// the device has it; in f32 otherwise.
    ///
    /// # Panics
    /// If the lengths do not fit the shape, or a number its width.
    pub fn put(self, device: &Device) -> QuantisedWeight {
        // Not every GPU can address bytes.
        let word = if device.supports_dtype(DType::U8) { DType::U8 } else { DType::U32 };
        self.put_in(word, device)
    }

    /// As [`put`](Self::put), packed into words of `word`: U8 or U32.
    pub(super) fn put_in(self, word: DType, device: &Device) -> QuantisedWeight {
        let Self { shape: [rows, columns], bits, block_len, quants, scales, offset } = self;
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
        QuantisedWeight { quants, scales, mins, columns, bits: bits.count(), zero }
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
