//! Products with packed weights on every device that has them, in every stored format: values and
//! gradients compared with those of the same matrix in f32 on the reference device, for few and many
//! rows, odd shapes, and several weights at once.

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use kernels::{PackedWeight, QuantizedMatrix, has_packed_weights, linears};
use testing::{assert_close, assert_close_relative, flex, values};

/// Number of input rows: one, the small batches of decoding, and around the tiles of a GEMM.
const INPUT_ROWS: [usize; 10] = [1, 2, 3, 5, 8, 9, 16, 17, 33, 70];

fn devices() -> impl Iterator<Item = Device> {
    testing::devices().into_iter().filter(has_packed_weights)
}

/// Varied values between -1 and 1.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    let number =
        |i: usize| ((i * 7919 + seed * 104_729 + i * i % 101) % 2003) as f32 / 1001.5 - 1.0;
    (0..count).map(number).collect()
}

fn tensor(seed: usize, dims: [usize; 2], device: &Device) -> Tensor<2> {
    Tensor::from_data(TensorData::new(numbers(seed, dims[0] * dims[1]), dims), device)
}

/// A packed matrix, and its values in f32 on the reference device.
struct Case {
    name: String,
    packed: PackedWeight,
    dense: Tensor<2>,
    /// Of a product, relative to its largest value.
    tolerance: f64,
}

fn float_case(dtype: DType, dims: [usize; 2], device: &Device) -> Case {
    let mut numbers = numbers(3, dims[0] * dims[1]);
    // Subnormal in f16.
    numbers[0] = 3e-6;
    let data = TensorData::new(numbers, dims).convert_dtype(dtype);
    let dense = Tensor::from_data(data.clone().convert_dtype(DType::F32), &flex());
    let packed = PackedWeight::new(data, device);
    // Processors that multiply in bf16 round the input to it too.
    let tolerance = if dtype == DType::BF16 && kernels::is_fused(device) { 4e-3 } else { 1e-5 };
    Case { name: format!("{dtype:?} {dims:?}"), packed, dense, tolerance }
}

/// A quantized matrix, with a zero point or with minima, and scales that are exact in f16 or not.
fn quantized_case(
    bits: usize,
    block_len: usize,
    has_mins: bool,
    half: bool,
    [rows, columns]: [usize; 2],
    device: &Device,
) -> Case {
    let quants = (0..rows * columns).map(|i| ((i * 11 + i / 7) % (1 << bits)) as u8);
    let quants = quants.collect::<Vec<_>>();
    let unit = if half { 1.0 / 512.0 } else { 1.0 / 300.0 };
    let n_blocks = rows * columns / block_len;
    let scales = (0..n_blocks).map(|i| (i % 13 + 1) as f32 * unit).collect::<Vec<_>>();
    let mins = (0..n_blocks).map(|i| (i % 5) as f32 * -4.0 * unit).collect::<Vec<_>>();
    let zero_point = if has_mins { 0 } else { 1_u8 << (bits - 1) };
    let dense = quants.iter().enumerate().map(|(at, &quant)| {
        let block = at / block_len;
        let min = if has_mins { mins[block] } else { 0.0 };
        (f32::from(quant) - f32::from(zero_point)) * scales[block] + min
    });
    let dense = TensorData::new(dense.collect::<Vec<_>>(), [rows, columns]);
    let matrix = QuantizedMatrix {
        quants: &quants,
        scales: &scales,
        mins: has_mins.then_some(&mins[..]),
        zero_point,
        bits,
        block_len,
    };
    let dims = [rows, columns];
    Case {
        name: format!("{bits} bits in {block_len}, minima {has_mins}, half {half}, {dims:?}"),
        packed: PackedWeight::from_quantized(&matrix, dims, device),
        dense: Tensor::from_data(dense, &flex()),
        tolerance: 1e-5,
    }
}

/// Every format, in shapes of whole tiles and of others.
fn cases(device: &Device) -> Vec<Case> {
    let mut cases = Vec::new();
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for dims in [[64, 64], [70, 52], [3, 7], [1, 130]] {
            cases.push(float_case(dtype, dims, device));
        }
    }
    for bits in [8, 4] {
        cases.push(quantized_case(bits, 32, false, true, [64, 64], device));
        cases.push(quantized_case(bits, 32, true, true, [33, 96], device));
        cases.push(quantized_case(bits, 16, true, false, [70, 48], device));
        cases.push(quantized_case(bits, 16, false, true, [1, 304], device));
    }
    cases
}

#[test]
fn products_equal_those_of_the_matrix_in_f32_on_every_device() {
    for device in devices() {
        for Case { name, packed, dense, tolerance } in cases(&device) {
            let [_rows, columns] = packed.dims();
            for n in INPUT_ROWS {
                let found = linears(tensor(n, [n, columns], &device), None, &[&packed]);
                let expected = tensor(n, [n, columns], &flex()).matmul(dense.clone().transpose());
                let name = format!("{name}, {n} rows");
                assert_close_relative(&name, to_flex(found), expected, tolerance);
            }
        }
    }
}

