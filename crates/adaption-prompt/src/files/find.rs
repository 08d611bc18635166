//! Where an adapter is, when a path leads near it, and what lies there instead.

use std::path::{Path, PathBuf};

use super::SETTINGS_FILE;
use super::peft::{CONFIG_FILE, PICKLE_FILE, TENSORS_FILE};
use crate::error::Error;

/// What litgpt's adapter files end in. Its training leaves one in a folder called `final`.
const LITGPT: [&str; 2] = [".pth.adapter", ".pth.adapter_v2"];
/// Folders that are looked at for adapters: more are none of a trainer's.
const MOST_INSIDE: usize = 1000;

/// The adapter that a path means: a folder's only file of litgpt's, or the folder of one of PEFT's files. Any
/// other path is what it is.
pub fn resolve_path(path: &Path) -> PathBuf {
    if path.is_dir() {
        if !is_adapter_folder(path)
            && let [only] = &litgpt_files(path)[..]
        {
            return path.join(only);
        }
        return path.into();
    }
    let own = [CONFIG_FILE, TENSORS_FILE, PICKLE_FILE, SETTINGS_FILE];
    let name = path.file_name().and_then(|name| name.to_str());
    let folder = path.parent().filter(|folder| is_adapter_folder(folder));
    match (name, folder) {
        (Some(name), Some(folder)) if own.contains(&name) => {
            // A bare file's name is in a folder without one, which the system does not know.
            if folder.as_os_str().is_empty() { ".".into() } else { folder.into() }
        }
        _ => path.into(),
    }
}

/// Whether a folder has an adapter's settings.
pub(crate) fn is_adapter_folder(path: &Path) -> bool {
    [CONFIG_FILE, SETTINGS_FILE].iter().any(|file| path.join(file).exists())
}

/// What to say of a folder that is no adapter's.
pub(crate) fn not_an_adapter_error(path: &Path) -> Error {
    let entries = file_names(path);
    let is_gguf = |name: &&String| Path::new(name).extension().is_some_and(|end| end == "gguf");
    let is_weights = |name: &&String| {
        [".safetensors", ".bin", ".pth"].iter().any(|end| name.ends_with(end))
            && ![TENSORS_FILE, PICKLE_FILE].contains(&name.as_str())
    };
    let described = ["config.json", "params.json"].iter().any(|file| path.join(file).exists());
    let gguf = entries.iter().any(|name| is_gguf(&name));
    let weights = entries.iter().any(|name| is_weights(&name));
    if gguf || described && weights {
        return Error::IsModel { path: path.into() };
    }
    let mut inside = litgpt_files(path);
    let folders = entries.iter().take(MOST_INSIDE).filter(|name| {
        let folder = path.join(name);
        folder.is_dir() && (is_adapter_folder(&folder) || litgpt_files(&folder).len() == 1)
    });
    inside.extend(folders.cloned());
    if !inside.is_empty() {
        return Error::AdaptersInSubfolders { path: path.into(), names: inside };
    }
    if described {
        return Error::IsModel { path: path.into() };
    }
    let lora = entries.iter().find(|name| name.ends_with(".pth.lora"));
    let reason = match lora {
        Some(name) => format!("litgpt's LoRA ({name}) is not read"),
        None => format!("{CONFIG_FILE} is missing"),
    };
    Error::NotAnAdapter { path: path.into(), reason }
}

/// Whether a file is of a kind that only models are kept in.
pub(crate) fn is_model_file(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "gguf" || end == "safetensors")
}

fn litgpt_files(folder: &Path) -> Vec<String> {
    let mut files = file_names(folder);
    files
        .retain(|name| LITGPT.iter().any(|end| name.ends_with(end)) && folder.join(name).is_file());
    files
}

/// What is in a folder; names that are no text are none of an adapter's.
fn file_names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names =
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect::<Vec<_>>();
    names.sort_unstable();
    names
}
