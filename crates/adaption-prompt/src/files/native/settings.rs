//! `llama_adapter.json`: the settings that PEFT's config cannot express.

use std::path::Path;

use llama::config::ModelShape;
use llama::fingerprint::Fingerprint;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::adapter::data::AdapterData;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::part::{Part, PartSettings};
use crate::parts::{PartKind, with_parts};
use crate::tensors::names::TensorAddress;

/// Name of the file.
pub const SETTINGS_FILE: &str = "llama_adapter.json";

/// Version of the file format.
const VERSION: u32 = 1;

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, config: $config:ident, data: $data:ident, summary: $summary:ident, settings: $settings:ident })+) => {
        /// The contents of the file. The order of the fields is that of the file.
        #[derive(Debug, Serialize, Deserialize)]
        pub(super) struct Settings {
            format: u32,
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$crate::parts::$settings>,
            )+
            /// The components of a mix.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            pub mix: Option<Vec<MixComponentSettings>>,
            #[serde(default)]
            base: BaseSettings,
        }

        /// Names of the fields of each section; the first entry has those of the file.
        const KNOWN: &[(&str, &[&str])] = &[
            ("", &["base", "format", "mix", $(stringify!($field),)+]),
            ("base", &["fingerprint", "name", "sizes"]),
            ("mix", &["name", "weight"]),
            $((stringify!($field), <$crate::parts::$settings as PartSettings>::KEYS),)+
        ];

        impl Settings {
            /// Settings without parts.
            pub fn empty() -> Self {
                Self { format: VERSION, $($field: None,)+ mix: None, base: BaseSettings::default() }
            }

            /// Settings of a single adapter.
            pub fn from_data(data: &AdapterData) -> Self {
                Self {
                    format: VERSION,
                    $($field: data.$field.as_ref().map(<$crate::parts::$weights as Part>::settings),)+
                    mix: None,
                    base: BaseSettings::from_base_info(&data.base),
                }
            }

            /// The part that a tensor belongs to, among the parts of these settings.
            pub fn claimant(&self, name: &str, address: Option<&TensorAddress>) -> Option<PartKind> {
                $(
                    if self.$field.is_some() && <$crate::parts::$weights as Part>::claims(name, address) {
                        return Some(PartKind::$kind);
                    }
                )+
                None
            }

            /// # Errors
            /// The reason.
            fn check_parts(&self, n_layers: Option<usize>) -> Result<(), String> {
                $(self.$field.as_ref().map_or(Ok(()), |own| own.check(n_layers))?;)+
                Ok(())
            }
        }
    };
}
with_parts!(define);

/// A component of a mix.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct MixComponentSettings {
    /// Name of the component and of its subfolder.
    pub name: String,
    pub weight: f64,
}

/// The base model.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct BaseSettings {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sizes: Option<ModelShape>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fingerprint: Option<Fingerprint>,
}

impl BaseSettings {
    fn from_base_info(base: &BaseInfo) -> Self {
        let fingerprint = base.fingerprint.clone();
        // The fingerprint contains the sizes.
        let sizes = if fingerprint.is_some() { None } else { base.sizes.clone() };
        Self { name: base.name.clone(), sizes, fingerprint }
    }

    fn into_base_info(self) -> BaseInfo {
        let Self { name, sizes, fingerprint } = self;
        let sizes = sizes.or_else(|| fingerprint.as_ref().map(|own| own.sizes.clone()));
        let architecture = sizes.as_ref().map(|sizes| sizes.architecture);
        BaseInfo { name, architecture, sizes, fingerprint }
    }
}

impl Settings {
    /// Settings of a mix.
    pub fn from_mix(mix: Vec<MixComponentSettings>, base: &BaseInfo) -> Self {
        let base = BaseSettings::from_base_info(base);
        Self { mix: Some(mix), base, ..Self::empty() }
    }

    /// The base model.
    pub fn base_info(&self) -> BaseInfo {
        self.base.clone().into_base_info()
    }

    /// Reads the file of a folder, if it exists.
    pub fn read(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(SETTINGS_FILE);
        if !path.exists() {
            return Ok(None);
        }
        Self::parse(&path, &checkpoint::files::read_text(&path)?).map(Some)
    }

    /// Parses the text of the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let invalid = |reason: String| Error::ConfigFile { path: path.into(), reason };
        let settings: Self =
            serde_json::from_str(text).map_err(|error| invalid(error.to_string()))?;
        if settings.format != VERSION {
            let found = settings.format;
            return Err(invalid(format!("the format is {found}, this program reads {VERSION}")));
        }
        let BaseSettings { sizes, fingerprint, .. } = &settings.base;
        for sizes in sizes.iter().chain(fingerprint.iter().map(|own| &own.sizes)) {
            sizes.validate().map_err(|error| invalid(format!("sizes of the base: {error}")))?;
        }
        let n_layers = settings.base_info().sizes.map(|sizes| sizes.n_layers);
        settings.check_parts(n_layers).map_err(invalid)?;
        Ok(settings)
    }

    /// Writes the file into a folder.
    pub fn write(&self, folder: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self).expect("settings are plain JSON");
        checkpoint::files::write(&folder.join(SETTINGS_FILE), format!("{text}\n").as_bytes())?;
        Ok(())
    }
}

/// Unknown settings of a folder's file, with the names of their sections.
pub(super) fn unknown_settings(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(SETTINGS_FILE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let text = checkpoint::files::read_text(&path)?;
    let json: Value = serde_json::from_str(&text)
        .map_err(|error| Error::ConfigFile { path, reason: error.to_string() })?;
    let mut names = Vec::new();
    for (section, known) in KNOWN {
        let value =
            if section.is_empty() { &json } else { json.get(section).unwrap_or(&Value::Null) };
        let objects = match value {
            Value::Array(list) => list.iter().collect(),
            one => vec![one],
        };
        let keys =
            objects.into_iter().filter_map(Value::as_object).flat_map(|object| object.keys());
        let dot = if section.is_empty() { "" } else { "." };
        let others = keys.filter(|key| !known.contains(&key.as_str()));
        names.extend(others.map(|key| format!("{section}{dot}{key}")));
    }
    Ok(names)
}
