//! A frozen matrix, laid out once for all products with it.
//!
//! ```text
//! weight [rows, columns]  ─►  panels of 16 rows:  [panel][column][16]
//! ```
//!
//! One layout serves both products. `x · Wᵀ` reads vectors of 16 rows along the columns; for `dy · W`
//! blocks of 16 columns are turned over. Nothing is kept twice.
//!
//! A panel's numbers are f32, bf16, f16, or blocks of 8 or 4 bits, where a few neighbours in a row
//! share a scale and a minimum.

use half::{bf16, f16};

use super::lines::Lines;
use super::simd::Simd;

/// Rows of a panel.
pub const PANEL: usize = 16;

/// How a matrix is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// 32 bits a number.
    F32,
    /// 16 bits a number, with f32's range.
    Bf16,
    /// 16 bits a number, with more digits.
    F16,
}

/// A matrix of 8 or 4 bits on its way into panels: `scale * (quant - zero)`, or
/// `scale * quant + min`.
#[derive(Debug, Clone)]
pub struct QuantizedMatrix<'a> {
    /// One a byte, row by row.
    pub quants: &'a [u8],
    /// One for each block of a row.
    pub scales: &'a [f32],
    /// One for each block of a row, or none.
    pub mins: Option<&'a [f32]>,
    /// Taken from each number, where there are no minima.
    pub zero_point: u8,
    /// 8 or 4.
    pub bits: usize,
    /// Neighbours that share a scale: 32 or 16.
    pub block_len: usize,
}

/// A frozen matrix in panels.
#[derive(Debug, Clone)]
pub struct Packed {
    rows: usize,
    columns: usize,
    pub(super) data: Data,
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    F32(Lines<f32>),
    Bf16(Lines<u16>),
    F16(Lines<u16>),
    Blocks(Blocks),
}

/// Numbers of 8 or 4 bits in panels. Of 4 bits, a byte holds the numbers of two columns, the first
/// one in its low bits.
#[derive(Debug, Clone)]
pub(super) struct Blocks {
    pub quants: Lines<u8>,
    pub bits: usize,
    pub block_len: usize,
    /// `[panel][block][16]`
    pub scales: Scales,
    /// `[panel][block][16]`
    pub mins: Option<Scales>,
    pub zero: f32,
}

/// Scales or minima: in f16 where that loses nothing.
#[derive(Debug, Clone)]
pub(super) enum Scales {
    F16(Lines<u16>),
    F32(Lines<f32>),
}

impl Scales {
    fn new(values: Lines<f32>) -> Self {
        let exact = |&value: &f32| f16::from_f32(value).to_f32() == value;
        if !values.as_slice().iter().all(exact) {
            return Self::F32(values);
        }
        let mut half = Lines::zeros(values.as_slice().len());
        for (to, &value) in half.as_mut_slice().iter_mut().zip(values.as_slice()) {
            *to = f16::from_f32(value).to_bits();
        }
        Self::F16(half)
    }

    /// `LANES` of them.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline(always)]
    pub fn load<S: Simd>(&self, simd: S, at: usize) -> S::F {
        match self {
            Self::F16(lines) => {
                let values = &lines.as_slice()[at..at + S::LANES];
                // SAFETY: a slice of LANES numbers.
                unsafe { simd.load_f16(values.as_ptr()) }
            }
            Self::F32(lines) => simd.read(&lines.as_slice()[at..]),
        }
    }

    fn one(&self, at: usize) -> f32 {
        match self {
            Self::F16(lines) => f16::from_bits(lines.as_slice()[at]).to_f32(),
            Self::F32(lines) => lines.as_slice()[at],
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::F16(lines) => size_of_val(lines.as_slice()),
            Self::F32(lines) => size_of_val(lines.as_slice()),
        }
    }
}

/// Row-major numbers into panels; the last one is filled up with zeros.
fn into_panels<T: Copy, U: super::lines::Number>(
    values: &[T],
    columns: usize,
    convert: impl Fn(T) -> U,
) -> Lines<U> {
    let rows = values.len().checked_div(columns).unwrap_or(0);
    let mut lines = Lines::zeros(rows.next_multiple_of(PANEL) * columns);
    let panels = lines.as_mut_slice().chunks_exact_mut((PANEL * columns).max(1));
    for (panel, values) in panels.zip(values.chunks((PANEL * columns).max(1))) {
        for (lane, row) in values.chunks_exact(columns).enumerate() {
            for (to, &value) in panel[lane..].iter_mut().step_by(PANEL).zip(row) {
                *to = convert(value);
            }
        }
    }
    lines
}

