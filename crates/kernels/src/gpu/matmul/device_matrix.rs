//! A frozen matrix in a device's memory.

use burn::backend::ops::IntTensorOps;
use burn::tensor::{Bytes, DType, Device, TensorData};
use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;
use half::f16;

use super::words::{Element, Format, MatrixDimsLaunch, PIECE};
use crate::cpu::packed_matrix::QuantizedMatrix;

/// A frozen matrix in a device's memory, in the words that `words.rs` describes.
#[derive(Debug, Clone)]
pub(crate) struct DeviceMatrix {
    pub(super) words: CubeTensor,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) format: Format,
    /// Words before the scales, and before the minima.
    scales: usize,
    mins: usize,
}

impl DeviceMatrix {
    /// Uploads a row-major matrix in f32, f16 or bf16.
    ///
    /// # Panics
    /// If the data has another element type or is not a matrix.
    pub fn new(data: TensorData, device: &Device) -> Self {
        let [rows, columns] = data.shape().dims();
        let element = match data.dtype() {
            DType::F32 => Element::F32,
            DType::F16 => Element::F16,
            DType::BF16 => Element::Bf16,
            other => panic!("a packed weight cannot be {other:?}"),
        };
        let format =
            Format { element, block_len: 0, half_scales: false, has_mins: false, zero_point: 0 };
        let padded = columns.next_multiple_of(PIECE);
        let words = rows * padded * element.bits() / 32;
        // Not copied if there is nothing to pad: loading holds a matrix once.
        let bytes = if padded == columns {
            data.into_bytes()
        } else {
            let size = element.bits() / 8;
            let mut bytes = vec![0_u8; words * 4];
            let from = data.as_bytes().chunks_exact((columns * size).max(1));
            for (to, from) in bytes.chunks_exact_mut((padded * size).max(1)).zip(from) {
                to[..from.len()].copy_from_slice(from);
            }
            Bytes::from_elems(bytes)
        };
        Self::upload(bytes, [rows, columns], format, [words, words], device)
    }

    /// Uploads a quantized matrix without changing its values. Scales and minima are f16 if that is
    /// exact for all of them.
    ///
    /// # Panics
    /// If lengths do not match the shape, or rows are not whole blocks.
    pub fn from_quantized(
        matrix: &QuantizedMatrix,
        [rows, columns]: [usize; 2],
        device: &Device,
    ) -> Self {
        let QuantizedMatrix { quants, scales, mins, zero_point, bits, block_len } = *matrix;
        assert!([16, 32].contains(&block_len), "blocks of {block_len}");
        assert!(columns.is_multiple_of(block_len), "rows are not whole blocks");
        assert_eq!(quants.len(), rows * columns, "elements of a matrix of {rows} x {columns}");
        let blocks = rows * columns / block_len;
        assert_eq!(scales.len(), blocks, "scales of a matrix of {rows} x {columns}");
        let element = match bits {
            8 => Element::Bits8,
            4 => Element::Bits4,
            other => panic!("{other} bits instead of 8 or 4"),
        };
        let exact = |&value: &f32| f16::from_f32(value).to_f32() == value;
        let half_scales = scales.iter().chain(mins.into_iter().flatten()).all(exact);
        let format = Format {
            element,
            block_len,
            half_scales,
            has_mins: mins.is_some(),
            zero_point: u32::from(zero_point),
        };
        let mut bytes = Vec::with_capacity(rows * columns * bits / 8 + blocks * 8);
        match element {
            Element::Bits8 => bytes.extend_from_slice(quants),
            _ => bytes.extend(quants.chunks_exact(2).map(|pair| pair[0] | pair[1] << 4)),
        }
        let start_of_scales = bytes.len() / 4;
        push_block_values(&mut bytes, scales, half_scales);
        let start_of_mins = bytes.len() / 4;
        if let Some(mins) = mins {
            assert_eq!(mins.len(), blocks, "minima of a matrix of {rows} x {columns}");
            push_block_values(&mut bytes, mins, half_scales);
        }
        let starts = [start_of_scales, start_of_mins];
        Self::upload(Bytes::from_elems(bytes), [rows, columns], format, starts, device)
    }

    fn upload(
        bytes: Bytes,
        [rows, columns]: [usize; 2],
        format: Format,
        [scales, mins]: [usize; 2],
        device: &Device,
    ) -> Self {
        let words = bytes.len() / 4;
        let data = TensorData::from_bytes(bytes, [words], DType::U32);
        let Some(device) = super::cube_device(device) else {
            panic!("{device:?} has no packed weights")
        };
        let words = CubeBackend::int_from_data(data, &device);
        Self { words, rows, columns, format, scales, mins }
    }

    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        [self.rows, self.columns]
    }

    /// Bits per element, excluding scales and minima.
    pub fn bits(&self) -> usize {
        self.format.element.bits()
    }

    /// Size in bytes, including scales and minima.
    pub fn bytes(&self) -> usize {
        self.words.meta.shape().num_elements() * 4
    }

    /// Pieces of a row.
    pub(super) fn pieces(&self) -> usize {
        self.columns.div_ceil(PIECE)
    }

    /// The offsets as arguments of a kernel.
    pub(super) fn launch_dims(&self) -> MatrixDimsLaunch {
        MatrixDimsLaunch::new(self.pieces() as u32, self.scales as u32, self.mins as u32)
    }
}

/// Appends scales or minima in whole words.
fn push_block_values(bytes: &mut Vec<u8>, values: &[f32], half: bool) {
    if half {
        bytes.extend(values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()));
    } else {
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
