//! A reader over arbitrary bytes, for the target in `fuzz/` and the property tests. It must not panic.

use std::path::Path;

use crate::error::Error;
use crate::format::OpenOptions;

/// Reads all records of the bytes as a file. Returns the number of records and errors.
pub fn records(bytes: &[u8]) -> usize {
    let Ok(opened) = crate::open_bytes(Path::new("fuzz"), bytes, &OpenOptions::default()) else {
        return 1;
    };
    let mut count = 0;
    let mut has_ended = false;
    for record in opened.records {
        assert!(!has_ended, "records after an error that ends them");
        count += 1;
        has_ended = !matches!(record, Ok(_) | Err(Error::Record { .. }));
    }
    count
}
