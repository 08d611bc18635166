//! What must be equal in all ranks besides the run's settings: the program and the files of the base model.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Checksums of this program and of the files of a base model.
///
/// They are for accidents: another build on one host, another version of a file. Of a large file samples are
/// read: reading all of it again would take about as long as loading the model.
pub fn identity(model: &Path) -> Value {
    let program = std::env::current_exe().and_then(|path| file_checksum(&path));
    let files = model_files(model).into_iter().map(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        (name, file_checksum(&path).map_or(Value::Null, Value::from))
    });
    json!({
        "program": { "version": env!("CARGO_PKG_VERSION"), "checksum": program.ok() },
        "base model": files.collect::<serde_json::Map<_, _>>(),
    })
}

/// The files of a model; none if it is part of the program.
fn model_files(path: &Path) -> Vec<PathBuf> {
    const KINDS: [&str; 6] = ["bin", "gguf", "json", "model", "pth", "safetensors"];
    if path.is_file() {
        return vec![path.into()];
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Vec::new() };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let is_part = |path: &PathBuf| {
        let kind = path.extension().and_then(|kind| kind.to_str());
        kind.is_some_and(|kind| KINDS.contains(&kind)) && path.is_file()
    };
    let mut files = files.filter(is_part).collect::<Vec<_>>();
    files.sort();
    files
}

/// Length and checksum of a file, of samples if it is large.
fn file_checksum(path: &Path) -> io::Result<String> {
    /// Files up to this length are read completely.
    const WHOLE: u64 = 512 << 20;
    const SAMPLES: u64 = 256;
    const SAMPLE_LEN: u64 = 256 << 10;
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let (samples, sample_len) = if len <= WHOLE { (1, len) } else { (SAMPLES, SAMPLE_LEN) };
    let mut checksum = 0;
    let mut buffer = vec![0; SAMPLE_LEN as usize];
    for sample in 0..samples {
        // The last one is the end of the file.
        let start = (len - sample_len) / (samples - 1).max(1) * sample;
        file.seek(SeekFrom::Start(start))?;
        let mut part = (&mut file).take(sample_len);
        loop {
            let count = part.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            checksum = crc32c::crc32c_append(checksum, &buffer[..count]);
        }
    }
    Ok(format!("{len} bytes, {checksum:08x}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_of_the_model_changes_the_identity() {
        let folder = tempfile::tempdir().unwrap();
        let weights = folder.path().join("model.safetensors");
        std::fs::write(&weights, "weights").unwrap();
        std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
        let before = identity(folder.path());
        assert_eq!(before["base model"].as_object().unwrap().len(), 1);
        assert!(before["program"]["checksum"].is_string());
        std::fs::write(&weights, "Weights").unwrap();
        let after = identity(folder.path());
        assert_ne!(before["base model"], after["base model"]);
        assert_eq!(before["program"], after["program"]);
    }

    #[test]
    fn a_model_inside_the_program_has_no_files() {
        assert_eq!(identity(Path::new("built-in"))["base model"], json!({}));
    }
}
