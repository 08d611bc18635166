//! The file formats of adapters: detection, reading, writing, and what each format can hold.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use llama::LinearName;
use llama::config::{BranchPoint, ModelShape};

use super::lit::{self, LitFormat};
use super::locate::{is_model_file, not_an_adapter_error, resolve_path};
use super::native::{self, SETTINGS_FILE};
use super::read_purpose::ReadPurpose;
use super::{original, peft, torch_file};
use crate::adapter::data::AdapterData;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::gate::GateActivation;
use crate::parts::{PartKind, PromptProjection};

/// A file format of adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Format {
    /// A folder with PEFT's files and `llama_adapter.json`. Holds every adapter.
    LlamaAdapter,
    /// PEFT's folder with `adapter_model.safetensors`.
    Peft,
    /// PEFT's older folder with `adapter_model.bin`.
    PeftBin,
    /// The original release's `.pth`. Multimodal adapters are read, not written.
    Original,
    /// lit-llama's checkpoint.
    LitLlama,
    /// litgpt's `.pth.adapter`.
    Litgpt,
}

impl Format {
    /// Every format.
    pub const ALL: &'static [Self] = &[
        Self::LlamaAdapter,
        Self::Peft,
        Self::PeftBin,
        Self::Original,
        Self::LitLlama,
        Self::Litgpt,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::LlamaAdapter => "llama-adapter",
            Self::Peft => "peft",
            Self::PeftBin => "peft-bin",
            Self::Original => "original",
            Self::LitLlama => "lit-llama",
            Self::Litgpt => "litgpt",
        }
    }

    /// Whether an adapter is a folder, not a single file.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::LlamaAdapter | Self::Peft | Self::PeftBin)
    }

    /// The parts that [`write()`] can write in this format.
    pub fn parts(self) -> &'static [PartKind] {
        match self {
            Self::LlamaAdapter => PartKind::ALL,
            Self::Peft | Self::PeftBin => &[PartKind::Prompts, PartKind::Lora],
            Self::Original => &[PartKind::Prompts],
            Self::LitLlama | Self::Litgpt => &[PartKind::Prompts, PartKind::V2],
        }
    }

    /// The format of the adapter at `path`, or of the adapter that the path
    /// [means](super::resolve_path).
    ///
    /// # Errors
    /// [`Error::NotAnAdapter`], [`Error::IsModel`], [`Error::AdaptersInSubfolders`], or [`Error::File`]
    /// for a file that is not a PyTorch file.
    pub fn detect(path: &Path) -> Result<Self> {
        let path = &resolve_path(path);
        let not_an_adapter =
            |reason: &str| Error::NotAnAdapter { path: path.into(), reason: reason.into() };
        if path.is_dir() {
            let has = |file: &str| path.join(file).exists();
            return match () {
                () if has(SETTINGS_FILE) => Ok(Self::LlamaAdapter),
                () if !has(peft::CONFIG_FILE) => Err(not_an_adapter_error(path)),
                () if has(peft::PICKLE_FILE) && !has(peft::TENSORS_FILE) => Ok(Self::PeftBin),
                () => Ok(Self::Peft),
            };
        }
        if !path.exists() {
            return Err(not_an_adapter("there is no such file or folder"));
        }
        if is_model_file(path) {
            return Err(Error::IsModel { path: path.into() });
        }
        let tensors = torch_file::tensor_shapes(path)?;
        let any = |test: &dyn Fn(&str) -> bool| tensors.iter().any(|(name, _)| test(name));
        if any(&|name| name == original::PROMPT_TABLE) {
            return Ok(Self::Original);
        }
        if !any(&lit::is_adapter_tensor) {
            return Err(not_an_adapter("no tensor in it has an adapter's name"));
        }
        let is_litgpt = tensors.iter().any(|(name, shape)| lit::is_litgpt_tensor(name, shape));
        Ok(if is_litgpt { Self::Litgpt } else { Self::LitLlama })
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Format {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let mut formats = Self::ALL.iter().copied();
        formats.find(|format| format.name() == name).ok_or_else(|| Error::Config {
            field: "format",
            found: format!("`{}`", name.escape_debug()),
            expected: "llama-adapter, peft, peft-bin, original, lit-llama or litgpt",
        })
    }
}

