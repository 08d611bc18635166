//! A quantized matrix on a device: packed numbers, scales, minima.

use burn::module::Module;
use burn::tensor::{DType, Device, Int, Tensor};

/// Weights that are unpacked at a time: enough for a product to run at full speed, few enough for
/// them to stay in a CPU's cache, and to count little beside the model.
const AT_ONCE: usize = 1 << 20;
/// The same for inputs of a few rows. On CPUs such products are fastest when they are too small to
/// be split over threads.
const AT_ONCE_FOR_FEW: usize = 1 << 17;
/// What a few rows are.
const FEW: usize = 8;

/// A matrix of 8 or 4 bits a weight, and a scale and perhaps a minimum for each block.
///
/// It is frozen: nothing here is a parameter. [`Quantized::new`] makes one of blocks.
#[derive(Module, Debug)]
pub struct QuantizedWeight {
    /// `[rows, words]`, several numbers in a word.
    pub(super) quants: Tensor<2, Int>,
    /// `[rows, blocks]`
    pub(super) scales: Tensor<2>,
    /// `[rows, blocks]`; `None`: `zero` is taken from each number instead.
    pub(super) mins: Option<Tensor<2>>,
    pub(super) columns: usize,
    pub(super) bits: usize,
    pub(super) zero: u8,
}

impl QuantizedWeight {
    /// Rows and columns.
    pub fn dims(&self) -> [usize; 2] {
        let [rows, _words] = self.quants.dims();
        [rows, self.columns]
    }

    /// Bits of a number, without its share of scale and minimum.
    pub fn bits(&self) -> usize {
        self.bits
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        self.quants.device()
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let of = |dims: [usize; 2], dtype: DType| dims[0] * dims[1] * dtype.size();
        let floats = |tensor: &Tensor<2>| of(tensor.dims(), tensor.dtype());
        of(self.quants.dims(), self.quants.dtype())
            + floats(&self.scales)
            + self.mins.as_ref().map_or(0, floats)
    }

    /// The given rows in f32, each as often as it is asked for.
    ///
    /// # Shapes
    /// - `rows`: `[n]`
    /// - output: `[n, columns]`
    pub fn select(&self, rows: Tensor<1, Int>) -> Tensor<2> {
        let pick = |tensor: &Tensor<2>| tensor.clone().select(0, rows.clone());
        let mins = self.mins.as_ref().map(pick);
        self.unpack(self.quants.clone().select(0, rows.clone()), pick(&self.scales), mins)
    }

    /// `len` rows from `start` in f32.
    ///
    /// # Shapes
    /// - output: `[len, columns]`
    pub fn rows(&self, start: usize, len: usize) -> Tensor<2> {
        let part = |tensor: &Tensor<2>| tensor.clone().narrow(0, start, len);
        let mins = self.mins.as_ref().map(part);
        self.unpack(self.quants.clone().narrow(0, start, len), part(&self.scales), mins)
    }

    /// `input · selfᵀ`, some rows of the weight at a time, so that it is never whole in f32.
    ///
    /// An input with autodiff keeps those rows for its backward pass, all of them in the end.
    ///
    /// # Shapes
    /// - `input`: `[n, columns]`, f32
    /// - output: `[n, rows]`, f32
    pub fn product(&self, input: Tensor<2>) -> Tensor<2> {
        let [rows, columns] = self.dims();
        let [n, _columns] = input.dims();
        let at_once = if n <= FEW { AT_ONCE_FOR_FEW } else { AT_ONCE };
        let at_once = (at_once / columns).clamp(1, rows);
        let parts = (0..rows).step_by(at_once).map(|start| {
            let weight = self.rows(start, at_once.min(rows - start));
            input.clone().matmul(weight.transpose())
        });
        Tensor::cat(parts.collect(), 1)
    }