#[test]
fn gradients_equal_those_of_the_matrix_in_f32_on_every_device() {
    for device in devices() {
        for Case { name, packed, dense, tolerance } in cases(&device) {
            let [rows, columns] = packed.dims();
            for n in [1, 9, 33, 70] {
                let d_out = |device: &Device| tensor(n + 1, [n, rows], device);
                let input = tensor(n, [n, columns], &device).autodiff().require_grad();
                let output = linears(input.clone(), None, &[&packed]);
                let weighted = output * Tensor::from_inner(d_out(&device));
                let gradients = weighted.sum().backward();
                let found = input.grad(&gradients).expect("the input has a gradient");
                let expected = d_out(&flex()).matmul(dense.clone());
                let name = format!("{name}, gradient of {n} rows");
                assert_close_relative(&name, to_flex(found), expected, tolerance);
            }
        }
    }
}

/// The tensor on the reference device.
fn to_flex(tensor: Tensor<2>) -> Tensor<2> {
    let dims = tensor.dims();
    Tensor::from_data(TensorData::new(values(tensor), dims), &flex())
}

#[test]
fn several_weights_and_a_residual_on_every_device() {
    for device in devices() {
        // The second weight's part starts at a column that is not a multiple of four.
        let cases = [
            float_case(DType::BF16, [30, 64], &device),
            quantized_case(4, 32, false, true, [17, 64], &device),
            quantized_case(8, 32, true, true, [40, 64], &device),
        ];
        let dense = Tensor::cat(cases.each_ref().map(|case| case.dense.clone()).to_vec(), 0);
        let weights = cases.each_ref().map(|case| &case.packed);
        for n in [1, 7, 20, 65] {
            let inputs = |device: &Device| [tensor(n, [n, 64], device), tensor(5, [n, 87], device)];
            let [input, residual] = inputs(&device).map(|x| x.autodiff().require_grad());
            let output = linears(input.clone(), Some(residual.clone()), &weights);
            let d_out = |device: &Device| tensor(n + 1, [n, 87], device);
            let gradients = (output.clone() * Tensor::from_inner(d_out(&device))).sum().backward();
            let [x, r] = inputs(&flex());
            let expected = x.matmul(dense.clone().transpose()) + r;
            assert_close(&format!("{n} rows"), to_flex(output.inner()), expected, 3e-5);
            let d_input = to_flex(input.grad(&gradients).expect("a gradient"));
            let expected = d_out(&flex()).matmul(dense.clone());
            assert_close_relative("gradient of the input", d_input, expected, 1e-5);
            let d_residual = to_flex(residual.grad(&gradients).expect("a gradient"));
            assert_close("gradient of the residual", d_residual, d_out(&flex()), 0.0);
        }
    }
}

#[test]
fn an_input_that_is_a_transposed_view_gives_the_same_product() {
    for device in devices() {
        let Case { packed, dense, .. } = float_case(DType::F16, [40, 24], &device);
        for n in [3, 30] {
            let view = |device: &Device| tensor(2, [24, n], device).transpose();
            let found = to_flex(linears(view(&device), None, &[&packed]));
            let expected = view(&flex()).matmul(dense.clone().transpose());
            assert_close_relative("transposed", found, expected, 1e-5);
        }
    }
}

#[test]
fn a_row_of_a_small_batch_equals_the_row_alone_bit_for_bit() {
    for device in devices() {
        for Case { name, packed, .. } in cases(&device) {
            let [_rows, columns] = packed.dims();
            let batch = tensor(1, [8, columns], &device);
            let alone = linears(batch.clone().narrow(0, 2, 1), None, &[&packed]);
            for n in [3, 5, 8] {
                let product = linears(batch.clone().narrow(0, 0, n), None, &[&packed]);
                assert_eq!(values(product.narrow(0, 2, 1)), values(alone.clone()), "{name}, {n}");
            }
        }
    }
}

#[test]
fn packed_matrices_round_trip_on_every_device() {
    for device in devices() {
        for Case { name, packed, dense, .. } in cases(&device) {
            assert_eq!(values(packed.to_dense()), values(dense.clone()), "{name}");
            let last = dense.dims()[0] as i64 - 1;
            let ids = |device: &Device| Tensor::<1, Int>::from_ints([last, 0, last], device);
            let expected = values(dense.select(0, ids(&flex())));
            assert_eq!(values(packed.select(ids(&device))), expected, "{name}");
        }
    }
}

#[test]
fn sixteen_bits_and_blocks_keep_their_size_on_every_device() {
    for device in devices() {
        let size = |case: Case| (case.packed.bits(), case.packed.bytes());
        let dims = [64, 64];
        assert_eq!(size(float_case(DType::F32, dims, &device)), (32, 64 * 64 * 4));
        assert_eq!(size(float_case(DType::BF16, dims, &device)), (16, 64 * 64 * 2));
        let scales = 64 * 64 / 32 * 2;
        let four = quantized_case(4, 32, false, true, dims, &device);
        assert_eq!(size(four), (4, 64 * 64 / 2 + scales));
        let eight = quantized_case(8, 32, true, true, dims, &device);
        assert_eq!(size(eight), (8, 64 * 64 + 2 * scales));
        let exact = quantized_case(8, 32, false, false, dims, &device);
        assert_eq!(size(exact), (8, 64 * 64 + 2 * scales));
    }
}