/// Information that some files do not contain.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterReadOptions {
    /// The base model, if it is known. What the file says takes precedence.
    pub base: BaseInfo,
    /// Activation of the gates in files of the original release.
    pub original_gates: GateActivation,
}

impl Default for AdapterReadOptions {
    fn default() -> Self {
        Self { base: BaseInfo::default(), original_gates: GateActivation::Tanh }
    }
}

/// Reads an adapter of any format, without its base model.
///
/// # Errors
/// As [`Format::detect`]; [`Error::ConfigFile`], [`Error::UnsupportedSetting`],
/// [`Error::ModifiesBase`], [`Error::TensorMismatch`], and [`Error::MissingBaseInfo`] if the file cannot
/// be read without the base's sizes.
pub fn read(path: &Path, options: &AdapterReadOptions) -> Result<AdapterData> {
    let format = Format::detect(path)?;
    let path = &resolve_path(path);
    let sizes: Option<&ModelShape> = options.base.sizes.as_ref();
    let mut data = match format {
        Format::LlamaAdapter | Format::Peft | Format::PeftBin => {
            native::read_folder_with(path, ReadPurpose::Load(sizes))?
        }
        Format::Original => original::read(path, options.original_gates)?,
        Format::LitLlama | Format::Litgpt => lit::read(path, ReadPurpose::Load(sizes))?,
    };
    if let (None, Some(sizes), Some(prompts)) = (&data.base.sizes, sizes, &data.prompts)
        && prompts.layers.len() <= sizes.n_layers
        && let Some(problem) = prompts.check_last_layers(sizes.n_layers)
    {
        return Err(Error::TensorMismatch { path: path.into(), problems: vec![problem] });
    }
    let BaseInfo { name, architecture, sizes, fingerprint } = options.base.clone();
    data.base.architecture = data.base.architecture.or(architecture);
    data.base.name = data.base.name.or(name);
    data.base.sizes = data.base.sizes.or(sizes);
    data.base.fingerprint = data.base.fingerprint.or(fingerprint);
    Ok(data)
}

/// Reads an adapter of any format for a summary. Without the base's sizes, fused query, key and value
/// tensors may be split in the wrong places.
pub(crate) fn read_for_summary(path: &Path) -> Result<AdapterData> {
    let format = Format::detect(path)?;
    let path = &resolve_path(path);
    match format {
        Format::LitLlama | Format::Litgpt => lit::read(path, ReadPurpose::Summarize),
        Format::LlamaAdapter | Format::Peft | Format::PeftBin => {
            native::read_folder_with(path, ReadPurpose::Summarize)
        }
        Format::Original => read(path, &AdapterReadOptions::default()),
    }
}

/// Writes an adapter in a format. Returns what was lost.
///
/// Unless `allow_loss` is set, the written adapter has the same effect up to rounding: one gate per layer
/// becomes equal gates of its heads, tanh is applied, and layers that a format cannot leave out get prompts
/// with zero gates.
///
/// # Errors
/// [`Error::Lossy`] with everything that the format cannot hold, [`Error::NothingConvertible`] if that
/// is all; [`Error::MissingBaseInfo`] if the base's sizes are needed, [`Error::TensorMismatch`] if they
/// are not the adapter's; [`Error::File`]. Nothing is written then.
pub fn write(
    data: &AdapterData,
    path: &Path,
    format: Format,
    original_gates: GateActivation,
    allow_loss: bool,
) -> Result<Vec<String>> {
    let problems = data.base.sizes.as_ref().map(|sizes| data.check_shapes(sizes));
    if let Some(problems) = problems.filter(|problems| !problems.is_empty()) {
        return Err(Error::TensorMismatch { path: path.into(), problems });
    }
    let (data, losses) = convert(data.clone(), format, original_gates)?;
    if !losses.is_empty() && !allow_loss {
        return Err(Error::Lossy { to: format.name(), losses });
    }
    match format {
        Format::LlamaAdapter => native::write_folder(&data, path)?,
        Format::Peft => native::write_peft(&data, path, peft::TENSORS_FILE)?,
        Format::PeftBin => native::write_peft(&data, path, peft::PICKLE_FILE)?,
        Format::Original => original::write(path, &data, format.name())?,
        Format::LitLlama => lit::write(path, &data, LitFormat::Llama)?,
        Format::Litgpt => lit::write(path, &data, LitFormat::Gpt)?,
    }
    Ok(losses)
}

