//! Whatever the bytes are: an error or a file, never a panic and never much memory.

use proptest::prelude::*;

use super::fixture::{Fixture, open};
use super::tokenizer::tests::{texts, vocabulary};
use super::value::Value;
use crate::fuzz::gguf as use_all;

/// A model with a tokenizer: every part of the reader has something to do.
fn whole() -> Vec<u8> {
    let mut fixture = Fixture::model();
    let tokens = [("a", 1), ("b", 1), ("ab", 1), ("<s>", 3), ("</s>", 3)];
    fixture.values.extend(vocabulary("gpt2", &tokens).values);
    fixture.value("tokenizer.ggml.merges", &texts(&["a b"]));
    fixture.value("tokenizer.ggml.scores", &Value::Array(vec![Value::F32(0.0); 5]));
    fixture.value("tokenizer.ggml.bos_token_id", &Value::Unsigned(3));
    fixture.tensor("rope_freqs.weight", &[2], 0, &[0, 0, 128, 63, 0, 0, 0, 65]);
    fixture.tensor("blk.0.attn_q.bias", &[32], 8, &[7; 34]);
    fixture.bytes()
}

#[test]
fn the_untouched_file_is_good() {
    let file = open(whole()).unwrap();
    file.config().unwrap();
    assert_eq!(file.tokenizer().unwrap().encode("abb").unwrap(), [2, 1]);
    use_all(&whole());
}

#[test]
fn every_truncation_is_an_error() {
    let bytes = whole();
    for len in 0..bytes.len() {
        assert!(open(bytes[..len].to_vec()).is_err(), "{len} of {} bytes", bytes.len());
    }
}

#[test]
fn every_length_may_lie() {
    let bytes = whole();
    let file = open(bytes.clone()).unwrap();
    let header = file.tensors().values().map(|info| info.offset).min().unwrap() as usize;
    for place in 0..header - 8 {
        for lie in [u64::MAX, u64::MAX >> 1, 1 << 40, 1 << 24, 0] {
            let mut bytes = bytes.clone();
            bytes[place..place + 8].copy_from_slice(&lie.to_le_bytes());
            use_all(&bytes);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        use_all(&bytes);
    }

    #[test]
    fn random_bytes_behind_a_good_start_never_panic(
        tail in prop::collection::vec(0..16_u8, 0..600),
    ) {
        let mut bytes = b"GGUF\x03\0\0\0\x02\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0".to_vec();
        bytes.extend(tail);
        use_all(&bytes);
    }

    #[test]
    fn changed_bytes_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = whole();
        for (place, byte) in changes {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        use_all(&bytes);
    }
}
