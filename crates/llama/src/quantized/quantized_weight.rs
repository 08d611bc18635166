//! A quantized matrix on a device: packed values, scales, minima.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

/// Weights that are dequantized at a time: enough for a matmul at full speed, few enough to stay in a
/// CPU's cache and to be small compared with the model.
const DEQUANT_CHUNK: usize = 1 << 20;
/// The same for inputs of a few rows. On CPUs such matmuls are fastest if they are too small to be split
/// over threads.
const DEQUANT_CHUNK_SMALL_BATCH: usize = 1 << 17;
/// Maximum number of input rows of a small batch.
const SMALL_BATCH: usize = 8;

/// A matrix of 8 or 4 bits per weight, with a scale and optionally a minimum per block.
///
/// It is frozen: it has no parameters. [`QuantizedWeight::new`] packs it from blocks.
#[derive(Module, Debug)]
pub struct QuantizedWeight {
    /// `[rows, words]`, several values per word.
    pub(super) quants: Tensor<2, Int>,
    /// `[rows, blocks]`
    pub(super) scales: Tensor<2>,
    /// `[rows, blocks]`; `None`: `zero_point` is subtracted from each value instead.
    pub(super) mins: Option<Tensor<2>>,
    pub(super) columns: usize,
    pub(super) bits: usize,
    pub(super) zero_point: u8,
}

