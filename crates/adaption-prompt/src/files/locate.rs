//! Paths of adapters: which adapter a path means, and what a folder without an adapter contains.

use std::path::{Path, PathBuf};

use super::native::SETTINGS_FILE;
use super::peft::{CONFIG_FILE, PICKLE_FILE, TENSORS_FILE};
use crate::error::Error;

/// Suffixes of litgpt's adapter files. Its training writes one into a folder called `final`.
const LITGPT_SUFFIXES: [&str; 2] = [".pth.adapter", ".pth.adapter_v2"];
/// Entries of a folder that are checked for adapters.
const MAX_ENTRIES: usize = 1000;

/// The adapter that a path means: litgpt's file in a folder that has exactly one, the folder of one of
/// PEFT's files, otherwise the path itself.
pub fn resolve_path(path: &Path) -> PathBuf {
    if path.is_dir() {
        if !is_adapter_folder(path)
            && let [single] = &litgpt_files(path)[..]
        {
            return path.join(single);
        }
        return path.into();
    }
    let known_files = [CONFIG_FILE, TENSORS_FILE, PICKLE_FILE, SETTINGS_FILE];
    let name = path.file_name().and_then(|name| name.to_str());
    let folder = path.parent().filter(|folder| is_adapter_folder(folder));
    match (name, folder) {
        (Some(name), Some(folder)) if known_files.contains(&name) => {
            // The parent of a bare file name is the empty path, which cannot be opened.
            if folder.as_os_str().is_empty() { ".".into() } else { folder.into() }
        }
        _ => path.into(),
    }
}

/// Whether a folder has settings of an adapter.
fn is_adapter_folder(path: &Path) -> bool {
    [CONFIG_FILE, SETTINGS_FILE].iter().any(|file| path.join(file).exists())
}

/// The error for a folder without an adapter, by its contents.
pub(crate) fn not_an_adapter_error(path: &Path) -> Error {
    let entries = file_names(path);
    let is_gguf = |name: &String| Path::new(name).extension().is_some_and(|end| end == "gguf");
    let is_weights = |name: &String| {
        [".safetensors", ".bin", ".pth"].iter().any(|end| name.ends_with(end))
            && ![TENSORS_FILE, PICKLE_FILE].contains(&name.as_str())
    };
    let has_model_config =
        ["config.json", "params.json"].iter().any(|file| path.join(file).exists());
    if entries.iter().any(is_gguf) || has_model_config && entries.iter().any(is_weights) {
        return Error::IsModel { path: path.into() };
    }
    let mut names = litgpt_files(path);
    let folders = entries.iter().take(MAX_ENTRIES).filter(|name| {
        let folder = path.join(name);
        folder.is_dir() && (is_adapter_folder(&folder) || litgpt_files(&folder).len() == 1)
    });
    names.extend(folders.cloned());
    if !names.is_empty() {
        return Error::AdaptersInSubfolders { path: path.into(), names };
    }
    if has_model_config {
        return Error::IsModel { path: path.into() };
    }
    let lora = entries.iter().find(|name| name.ends_with(".pth.lora"));
    let reason = match lora {
        Some(name) => format!("litgpt's LoRA ({name}) is not supported"),
        None => format!("{CONFIG_FILE} is missing"),
    };
    Error::NotAnAdapter { path: path.into(), reason }
}

/// Whether a file has the extension of a model file.
pub(crate) fn is_model_file(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gguf" || end == "safetensors")
}

fn litgpt_files(folder: &Path) -> Vec<String> {
    let mut files = file_names(folder);
    files.retain(|name| {
        LITGPT_SUFFIXES.iter().any(|end| name.ends_with(end)) && folder.join(name).is_file()
    });
    files
}

/// Entries of a folder in order. An adapter has no names that are not Unicode.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>();
    names.sort_unstable();
    names
}
