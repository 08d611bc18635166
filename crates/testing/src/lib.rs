//! What the workspace's tests share: the devices to run on, golden files, one comparison.
//!
//! Golden files are made by another program; `tests/golden/README.md` tells how.

pub mod gguf;
mod golden;
pub mod hostile;
pub mod tiny_model;

use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Gradients, Int, Tensor};

pub use golden::{Golden, golden_folder};

/// The reference device of the tests.
pub fn flex() -> Device {
    device::parse("flex").expect("tests are built with the flex backend")
}

/// The devices that tests loop over: those that `LLAMA_ADAPTER_TEST_DEVICES` names, separated by
/// commas; without it every CPU backend in this build.
///
/// # Panics
/// If a device that was named cannot be had: a test that was asked for must not be left out.
pub fn devices() -> Vec<Device> {
    let open = |name: &str| device::parse(name).unwrap_or_else(|error| panic!("{error}"));
    if let Ok(names) = std::env::var("LLAMA_ADAPTER_TEST_DEVICES") {
        return names.split(',').map(|name| open(name.trim())).collect();
    }
    let cpu = device::BACKENDS.iter().filter(|b| b.compiled && !b.indexed);
    cpu.map(|backend| open(backend.name)).collect()
}

/// How many of a module's parameters have a gradient.
pub fn count_params_with_gradient(module: &impl Module, gradients: &Gradients) -> usize {
    struct Count<'a>(&'a Gradients, usize);
    impl ModuleVisitor for Count<'_> {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1 += usize::from(param.val().grad(self.0).is_some());
        }
    }
    let mut count = Count(gradients, 0);
    module.visit(&mut count);
    count.1
}

/// Checks that two tensors agree to `tolerance`, absolute, or relative where numbers exceed 1.
///
/// # Panics
/// If they do not; the message has the shape, the largest difference and where it is.
#[track_caller]
pub fn assert_close<const D: usize>(
    what: &str,
    found: Tensor<D>,
    expected: Tensor<D>,
    tolerance: f64,
) {
    assert_eq!(found.dims(), expected.dims(), "{what}: shapes differ");
    let found_values = values(found.clone());
    assert_values_close(what, &found_values, &values(expected), &found.dims(), tolerance);
}

/// As [`assert_close`], for numbers on the host.
///
/// # Panics
/// If the numbers differ by more than `tolerance`.
#[track_caller]
pub fn assert_values_close(
    what: &str,
    found: &[f32],
    expected: &[f32],
    shape: &[usize],
    tolerance: f64,
) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths differ");
    let mut worst = (0.0, 0);
    for (index, (&found, &expected)) in found.iter().zip(expected).enumerate() {
        let (found, expected) = (f64::from(found), f64::from(expected));
        let difference = (found - expected).abs() / expected.abs().max(1.0);
        // NaN on either side must count as the worst difference there is.
        let difference = if difference.is_nan() { f64::INFINITY } else { difference };
        if difference > worst.0 {
            worst = (difference, index);
        }
    }
    let (difference, index) = worst;
    assert!(
        difference <= tolerance,
        "{what} {shape:?}: largest difference {difference:.3e} (allowed {tolerance:.1e}) at {:?}: \
         found {}, expected {}",
        place(index, shape),
        found[index],
        expected[index],
    );
}

/// Checks `found` against `expected` to `tolerance` relative to the largest expected number, as
/// fits gradients, whose size says nothing by itself.
///
/// # Panics
/// If they differ by more.
#[track_caller]
pub fn assert_close_relative<const D: usize>(
    what: &str,
    found: Tensor<D>,
    expected: Tensor<D>,
    tolerance: f64,
) {
    let largest = values(expected.clone()).iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    assert!(largest > 0.0, "{what}: all expected numbers are zero, the test would prove nothing");
    let scale = f64::from(largest);
    assert_close(what, found / scale, expected / scale, tolerance);
}

/// A tensor's numbers as f32, row by row.
#[expect(clippy::disallowed_methods, reason = "tests may wait for a device")]
pub fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// A list's whole numbers.
#[expect(clippy::disallowed_methods, reason = "tests may wait for a device")]
pub fn int_values(tensor: Tensor<1, Int>) -> Vec<i64> {
    tensor.into_data().iter::<i64>().collect()
}

fn place(mut index: usize, shape: &[usize]) -> Vec<usize> {
    let mut place = vec![0; shape.len()];
    for (slot, &size) in place.iter_mut().zip(shape).rev() {
        *slot = index % size;
        index /= size;
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "at [1, 0]: found 3.5, expected 3")]
    fn a_difference_is_found_and_placed() {
        let found = Tensor::<2>::from_floats([[1.0, 2.0], [3.5, 4.0]], &flex());
        let expected = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &flex());
        assert_close("matrix", found, expected, 1e-3);
    }

    #[test]
    #[should_panic(expected = "inf")]
    fn not_a_number_is_never_close() {
        assert_values_close("nan", &[f32::NAN], &[1.0], &[1], 1e3);
    }
}