impl QuantizedWeight {
    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, _words] = self.quants.dims();
        [rows, self.columns]
    }

    /// BitWidth per weight, without scales and minima.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// Device of the matrix.
    pub fn device(&self) -> Device {
        self.quants.device()
    }

    /// Size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        let of = |dims: [usize; 2], dtype: DType| dims[0] * dims[1] * dtype.size();
        let floats = |tensor: &Tensor<2>| of(tensor.dims(), tensor.dtype());
        of(self.quants.dims(), self.quants.dtype())
            + floats(&self.scales)
            + self.mins.as_ref().map_or(0, floats)
    }

    /// Selects rows, in f32. A row may be selected several times.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let select_rows = |tensor: &Tensor<2>| tensor.clone().select(0, rows.clone());
        let mins = self.mins.as_ref().map(select_rows);
        self.dequantize(
            self.quants.clone().select(0, rows.clone()),
            select_rows(&self.scales),
            mins,
        )
    }

    /// `len` rows from `start` in f32.
    ///
    /// # Shapes
    /// - output: `[len, columns]`
    pub fn dequantize_rows(&self, start: usize, len: usize) -> Tensor<2> {
        let rows = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, len);
        let mins = self.mins.as_ref().map(rows);
        self.dequantize(self.quants.clone().narrow(0, start, len), rows(&self.scales), mins)
    }

    /// `input · selfᵀ`. A chunk of rows of the weight is dequantized at a time, so that it is never
    /// whole in f32.
    ///
    /// With an input that requires gradients, the graph keeps all dequantized rows for the backward pass.
    ///
    /// # Shapes
    /// - `input`: `[n, columns]`, f32
    /// - output: `[n, rows]`, f32
    pub fn matmul_transposed(&self, input: Tensor<2>) -> Tensor<2> {
        let [rows, columns] = self.dims();
        let [n, _columns] = input.dims();
        let chunk = if n <= SMALL_BATCH { DEQUANT_CHUNK_SMALL_BATCH } else { DEQUANT_CHUNK };
        let chunk_rows = (chunk / columns).clamp(1, rows);
        let parts = (0..rows).step_by(chunk_rows).map(|start| {
            let weight = self.dequantize_rows(start, chunk_rows.min(rows - start));
            input.clone().matmul(weight.transpose())
        });
        Tensor::cat(parts.collect(), 1)
    }

    /// With plain tensor operations, which every backend has.
    fn dequantize(
        &self,
        quants: Tensor<2, Int>,
        scales: Tensor<2>,
        mins: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let [rows, blocks] = scales.dims();
        let values_per_word = quants.dtype().size() * 8 / self.bits;
        let quants = if values_per_word == 1 {
            quants
        } else {
            let mask = (1_i64 << self.bits) - 1;
            let pieces = (0..values_per_word).map(|lane| {
                let shifted = quants.clone().bitwise_right_shift_scalar((lane * self.bits) as i64);
                shifted.bitwise_and_scalar(mask)
            });
            Tensor::cat(pieces.collect(), 1)
        };
        let over_block = |tensor: Tensor<2>| tensor.cast(DType::F32).reshape([rows, blocks, 1]);
        let values = quants.float().cast(DType::F32).reshape([rows, blocks, self.columns / blocks]);
        let values = match mins {
            Some(mins) => values * over_block(scales) + over_block(mins),
            None => (values - f32::from(self.zero_point)) * over_block(scales),
        };
        values.reshape([rows, self.columns])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use checkpoint::{BitWidth, BlockOffset, QuantizedBlocks};

    /// Blocks with varied values and scales.
    fn blocks(
        rows: usize,
        columns: usize,
        block_len: usize,
        bits: BitWidth,
        offset: bool,
    ) -> QuantizedBlocks {
        let len = rows * columns;
        let quants =
            (0..len).map(|i| ((i * 7 + i / 13) % (usize::from(bits.max_quant()) + 1)) as u8);
        let scale = |i: usize| 0.01 + (i % 17) as f32 * 0.003;
        let groups = 0..len / block_len;
        let mins = groups.clone().map(|i| -0.7 * scale(i + 5)).collect();
        QuantizedBlocks {
            shape: [rows, columns],
            bits,
            block_len,
            quants: quants.collect(),
            scales: groups.map(scale).collect(),
            offset: if offset {
                BlockOffset::Mins(mins)
            } else {
                BlockOffset::ZeroPoint(bits.max_quant() / 2 + 1)
            },
        }
    }

    /// Calls `check` for several block layouts in every word type that a device supports.
    fn for_each_layout(
        rows: usize,
        columns: usize,
        check: impl Fn(QuantizedWeight, Tensor<2>, &Device),
    ) {
        for device in testing::devices() {
            for word in [DType::U8, DType::U32] {
                if !device.supports_dtype(word) {
                    assert_eq!(word, DType::U8, "all devices support 32 bits");
                    continue;
                }
                for (bits, block_len, offset) in [
                    (BitWidth::Four, 32, false),
                    (BitWidth::Four, 16, true),
                    (BitWidth::Eight, 16, false),
                ] {
                    let blocks = blocks(rows, columns, block_len, bits, offset);
                    let data = TensorData::new(blocks.dequantize(), [rows, columns]);
                    let dense = Tensor::from_data(data, &device);
                    check(QuantizedWeight::in_words(blocks, word, &device), dense, &device);
                }
            }
        }
    }

    #[test]
    fn packing_round_trips_exactly() {
        for_each_layout(5, 96, |quantized, dense, _device| {
            assert_eq!(quantized.dims(), [5, 96]);
            assert_eq!(
                testing::values(quantized.dequantize_rows(0, 5)),
                testing::values(dense.clone())
            );
            let part = dense.narrow(0, 2, 2);
            assert_eq!(testing::values(quantized.dequantize_rows(2, 2)), testing::values(part));
        });
    }

    #[test]
    fn rows_are_selected_in_order() {
        for_each_layout(5, 64, |quantized, dense, device| {
            let rows = Tensor::<1, Int>::from_ints([4, 0, 4], device);
            let expected = dense.select(0, rows.clone());
            assert_eq!(testing::values(quantized.select(rows)), testing::values(expected));
        });
    }

    #[test]
    fn chunked_matmul_equals_dense_matmul() {
        // More weights than one chunk, the last chunk smaller than the others.
        let (rows, columns) = (DEQUANT_CHUNK / 4096 + 100, 4096);
        let device = testing::flex();
        let blocks = blocks(rows, columns, 32, BitWidth::Four, true);
        let dense =
            Tensor::<2>::from_data(TensorData::new(blocks.dequantize(), [rows, columns]), &device);
        let quantized = QuantizedWeight::new(blocks, &device);
        for n in [1, SMALL_BATCH, SMALL_BATCH + 1] {
            let len = (n * columns) as i64;
            let input = Tensor::<1, Int>::arange(0..len, &device).float().sin();
            let input = input.reshape([n, columns]);
            let expected = input.clone().matmul(dense.clone().transpose());
            let found = quantized.matmul_transposed(input);
            testing::assert_close_relative("matmul", found, expected, 1e-5);
        }
    }

    #[test]
    fn four_bit_weight_size_in_bytes() {
        let device = testing::flex();
        let blocks =
            QuantizedBlocks { scales: vec![0.5; 128], ..blocks(64, 64, 32, BitWidth::Four, false) };
        assert_eq!(QuantizedWeight::new(blocks.clone(), &device).bytes(), 64 * 32 + 128 * 2);
        // 1/3 is not exact in f16.
        let blocks = QuantizedBlocks { scales: vec![1.0 / 3.0; 128], ..blocks };
        assert_eq!(QuantizedWeight::new(blocks, &device).bytes(), 64 * 32 + 128 * 4);
    }
}
