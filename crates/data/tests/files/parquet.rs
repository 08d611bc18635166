//! Parquet files that pyarrow wrote, against the rows that pyarrow reads: tests/golden/data_files.py.

use std::io::Write;

use data::{Error, Location, OpenOptions, open_bytes, open_file};
use serde_json::Value;

use crate::golden;

fn rows(name: &str) -> Vec<Value> {
    let opened = open_file(&golden(name), &OpenOptions::default()).unwrap();
    opened.records.map(|record| record.unwrap().value).collect()
}

fn expected() -> Vec<Value> {
    serde_json::from_slice(&std::fs::read(golden("rows.json")).unwrap()).unwrap()
}

fn check(name: &str) {
    let (found, expected) = (rows(&format!("{name}.parquet")), expected());
    assert_eq!(found.len(), expected.len(), "{name}");
    for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
        assert_eq!(found, expected, "{name}, row {index}");
    }
}

#[test]
fn plain_pages_are_read() {
    check("plain");
}

#[test]
fn dictionary_pages_are_read() {
    check("dictionary");
}

#[test]
fn delta_encodings_are_read() {
    check("delta");
}

#[test]
fn several_row_groups_and_small_pages_are_read() {
    check("snappy");
}

#[test]
fn every_compression_but_brotli_is_read() {
    for name in ["snappy", "zstd", "gzip", "lz4"] {
        check(name);
    }
}

#[test]
fn brotli_is_refused_with_a_hint() {
    let error = open_file(&golden("brotli.parquet"), &OpenOptions::default()).err().unwrap();
    assert!(error.to_string().contains("this is a Parquet file compressed with Brotli"), "{error}");
    let hint = diagnostic::Diagnostic::advice(&error).unwrap().to_string();
    assert!(hint.contains("compression=\"zstd\""), "{hint}");
}

#[test]
fn a_file_is_described_by_its_rows_and_columns_and_a_record_by_its_row() {
    let opened = open_file(&golden("plain.parquet"), &OpenOptions::default()).unwrap();
    let expected = "a Parquet file of 43 rows with the columns `id`, `instruction`, `input`, ";
    assert!(opened.description.starts_with(expected), "{}", opened.description);
    let last = opened.records.last().unwrap().unwrap();
    assert_eq!(last.location, Location::Row(43));
}

#[test]
fn images_become_data_urls() {
    let found = rows("images.parquet");
    let image = found[0]["image"].as_str().unwrap();
    assert!(image.starts_with("data:image/png;base64,iVBORw0KGgo"), "{image}");
    assert_eq!(found[1]["image"], Value::Null);
}

#[test]
fn columns_are_renamed_and_a_missing_one_is_named() {
    let columns = "question=instruction,first=meta.source".parse().unwrap();
    let options = OpenOptions { columns: Some(&columns), ..Default::default() };
    let mut opened = open_file(&golden("plain.parquet"), &options).unwrap();
    let row = opened.records.next().unwrap().unwrap().value;
    assert_eq!(row["question"], "Nenne die Hauptstadt.");
    assert_eq!(row["first"], "s");
    let columns = "question=prompt".parse().unwrap();
    let options = OpenOptions { columns: Some(&columns), ..Default::default() };
    let error = open_file(&golden("plain.parquet"), &options).err().unwrap();
    assert!(matches!(&error, Error::NoColumn { column, .. } if column == "prompt"), "{error}");
}

#[test]
fn a_compressed_file_is_unpacked() {
    let bytes = std::fs::read(golden("plain.parquet")).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let opened = open_bytes("a.gz".as_ref(), &gzip.finish().unwrap(), &OpenOptions::default());
    let opened = opened.unwrap();
    assert!(opened.description.ends_with(", compressed with gzip"), "{}", opened.description);
    assert_eq!(opened.records.count(), 43);
}
