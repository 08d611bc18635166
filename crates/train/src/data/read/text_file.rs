//! A data file ─► its text, or the name of its format if it is not text.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use checkpoint::Placeholder;

use crate::error::{Error, Result};

/// The first bytes of a format, its name, and a hint how to convert it to rows.
const MAGIC_NUMBERS: [(&[u8], &str, &str); 26] = [
    (b"\x1f\x8b", "a gzip archive", UNPACK),
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as .csv"),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"\x28\xb5\x2f\xfd", "a zstd archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\xff\xfe\0\0", "a text in UTF-32", UTF8),
    (b"\xff\xfe", "a text in UTF-16", UTF8),
    (b"\xfe\xff", "a text in UTF-16", UTF8),
    (
        b"PAR1",
        "a Parquet file",
        "write it as JSON lines, for instance in Python: datasets.Dataset.from_parquet(\"rows.parquet\").to_json(\"rows.jsonl\")",
    ),
    (b"ARROW1", "an Arrow file", ARROW),
    (b"\xff\xff\xff\xff", "an Arrow stream", ARROW),
    (b"SQLite format 3\0", "an SQLite database", "export the table as .csv"),
    (b"%PDF", "a PDF document", TEXT),
    (b"\xd0\xcf\x11\xe0", "an Office document", "save the sheet as .csv"),
    (b"\x80\x02", PICKLE.0, PICKLE.1),
    (b"\x80\x03", PICKLE.0, PICKLE.1),
    (b"\x80\x04", PICKLE.0, PICKLE.1),
    (b"\x80\x05", PICKLE.0, PICKLE.1),
    (b"\x93NUMPY", "a NumPy array", TEXT),
    (b"GGUF", "a GGUF model", MODEL),
    (b"\x89PNG", "an image", IMAGE),
    (b"\xff\xd8\xff", "an image", IMAGE),
    (b"GIF8", "an image", IMAGE),
    (b"\x7fELF", "a program", TEXT),
    (b"\x89HDF", "an HDF5 file", TEXT),
];

const UNPACK: &str = "unpack it first";
const UTF8: &str = "save it as UTF-8";
const TEXT: &str = "rows are JSON lines, a JSON list or a .csv table";
const MODEL: &str = "this is a model, not data: rows are JSON lines, a JSON list or a .csv table";
const IMAGE: &str = "a row names its image in `image`, next to `instruction` and `output`";
const ARROW: &str = "write it as JSON lines, for instance in Python: \
    datasets.Dataset.from_file(\"rows.arrow\").to_json(\"rows.jsonl\")";
const PICKLE: (&str, &str) = ("a Python pickle", "write its rows as JSON lines");

/// Reads a UTF-8 text file.
///
/// # Errors
/// [`Error::Read`]; [`Error::UnsupportedFile`] for a file of another format, detected by its first
/// bytes before the rest is read; [`Error::Record`] with the line of the first byte that is not UTF-8.
pub(super) fn read_text(path: &Path) -> Result<String> {
    /// Enough to detect a format.
    const HEAD: u64 = 512;
    let read_error = |source| Error::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(read_error)?;
    let mut bytes = Vec::new();
    file.by_ref().take(HEAD).read_to_end(&mut bytes).map_err(read_error)?;
    if let Some((what, hint)) = non_text_kind(&bytes) {
        return Err(Error::UnsupportedFile { path: path.into(), what, hint });
    }
    file.read_to_end(&mut bytes).map_err(read_error)?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let bytes = error.as_bytes();
        let line = bytes[..at].split(|&byte| byte == b'\n').count();
        Error::Record {
            path: path.into(),
            location: format!("line {line}"),
            reason: format!("not UTF-8: there is a byte 0x{:02x}", bytes[at]),
            format_hint: "save the file as UTF-8; it may be in an older encoding, such as Latin-1",
        }
    })
}

/// The format of a file by its first bytes, with a hint; `None` if it may be text.
fn non_text_kind(head: &[u8]) -> Option<(String, &'static str)> {
    // An empty file has its own error later.
    let placeholder = Placeholder::of(head).filter(|found| *found != Placeholder::Empty);
    if let Some(placeholder) = placeholder {
        return Some((placeholder.to_string(), placeholder.hint()));
    }
    let (what, hint) = kind_by_magic(head)?;
    Some((what.into(), hint))
}

fn kind_by_magic(head: &[u8]) -> Option<(&'static str, &'static str)> {
    let known = MAGIC_NUMBERS.iter().find(|(magic, ..)| head.starts_with(magic));
    if let Some((_, what, hint)) = known {
        return Some((what, hint));
    }
    let start = String::from_utf8_lossy(head);
    if start.trim_start_matches('\u{feff}').trim_start().starts_with('<') {
        return Some(("an XML document", TEXT));
    }
    // An eight-byte length, then JSON.
    if head.get(8) == Some(&b'{') && head[4..8] == [0; 4] {
        return Some(("a safetensors file", MODEL));
    }
    // Every second byte of ASCII text in UTF-16.
    let zeros =
        |from: usize| head.len() >= 8 && head[..8].iter().skip(from).step_by(2).all(|&b| b == 0);
    if zeros(0) != zeros(1) {
        return Some(("a text in UTF-16", UTF8));
    }
    head.contains(&0).then_some(("a binary file", TEXT))
}

#[cfg(test)]
mod tests {
    use diagnostic::Diagnostic;

    use super::*;

    fn message(bytes: &[u8]) -> (String, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, bytes).unwrap();
        let error = read_text(&path).unwrap_err();
        let message = error.to_string();
        let (_, rest) = message.split_once("rows.jsonl").unwrap();
        (rest.into(), error.advice().unwrap().to_string())
    }

    #[test]
    fn an_unsupported_file_is_named_with_a_hint() {
        let utf16 = "{\"a\"".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        let with_bom = [&[0xff, 0xfe][..], &utf16].concat();
        for (bytes, what, expected_hint) in [
            (&b"\x1f\x8b\x08\0and more"[..], "a gzip archive", "unpack"),
            (b"PK\x03\x04and more", "a zip archive", "unpack"),
            (b"PAR1and more", "a Parquet file", "to_json"),
            (b"ARROW1\0\0", "an Arrow file", "to_json"),
            (b"SQLite format 3\0", "an SQLite database", ".csv"),
            (
                b"version https://git-lfs.github.com/spec/v1\noid",
                "a Git LFS pointer",
                "git lfs pull",
            ),
            (b"\n<!DOCTYPE html><html>", "a web page", "download"),
            (b"\x40\0\0\0\0\0\0\0{\"a\":1}", "a safetensors file", "a model"),
            (&utf16, "a text in UTF-16", "UTF-8"),
            (&with_bom, "a text in UTF-16", "UTF-8"),
            (b"\x01\x02\0\x03", "a binary file", "JSON"),
        ] {
            let (message, hint) = message(bytes);
            assert!(message.starts_with(&format!(": this is {what}")), "{message}");
            assert!(hint.contains(expected_hint), "{hint}");
        }
    }

    #[test]
    fn invalid_utf8_is_reported_with_its_line() {
        let (message, hint) = message(b"{\"a\": 1}\n\n{\"a\": \"caf\xe9\"}\n");
        assert_eq!(message, ", line 3: not UTF-8: there is a byte 0xe9");
        assert!(hint.contains("Latin-1"), "{hint}");
    }
}
