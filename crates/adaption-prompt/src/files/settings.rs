//! `llama_adapter.json`: what PEFT's config cannot say.

use std::path::Path;

use llama::{Fingerprint, Sizes};
use serde::{Deserialize, Serialize};

use crate::config::{Activation, Gate, Projection};
use crate::data::{AdapterData, BaseInfo};
use crate::error::{Error, Result};
use crate::image::ImageConfig;
use crate::v2::Scale;

/// Name of the file.
pub const SETTINGS_FILE: &str = "llama_adapter.json";

/// Version of the format that this code writes and reads.
const VERSION: u32 = 1;

/// The file's contents.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub format: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptSettings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub v2: Option<V2Settings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraSettings>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageConfig>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mix: Option<Vec<MixSettings>>,
    #[serde(default)]
    pub base: BaseSettings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PromptSettings {
    pub gate: Gate,
    pub activation: Activation,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub projection: Projection,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_usual(projection: &Projection) -> bool {
    *projection == Projection::default()
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct V2Settings {
    pub scale: Scale,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoraSettings {
    pub rank: usize,
    pub alpha: f64,
}

/// A part of a mix.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MixSettings {
    /// Name, and folder beside the settings.
    pub name: String,
    pub weight: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct BaseSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<Sizes>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

impl BaseSettings {
    pub fn of(base: &BaseInfo) -> Self {
        let fingerprint = base.fingerprint.clone();
        // The fingerprint has the sizes in it.
        let sizes = if fingerprint.is_some() { None } else { base.sizes.clone() };
        Self { name: base.name.clone(), sizes, fingerprint }
    }

    pub fn info(self) -> BaseInfo {
        let Self { name, sizes, fingerprint } = self;
        let sizes = sizes.or_else(|| fingerprint.as_ref().map(|print| print.sizes.clone()));
        let architecture = sizes.as_ref().map(|sizes| sizes.architecture);
        BaseInfo { name, architecture, sizes, fingerprint }
    }
}

impl Settings {
    /// Settings of a single adapter.
    pub fn of(data: &AdapterData) -> Self {
        let prompts = data.prompts.as_ref();
        Self {
            format: VERSION,
            prompts: prompts.map(|own| PromptSettings {
                gate: own.gate,
                activation: own.activation,
                projection: own.projection,
            }),
            v2: data.v2.as_ref().map(|own| V2Settings { scale: own.scale }),
            lora: data.lora.as_ref().map(|own| LoraSettings { rank: own.rank, alpha: own.alpha }),
            image: data.image.as_ref().map(|own| own.config.clone()),
            mix: None,
            base: BaseSettings::of(&data.base),
        }
    }

    /// Settings of a mix.
    pub fn of_mix(mix: Vec<MixSettings>, base: &BaseInfo) -> Self {
        let base = BaseSettings::of(base);
        let (prompts, v2, lora, image) = (None, None, None, None);
        Self { format: VERSION, prompts, v2, lora, image, mix: Some(mix), base }
    }

    /// Reads the file of a folder, if there is one.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(SETTINGS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(&path)
            .map_err(|source| llama::Error::Read { path: path.clone(), source })?;
        let wrong = |reason: String| Error::ConfigFile { path: path.clone(), reason };
        let settings: Self =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if settings.format != VERSION {
            let found = settings.format;
            return Err(wrong(format!("the format is {found}, this program reads {VERSION}")));
        }
        Ok(Some(settings))
    }

    /// Writes the file into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain JSON");
        llama::files::write(&folder.join(SETTINGS_FILE), format!("{text}\n").as_bytes())?;
        Ok(())
    }
}
