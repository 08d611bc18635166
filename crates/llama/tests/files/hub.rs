//! Downloads from a fake hub on 127.0.0.1.

#![cfg(feature = "hub")]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use burn::tensor::DType;
use llama::hub::{FetchProgress, Hub};
use llama::weights::huggingface;
use llama::{Error, ModelSource, Precision};

use testing::tiny_model;

/// Serves `GET /{repo}/resolve/main/{file}` with ranges, as the Hub does.
struct FakeHub {
    endpoint: String,
    requests: Arc<Mutex<Vec<String>>>,
    files: Arc<Mutex<HashMap<String, Vec<u8>>>>,
    /// Close the connection half-way through the next download of weights.
    cut: Arc<AtomicBool>,
}

impl FakeHub {
    fn start(repo: &str, files: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let files = files
            .iter()
            .map(|(name, bytes)| (format!("/{repo}/resolve/main/{name}"), bytes.clone()));
        let files = Arc::new(Mutex::new(files.collect::<HashMap<_, _>>()));
        let cut = Arc::new(AtomicBool::new(false));
        let hub = Self {
            endpoint,
            requests: Arc::clone(&requests),
            files: Arc::clone(&files),
            cut: Arc::clone(&cut),
        };
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // Clients may close the connection early.
                let _ = answer(stream.unwrap(), &files.lock().unwrap(), &requests, &cut);
            }
        });
        hub
    }

    fn requests(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn answer(
    stream: TcpStream,
    files: &HashMap<String, Vec<u8>>,
    requests: &Mutex<Vec<String>>,
    cut: &AtomicBool,
) -> std::io::Result<()> {
    let mut lines = BufReader::new(&stream).lines();
    let first = lines.next().unwrap_or(Ok(String::new()))?;
    let mut start = 0;
    let mut is_probe = false;
    let mut token = String::new();
    for line in lines.by_ref() {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(": ").unwrap_or((&line, ""));
        match name.to_ascii_lowercase().as_str() {
            "range" => {
                is_probe = value == "bytes=0-0";
                let range = value.trim_start_matches("bytes=").split('-').next();
                start = range.and_then(|start| start.parse().ok()).unwrap_or(0);
            }
            "authorization" => value.clone_into(&mut token),
            _ => {}
        }
    }
    let path = first.split(' ').nth(1).unwrap_or("/").to_owned();
    requests.lock().unwrap().push(format!("{path} {token}"));
    let mut stream = &stream;
    let Some(bytes) = files.get(&path) else {
        let status =
            if path.starts_with("/private/") { "401 Unauthorized" } else { "404 Not Found" };
        return write!(
            stream,
            "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    };
    let (len, etag) = (bytes.len(), path.replace('/', "-"));
    let range = format!("bytes {start}-{}/{len}", len.saturating_sub(1));
    write!(
        stream,
        "HTTP/1.1 206 Partial Content\r\nContent-Length: {}\r\nContent-Range: {range}\r\n\
         ETag: \"{etag}\"\r\nX-Repo-Commit: c0ffee\r\nConnection: close\r\n\r\n",
        len - start,
    )?;
    let is_cut = !is_probe && path.ends_with(".safetensors") && cut.swap(false, Ordering::Relaxed);
    stream.write_all(&bytes[start..if is_cut { len / 2 } else { len }])
}

/// Files of a model.
fn model_files() -> Vec<(&'static str, Vec<u8>)> {
    let folder = tempfile::tempdir().unwrap();
    let llama = tiny_model::model(tiny_model::config(), &testing::flex());
    huggingface::save(&llama, folder.path(), DType::F32).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let inner = tokenizers::Tokenizer::new(tokenizers::models::bpe::BPE::default());
    vec![
        ("config.json", read("config.json")),
        ("model.safetensors", read("model.safetensors")),
        ("tokenizer.json", inner.to_string(false).unwrap().into_bytes()),
        ("tokenizer_config.json", br#"{"chat_template": "T"}"#.to_vec()),
        ("special_tokens_map.json", br#"{"eos_token": "</s>"}"#.to_vec()),
        ("added_tokens.json", br#"{"</s>": 0}"#.to_vec()),
    ]
}

fn silent() -> impl FnMut(&FetchProgress) {
    |_progress| {}
}

fn reason(error: Error) -> (String, String) {
    match error {
        Error::Hub { file, reason, .. } => (file, reason),
        other => panic!("expected a hub error, found {other}"),
    }
}

#[test]
fn a_fetched_repository_loads() {
    let server = FakeHub::start("owner/tiny", &model_files());
    let cache = tempfile::tempdir().unwrap();
    let token = Some("secret".to_owned());
    let hub = Hub::new(&server.endpoint, cache.path(), token).unwrap();
    let mut seen = Vec::new();
    let folder = hub.fetch("owner/tiny", &mut |progress| seen.push(progress.clone())).unwrap();
    assert!(folder.starts_with(cache.path()));

    let source = ModelSource::open(&folder).unwrap();
    assert_eq!(*source.config(), tiny_model::config());
    source.load(Precision::F32, &testing::flex()).unwrap();
    let tokenizer = source.tokenizer().unwrap();
    assert_eq!(tokenizer.chat_template.as_deref(), Some("T"));
    assert_eq!(tokenizer.eos, [0]);

    let weights = seen.iter().rev().find(|progress| progress.file == "model.safetensors").unwrap();
    assert_eq!(weights.done, weights.total);
    assert!(weights.total > 1000);
    let requests = server.requests.lock().unwrap().clone();
    assert!(requests.iter().all(|request| request.ends_with("Bearer secret")), "{requests:?}");
}

#[test]
fn a_complete_model_in_the_cache_needs_no_network() {
    let server = FakeHub::start("owner/tiny", &model_files());
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let first = hub.fetch("owner/tiny", &mut silent()).unwrap();
    let requests = server.requests();
    let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
    assert_eq!(offline.fetch("owner/tiny", &mut silent()).unwrap(), first);
    assert_eq!(hub.fetch("owner/tiny", &mut silent()).unwrap(), first);
    assert_eq!(server.requests(), requests);
}

#[test]
fn tokenizers_in_older_formats_are_fetched() {
    let mut files = model_files();
    files.retain(|(name, _bytes)| *name != "tokenizer.json");
    let fetched = |files: &[(&'static str, Vec<u8>)]| {
        let server = FakeHub::start("owner/tiny", files);
        let cache = tempfile::tempdir().unwrap();
        let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
        let folder = hub.fetch("owner/tiny", &mut silent())?;
        let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
        assert_eq!(offline.fetch("owner/tiny", &mut silent()).unwrap(), folder);
        let names = std::fs::read_dir(folder).unwrap();
        Ok::<_, Error>(names.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>())
    };
    let (file, reason) = reason(fetched(&files).unwrap_err());
    assert_eq!(file, "tokenizer.json");
    assert!(reason.contains("and no tokenizer in another format"), "{reason}");
    for format in [&["vocab.json", "merges.txt"][..], &["tokenizer.model"]] {
        files.extend(format.iter().map(|name| (*name, b"{}".to_vec())));
        let names = fetched(&files).unwrap();
        assert!(format.iter().all(|name| names.iter().any(|found| found == *name)), "{names:?}");
    }
}

#[test]
fn shards_are_fetched_by_the_index() {
    let mut files = model_files();
    files.retain(|(name, _bytes)| *name != "model.safetensors");
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}"#;
    files.push(("model.safetensors.index.json", index.to_vec()));
    files.push(("model-1.safetensors", b"one".to_vec()));
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();

    let (file, reason) = reason(hub.fetch("owner/tiny", &mut silent()).unwrap_err());
    assert_eq!(file, "model-2.safetensors");
    assert!(reason.contains("404"), "{reason}");

    let late = "/owner/tiny/resolve/main/model-2.safetensors".to_owned();
    server.files.lock().unwrap().insert(late, b"two".to_vec());
    let folder = hub.fetch("owner/tiny", &mut silent()).unwrap();
    assert_eq!(std::fs::read(folder.join("model-1.safetensors")).unwrap(), b"one");
    assert_eq!(std::fs::read(folder.join("model-2.safetensors")).unwrap(), b"two");
    let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
    assert_eq!(offline.fetch("owner/tiny", &mut silent()).unwrap(), folder);
}

#[test]
fn pickles_are_fetched_without_safetensors() {
    let mut files = model_files();
    files.retain(|(name, _bytes)| *name != "model.safetensors");
    let index = br#"{"weight_map": {"a": "pytorch_model-1.bin", "b": "pytorch_model-2.bin"}}"#;
    files.push(("pytorch_model.bin.index.json", index.to_vec()));
    files.push(("pytorch_model-1.bin", b"one".to_vec()));
    files.push(("pytorch_model-2.bin", b"two".to_vec()));
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let folder = hub.fetch("owner/tiny", &mut silent()).unwrap();
    assert_eq!(std::fs::read(folder.join("pytorch_model-2.bin")).unwrap(), b"two");
    let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
    assert_eq!(offline.fetch("owner/tiny", &mut silent()).unwrap(), folder);
}

#[test]
fn sentencepiece_tokenizers_are_fetched() {
    let mut files = model_files();
    files.retain(|(name, _bytes)| *name != "tokenizer.json");
    files.push(("tokenizer.model", b"pieces".to_vec()));
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let folder = hub.fetch("owner/tiny", &mut silent()).unwrap();
    assert_eq!(std::fs::read(folder.join("tokenizer.model")).unwrap(), b"pieces");
}

#[test]
fn all_parts_of_a_split_gguf_are_fetched() {
    let parts = ["sub/m-00001-of-00002.gguf", "sub/m-00002-of-00002.gguf"];
    let server = FakeHub::start("owner/tiny", &parts.map(|name| (name, name.into())));
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let path = hub.fetch(&format!("owner/tiny/{}", parts[1]), &mut silent()).unwrap();
    assert!(path.ends_with(parts[0]), "{}", path.display());
    assert!(path.with_file_name("m-00002-of-00002.gguf").exists());
}

#[test]
fn an_interrupted_download_fails_and_resumes() {
    let files = model_files();
    let weights = files[1].1.clone();
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    server.cut.store(true, Ordering::Relaxed);
    let (file, _reason) = reason(hub.fetch("owner/tiny", &mut silent()).unwrap_err());
    assert_eq!(file, "model.safetensors");

    let mut first = None;
    let folder = hub
        .fetch("owner/tiny", &mut |progress| {
            first.get_or_insert(progress.clone());
        })
        .unwrap();
    assert_eq!(first.unwrap().done, weights.len() as u64 / 2);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn a_single_file_is_preferred_to_shards() {
    let mut files = model_files();
    let index = br#"{"weight_map": {"a": "model-1.safetensors"}}"#;
    files.push(("model.safetensors.index.json", index.to_vec()));
    files.push(("model-1.safetensors", b"one".to_vec()));
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let folder = hub.fetch("owner/tiny", &mut silent()).unwrap();
    assert!(folder.join("model.safetensors").exists());
    let requests = server.requests.lock().unwrap().clone();
    let requested = |name: &str| requests.iter().any(|request| request.contains(name));
    assert!(!requested("index.json") && !requested("model-1.safetensors"), "{requests:?}");
    // An index in the cache without its shards is ignored too.
    std::fs::write(folder.join("model.safetensors.index.json"), index).unwrap();
    let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
    assert_eq!(offline.fetch("owner/tiny", &mut silent()).unwrap(), folder);
}

#[test]
fn an_index_cannot_name_files_outside_the_cache() {
    let mut files = model_files();
    files.retain(|(name, _bytes)| *name != "model.safetensors");
    files.push(("model.safetensors.index.json", br#"{"weight_map": {"a": "../../x"}}"#.to_vec()));
    let server = FakeHub::start("owner/tiny", &files);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let error = hub.fetch("owner/tiny", &mut silent()).unwrap_err();
    assert!(matches!(error, Error::Checkpoint(checkpoint::Error::Format { .. })), "{error}");
}

#[test]
fn a_single_file_is_fetched_by_its_path() {
    let server = FakeHub::start("owner/tiny", &[("sub/model.gguf", b"GGUF".to_vec())]);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let path = hub.fetch("owner/tiny/sub/model.gguf", &mut silent()).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"GGUF");
}

#[test]
fn errors_of_the_hub_are_reported() {
    let server = FakeHub::start("owner/tiny", &[]);
    let cache = tempfile::tempdir().unwrap();
    let hub = Hub::new(&server.endpoint, cache.path(), None).unwrap();
    let fetch_error = |id: &str| reason(hub.fetch(id, &mut silent()).unwrap_err());
    assert_eq!(
        fetch_error("owner/tiny"),
        ("config.json".into(), "not found (HTTP 404): no such repository or file".into())
    );
    assert_eq!(
        fetch_error("private/model"),
        ("config.json".into(), "HTTP 401: no such repository, or it needs a token".into())
    );
    assert_eq!(fetch_error("just-a-name").1, "expected owner/name or owner/name/file.gguf");
    let offline = Hub::new("http://127.0.0.1:9", cache.path(), None).unwrap();
    let (_file, reason) = reason(offline.fetch("owner/tiny", &mut silent()).unwrap_err());
    assert!(reason.contains("127.0.0.1"), "{reason}");
}
