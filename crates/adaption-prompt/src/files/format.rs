//! Formats of adapters: which there are, how to tell them, how to read and write each.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use llama::config::ModelShape;

use super::find::{is_model_file, not_an_adapter_error, resolve_path};
use super::fit::fit;
use super::lit::{self, LitFormat, Purpose};
use super::{SETTINGS_FILE, folder, original, original_images, peft, torch};
use crate::config::GateActivation;
use crate::convert::check_last_layers;
use crate::data::{AdapterData, BaseInfo};
use crate::error::{Error, Result};

/// A way to keep an adapter on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A folder: PEFT's files and `llama_adapter.json`. Holds every adapter.
    LlamaAdapter,
    /// PEFT's folder with `adapter_model.safetensors`.
    Peft,
    /// PEFT's older folder with `adapter_model.bin`.
    PeftBin,
    /// The original release's `.pth`; those that see images are read, not written.
    Original,
    /// lit-llama's checkpoint.
    LitLlama,
    /// litgpt's `.pth.adapter`.
    Litgpt,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 6] = [
        Self::LlamaAdapter,
        Self::Peft,
        Self::PeftBin,
        Self::Original,
        Self::LitLlama,
        Self::Litgpt,
    ];

    /// What users call it.
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

    /// Whether it is a folder, not a file.
    pub fn is_folder(self) -> bool {
        matches!(self, Self::LlamaAdapter | Self::Peft | Self::PeftBin)
    }

    /// The format of what lies at `path`, or of what that [means](super::resolve).
    ///
    /// # Errors
    /// [`Error::NotAnAdapter`], [`Error::IsModel`], [`Error::AdaptersInSubfolders`], or [`Error::File`] for a
    /// file that is no PyTorch file.
    pub fn detect(path: &Path) -> Result<Self> {
        let path = &resolve_path(path);
        let not = |reason: &str| Error::NotAnAdapter { path: path.into(), reason: reason.into() };
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
            return Err(not("there is no such file or folder"));
        }
        if is_model_file(path) {
            return Err(Error::IsModel { path: path.into() });
        }
        let names = torch::names(path)?;
        let any = |test: &dyn Fn(&str) -> bool| names.iter().any(|(name, _)| test(name));
        if any(&|name| name == original::PROMPT_TABLE) {
            return Ok(Self::Original);
        }
        if !any(&lit::knows) {
            return Err(not("no tensor in it has an adapter's name"));
        }
        // litgpt has its heads in another place of the gate, and other names in version 2.
        let litgpt = names.iter().any(|(name, shape)| {
            name.ends_with(".gating_factor") && shape.len() == 4 && shape[1] == 1 && shape[2] > 1
                || [".norm_1.weight", ".qkv.adapter_bias", ".attn.attn.adapter_bias"]
                    .iter()
                    .any(|end| name.ends_with(end))
        });
        Ok(if litgpt { Self::Litgpt } else { Self::LitLlama })
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
        Self::ALL.into_iter().find(|format| format.name() == name).ok_or_else(|| Error::Config {
            field: "format",
            found: format!("`{}`", name.escape_debug()),
            expected: "llama-adapter, peft, peft-bin, original, lit-llama or litgpt",
        })
    }
}

/// What files do not say themselves.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterReadOptions {
    /// The base model, where it is known. What the file itself says goes before.
    pub base: BaseInfo,
    /// What the gates of the original release's files pass through.
    pub original_gates: GateActivation,
}

impl Default for AdapterReadOptions {
    fn default() -> Self {
        Self { base: BaseInfo::default(), original_gates: GateActivation::Tanh }
    }
}

