//! Panels of elements quantized to 8 or 4 bits. Blocks of 16 or 32 neighbors in a row share a scale
//! and a minimum.

use half::f16;

use super::aligned_vec::AlignedVec;
use super::panels::pack_panels;
use super::simd::Simd;
use crate::sizes::PANEL;

/// A row-major matrix quantized to 8 or 4 bits: `scale * (quant - zero_point)`, or `scale * quant +
/// min`.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix<'a> {
    /// One element per byte, row by row.
    pub quants: &'a [u8],
    /// One scale per block, row by row.
    pub scales: &'a [f32],
    /// One minimum per block, row by row, if the format has minima.
    pub mins: Option<&'a [f32]>,
    /// Subtracted from each element if there are no minima, 0 otherwise.
    pub zero_point: u8,
    /// 8 or 4.
    pub bits: usize,
    /// Neighbors in a row that share a scale: 32 or 16.
    pub block_len: usize,
}

/// Quantized elements in panels. With 4 bits, a byte holds the elements of two columns, the first
/// in its low bits.
#[derive(Debug, Clone)]
pub(super) struct QuantizedPanels {
    /// `[panel][column][16]`, or `[panel][pair of columns][16]` with 4 bits.
    pub quants: AlignedVec<u8>,
    pub bits: usize,
    pub block_len: usize,
    /// `[panel][block][16]`
    pub scales: BlockValues,
    /// `[panel][block][16]`
    pub mins: Option<BlockValues>,
    pub zero_point: f32,
}

/// Scales or minima of blocks: in f16 if that is exact.
#[derive(Debug, Clone)]
pub(super) enum BlockValues {
    F16(AlignedVec<f16>),
    F32(AlignedVec<f32>),
}

impl BlockValues {
    fn new(values: AlignedVec<f32>) -> Self {
        let exact = |&value: &f32| f16::from_f32(value).to_f32() == value;
        if !values.as_slice().iter().all(exact) {
            return Self::F32(values);
        }
        let mut half = AlignedVec::zeros(values.as_slice().len());
        for (to, &value) in half.as_mut_slice().iter_mut().zip(values.as_slice()) {
            *to = f16::from_f32(value);
        }
        Self::F16(half)
    }

    /// `LANES` values from index `at` on.
    ///
    /// # Panics
    /// If they are out of bounds.
    #[inline(always)]
    pub fn load<S: Simd>(&self, simd: S, at: usize) -> S::F {
        match self {
            Self::F16(values) => {
                let values = &values.as_slice()[at..at + S::LANES];
                // SAFETY: the slice has LANES elements.
                unsafe { simd.load_f16(values.as_ptr()) }
            }
            Self::F32(values) => simd.read(&values.as_slice()[at..]),
        }
    }

    fn get(&self, at: usize) -> f32 {
        match self {
            Self::F16(values) => values.as_slice()[at].to_f32(),
            Self::F32(values) => values.as_slice()[at],
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F16(values) => size_of_val(values.as_slice()),
            Self::F32(values) => size_of_val(values.as_slice()),
        }
    }
}

