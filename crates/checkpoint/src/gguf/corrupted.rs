//! Corrupted GGUF files give an error or a file, without a panic and without much memory.

use proptest::prelude::*;
use testing::gguf::Fixture;

use super::open;
use crate::fuzz::gguf as read_all;

fn valid() -> Vec<u8> {
    Fixture::complete().bytes()
}

#[test]
fn the_untouched_file_is_read() {
    open(valid()).unwrap();
    read_all(&valid());
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = valid();
    for len in 0..bytes.len() {
        assert!(open(bytes[..len].to_vec()).is_err(), "{len} of {} bytes", bytes.len());
    }
}

#[test]
fn any_length_may_be_wrong() {
    let bytes = valid();
    let file = open(bytes.clone()).unwrap();
    let header = file.tensors().values().map(|info| info.offset).min().unwrap() as usize;
    for place in 0..header - 8 {
        for length in [u64::MAX, u64::MAX >> 1, 1 << 40, 1 << 24, 0] {
            let mut bytes = bytes.clone();
            bytes[place..place + 8].copy_from_slice(&length.to_le_bytes());
            read_all(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        read_all(&bytes);
    }

    #[test]
    fn random_bytes_after_a_valid_header_never_panic(
        tail in prop::collection::vec(0..16_u8, 0..600),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        bytes.extend(tail);
        read_all(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = valid();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        read_all(&bytes);
    }
}