    /// Plain tensor operations, which every backend has.
    fn unpack(
        &self,
        quants: Tensor<2, Int>,
        scales: Tensor<2>,
        mins: Option<Tensor<2>>,
    ) -> Tensor<2> {
        let [rows, blocks] = scales.dims();
        let in_a_word = quants.dtype().size() * 8 / self.bits;
        let quants = if in_a_word == 1 {
            quants
        } else {
            let mask = (1_i64 << self.bits) - 1;
            let pieces = (0..in_a_word).map(|place| {
                let lowest = quants.clone().bitwise_right_shift_scalar((place * self.bits) as i64);
                lowest.bitwise_and_scalar(mask)
            });
            Tensor::cat(pieces.collect(), 1)
        };
        let over_block = |tensor: Tensor<2>| tensor.cast(DType::F32).reshape([rows, blocks, 1]);
        let values = quants.float().cast(DType::F32).reshape([rows, blocks, self.columns / blocks]);
        let values = match mins {
            Some(mins) => values * over_block(scales) + over_block(mins),
            None => (values - f32::from(self.zero)) * over_block(scales),
        };
        values.reshape([rows, self.columns])
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::TensorData;

    use super::*;
    use checkpoint::{Bits, BlockOffset, QuantizedBlocks};

    /// Numbers that are all different, with odd scales.
    fn blocks(
        rows: usize,
        columns: usize,
        block_len: usize,
        bits: Bits,
        offset: bool,
    ) -> QuantizedBlocks {
        let len = rows * columns;
        let quants = (0..len).map(|i| ((i * 7 + i / 13) % (usize::from(bits.largest()) + 1)) as u8);
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
                BlockOffset::Zero(bits.largest() / 2 + 1)
            },
        }
    }

    /// Every kind of block in every kind of word, on every device that has it.
    fn each(rows: usize, columns: usize, check: impl Fn(QuantizedWeight, Tensor<2>, &Device)) {
        for device in testing::devices() {
            for word in [DType::U8, DType::U32] {
                if !device.supports_dtype(word) {
                    assert_eq!(word, DType::U8, "all devices can address 32 bits");
                    continue;
                }
                for (bits, block_len, offset) in
                    [(Bits::Four, 32, false), (Bits::Four, 16, true), (Bits::Eight, 16, false)]
                {
                    let blocks = blocks(rows, columns, block_len, bits, offset);
                    let data = TensorData::new(blocks.dequantize(), [rows, columns]);
                    let dense = Tensor::from_data(data, &device);
                    check(QuantizedWeight::in_words(blocks, word, &device), dense, &device);
                }
            }
        }
    }

    #[test]
    fn what_is_packed_is_unpacked_to_the_bit() {
        each(5, 96, |quantized, dense, _device| {
            assert_eq!(quantized.dims(), [5, 96]);
            assert_eq!(testing::values(quantized.rows(0, 5)), testing::values(dense.clone()));
            let part = dense.narrow(0, 2, 2);
            assert_eq!(testing::values(quantized.rows(2, 2)), testing::values(part));
        });
    }

    #[test]
    fn rows_are_selected_in_the_order_asked_for() {
        each(5, 64, |quantized, dense, device| {
            let rows = Tensor::<1, Int>::from_ints([4, 0, 4], device);
            let expected = dense.select(0, rows.clone());
            assert_eq!(testing::values(quantized.select(rows)), testing::values(expected));
        });
    }

    #[test]
    fn a_product_in_several_parts_is_the_dense_one() {
        // More weights than are unpacked at a time, the last part smaller than the others.
        let (rows, columns) = (AT_ONCE / 4096 + 100, 4096);
        let device = testing::flex();
        let blocks = blocks(rows, columns, 32, Bits::Four, true);
        let dense =
            Tensor::<2>::from_data(TensorData::new(blocks.dequantize(), [rows, columns]), &device);
        let quantized = QuantizedWeight::new(blocks, &device);
        for n in [1, FEW, FEW + 1] {
            let len = (n * columns) as i64;
            let input = Tensor::<1, Int>::arange(0..len, &device).float().sin();
            let input = input.reshape([n, columns]);
            let expected = input.clone().matmul(dense.clone().transpose());
            let found = quantized.product(input);
            testing::assert_close_relative("product", found, expected, 1e-5);
        }
    }

    #[test]
    fn a_weight_of_four_bits_holds_little_more_than_four() {
        let device = testing::flex();
        let blocks =
            QuantizedBlocks { scales: vec![0.5; 128], ..blocks(64, 64, 32, Bits::Four, false) };
        assert_eq!(QuantizedWeight::new(blocks.clone(), &device).bytes(), 64 * 32 + 128 * 2);
        // A third has no exact f16.
        let blocks = QuantizedBlocks { scales: vec![1.0 / 3.0; 128], ..blocks };
        assert_eq!(QuantizedWeight::new(blocks, &device).bytes(), 64 * 32 + 128 * 4);
    }
}
