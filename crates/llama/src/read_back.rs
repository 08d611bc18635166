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
    let data = data.map_err(|error| Error::Device { reason: cause(&error.to_string()) })?;
    BYTES.set(BYTES.get() + data.as_bytes().len());
    Ok(data)
}

/// The causes in a report of Burn's, without its scaffolding.
fn cause(report: &str) -> String {
    if let Some((_, bytes)) = report.split_once("can't allocate buffer of size: ") {
        let bytes = bytes.split_whitespace().next().and_then(|bytes| bytes.parse::<u64>().ok());
        return format!("it has no {} MiB for one tensor", bytes.unwrap_or(0).div_ceil(1 << 20));
    }
    let scaffolding = |line: &&str| {
        let bare = ["Caused by:", "Asked at:", "No backtrace available", ""];
        !bare.contains(line)
    };
    report.lines().map(str::trim).filter(scaffolding).collect::<Vec<_>>().join("; ")
}

/// How often this thread has waited for a device so far.
pub fn read_back_count() -> usize {
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
    fn a_report_is_cut_down_to_its_causes() {
        let report = "An error happened\nCaused by:\n  An IO error happened\nCaused by:\n  \
            can't allocate buffer of size: 42949672960\nNo backtrace available\nAsked at:\n";
        assert_eq!(cause(report), "it has no 40960 MiB for one tensor");
        let report = "An error happened\nCaused by:\n  the device is lost\nNo backtrace available";
        assert_eq!(cause(report), "An error happened; the device is lost");
    }

    #[test]
    fn reading_is_counted() {
        for device in testing::devices() {
            let before = (read_back_count(), read_back_bytes());
            let data = read_back(Tensor::<1>::from_floats([1.0, 2.0], &device) * 2).unwrap();
            assert_eq!(data.iter::<f32>().collect::<Vec<_>>(), [2.0, 4.0]);
            assert_eq!((read_back_count() - before.0, read_back_bytes() - before.1), (1, 8));
        }
    }
}
