//! Our folder: PEFT's two files, and `llama_adapter.json` for what they cannot say.

use std::collections::BTreeSet;
use std::path::Path;

use checkpoint::{ByteSource, SafetensorsFile};

use super::assemble::{ExpectedParts, assemble, to_tensors};
use super::find::resolve_path;
use super::format::Format;
use super::lit::ReadPurpose;
use super::original_images;
use super::peft::{self, CONFIG_FILE, PEFT_GATES, PICKLE_FILE, PeftMethod, TENSORS_FILE};
use super::peft_names::normalize_lora_names;
use super::settings::{self, MixComponentSettings, PromptSettings, Settings};
use super::tensors::{read_safetensors, to_safetensors};
use super::torch;
use crate::data::{AdapterData, BaseInfo};
use crate::error::{Error, Result};

/// Reads the folder of a single adapter, ours or PEFT's, without a model.
///
/// # Errors
/// [`Error::NotAnAdapter`], [`Error::IsMix`], [`Error::ConfigFile`], [`Error::File`], or
/// [`Error::Tensors`] if the tensors are not those of the settings.
pub fn read_folder(folder: &Path) -> Result<AdapterData> {
    read_folder_with(folder, ReadPurpose::Load(None))
}

/// As [`read_folder`], with what is known of the base's sizes.
///
/// # Errors
/// As [`read_folder`], and [`Error::Unknown`] where the sizes are needed.
pub(crate) fn read_folder_with(folder: &Path, purpose: ReadPurpose<'_>) -> Result<AdapterData> {
    let settings = Settings::read(folder)?;
    if settings.as_ref().is_some_and(|settings| settings.mix.is_some()) {
        return Err(is_mix_error(folder));
    }
    let missing = |file: &str| Error::NotAnAdapter {
        path: folder.into(),
        reason: format!("{file} is missing"),
    };
    let config = peft::read(folder)?;
    if settings.is_none() && config.is_none() {
        return Err(missing(CONFIG_FILE));
    }
    let (path, pickle) = (folder.join(TENSORS_FILE), folder.join(PICKLE_FILE));
    let (path, arrays) = if path.exists() {
        let arrays = read_safetensors(&SafetensorsFile::new(ByteSource::open(&path)?)?, &path)?;
        (path, arrays)
    } else if pickle.exists() {
        let arrays = torch::read_peft(&pickle)?;
        (pickle, arrays)
    } else {
        return Err(missing(TENSORS_FILE));
    };
    let wrong = |problems| Error::TensorMismatch { path: path.clone(), problems };
    let mut arrays = normalize_lora_names(arrays).map_err(wrong)?;
    let mut base = BaseInfo::default();
    let mut expected = ExpectedParts::default();
    if let Some(config) = config {
        base.name = config.base;
        match config.method {
            PeftMethod::Prompts { adapter_len, adapter_layers, attention } => {
                expected.prompts = Some(PEFT_GATES);
                expected.prompt_shape = Some((adapter_len, adapter_layers));
                expected.attention = attention;
            }
            // Our own settings name tensors as they are.
            PeftMethod::Lora(_) if settings.is_some() => {}
            PeftMethod::Lora(lora) => {
                let mut problems = Vec::new();
                let plain = lora.normalize(arrays, purpose, &mut problems)?;
                if !problems.is_empty() {
                    return Err(wrong(problems));
                }
                arrays = plain.arrays;
                base.architecture = plain.family;
                expected.lora = Some(plain.shape);
                expected.n_layers = plain.n_layers;
            }
            PeftMethod::LlamaAdapter if settings.is_none() => {
                return Err(missing(super::SETTINGS_FILE));
            }
            PeftMethod::LlamaAdapter => {}
        }
    }
    if let Some(settings) = settings {
        let name = base.name.take();
        base = settings.base.into_base_info();
        base.name = base.name.or(name);
        let gates = |own: PromptSettings| (own.gate, own.activation, own.projection);
        expected.prompts = settings.prompts.map(gates);
        expected.scale = settings.v2.map(|own| own.scale);
        let n_layers = base.sizes.as_ref().map(|sizes| sizes.n_layers);
        let lora = settings.lora.map(|lora| lora.into_shape(n_layers)).transpose();
        expected.lora = lora.map_err(|reason| Error::ConfigFile {
            path: folder.join(super::SETTINGS_FILE),
            reason,
        })?;
        expected.image = settings.image;
    }
    if let (None, ReadPurpose::Load(Some(sizes))) = (expected.n_layers, purpose) {
        expected.n_layers = Some(sizes.n_layers);
    }
    assemble(base, &expected, arrays, &path)
}

