//! A frozen matrix, packed once for all GEMMs with it.
//!
//! ```text
//! weight [rows, columns]  ─►  panels of 16 rows:  [panel][column][16]
//! ```
//!
//! One layout serves both directions, and nothing is stored twice. `x · Wᵀ` reads vectors of 16
//! rows along the columns; for `dy · W` tiles of 16 columns are transposed.
//!
//! The elements are f32, bf16, f16, or quantized to 8 or 4 bits, see `quantized_panels.rs`.

use bytemuck::Pod;
use half::{bf16, f16};

use super::aligned_vec::AlignedVec;
use super::panels::pack_panels;
use super::quantized_panels::QuantizedPanels;
use super::simd::Simd;
use crate::sizes::PANEL;

pub use super::quantized_panels::QuantizedMatrix;

/// Element type of a dense matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DenseFormat {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half precision.
    F16,
}

/// An element type of dense panels.
pub(super) trait DenseElement: Pod {
    fn from_f32(value: f32) -> Self;

    fn to_f32(self) -> f32;

    /// Loads `S::LANES` elements.
    ///
    /// # Safety
    /// `from` points to `S::LANES` elements.
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::F;
}

impl DenseElement for f32 {
    fn from_f32(value: f32) -> Self {
        value
    }

    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::F {
        // SAFETY: the caller guarantees the same.
        unsafe { simd.load(from) }
    }
}

impl DenseElement for bf16 {
    fn from_f32(value: f32) -> Self {
        bf16::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::F {
        // SAFETY: the caller guarantees the same.
        unsafe { simd.load_bf16(from) }
    }
}

impl DenseElement for f16 {
    fn from_f32(value: f32) -> Self {
        f16::from_f32(value)
    }

    fn to_f32(self) -> f32 {
        f16::to_f32(self)
    }

    #[inline(always)]
    unsafe fn load<S: Simd>(simd: S, from: *const Self) -> S::F {
        // SAFETY: the caller guarantees the same.
        unsafe { simd.load_f16(from) }
    }
}

/// A frozen matrix in panels.
#[derive(Debug, Clone)]
pub struct PackedMatrix {
    rows: usize,
    columns: usize,
    pub(super) data: PackedData,
}

/// The panels, `[panel][column][16]`.
#[derive(Debug, Clone)]
pub(super) enum PackedData {
    F32(AlignedVec<f32>),
    Bf16(AlignedVec<bf16>),
    F16(AlignedVec<f16>),
    Quantized(QuantizedPanels),
}

impl PackedMatrix {
    /// Packs row-major values, rounded to `format`.
    ///
    /// # Panics
    /// If the number of values does not match the shape.
    pub fn new(values: &[f32], [rows, columns]: [usize; 2], format: DenseFormat) -> Self {
        assert_eq!(values.len(), rows * columns, "values of a matrix of {rows} x {columns}");
        let data = match format {
            DenseFormat::F32 => PackedData::F32(pack_panels(values, columns, f32::from_f32)),
            DenseFormat::Bf16 => PackedData::Bf16(pack_panels(values, columns, bf16::from_f32)),
            DenseFormat::F16 => PackedData::F16(pack_panels(values, columns, f16::from_f32)),
        };
        Self { rows, columns, data }
    }

