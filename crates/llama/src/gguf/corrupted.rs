//! Corrupted GGUF files give an error or a model, never a panic.

use proptest::prelude::*;
use testing::gguf::Fixture;
use text::Tokenizer;

use super::{GgufSource, open, parse_config};
use crate::fuzz::gguf as read_all;

#[test]
fn the_original_file_is_a_model() {
    let file = open(&Fixture::complete());
    parse_config(&file).unwrap();
    assert_eq!(Tokenizer::from_gguf(file.metadata()).unwrap().encode("abb").unwrap(), [2, 1]);
    GgufSource::new(file).unwrap();
    read_all(&Fixture::complete().bytes());
}

#[test]
fn any_length_may_be_wrong() {
    let bytes = Fixture::complete().bytes();
    let file = open(&Fixture::complete());
    let header = file.tensors().values().map(|info| info.offset).min().unwrap() as usize;
    for offset in 0..header - 8 {
        for length in [u64::MAX, u64::MAX >> 1, 1 << 40, 1 << 24, 0] {
            let mut bytes = bytes.clone();
            bytes[offset..offset + 8].copy_from_slice(&length.to_le_bytes());
            read_all(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = Fixture::complete().bytes();
        for (index, byte) in changes {
            let offset = index.index(bytes.len());
            bytes[offset] = byte;
        }
        read_all(&bytes);
    }
}
