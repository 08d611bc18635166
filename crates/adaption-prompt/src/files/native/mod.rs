//! This program's folder: PEFT's two files, and `llama_adapter.json` with what PEFT's config cannot
//! express. PEFT's own folders are read here too.

mod assemble;
mod settings;

use std::collections::BTreeSet;
use std::path::Path;

use checkpoint::{ByteSource, SafetensorsFile};

use self::assemble::assemble;
pub use self::settings::SETTINGS_FILE;
use self::settings::{MixComponentSettings, Settings};
use super::peft::{self, CONFIG_FILE, PICKLE_FILE, PeftConfig, PeftMethod, TENSORS_FILE};
use super::prompt_format::{self, PROMPT_FORMAT_FILE};
use super::read_purpose::ReadPurpose;
use super::torch_file;
use crate::adapter::data::AdapterData;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::tensors::host_tensor::{HostTensors, read_safetensors, to_safetensors};

/// Reads the folder of a single adapter, this program's or PEFT's, without its base model.
///
/// # Errors
/// [`Error::NotAnAdapter`], [`Error::IsMix`], [`Error::ConfigFile`], [`Error::File`], or
/// [`Error::TensorMismatch`] if the tensors are not those of the settings.
pub fn read_folder(folder: &Path) -> Result<AdapterData> {
    read_folder_with(folder, ReadPurpose::Load(None))
}

/// As [`read_folder`], with the base's sizes, if they are known.
///
/// # Errors
/// As [`read_folder`], and [`Error::MissingBaseInfo`] if the sizes are needed.
pub(crate) fn read_folder_with(folder: &Path, purpose: ReadPurpose<'_>) -> Result<AdapterData> {
    let native = Settings::read(folder)?;
    if native.as_ref().is_some_and(|settings| settings.mix.is_some()) {
        return Err(is_mix_error(folder));
    }
    let config = peft::read_config(folder)?;
    if native.is_none() && config.is_none() {
        return Err(missing_file(folder, CONFIG_FILE));
    }
    let (path, pickle) = (folder.join(TENSORS_FILE), folder.join(PICKLE_FILE));
    let (path, tensors) = if path.exists() {
        let tensors = read_safetensors(&SafetensorsFile::new(ByteSource::open(&path)?)?, &path)?;
        (path, tensors)
    } else if pickle.exists() {
        let tensors = torch_file::read_peft(&pickle)?;
        (pickle, tensors)
    } else {
        return Err(missing_file(folder, TENSORS_FILE));
    };
    let data = assemble_files(folder, native, config, tensors, &path, purpose)?;
    Ok(AdapterData { prompt_format: prompt_format::read(folder)?, ..data })
}

/// Reads an adapter that is part of a program, from the contents of the files that
/// [`AdapterWeights::save`](crate::AdapterWeights::save) writes: `adapter_config.json`,
/// `llama_adapter.json` and `adapter_model.safetensors`.
///
/// # Errors
/// [`Error::ConfigFile`], [`Error::File`] or [`Error::TensorMismatch`], as [`read_folder`].
pub fn read_embedded(config: &str, settings: &str, tensors: &'static [u8]) -> Result<AdapterData> {
    let folder = Path::new("the built-in adapter");
    let settings = Settings::parse(&folder.join(SETTINGS_FILE), settings)?;
    let config = peft::parse_config(&folder.join(CONFIG_FILE), config)?;
    let path = folder.join(TENSORS_FILE);
    let file = SafetensorsFile::new(ByteSource::memory(&path, tensors))?;
    let tensors = read_safetensors(&file, &path)?;
    assemble_files(folder, Some(settings), Some(config), tensors, &path, ReadPurpose::Load(None))
}