impl QuantizedPanels {
    /// # Panics
    /// If lengths do not match the shape, or rows are not whole blocks.
    pub fn new(matrix: &QuantizedMatrix, [rows, columns]: [usize; 2]) -> Self {
        let QuantizedMatrix { quants, scales, mins, zero_point, bits, block_len } = *matrix;
        assert!(columns.is_multiple_of(block_len), "rows are not whole blocks");
        let blocks = columns / block_len;
        assert_eq!(quants.len(), rows * columns, "elements of a matrix of {rows} x {columns}");
        let quants = match bits {
            8 => pack_panels(quants, columns, |quant| quant),
            4 => {
                let pairs = quants.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4);
                pack_panels(&pairs.collect::<Vec<_>>(), columns / 2, |pair| pair)
            }
            other => panic!("{other} bits instead of 8 or 4"),
        };
        let pack_block_values = |values: &[f32], what: &str| {
            assert_eq!(values.len(), rows * blocks, "{what} of a matrix of {rows} x {columns}");
            BlockValues::new(pack_panels(values, blocks, |value| value))
        };
        Self {
            quants,
            bits,
            block_len,
            scales: pack_block_values(scales, "scales"),
            mins: mins.map(|mins| pack_block_values(mins, "minima")),
            zero_point: f32::from(zero_point),
        }
    }

    /// Size in bytes, including scales and minima.
    pub fn bytes(&self) -> usize {
        let mins = self.mins.as_ref().map_or(0, BlockValues::bytes);
        size_of_val(self.quants.as_slice()) + self.scales.bytes() + mins
    }

    /// What is added to the products of `LANES` elements with their `scales`; `at` is the index of
    /// their block and first row.
    ///
    /// # Panics
    /// If the index is out of bounds.
    #[inline(always)]
    pub fn offsets<S: Simd>(&self, simd: S, at: usize, scales: S::F) -> S::F {
        match &self.mins {
            Some(mins) => mins.load(simd, at),
            // Exact: the zero point is a power of two.
            None => simd.mul(scales, simd.splat(-self.zero_point)),
        }
    }

    /// Writes one row in f32; `columns` is the number of columns of the matrix.
    pub fn read_row(&self, panel: usize, lane: usize, columns: usize, to: &mut [f32]) {
        let per_byte = 8 / self.bits;
        let quants = &self.quants.as_slice()[panel * columns / per_byte * PANEL..];
        let blocks = columns / self.block_len;
        for (column, to) in to.iter_mut().enumerate() {
            let byte = quants[column / per_byte * PANEL + lane];
            let quant = match per_byte {
                1 => byte,
                _ => byte >> (column % 2 * 4) & 15,
            };
            let at = (panel * blocks + column / self.block_len) * PANEL + lane;
            let min = self.mins.as_ref().map_or(0.0, |mins| mins.get(at));
            *to = (f32::from(quant) - self.zero_point) * self.scales.get(at) + min;
        }
    }

    /// Writes columns of a panel in f32, from column `from` on, `[column][16]`.
    #[inline(always)]
    pub fn unpack<S: Simd>(
        &self,
        simd: S,
        panel: usize,
        columns: usize,
        from: usize,
        out: &mut [f32],
    ) {
        let per_byte = 8 / self.bits;
        let quants = &self.quants.as_slice()[(panel * columns + from) / per_byte * PANEL..];
        let quants = &quants[..out.len() / per_byte];
        let first_block = panel * (columns / self.block_len) + from / self.block_len;
        let bytes = self.block_len / per_byte * PANEL;
        let blocks = out.chunks_mut(self.block_len * PANEL).zip(quants.chunks(bytes));
        for (number, (out, quants)) in blocks.enumerate() {
            for lane in (0..PANEL).step_by(S::LANES) {
                let at = (first_block + number) * PANEL + lane;
                let scale = self.scales.load(simd, at);
                let offset = self.offsets(simd, at, scale);
                if per_byte == 1 {
                    for (out, quants) in out.chunks_exact_mut(PANEL).zip(quants.chunks_exact(PANEL))
                    {
                        // SAFETY: the chunk has 16 bytes, of which LANES are read from `lane` on,
                        // which is 0 or LANES.
                        let quant = unsafe { simd.load_u8(quants.as_ptr().add(lane)) };
                        simd.write(&mut out[lane..], dequantize(simd, quant, scale, offset));
                    }
                } else {
                    let pairs = out.chunks_exact_mut(2 * PANEL).zip(quants.chunks_exact(PANEL));
                    for (out, quants) in pairs {
                        // SAFETY: as for 8 bits.
                        let (low, high) = unsafe { simd.load_nibbles(quants.as_ptr().add(lane)) };
                        let low = dequantize(simd, low, scale, offset);
                        simd.write(&mut out[lane..], low);
                        let high = dequantize(simd, high, scale, offset);
                        simd.write(&mut out[PANEL + lane..], high);
                    }
                }
            }
        }
    }
}

/// `quant * scale + offset`
#[inline(always)]
pub(super) fn dequantize<S: Simd>(simd: S, quant: S::F, scale: S::F, offset: S::F) -> S::F {
    simd.mul_add(quant, scale, offset)
}
