//! A quantised matrix on the host, one number a byte, on its way to a device.

mod quantise;

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
pub struct QuantisedBlocks {
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

impl QuantisedBlocks {
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
}