/// The adapter of a folder's parsed files; `path` is the tensors' file.
fn assemble_files(
    folder: &Path,
    native: Option<Settings>,
    config: Option<PeftConfig>,
    tensors: HostTensors,
    path: &Path,
    purpose: ReadPurpose<'_>,
) -> Result<AdapterData> {
    let mismatch = |problems| Error::TensorMismatch { path: path.into(), problems };
    let mut tensors = peft::normalize_lora_names(tensors).map_err(mismatch)?;
    let mut n_layers = purpose.shapes().map(|shapes| shapes.n_layers);

    let is_native = native.is_some();
    let mut base = native.as_ref().map_or_else(BaseInfo::default, Settings::base_info);
    let mut settings = native.unwrap_or_else(Settings::empty);
    if let Some(config) = config {
        base.name = base.name.or(config.base);
        match config.method {
            PeftMethod::Prompts { adapter_len, adapter_layers, attention } => {
                if !is_native {
                    settings.prompts = Some(peft::default_prompt_settings());
                }
                if let Some(prompts) = &mut settings.prompts {
                    prompts.shape = Some((adapter_len, adapter_layers));
                    prompts.attention = attention;
                }
            }
            // The tensors of a native folder have the names of this crate.
            PeftMethod::Lora(_) if is_native => {}
            PeftMethod::Lora(lora) => {
                let mut problems = Vec::new();
                let normalized = lora.normalize(tensors, purpose, &mut problems)?;
                if !problems.is_empty() {
                    return Err(mismatch(problems));
                }
                tensors = normalized.tensors;
                base.architecture = normalized.family;
                settings.lora = Some(normalized.settings);
                n_layers = normalized.n_layers.or(n_layers);
            }
            PeftMethod::LlamaAdapter if !is_native => {
                return Err(missing_file(folder, SETTINGS_FILE));
            }
            PeftMethod::LlamaAdapter => {}
        }
    }
    assemble(base, settings, n_layers, tensors, path)
}

fn missing_file(folder: &Path, file: &str) -> Error {
    Error::NotAnAdapter { path: folder.into(), reason: format!("{file} is missing") }
}

/// Writes the folder of a single adapter.
pub(crate) fn write_folder(data: &AdapterData, folder: &Path) -> Result<()> {
    write_peft_files(data, folder, TENSORS_FILE)?;
    Settings::from_data(data).write(folder)?;
    remove_files(folder, &[PICKLE_FILE])
}

/// Writes PEFT's folder, with one of its two tensor files.
pub(crate) fn write_peft(data: &AdapterData, folder: &Path, tensor_file: &str) -> Result<()> {
    write_peft_files(data, folder, tensor_file)?;
    let other = if tensor_file == PICKLE_FILE { TENSORS_FILE } else { PICKLE_FILE };
    remove_files(folder, &[SETTINGS_FILE, other])
}

fn write_peft_files(data: &AdapterData, folder: &Path, tensor_file: &str) -> Result<()> {
    std::fs::create_dir_all(folder)
        .map_err(|source| checkpoint::Error::Write { path: folder.into(), source })?;
    let path = folder.join(tensor_file);
    match tensor_file {
        PICKLE_FILE => torch_file::write(&path, data.to_tensors(), None)?,
        _ => checkpoint::files::write(&path, &to_safetensors(&data.to_tensors()))?,
    }
    checkpoint::files::write(&folder.join(CONFIG_FILE), peft::to_json(data).as_bytes())?;
    match data.prompt_format.as_ref().filter(|format| !format.is_default()) {
        Some(format) => prompt_format::write(folder, format),
        None => remove_files(folder, &[PROMPT_FORMAT_FILE]),
    }
}

/// Removes files of another format that the folder held before. They would be read instead of the written
/// files, or together with them.
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

