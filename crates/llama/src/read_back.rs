//! device ─► host: the one place where the program waits for a device.
//!
//! A GPU works through what it was told while the program goes on telling it more, until somebody
//! asks for a number. So numbers are asked for here alone (`clippy.toml` forbids Burn's own ways),
//! and counted: tests see what a token and a training step cost.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData, kind};

use crate::error::{Error, Result};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// The numbers of a tensor, once the device has computed them.
///
/// # Errors
/// [`Error::Device`] if it could not: when it ran out of memory, for example, at any operation
/// since the last read-back.
#[expect(clippy::disallowed_methods, reason = "this is where read-backs are counted")]
pub fn read_back<const D: usize, K: kind::Basic>(tensor: Tensor<D, K>) -> Result<TensorData> {
    COUNT.set(COUNT.get() + 1);
    let data = tensor.try_into_data();
    let data = data.map_err(|error| Error::Device { reason: error.to_string() })?;
    BYTES.set(BYTES.get() + data.as_bytes().len());
    Ok(data)
}

/// How often this thread has waited for a device so far.
pub fn read_backs() -> usize {
    COUNT.get()
}

/// How many bytes this thread has got from a device so far.
pub fn read_back_bytes() -> usize {
    BYTES.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_counted() {
        for device in testing::devices() {
            let before = (read_backs(), read_back_bytes());
            let data = read_back(Tensor::<1>::from_floats([1.0, 2.0], &device) * 2).unwrap();
            assert_eq!(data.iter::<f32>().collect::<Vec<_>>(), [2.0, 4.0]);
            assert_eq!((read_backs() - before.0, read_back_bytes() - before.1), (1, 8));
        }
    }
}