impl Packed {
    /// Packs row-major numbers, rounded to `format`.
    ///
    /// # Panics
    /// If the number of values is not that of the shape.
    pub fn new(values: &[f32], [rows, columns]: [usize; 2], format: Format) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix of {rows} x {columns}");
        let data = match format {
            Format::F32 => Data::F32(into_panels(values, columns, |value| value)),
            Format::Bf16 => {
                Data::Bf16(into_panels(values, columns, |value| bf16::from_f32(value).to_bits()))
            }
            Format::F16 => {
                Data::F16(into_panels(values, columns, |value| f16::from_f32(value).to_bits()))
            }
        };
        Self { rows, columns, data }
    }

    /// Packs numbers of few bits as they are.
    ///
    /// # Panics
    /// If lengths do not fit the shape, or rows are no whole blocks.
    pub fn from_blocks(matrix: &QuantizedMatrix, [rows, columns]: [usize; 2]) -> Self {
        let QuantizedMatrix { quants, scales, mins, zero_point: zero, bits, block_len } = *matrix;
        assert!(columns.is_multiple_of(block_len), "rows are whole blocks");
        let blocks = columns / block_len;
        assert_eq!(quants.len(), rows * columns, "numbers of a matrix of {rows} x {columns}");
        assert_eq!(scales.len(), rows * blocks, "scales of a matrix of {rows} x {columns}");
        let quants = match bits {
            8 => into_panels(quants, columns, |quant| quant),
            4 => {
                let pairs = quants.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4);
                into_panels(&pairs.collect::<Vec<_>>(), columns / 2, |pair| pair)
            }
            other => panic!("blocks of {other} bits"),
        };
        let spread = |values: &[f32]| {
            assert_eq!(values.len(), rows * blocks, "one number a block");
            Scales::new(into_panels(values, blocks, |value| value))
        };
        let blocks = Blocks {
            quants,
            bits,
            block_len,
            scales: spread(scales),
            mins: mins.map(spread),
            zero: f32::from(zero),
        };
        Self { rows, columns, data: Data::Blocks(blocks) }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Panels: a sixteenth of the rows.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bits of a number, without its share of scale and minimum.
    pub fn bits(&self) -> usize {
        match &self.data {
            Data::F32(_) => 32,
            Data::Bf16(_) | Data::F16(_) => 16,
            Data::Blocks(blocks) => blocks.bits,
        }
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        match &self.data {
            Data::F32(lines) => size_of_val(lines.as_slice()),
            Data::Bf16(lines) | Data::F16(lines) => size_of_val(lines.as_slice()),
            Data::Blocks(blocks) => {
                let mins = blocks.mins.as_ref().map_or(0, Scales::bytes);
                size_of_val(blocks.quants.as_slice()) + blocks.scales.bytes() + mins
            }
        }
    }

    /// One row in f32.
    ///
    /// # Panics
    /// If there is no such row, or `to` is no row's length.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(to.len(), self.columns, "numbers of a row");
        let (panel, lane) = (row / PANEL, row % PANEL);
        let start = panel * self.columns * PANEL + lane;
        let each = |lines: &[u16], to: &mut [f32], convert: fn(u16) -> f32| {
            for (to, &bits) in to.iter_mut().zip(lines[start..].iter().step_by(PANEL)) {
                *to = convert(bits);
            }
        };
        match &self.data {
            Data::F32(lines) => {
                for (to, &value) in
                    to.iter_mut().zip(lines.as_slice()[start..].iter().step_by(PANEL))
                {
                    *to = value;
                }
            }
            Data::Bf16(lines) => {
                each(lines.as_slice(), to, |bits| bf16::from_bits(bits).to_f32());
            }
            Data::F16(lines) => each(lines.as_slice(), to, |bits| f16::from_bits(bits).to_f32()),
            Data::Blocks(blocks) => blocks.read_row(panel, lane, self.columns, to),
        }
    }

    /// The whole matrix in f32, row by row.
    pub fn to_dense(&self) -> Vec<f32> {
        let mut values = vec![0.0; self.rows * self.columns];
        for (row, to) in values.chunks_exact_mut(self.columns.max(1)).enumerate() {
            self.read_row(row, to);
        }
        values
    }

    /// The f32 numbers of a panel, where it is kept in f32.
    pub(super) fn f32_panel(&self, panel: usize) -> Option<*const f32> {
        match &self.data {
            Data::F32(lines) => Some(lines.as_slice()[panel * self.columns * PANEL..].as_ptr()),
            _ => None,
        }
    }

    /// Columns `from .. to` of a panel in f32, `[column][16]`: as they are kept, or unpacked.
    ///
    /// `from` is a multiple of 32.
    ///
    /// # Panics
    /// If `unpacked` has too little room, or there are no such columns.
    #[inline(always)]
    pub(super) fn part<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        [from, to]: [usize; 2],
        unpacked: &'a mut [f32],
    ) -> &'a [f32] {
        let (start, len) = ((panel * self.columns + from) * PANEL, (to - from) * PANEL);
        if let Data::F32(lines) = &self.data {
            return &lines.as_slice()[start..start + len];
        }
        let unpacked = &mut unpacked[..len];
        self.unpack(simd, panel, [from, to], unpacked);
        unpacked
    }

    /// Columns `from .. to` of a panel in f32, `[column][16]`.
    ///
    /// `from` is a multiple of 32.
    ///
    /// # Panics
    /// If `out` has another length, or there are no such columns.
    #[inline(always)]
    pub(super) fn unpack<S: Simd>(
        &self,
        simd: S,
        panel: usize,
        [from, to]: [usize; 2],
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), (to - from) * PANEL, "numbers of a part of a panel");
        let start = (panel * self.columns + from) * PANEL;
        match &self.data {
            Data::F32(lines) => out.copy_from_slice(&lines.as_slice()[start..start + out.len()]),
            Data::Bf16(lines) => {
                let from = &lines.as_slice()[start..start + out.len()];
                for (to, from) in out.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
                    // SAFETY: a chunk of LANES numbers.
                    simd.write(to, unsafe { simd.load_bf16(from.as_ptr()) });
                }
            }
            Data::F16(lines) => {
                let from = &lines.as_slice()[start..start + out.len()];
                for (to, from) in out.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
                    // SAFETY: a chunk of LANES numbers.
                    simd.write(to, unsafe { simd.load_f16(from.as_ptr()) });
                }
            }
            Data::Blocks(blocks) => blocks.unpack(simd, panel, self.columns, from, out),
        }
    }
}