/// The adapter in a form that `format` can hold, and what is lost.
///
/// `original_gates` is the activation of gates in files of the original release.
fn convert(
    mut data: AdapterData,
    format: Format,
    original_gates: GateActivation,
) -> Result<(AdapterData, Vec<String>)> {
    let to = format.name();
    if format == Format::LlamaAdapter {
        if data.base.sizes.is_none() && data.parts().iter().any(|(_, part)| part.needs_n_layers()) {
            return Err(Error::MissingBaseInfo { to, required: "the model's number of layers" });
        }
        return Ok((data, Vec::new()));
    }
    let unsupported = PartKind::ALL.iter().filter(|kind| !format.parts().contains(kind));
    let mut losses = unsupported.filter_map(|&kind| data.remove(kind)).collect::<Vec<_>>();
    match format {
        Format::LlamaAdapter => {}
        Format::Peft | Format::PeftBin => peft::convert(&mut data, &mut losses)?,
        Format::Original => original::convert(&mut data, to, original_gates, &mut losses)?,
        Format::LitLlama | Format::Litgpt => lit::convert(&mut data, to, &mut losses)?,
    }
    if !format.is_folder()
        && let Some(prompt) = data.prompt_format.take().filter(|prompt| !prompt.is_default())
    {
        let system = if prompt.system.is_some() { " with its system prompt" } else { "" };
        losses.push(format!("the prompt template `{}`{system}", prompt.template));
    }
    use_adapted_projection(&mut data, &mut losses);
    let joins_after_output =
        |family: &llama::config::Architecture| family.defaults().branch == BranchPoint::AfterOutput;
    // Only PEFT has adapters of such families.
    if data.base.architecture.is_some_and(joins_after_output)
        && !matches!(format, Format::Peft | Format::PeftBin)
    {
        losses.push("the branch point of GPT-2, after the output projection".into());
    }
    if data.kinds().is_empty() {
        return Err(Error::NothingConvertible { to, losses });
    }
    Ok((data, losses))
}

/// In other formats, prompts always pass through the key and value projections as the other parts modify
/// them.
fn use_adapted_projection(data: &mut AdapterData, losses: &mut Vec<String>) {
    let is_modified = data.parts().iter().any(|(_, part)| {
        [LinearName::Key, LinearName::Value].into_iter().any(|name| part.modifies(name))
    });
    let Some(prompts) = data.prompts.as_mut() else { return };
    if prompts.projection == PromptProjection::Frozen && is_modified {
        losses.push("the frozen key and value projections of the prompts".into());
    }
    prompts.projection = PromptProjection::Adapted;
}

/// Settings of an adapter's files that are unknown and had no effect: those of a newer PEFT or of another
/// program. Includes the components of a mix, and the settings in files of the original release.
///
/// # Errors
/// [`Error::ConfigFile`], [`Error::File`]
pub fn unknown_settings(path: &Path) -> Result<Vec<String>> {
    let path = &resolve_path(path);
    if path.is_dir() {
        return native::unknown_settings(path);
    }
    match Format::detect(path) {
        Ok(Format::Original) => original::unknown_settings(path),
        _ => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_adapter::full_data;

    #[test]
    fn writing_drops_the_parts_that_a_format_cannot_hold() {
        let data = full_data();
        assert_eq!(data.kinds(), PartKind::ALL);
        for &format in Format::ALL {
            let lost = PartKind::ALL.iter().filter(|kind| !format.parts().contains(kind));
            let lost = lost.map(|&kind| data.clone().remove(kind).unwrap()).collect::<Vec<_>>();
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("x");
            match write(&data, &path, format, GateActivation::Identity, false) {
                Ok(losses) => assert!(losses.is_empty() && lost.is_empty(), "{format}"),
                Err(Error::Lossy { losses, .. }) => {
                    assert!(!lost.is_empty(), "{format}: {losses:?}");
                    assert!(lost.iter().all(|loss| losses.contains(loss)), "{format}: {losses:?}");
                }
                Err(error) => panic!("{format}: {error}"),
            }
            let (converted, _) = convert(data.clone(), format, GateActivation::Identity).unwrap();
            for kind in converted.kinds() {
                assert!(format.parts().contains(&kind), "{format}: {kind}");
            }
        }
    }
}