/// Unknown settings of a folder and of a mix's components.
pub(crate) fn unknown_settings(folder: &Path) -> Result<Vec<String>> {
    let mut names = settings::unknown_settings(folder)?;
    names.extend(peft::unknown_settings(folder)?);
    let mix = Settings::read(folder)?.and_then(|settings| settings.mix);
    for MixComponentSettings { name, .. } in mix.into_iter().flatten() {
        check_folder_name(&name)?;
        let component = folder.join(&name);
        names.extend(settings::unknown_settings(&component)?);
        names.extend(peft::unknown_settings(&component)?);
    }
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

pub(crate) fn is_mix_error(folder: &Path) -> Error {
    Error::IsMix { path: folder.into() }
}

/// Name, weight and adapter of each component of a mix.
type MixData = Vec<(String, f64, AdapterData)>;

/// Names of the components of a mix's folder; none for other folders.
pub(super) fn read_mix_names(folder: &Path) -> Result<Vec<String>> {
    let mix = Settings::read(folder)?.and_then(|settings| settings.mix).unwrap_or_default();
    mix.iter().try_for_each(|own| check_folder_name(&own.name))?;
    Ok(mix.into_iter().map(|own| own.name).collect())
}

/// Reads the components of a mix's folder; `None` for a single adapter.
///
/// # Errors
/// As [`read_folder`]; [`Error::Config`] for a component whose name is not a folder name,
/// [`Error::NameTaken`] for two components of one name.
pub fn read_mix(folder: &Path) -> Result<Option<MixData>> {
    let Some(mix) = Settings::read(folder)?.and_then(|settings| settings.mix) else {
        return Ok(None);
    };
    let mut names = BTreeSet::new();
    for MixComponentSettings { name, .. } in &mix {
        check_folder_name(name)?;
        if !names.insert(name) {
            return Err(Error::NameTaken { name: name.clone() });
        }
    }
    let components = mix.into_iter().map(|MixComponentSettings { name, weight }| {
        let data = read_folder(&folder.join(&name))?;
        Ok((name, weight, data))
    });
    components.collect::<Result<_>>().map(Some)
}

/// Writes a mix: a subfolder for each component, and the weights.
///
/// # Errors
/// [`Error::File`]; [`Error::Config`] for an empty mix, a name that is not a folder name, or a weight
/// that is not finite; [`Error::NameTaken`] for two components of one name.
pub fn write_mix(components: &[(String, f64, AdapterData)], folder: &Path) -> Result<()> {
    let invalid = |field, found: String, expected| Error::Config { field, found, expected };
    let Some((_, _, first)) = components.first() else {
        return Err(invalid("mix", "empty".into(), "at least one adapter"));
    };
    for (index, (name, weight, _)) in components.iter().enumerate() {
        check_folder_name(name)?;
        if components[..index].iter().any(|(other, _, _)| other == name) {
            return Err(Error::NameTaken { name: name.clone() });
        }
        if !weight.is_finite() {
            return Err(invalid("weight in a mix", weight.to_string(), "a finite number"));
        }
    }
    for (name, _, data) in components {
        write_folder(data, &folder.join(name))?;
    }
    let settings = components
        .iter()
        .map(|(name, weight, _)| MixComponentSettings { name: name.clone(), weight: *weight });
    Settings::from_mix(settings.collect(), &first.base).write(folder)?;
    // PEFT would still read a single adapter that the folder held before.
    remove_files(folder, &[CONFIG_FILE, TENSORS_FILE, PICKLE_FILE, PROMPT_FORMAT_FILE])
}

/// Refuses names that are not the name of a subfolder.
fn check_folder_name(name: &str) -> Result<()> {
    let valid = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', ':']);
    if valid {
        return Ok(());
    }
    let found = format!("`{}`", name.escape_debug());
    Err(Error::Config { field: "name of a mix's component", found, expected: "a folder name" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::{AdapterReadOptions, Format, read, write};
    use crate::gate::{Gate, GateActivation};
    use crate::parts::{PromptData, PromptLayerData, PromptProjection};

    #[test]
    fn every_part_round_trips_through_its_tensors_and_settings() {
        use crate::test_adapter::{PART_SETS, part_set, tiny_llama};
        let llama = tiny_llama();
        let model = llama.config().into();
        for set in PART_SETS {
            let weights = part_set(set).init(&llama, 3, &llama.device()).unwrap();
            assert_eq!(weights.kinds(), *set);
            let data = weights.to_data(BaseInfo::from_config(llama.config(), None)).unwrap();
            assert_eq!(data.kinds(), *set);
            let tensors = data.to_tensors();
            let settings = Settings::from_data(&data);
            for name in tensors.keys() {
                let address = crate::tensors::names::parse_tensor_name(name);
                assert!(settings.claimant(name, address.as_ref()).is_some(), "{name}");
            }
            let base = data.base.clone();
            let found = assemble(base, settings, None, tensors, Path::new("a test")).unwrap();
            assert_eq!(found, data, "{set:?}");

            let folder = tempfile::tempdir().unwrap();
            write_folder(&data, folder.path()).unwrap();
            let found = read_folder(folder.path()).unwrap();
            assert_eq!(found, data, "{set:?}");
            let path = Path::new("a test");
            let again =
                crate::AdapterWeights::from_data(&found, &model, path, &llama.device()).unwrap();
            assert_eq!(again.to_data(data.base.clone()).unwrap(), data, "{set:?}");
            assert_eq!(settings::unknown_settings(folder.path()).unwrap(), [""; 0]);
        }
    }

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
    fn writing_replaces_the_files_of_every_other_format() {
        let formats = [Format::LlamaAdapter, Format::Peft, Format::PeftBin];
        for previous in formats {
            for format in formats {
                let folder = tempfile::tempdir().unwrap();
                let path = folder.path();
                for (value, format) in [(1.0, previous), (2.0, format)] {
                    write(&adapter(value), path, format, GateActivation::Tanh, false).unwrap();
                }
                assert_eq!(Format::detect(path).unwrap(), format, "{previous}, {format}");
                let found = read(path, &AdapterReadOptions::default()).unwrap();
                assert_eq!(found.prompts, adapter(2.0).prompts, "{previous}, {format}");
            }
        }
    }

    #[test]
    fn writing_a_mix_removes_the_files_of_a_single_adapter() {
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
