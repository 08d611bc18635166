//! Read-backs, device ─► host: the one place where the program waits for a device.
//!
//! A GPU computes asynchronously until the program reads a value. All reads go through [`read_back`], which
//! counts them; `clippy.toml` forbids Burn's own methods. Tests check the number of read-backs: decoding
//! reads back once per token ([`BatchSampler`](crate::sampling::BatchSampler)), a training step not at all.
//!
//! Public because the crates above read their results in the same way and their tests count read-backs.

use std::cell::Cell;

use burn::tensor::{Tensor, TensorData, kind};

use crate::error::{Error, Result};

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// Reads a tensor's values; waits until the device has computed them.
///
/// # Errors
/// [`Error::Device`] if any operation since the last read-back failed, for example because the device ran
/// out of memory.
#[expect(clippy::disallowed_methods, reason = "read-backs are counted here")]
pub fn read_back<const D: usize, K: kind::Basic>(tensor: Tensor<D, K>) -> Result<TensorData> {
    COUNT.set(COUNT.get() + 1);
    let data = tensor.try_into_data();
    let data = data.map_err(|error| Error::Device { reason: root_cause(&error.to_string()) })?;
    BYTES.set(BYTES.get() + data.as_bytes().len());
    Ok(data)
}

/// The causes in an error message of Burn, without boilerplate.
fn root_cause(report: &str) -> String {
    if let Some((_, bytes)) = report.split_once("can't allocate buffer of size: ") {
        let bytes = bytes.split_whitespace().next().and_then(|bytes| bytes.parse::<u64>().ok());
        return format!(
            "it cannot allocate {} MiB for a tensor",
            bytes.unwrap_or(0).div_ceil(1 << 20)
        );
    }
    let is_boilerplate = |line: &&str| {
        let boilerplate = ["Caused by:", "Asked at:", "No backtrace available", ""];
        boilerplate.contains(line)
    };
    report
        .lines()
        .map(str::trim)
        .filter(|line| !is_boilerplate(line))
        .collect::<Vec<_>>()
        .join("; ")
}

/// Number of read-backs of this thread so far.
pub fn read_back_count() -> usize {
    COUNT.get()
}

/// Bytes that this thread has read back so far.
pub fn read_back_bytes() -> usize {
    BYTES.get()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_messages_keep_only_the_causes() {
        let report = "An error happened\nCaused by:\n  An IO error happened\nCaused by:\n  \
            can't allocate buffer of size: 42949672960\nNo backtrace available\nAsked at:\n";
        assert_eq!(root_cause(report), "it cannot allocate 40960 MiB for a tensor");
        let report = "An error happened\nCaused by:\n  the device is lost\nNo backtrace available";
        assert_eq!(root_cause(report), "An error happened; the device is lost");
    }

    #[test]
    fn read_backs_are_counted() {
        for device in testing::devices() {
            let before = (read_back_count(), read_back_bytes());
            let data = read_back(Tensor::<1>::from_floats([1.0, 2.0], &device) * 2).unwrap();
            assert_eq!(data.iter::<f32>().collect::<Vec<_>>(), [2.0, 4.0]);
            assert_eq!((read_back_count() - before.0, read_back_bytes() - before.1), (1, 8));
        }
    }
}
