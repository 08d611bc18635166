//! Reads arbitrary bytes as a file of an adapter and does everything that is possible without a model: for
//! the target in `fuzz/` and the tests of malformed files. Any bytes give a value or an error, never a panic.

use std::fs;
use std::path::Path;

use llama::config::Architecture;
use llama::model::NormName;
use llama::{LinearName, LlamaConfig};

use crate::adapter::data::AdapterData;
use crate::adapter::summary::AdapterSummary;
use crate::base::BaseInfo;
use crate::error::Error;
use crate::files::peft::{CONFIG_FILE, PICKLE_FILE, TENSORS_FILE};
use crate::files::{self, AdapterReadOptions, Format, SETTINGS_FILE};
use crate::gate::{Gate, GateActivation};
use crate::parts::{
    LoraData, LoraPairData, PromptData, PromptLayerData, PromptProjection, V2Data, V2LinearData,
    V2NormData, V2Scale,
};

/// Sizes of the model of the valid adapters, those of the golden files.
const N_LAYERS: usize = 3;
const D_MODEL: usize = 32;
const N_HEADS: usize = 4;

fn base() -> BaseInfo {
    let config = LlamaConfig {
        n_layers: N_LAYERS,
        n_heads: N_HEADS,
        n_kv_heads: N_HEADS,
        head_dim: 8,
        d_model: D_MODEL,
        d_ff: 48,
        vocab_size: 128,
        ..Architecture::by_model_type("llama").map(Architecture::defaults).unwrap_or_default()
    };
    BaseInfo::from_config(&config, None)
}

/// Valid adapters: prompts and LoRA in PEFT's form, and one that PEFT cannot compute.
fn valid_adapters() -> [AdapterData; 3] {
    let layer = |index: usize| {
        let prompt = (0..2 * D_MODEL).map(|at| at as f32 * 0.1).collect();
        (index, PromptLayerData { prompt, gate: vec![0.5], factor: None })
    };
    let prompts = PromptData {
        adapter_len: 2,
        d_model: D_MODEL,
        gate: Gate::Scalar,
        activation: GateActivation::Identity,
        projection: PromptProjection::Adapted,
        layers: (1..N_LAYERS).map(layer).collect(),
    };
    let pair = |layer: usize, name, rank: usize| {
        let (a, b) = (vec![0.5; rank * D_MODEL], vec![0.25; D_MODEL * rank]);
        ((layer, name), LoraPairData { rank, a, b })
    };
    let lora = LoraData {
        rank: 2,
        alpha: 3.0,
        pairs: [pair(0, LinearName::Query, 2), pair(2, LinearName::Output, 1)].into(),
    };
    let v2_linear =
        V2LinearData { scale: Some(vec![1.5; D_MODEL]), bias: Some(vec![0.5; D_MODEL]) };
    let norm = V2NormData { weight: vec![1.5; D_MODEL], bias: None };
    let v2 = V2Data {
        scale: V2Scale::Output,
        linears: [((0, LinearName::Key), v2_linear)].into(),
        norms: [((N_LAYERS, NormName::Final), norm)].into(),
    };
    let base_only = AdapterData { base: base(), ..AdapterData::default() };
    let mut per_head =
        PromptData { gate: Gate::PerHead, activation: GateActivation::Tanh, ..prompts.clone() };
    per_head.layers.values_mut().for_each(|layer| layer.gate = vec![0.5; N_HEADS]);
    [
        AdapterData { prompts: Some(prompts), ..base_only.clone() },
        AdapterData { lora: Some(lora.clone()), ..base_only.clone() },
        AdapterData { prompts: Some(per_head), lora: Some(lora), v2: Some(v2), ..base_only },
    ]
}

/// How bytes are read: as a single file, or in place of one of the files of a valid adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRole {
    /// Index of the valid adapter, its format, and the name of the replaced file.
    valid_adapter: Option<(usize, Format, &'static str)>,
}

impl FileRole {
    /// Every role. The first is a single file.
    pub const ALL: &'static [Self] = &[
        Self { valid_adapter: None },
        Self { valid_adapter: Some((0, Format::Peft, CONFIG_FILE)) },
        Self { valid_adapter: Some((0, Format::Peft, TENSORS_FILE)) },
        Self { valid_adapter: Some((0, Format::PeftBin, PICKLE_FILE)) },
        Self { valid_adapter: Some((1, Format::Peft, CONFIG_FILE)) },
        Self { valid_adapter: Some((1, Format::Peft, TENSORS_FILE)) },
        Self { valid_adapter: Some((1, Format::PeftBin, PICKLE_FILE)) },
        Self { valid_adapter: Some((2, Format::LlamaAdapter, CONFIG_FILE)) },
        Self { valid_adapter: Some((2, Format::LlamaAdapter, TENSORS_FILE)) },
        Self { valid_adapter: Some((2, Format::LlamaAdapter, SETTINGS_FILE)) },
    ];

    /// The valid bytes of the file; `None` for a single file. Works in the empty folder `folder`.
    ///
    /// # Panics
    /// If `folder` cannot be written.
    pub fn valid_bytes(self, folder: &Path) -> Option<Vec<u8>> {
        let (index, format, name) = self.valid_adapter?;
        write_valid_adapter(index, format, folder);
        Some(fs::read(folder.join(name)).expect("it was written"))
    }
}

fn write_valid_adapter(index: usize, format: Format, folder: &Path) {
    files::write(&valid_adapters()[index], folder, format, GateActivation::Tanh, false)
        .expect("a valid adapter can be written");
}

/// Reads `bytes` in every role. Works in the empty folder `folder`, and leaves its files there.
///
/// # Panics
/// As [`read_in_role`].
pub fn read_in_every_role(bytes: &[u8], folder: &Path) {
    for (index, &role) in FileRole::ALL.iter().enumerate() {
        let own = folder.join(index.to_string());
        fs::create_dir(&own).expect("the folder can be written");
        read_in_role(role, bytes, &own);
    }
}

/// Reads `bytes` in one role in every way, and writes the adapter in every format.
///
/// # Panics
/// If `folder` cannot be written, or a written adapter cannot be read.
pub fn read_in_role(role: FileRole, bytes: &[u8], folder: &Path) {
    let (path, file) = match role.valid_adapter {
        None => (folder.join("adapter.pth"), folder.join("adapter.pth")),
        Some((index, format, name)) => {
            let at = folder.join("adapter");
            write_valid_adapter(index, format, &at);
            (at.clone(), at.join(name))
        }
    };
    fs::write(file, bytes).expect("the folder can be written");
    let _ = AdapterSummary::read(&path);
    let _ = files::unknown_settings(&path);
    let _ = files::read_mix(&path);
    for (index, base) in [BaseInfo::default(), base()].into_iter().enumerate() {
        let options = AdapterReadOptions { base, ..AdapterReadOptions::default() };
        let Ok(data) = files::read(&path, &options) else { continue };
        let _ = AdapterSummary::from_data(&data);
        for &format in Format::ALL {
            let copy = folder.join(format!("{index} {format}"));
            if files::write(&data, &copy, format, GateActivation::Tanh, true).is_err() {
                continue;
            }
            match files::read(&copy, &options) {
                // Some files can only be read with the base's sizes.
                Ok(_) | Err(Error::MissingBaseInfo { .. }) => {}
                Err(error) => panic!("{format} was written and cannot be read: {error}"),
            }
        }
    }
}
