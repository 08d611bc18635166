//! Block-quantized matrices on the host, one quant per byte.
//!
//! A weight is `scale * (quant - zero_point)` or `scale * quant + min`; 32 or 16 adjacent weights of a row share scale
//! and minimum. All block types of GGUF are represented exactly.

mod quantize;

/// Bit width of a quant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BitWidth {
    /// 0 to 15.
    Four,
    /// 0 to 255.
    Eight,
}

impl BitWidth {
    /// Number of bits.
    pub fn count(self) -> usize {
        match self {
            Self::Four => 4,
            Self::Eight => 8,
        }
    }

    /// Largest quant.
    pub fn max_quant(self) -> u8 {
        match self {
            Self::Four => 15,
            Self::Eight => 255,
        }
    }
}

/// Offset of the weights of a block.
#[derive(Debug, Clone, PartialEq)]
pub enum BlockOffset {
    /// `scale * (quant - zero_point)`
    ZeroPoint(u8),
    /// `scale * quant + min`, one minimum per block.
    Mins(Vec<f32>),
}

/// A matrix in blocks: `block_len` adjacent weights of a row share a scale and an offset.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizedBlocks {
    /// Rows and columns.
    pub shape: [usize; 2],
    /// Bit width of a packed quant.
    pub bits: BitWidth,
    /// Weights per block, 32 or 16; a divisor of the columns.
    pub block_len: usize,
    /// One per byte, in row-major order.
    pub quants: Vec<u8>,
    /// One per block.
    pub scales: Vec<f32>,
    /// Offset of the weights of a block.
    pub offset: BlockOffset,
}

impl QuantizedBlocks {
    /// Whether every weight is finite.
    pub fn is_finite(&self) -> bool {
        let finite = |values: &[f32]| values.iter().all(|value| value.is_finite());
        let offset = match &self.offset {
            BlockOffset::ZeroPoint(_) => true,
            BlockOffset::Mins(mins) => finite(mins),
        };
        offset && finite(&self.scales)
    }

    /// The weights in row-major order.
    pub fn dequantize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.quants.len()];
        let blocks = out.chunks_exact_mut(self.block_len).zip(self.quants.chunks(self.block_len));
        for (index, (out, quants)) in blocks.enumerate() {
            let scale = self.scales[index];
            let (zero, min) = match &self.offset {
                BlockOffset::ZeroPoint(zero_point) => (f32::from(*zero_point), 0.0),
                BlockOffset::Mins(mins) => (0.0, mins[index]),
            };
            for (out, &quant) in out.iter_mut().zip(quants) {
                *out = (f32::from(quant) - zero) * scale + min;
            }
        }
        out
    }
}