impl Blocks {
    fn read_row(&self, panel: usize, lane: usize, columns: usize, to: &mut [f32]) {
        let in_a_byte = 8 / self.bits;
        let quants = &self.quants.as_slice()[panel * columns / in_a_byte * PANEL..];
        let blocks = columns / self.block_len;
        for (column, to) in to.iter_mut().enumerate() {
            let byte = quants[column / in_a_byte * PANEL + lane];
            let quant = match in_a_byte {
                1 => byte,
                _ => byte >> (column % 2 * 4) & 15,
            };
            let at = (panel * blocks + column / self.block_len) * PANEL + lane;
            let min = self.mins.as_ref().map_or(0.0, |mins| mins.one(at));
            *to = (f32::from(quant) - self.zero) * self.scales.one(at) + min;
        }
    }

    #[inline(always)]
    fn unpack<S: Simd>(&self, simd: S, panel: usize, columns: usize, from: usize, out: &mut [f32]) {
        let in_a_byte = 8 / self.bits;
        let quants = &self.quants.as_slice()[(panel * columns + from) / in_a_byte * PANEL..];
        let quants = &quants[..out.len() / in_a_byte];
        let zero = simd.splat(self.zero);
        let first_block = panel * (columns / self.block_len) + from / self.block_len;
        let bytes = self.block_len / in_a_byte * PANEL;
        let blocks = out.chunks_mut(self.block_len * PANEL).zip(quants.chunks(bytes));
        for (block, (out, quants)) in blocks.enumerate() {
            for lane in (0..PANEL).step_by(S::LANES) {
                let at = (first_block + block) * PANEL + lane;
                let scale = self.scales.load(simd, at);
                let min = match &self.mins {
                    Some(mins) => mins.load(simd, at),
                    None => simd.splat(0.0),
                };
                if in_a_byte == 1 {
                    for (out, quants) in out.chunks_exact_mut(PANEL).zip(quants.chunks_exact(PANEL))
                    {
                        // SAFETY: 16 bytes from which LANES are read behind `lane`, 0 or LANES.
                        let quant = unsafe { simd.load_u8(quants.as_ptr().add(lane)) };
                        simd.write(&mut out[lane..], weight(simd, quant, zero, scale, min));
                    }
                } else {
                    let pairs = out.chunks_exact_mut(2 * PANEL).zip(quants.chunks_exact(PANEL));
                    for (out, quants) in pairs {
                        // SAFETY: as above.
                        let (low, high) = unsafe { simd.load_nibbles(quants.as_ptr().add(lane)) };
                        simd.write(&mut out[lane..], weight(simd, low, zero, scale, min));
                        let high = weight(simd, high, zero, scale, min);
                        simd.write(&mut out[PANEL + lane..], high);
                    }
                }
            }
        }
    }
}

/// `(quant - zero) * scale + min`
#[inline(always)]
fn weight<S: Simd>(simd: S, quant: S::F, zero: S::F, scale: S::F, min: S::F) -> S::F {
    simd.add(simd.mul(simd.sub(quant, zero), scale), min)
}
