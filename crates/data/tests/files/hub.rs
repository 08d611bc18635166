//! Data sets from a fake hub on 127.0.0.1.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use data::hub::Hub;
use data::{Error, HubSource, OpenOptions, Source, open_file};

use crate::golden;

/// Serves lists of files and the files, as the Hub does.
struct FakeHub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
}

impl FakeHub {
    /// A hub with one data set `o/n`: revision and name of each file with its content.
    fn start(files: &[(&str, &str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let mut answers = HashMap::new();
        for (revision, _, _) in files {
            let names = files.iter().filter(|(other, ..)| other == revision);
            let names = names.map(|(_, name, _)| format!("{{\"rfilename\": \"{name}\"}}"));
            let names = names.collect::<Vec<_>>().join(",");
            let list = format!("{{\"sha\": \"c0ffee\", \"siblings\": [{names}]}}");
            answers.insert(format!("/api/datasets/o/n/revision/{revision}"), list.into_bytes());
        }
        for (revision, name, bytes) in files {
            answers.insert(format!("/datasets/o/n/resolve/{revision}/{name}"), bytes.clone());
        }
        let log = Arc::clone(&requests);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Clients may close the connection early.
                let _ = answer(stream.unwrap(), &answers, &log);
            }
        });
        Self { endpoint, requests }
    }

    fn fetch(&self, cache: &std::path::Path, source: &str, split: &str) -> data::Result<Vec<u8>> {
        let hub = Hub::new(&self.endpoint, cache, None).unwrap();
        let Source::Hub(source) = Source::parse(source.as_ref()).unwrap() else {
            panic!("a data set");
        };
        fetch(&hub, &source, split)
    }
}

/// All fetched files, one after another.
fn fetch(hub: &Hub, source: &HubSource, split: &str) -> data::Result<Vec<u8>> {
    let files = hub.fetch(source, split, &mut |_progress| {})?;
    Ok(files.iter().flat_map(|file| std::fs::read(file).unwrap()).collect())
}

fn answer(
    stream: TcpStream,
    answers: &HashMap<String, Vec<u8>>,
    requests: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut start = 0;
    for line in lines.by_ref() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        if name.eq_ignore_ascii_case("range") {
            let range = value.trim_start_matches("bytes=").split('-').next();
            start = range.and_then(|start| start.parse().ok()).unwrap_or(0);
        }
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    requests.lock().unwrap().push(path.clone());
    let mut stream = &stream;
    let Some(bytes) = answers.get(&path) else {
        return write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let (len, etag) = (bytes.len(), path.replace('/', "-"));
    let range = format!("bytes {start}-{}/{len}", len.saturating_sub(1));
    let status = if path.starts_with("/api/") { "200 OK" } else { "206 Partial Content" };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Range: {range}\r\n\
         ETag: \"{etag}\"\r\nX-Repo-Commit: c0ffee\r\nConnection: close\r\n\r\n",
        len - start,
    )?;
    stream.write_all(&bytes[start..])
}

const CONVERTED: &str = "refs%2Fconvert%2Fparquet";

fn converted(name: &str, text: &str) -> (&'static str, &'static str, Vec<u8>) {
    (CONVERTED, String::leak(name.to_owned()), text.into())
}

#[test]
fn the_parquet_files_of_a_split_are_fetched_in_order_and_read() {
    let parquet = std::fs::read(golden("snappy.parquet")).unwrap();
    let hub = FakeHub::start(&[
        (CONVERTED, "default/train/0001.parquet", parquet.clone()),
        (CONVERTED, "default/train/0000.parquet", parquet),
        converted("default/test/0000.parquet", "test"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    let client = Hub::new(&hub.endpoint, cache.path(), None).unwrap();
    let Source::Hub(source) = Source::parse("hub:o/n".as_ref()).unwrap() else { panic!() };
    let files = client.fetch(&source, "train", &mut |_progress| {}).unwrap();
    let names = files.iter().map(|file| file.file_name().unwrap().to_str().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["0000.parquet", "0001.parquet"]);
    assert!(files[0].starts_with(cache.path()));
    let opened = open_file(&files[1], &OpenOptions::default()).unwrap();
    assert_eq!(opened.records.count(), 43);
}

#[test]
fn a_complete_split_needs_no_network() {
    let hub = FakeHub::start(&[converted("default/train/0000.parquet", "a")]);
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(hub.fetch(cache.path(), "hub:o/n", "train").unwrap(), b"a");
    let requests = hub.requests.lock().unwrap().len();
    assert_eq!(hub.fetch(cache.path(), "hub:o/n:train", "test").unwrap(), b"a");
    assert_eq!(hub.requests.lock().unwrap().len(), requests);
    // Another split is not there.
    assert!(matches!(
        hub.fetch(cache.path(), "hub:o/n", "val"),
        Err(Error::UnknownSplit { available, .. }) if available == ["train"]
    ));
    // A file that was removed is fetched again.
    let files = |folder: &std::path::Path| std::fs::remove_dir_all(folder.join("snapshots"));
    files(&cache.path().join("datasets--o--n")).unwrap();
    assert_eq!(hub.fetch(cache.path(), "hub:o/n", "train").unwrap(), b"a");
}

#[test]
fn a_data_set_without_parquet_files_is_read_as_it_is() {
    let hub = FakeHub::start(&[
        ("main", "data/train-00001-of-00002.jsonl", b"b".to_vec()),
        ("main", "data/train-00000-of-00002.jsonl", b"a".to_vec()),
        ("main", "data/test-00000-of-00001.jsonl", b"c".to_vec()),
        ("main", "README.md", b"x".to_vec()),
    ]);
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(hub.fetch(cache.path(), "hub:o/n", "train").unwrap(), b"ab");
    assert_eq!(hub.fetch(cache.path(), "hub:o/n:test", "train").unwrap(), b"c");
}

#[test]
fn a_revision_has_its_own_files() {
    let hub = FakeHub::start(&[
        ("v1.0", "rows.csv", b"old".to_vec()),
        converted("default/train/0000.parquet", "new"),
    ]);
    let cache = tempfile::tempdir().unwrap();
    assert_eq!(hub.fetch(cache.path(), "hub:o/n@v1.0", "train").unwrap(), b"old");
    assert_eq!(hub.fetch(cache.path(), "hub:o/n", "train").unwrap(), b"new");
}

#[test]
fn a_missing_data_set_and_a_missing_network_have_clear_errors() {
    let hub = FakeHub::start(&[]);
    let cache = tempfile::tempdir().unwrap();
    let error = hub.fetch(cache.path(), "hub:o/n", "train").unwrap_err().to_string();
    let expected =
        "hub:o/n: cannot fetch the list of files from the Hugging Face Hub: not found (HTTP 404)";
    assert!(error.starts_with(expected), "{error}");
    let nobody = FakeHub { endpoint: "http://127.0.0.1:9".into(), requests: Arc::default() };
    let error = nobody.fetch(cache.path(), "hub:o/n", "train").unwrap_err();
    assert!(matches!(error, Error::Hub { .. }), "{error}");
}
