//! Damaged files give records or an error, and never panic.

use data::fuzz::records;
use proptest::prelude::*;

use crate::golden;

/// The file with a few bytes changed, and maybe cut.
fn damaged(bytes: &[u8]) -> impl Strategy<Value = Vec<u8>> + use<> {
    let (bytes, len) = (bytes.to_vec(), bytes.len());
    let change = (0..len, any::<u8>());
    (prop::collection::vec(change, 0..6), 0..=len).prop_map(move |(changes, end)| {
        let mut bytes = bytes.clone();
        for (at, byte) in changes {
            bytes[at] = byte;
        }
        // Half of the files are complete.
        if end % 2 == 0 {
            bytes.truncate(end);
        }
        bytes
    })
}

const TEXTS: [&str; 5] = [
    "[{\"a\": \"}\\\"{\", \"b\": [1, {\"c\": null}]}, {\"a\": \"ä\"}]",
    "{\"a\": 1}\n{\"a\": [\"x\\n\"]}\n\n{\n\"a\": {}}\n",
    "{\"x\": [1], \"data\": [{\"a\": 1}, {\"a\": \"\\u00e4\"}], \"y\": {\"z\": []}}",
    "a,b\n1,\"x\n, \"\"ä\"\"\"\n,\n",
    "a\tb\r\n1\t2\r\n",
];

fn compressed() -> Vec<Vec<u8>> {
    let texts = TEXTS.iter().map(|text| zstd::encode_all(text.as_bytes(), 1).unwrap());
    let gzip = |text: &&str| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    };
    texts.chain(TEXTS.iter().map(gzip)).collect()
}

#[test]
fn intact_files_are_read() {
    for text in TEXTS {
        assert!(records(text.as_bytes()) >= 1, "{text}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_texts(bytes in prop::sample::select(&TEXTS[..]).prop_flat_map(|text| damaged(text.as_bytes()))) {
        records(&bytes);
    }

    #[test]
    fn damaged_archives(bytes in prop::sample::select(compressed()).prop_flat_map(|bytes| damaged(&bytes))) {
        records(&bytes);
    }

    #[test]
    fn any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        records(&bytes);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..Default::default() })]

    #[test]
    fn damaged_parquet_files(
        bytes in prop::sample::select(vec!["plain.parquet", "snappy.parquet", "zstd.parquet"])
            .prop_flat_map(|name| damaged(&std::fs::read(golden(name)).unwrap()))
    ) {
        records(&bytes);
    }
}
