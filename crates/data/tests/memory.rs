//! Files are never whole in memory, whatever their layout.

use std::io::{BufWriter, Write};
use std::path::Path;

use data::{FileFormat, OpenOptions, open_file};
use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

const ROWS: usize = 100_000;

fn write(path: &Path, begin: &str, between: &str, end: &str, row: &dyn Fn(usize) -> String) {
    let mut file = BufWriter::new(std::fs::File::create(path).unwrap());
    file.write_all(begin.as_bytes()).unwrap();
    for index in 0..ROWS {
        let separator = if index == 0 { "" } else { between };
        write!(file, "{separator}{}", row(index)).unwrap();
    }
    file.write_all(end.as_bytes()).unwrap();
    file.flush().unwrap();
}

#[test]
fn a_hundred_thousand_rows_of_every_layout_take_a_few_megabytes() {
    let folder = tempfile::tempdir().unwrap();
    let text = "A sentence of some words. ".repeat(20);
    let json = |index: usize| format!("{{\"id\": {index}, \"text\": \"{text}\"}}");
    let csv = |index: usize| format!("{index},{text}");
    let paragraph = |_index: usize| text.clone();
    let text_format = Some(FileFormat::Text);
    for (name, begin, between, end, row, format) in [
        ("lines.jsonl", "", "\n", "\n", &json as &dyn Fn(usize) -> String, None),
        ("list.json", "[", ",\n", "]", &json, None),
        ("wrapped.json", "{\"a\": 1, \"rows\": [", ",", "], \"b\": []}", &json, None),
        ("table.csv", "id,text\n", "\n", "\n", &csv, None),
        ("text.txt", "", "\n\n", "\n", &paragraph, text_format),
    ] {
        let path = folder.path().join(name);
        write(&path, begin, between, end, row);
        assert!(path.metadata().unwrap().len() > 50_000_000, "{name}");
        MEMORY.reset_peak_usage();
        let before = MEMORY.current_usage();
        let opened = open_file(&path, &OpenOptions { format, ..Default::default() }).unwrap();
        let count = opened.records.inspect(|record| assert!(record.is_ok(), "{record:?}")).count();
        let peak = MEMORY.peak_usage() - before;
        assert_eq!(count, ROWS, "{name}");
        assert!(peak < 8 << 20, "{name}: {peak} bytes");
        std::fs::remove_file(&path).unwrap();
    }
}
