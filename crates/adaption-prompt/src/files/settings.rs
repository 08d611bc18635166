//! `llama_adapter.json`: what PEFT's config cannot say.

use std::collections::BTreeMap;
use std::path::Path;

use llama::config::ModelShape;
use llama::fingerprint::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::assemble::LoraShape;
use super::keys::{self, llama_module_name};
use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{AdapterData, BaseInfo, LoraData};
use crate::error::{Error, Result};
use crate::image::ImageConfig;
use crate::v2::V2Scale;

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
    pub mix: Option<Vec<MixComponentSettings>>,
    #[serde(default)]
    pub base: BaseSettings,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PromptSettings {
    pub gate: Gate,
    pub activation: GateActivation,
    #[serde(default, skip_serializing_if = "is_usual")]
    pub projection: PromptProjection,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for it")]
fn is_usual(projection: &PromptProjection) -> bool {
    *projection == PromptProjection::default()
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct V2Settings {
    pub scale: V2Scale,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoraSettings {
    pub rank: usize,
    pub alpha: f64,
    /// Of linear layers that have another rank, by their names in a Llama.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, usize>,
}

/// A part of a mix.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct MixComponentSettings {
    /// Name, and folder beside the settings.
    pub name: String,
    pub weight: f64,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct BaseSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sizes: Option<ModelShape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<Fingerprint>,
}

/// Settings of a folder's file that this version does not know, by the parts they are in.
pub(crate) fn unknown(folder: &Path) -> Result<Vec<String>> {
    /// What is known of each part. Those of images are those of a type that other crates own.
    const KNOWN: [(&str, &[&str]); 7] = [
        ("", &["base", "format", "image", "lora", "mix", "prompts", "v2"]),
        ("base", &["fingerprint", "name", "sizes"]),
        ("image", &["encoder", "features", "form", "fusion"]),
        ("lora", &["alpha", "rank", "ranks"]),
        ("mix", &["name", "weight"]),
        ("prompts", &["activation", "gate", "projection"]),
        ("v2", &["scale"]),
    ];
    let path = folder.join(SETTINGS_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = checkpoint::files::read_text(&path)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| Error::ConfigFile { path, reason: error.to_string() })?;
    let mut names = Vec::new();
    for (part, known) in KNOWN {
        let value = if part.is_empty() { &json } else { json.get(part).unwrap_or(&Value::Null) };
        let objects = match value {
            Value::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        let keys =
            objects.into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
        let dot = if part.is_empty() { "" } else { "." };
        let others = keys.filter(|key| !known.contains(&key.as_str()));
        names.extend(others.map(|key| format!("{part}{dot}{key}")));
    }
    Ok(names)
}

impl LoraSettings {
    fn of(lora: &LoraData) -> Self {
        let others = lora.pairs.iter().filter(|(_, own)| own.rank != lora.rank);
        let ranks = others.map(|(&(layer, name), own)| (llama_module_name(layer, name), own.rank));
        Self { rank: lora.rank, alpha: lora.alpha, ranks: ranks.collect() }
    }

    /// # Errors
    /// The name that means no linear layer of a model of `n_layers` layers.
    pub fn shape(self, n_layers: Option<usize>) -> Result<LoraShape, String> {
        let Self { rank, alpha, ranks } = self;
        let rank_of = |(module, rank): (String, usize)| {
            let found = keys::place(&module).filter(|found| found.family.is_none());
            let layer = found.as_ref().and_then(|found| found.layer.or(n_layers));
            match (layer, found.as_ref().map(|found| &found.linears[..])) {
                (Some(layer), Some(&[name])) => Ok(((layer, name), rank)),
                _ => Err(format!("`{}` is no linear layer", module.escape_debug())),
            }
        };
        Ok(LoraShape {
            rank,
            alpha,
            ranks: ranks.into_iter().map(rank_of).collect::<Result<_, _>>()?,
        })
    }
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
            lora: data.lora.as_ref().map(LoraSettings::of),
            image: data.image.as_ref().map(|own| own.config.clone()),
            mix: None,
            base: BaseSettings::of(&data.base),
        }
    }

    /// Settings of a mix.
    pub fn of_mix(mix: Vec<MixComponentSettings>, base: &BaseInfo) -> Self {
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
        let text = checkpoint::files::read_text(&path)?;
        let wrong = |reason: String| Error::ConfigFile { path: path.clone(), reason };
        let settings: Self =
            serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if settings.format != VERSION {
            let found = settings.format;
            return Err(wrong(format!("the format is {found}, this program reads {VERSION}")));
        }
        let BaseSettings { sizes, fingerprint, .. } = &settings.base;
        for sizes in sizes.iter().chain(fingerprint.iter().map(|print| &print.sizes)) {
            sizes.validate().map_err(|error| wrong(format!("sizes of the base: {error}")))?;
        }
        Ok(Some(settings))
    }

    /// Writes the file into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("plain JSON");
        checkpoint::files::write(&folder.join(SETTINGS_FILE), format!("{text}\n").as_bytes())?;
        Ok(())
    }
}