    /// Packs a quantized matrix without changing its values.
    ///
    /// # Panics
    /// If lengths do not match the shape, or rows are not whole blocks.
    pub fn from_quantized(matrix: &QuantizedMatrix, [rows, columns]: [usize; 2]) -> Self {
        let data = PackedData::Quantized(QuantizedPanels::new(matrix, [rows, columns]));
        Self { rows, columns, data }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Number of panels of 16 rows; the last may be padded.
    pub fn panels(&self) -> usize {
        self.rows.div_ceil(PANEL)
    }

    /// Bits per element, excluding scales and minima.
    pub fn bits(&self) -> usize {
        match &self.data {
            PackedData::F32(_) => 32,
            PackedData::Bf16(_) | PackedData::F16(_) => 16,
            PackedData::Quantized(panels) => panels.bits,
        }
    }

    /// Size in bytes, including scales and minima.
    pub fn bytes(&self) -> usize {
        match &self.data {
            PackedData::F32(elements) => size_of_val(elements.as_slice()),
            PackedData::Bf16(elements) => size_of_val(elements.as_slice()),
            PackedData::F16(elements) => size_of_val(elements.as_slice()),
            PackedData::Quantized(panels) => panels.bytes(),
        }
    }

    /// Writes one row in f32 to `to`.
    ///
    /// # Panics
    /// If the row is out of range, or `to` has another length.
    pub fn read_row(&self, row: usize, to: &mut [f32]) {
        assert!(row < self.rows, "row {row} of {}", self.rows);
        assert_eq!(to.len(), self.columns, "elements of a row");
        let (panel, lane) = (row / PANEL, row % PANEL);
        let start = panel * self.columns * PANEL + lane;
        match &self.data {
            PackedData::F32(elements) => read_lane(&elements.as_slice()[start..], to),
            PackedData::Bf16(elements) => read_lane(&elements.as_slice()[start..], to),
            PackedData::F16(elements) => read_lane(&elements.as_slice()[start..], to),
            PackedData::Quantized(panels) => panels.read_row(panel, lane, self.columns, to),
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

    /// The elements of a panel of a matrix in f32.
    pub(super) fn f32_panel(&self, panel: usize) -> Option<*const f32> {
        match &self.data {
            PackedData::F32(elements) => {
                Some(elements.as_slice()[panel * self.columns * PANEL..].as_ptr())
            }
            _ => None,
        }
    }

    /// Columns `from..to` of a panel in f32, `[column][16]`: as stored, or unpacked to `unpacked`.
    ///
    /// `from` is a multiple of 32.
    ///
    /// # Panics
    /// If `unpacked` is too short, or the columns are out of range.
    #[inline(always)]
    pub(super) fn panel_columns<'a, S: Simd>(
        &'a self,
        simd: S,
        panel: usize,
        [from, to]: [usize; 2],
        unpacked: &'a mut [f32],
    ) -> &'a [f32] {
        let (start, len) = ((panel * self.columns + from) * PANEL, (to - from) * PANEL);
        if let PackedData::F32(elements) = &self.data {
            return &elements.as_slice()[start..start + len];
        }
        let unpacked = &mut unpacked[..len];
        self.unpack(simd, panel, [from, to], unpacked);
        unpacked
    }

    /// Writes columns `from..to` of a panel in f32, `[column][16]`, to `out`.
    ///
    /// `from` is a multiple of 32.
    ///
    /// # Panics
    /// If `out` has another length, or the columns are out of range.
    #[inline(always)]
    pub(super) fn unpack<S: Simd>(
        &self,
        simd: S,
        panel: usize,
        [from, to]: [usize; 2],
        out: &mut [f32],
    ) {
        assert_eq!(out.len(), (to - from) * PANEL, "elements of some columns of a panel");
        let start = (panel * self.columns + from) * PANEL;
        let range = start..start + out.len();
        match &self.data {
            PackedData::F32(elements) => out.copy_from_slice(&elements.as_slice()[range]),
            PackedData::Bf16(elements) => convert(simd, &elements.as_slice()[range], out),
            PackedData::F16(elements) => convert(simd, &elements.as_slice()[range], out),
            PackedData::Quantized(panels) => panels.unpack(simd, panel, self.columns, from, out),
        }
    }
}

/// Every 16th element, in f32.
fn read_lane<T: DenseElement>(from: &[T], to: &mut [f32]) {
    for (to, &element) in to.iter_mut().zip(from.iter().step_by(PANEL)) {
        *to = element.to_f32();
    }
}

/// Converts whole vectors of elements to f32.
#[inline(always)]
fn convert<S: Simd, T: DenseElement>(simd: S, from: &[T], to: &mut [f32]) {
    for (to, from) in to.chunks_exact_mut(S::LANES).zip(from.chunks_exact(S::LANES)) {
        // SAFETY: the chunk has LANES elements.
        simd.write(to, unsafe { T::load(simd, from.as_ptr()) });
    }
}