/// Writes the folder of a single adapter.
pub(crate) fn write_folder(data: &AdapterData, folder: &Path) -> Result<()> {
    write_files(data, folder, TENSORS_FILE)?;
    Settings::of(data).write(folder)?;
    remove_files(folder, &[PICKLE_FILE])
}

/// Writes PEFT's two files, the tensors into one of its two kinds.
pub(crate) fn write_peft(data: &AdapterData, folder: &Path, tensors: &str) -> Result<()> {
    write_files(data, folder, tensors)?;
    let other = if tensors == PICKLE_FILE { TENSORS_FILE } else { PICKLE_FILE };
    remove_files(folder, &[super::SETTINGS_FILE, other])
}

/// Removes files of another form of adapter that was in the folder before: they would be read in place of
/// those that were written, or beside them.
fn remove_files(folder: &Path, files: &[&str]) -> Result<()> {
    for path in files.iter().map(|file| folder.join(file)) {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
                return Err(checkpoint::Error::Write { path, source }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

fn write_files(data: &AdapterData, folder: &Path, tensors: &str) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| checkpoint::Error::Write { path: folder.into(), source })?;
    let path = folder.join(tensors);
    match tensors {
        PICKLE_FILE => torch::write(&path, to_tensors(data), None)?,
        _ => checkpoint::files::write(&path, &to_safetensors(&to_tensors(data)))?,
    }
    checkpoint::files::write(&folder.join(CONFIG_FILE), peft::to_json(data).as_bytes())?;
    Ok(())
}

/// Settings of an adapter's files that nobody here knows, so that they had no effect: those of a newer
/// PEFT, or of another program. A mix's parts are looked at too, and what the original release's files
/// say of themselves.
///
/// # Errors
/// [`Error::ConfigFile`], [`Error::File`]
pub fn unknown_settings(path: &Path) -> Result<Vec<String>> {
    let path = &resolve_path(path);
    if !path.is_dir() {
        return match Format::detect(path) {
            Ok(Format::Original) => original_images::unknown_settings(path),
            _ => Ok(Vec::new()),
        };
    }
    let mut names = settings::unknown_settings(path)?;
    names.extend(peft::unknown_settings(path)?);
    let mix = Settings::read(path)?.and_then(|settings| settings.mix);
    for MixComponentSettings { name, .. } in mix.into_iter().flatten() {
        folder_name(&name)?;
        let part = path.join(&name);
        names.extend(settings::unknown_settings(&part)?);
        names.extend(peft::unknown_settings(&part)?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

pub(crate) fn is_mix_error(folder: &Path) -> Error {
    Error::IsMix { path: folder.into() }
}

/// Parts of a mix as numbers: name, weight, adapter.
type DataParts = Vec<(String, f64, AdapterData)>;

/// Reads the parts of a mix's folder, or nothing if it holds a single adapter.
///
/// # Errors
/// As [`read_folder`]; [`Error::Config`] for a part whose name is no folder's, [`Error::NameTaken`]
/// for one that comes twice.
pub fn read_mix(folder: &Path) -> Result<Option<DataParts>> {
    let Some(mix) = Settings::read(folder)?.and_then(|settings| settings.mix) else {
        return Ok(None);
    };
    let mut names = BTreeSet::new();
    for MixComponentSettings { name, .. } in &mix {
        folder_name(name)?;
        if !names.insert(name) {
            return Err(Error::NameTaken { name: name.clone() });
        }
    }
    let parts = mix.into_iter().map(|MixComponentSettings { name, weight }| {
        let data = read_folder(&folder.join(&name))?;
        Ok((name, weight, data))
    });
    parts.collect::<Result<_>>().map(Some)
}

/// Writes a mix: a folder for each part, and the weights.
///
/// # Errors
/// [`Error::File`]; [`Error::Config`] for no parts, a name that is no folder's or comes twice, or a
/// weight that is no finite number.
pub fn write_mix(parts: &[(String, f64, AdapterData)], folder: &Path) -> Result<()> {
    let wrong = |field, found: String, expected| Error::Config { field, found, expected };
    let Some((_, _, first)) = parts.first() else {
        return Err(wrong("mix", "empty".into(), "at least one adapter"));
    };
    for (index, (name, weight, _)) in parts.iter().enumerate() {
        folder_name(name)?;
        if parts[..index].iter().any(|(other, _, _)| other == name) {
            return Err(Error::NameTaken { name: name.clone() });
        }
        if !weight.is_finite() {
            return Err(wrong("weight in a mix", weight.to_string(), "a finite number"));
        }
    }
    for (name, _, data) in parts {
        write_folder(data, &folder.join(name))?;
    }
    let names = parts
        .iter()
        .map(|(name, weight, _)| MixComponentSettings { name: name.clone(), weight: *weight });
    Settings::of_mix(names.collect(), &first.base).write(folder)?;
    // A single adapter that was here before is no part of the mix: PEFT would still read it.
    remove_files(folder, &[CONFIG_FILE, TENSORS_FILE, PICKLE_FILE])
}

/// Refuses names that lead anywhere but into the mix's own folder.
fn folder_name(name: &str) -> Result<()> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
    if plain {
        return Ok(());
    }
    let found = format!("`{}`", name.escape_debug());
    Err(Error::Config { field: "name of a mix's part", found, expected: "a plain folder's name" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Gate, GateActivation, PromptProjection};
    use crate::data::{PromptData, PromptLayerData};
    use crate::files::{AdapterReadOptions, SETTINGS_FILE, read, write};

    fn adapter(value: f32) -> AdapterData {
        let layer = PromptLayerData { prompt: vec![value; 4], gate: vec![0.5], factor: None };
        let prompts = PromptData {
            adapter_len: 1,
            d_model: 4,
            gate: Gate::Scalar,
            activation: GateActivation::Identity,
            projection: PromptProjection::Adapted,
            layers: [(1, layer)].into(),
        };
        AdapterData { prompts: Some(prompts), ..AdapterData::default() }
    }

    #[test]
    fn what_was_written_last_is_read_whatever_was_there_before() {
        let formats = [Format::LlamaAdapter, Format::Peft, Format::PeftBin];
        for first in formats {
            for second in formats {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path();
                for (value, format) in [(1.0, first), (2.0, second)] {
                    write(&adapter(value), path, format, GateActivation::Tanh, false).unwrap();
                }
                assert_eq!(Format::detect(path).unwrap(), second, "{first}, {second}");
                let found = read(path, &AdapterReadOptions::default()).unwrap();
                assert_eq!(found.prompts, adapter(2.0).prompts, "{first}, {second}");
            }
        }
    }

    #[test]
    fn a_mix_leaves_nothing_of_a_single_adapter_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        write(&adapter(1.0), path, Format::PeftBin, GateActivation::Tanh, false).unwrap();
        write_mix(&[("a".into(), 1.0, adapter(2.0))], path).unwrap();
        let names = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names = names.collect::<Vec<_>>();
        names.sort();
        assert_eq!(names, ["a", SETTINGS_FILE]);
    }
}
