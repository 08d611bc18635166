//! The first bytes of a file ─► what it is, if it is no data.

use diagnostic::Placeholder;

/// The first bytes of a format, its name, and a hint how to convert it to rows.
const MAGIC_NUMBERS: [(&[u8], &str, &str); 23] = [
    (b"PK\x03\x04", "a zip archive or a spreadsheet", "unpack it, or save the sheet as .csv"),
    (b"\xfd7zXZ\0", "an xz archive", UNPACK),
    (b"BZh", "a bzip2 archive", UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (b"\xff\xfe\0\0", "a text in UTF-32", UTF8),
    (b"\xff\xfe", "a text in UTF-16", UTF8),
    (b"\xfe\xff", "a text in UTF-16", UTF8),
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
const TEXT: &str = "rows are JSON lines, a JSON list, a .csv table or a Parquet file";
const MODEL: &str = "this is a model, not data: rows are JSON lines, a JSON list or a .csv table";
const IMAGE: &str = "a row names its image in `image`, next to `instruction` and `output`";
const ARROW: &str = "write it as Parquet, for instance in Python: \
    datasets.Dataset.from_file(\"rows.arrow\").to_parquet(\"rows.parquet\")";
const PICKLE: (&str, &str) = ("a Python pickle", "write its rows as JSON lines");

/// The format of a file that is neither text nor Parquet, by its first bytes, with a hint.
pub(crate) fn unsupported_kind(head: &[u8]) -> Option<(String, &'static str)> {
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