/// Reads an adapter of any format, without a model.
///
/// # Errors
/// As [`Format::detect`]; [`Error::ConfigFile`], [`Error::Setting`], [`Error::ModifiesBase`],
/// [`Error::Tensors`], and [`Error::Unknown`] where the file cannot be understood without the base's sizes.
pub fn read(path: &Path, hints: &AdapterReadOptions) -> Result<AdapterData> {
    let format = Format::detect(path)?;
    let path = &resolve_path(path);
    let sizes: Option<&ModelShape> = hints.base.sizes.as_ref();
    let mut data = match format {
        Format::LlamaAdapter | Format::Peft | Format::PeftBin => {
            folder::read_folder_with(path, Purpose::Use(sizes))?
        }
        Format::Original if original_images::is_multimodal_file(path)? => {
            original_images::read(path)?
        }
        Format::Original => original::read(path, hints.original_gates)?,
        Format::LitLlama | Format::Litgpt => lit::read(path, Purpose::Use(sizes))?,
    };
    if let (None, Some(sizes), Some(prompts)) = (&data.base.sizes, sizes, &data.prompts)
        && prompts.layers.len() <= sizes.n_layers
        && let Some(problem) = check_last_layers(prompts, sizes.n_layers)
    {
        return Err(Error::TensorMismatch { path: path.into(), problems: vec![problem] });
    }
    let BaseInfo { name, architecture, sizes, fingerprint } = hints.base.clone();
    data.base.architecture = data.base.architecture.or(architecture);
    data.base.name = data.base.name.or(name);
    data.base.sizes = data.base.sizes.or(sizes);
    data.base.fingerprint = data.base.fingerprint.or(fingerprint);
    Ok(data)
}

/// Reads an adapter of any format to be shown: what can be said of it without the base's sizes is
/// right, but query, key and value of lit-llama's and litgpt's version 2 are not told apart.
pub(crate) fn read_for_summary(path: &Path) -> Result<AdapterData> {
    let format = Format::detect(path)?;
    let path = &resolve_path(path);
    match format {
        Format::LitLlama | Format::Litgpt => lit::read(path, Purpose::Summarize),
        Format::LlamaAdapter | Format::Peft | Format::PeftBin => {
            folder::read_folder_with(path, Purpose::Summarize)
        }
        Format::Original => read(path, &AdapterReadOptions::default()),
    }
}

/// Writes an adapter in a format; gives what was lost.
///
/// Without `lossy` nothing may be lost: what the adapter does stays the same, to rounding. A gate a
/// layer becomes equal gates of its heads, tanh is carried out, and layers that a format cannot
/// leave out get prompts with closed gates.
///
/// # Errors
/// [`Error::Lossy`] with everything that the format cannot hold, [`Error::NothingConvertible`] where that
/// is all; [`Error::Unknown`] where the base's sizes are needed, [`Error::Tensors`] where they are
/// not the adapter's; [`Error::File`]. Nothing is written then.
pub fn write(
    data: &AdapterData,
    path: &Path,
    format: Format,
    original_gates: GateActivation,
    lossy: bool,
) -> Result<Vec<String>> {
    let problems = data.base.sizes.as_ref().map(|sizes| data.check_shapes(sizes));
    if let Some(problems) = problems.filter(|problems| !problems.is_empty()) {
        return Err(Error::TensorMismatch { path: path.into(), problems });
    }
    let (data, losses) = fit(data.clone(), format, original_gates)?;
    if !losses.is_empty() && !lossy {
        return Err(Error::Lossy { to: format.name(), losses });
    }
    let sizes = data.base.sizes.as_ref();
    match format {
        Format::LlamaAdapter => folder::write_folder(&data, path)?,
        Format::Peft => folder::write_peft(&data, path, peft::TENSORS_FILE)?,
        Format::PeftBin => folder::write_peft(&data, path, peft::PICKLE_FILE)?,
        Format::Original => {
            let what = "the model's number of layers";
            let sizes = sizes.ok_or(Error::MissingBaseInfo { to: format.name(), what })?;
            let prompts = data.prompts.as_ref().expect("an adapter without prompts does not fit");
            original::write(path, prompts, sizes.n_layers)?;
        }
        Format::LitLlama => lit::write(path, &data, sizes, LitFormat::Llama)?,
        Format::Litgpt => lit::write(path, &data, sizes, LitFormat::Gpt)?,
    }
    Ok(losses)
}
