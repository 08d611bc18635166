//! Takes bytes for each file of an adapter, and does with it all that can be done without a model: what
//! the target in `fuzz/` and the tests call. Whatever the bytes are: an error or a value, never a
//! panic.

use std::fs;
use std::path::Path;

use llama::config::Architecture;
use llama::model::NormName;
use llama::{LinearName, LlamaConfig};

use crate::config::{Gate, GateActivation, PromptProjection};
use crate::data::{
    AdapterData, BaseInfo, LoraData, LoraPairData, PromptData, PromptLayerData, V2Data,
    V2LinearData, V2NormData,
};
use crate::error::Error;
use crate::files::peft::{CONFIG_FILE, PICKLE_FILE, TENSORS_FILE};
use crate::files::{self, AdapterReadOptions, Format, SETTINGS_FILE};
use crate::summary::AdapterSummary;
use crate::v2::V2Scale;

/// Sizes of the model that valid adapters are made for, those of the tests' golden files.
const LAYERS: usize = 3;
const WIDTH: usize = 32;
const HEADS: usize = 4;

fn base() -> BaseInfo {
    let config = LlamaConfig {
        n_layers: LAYERS,
        n_heads: HEADS,
        n_kv_heads: HEADS,
        head_dim: 8,
        d_model: WIDTH,
        d_ff: 48,
        vocab_size: 128,
        ..Architecture::by_model_type("llama").map(Architecture::defaults).unwrap_or_default()
    };
    BaseInfo::from_config(&config, None)
}

/// Valid adapters: prompts and LoRA as PEFT has them, and one that only this program has.
fn valid() -> [AdapterData; 3] {
    let layer = |index: usize| {
        let prompt = (0..2 * WIDTH).map(|at| at as f32 * 0.1).collect();
        (index, PromptLayerData { prompt, gate: vec![0.5], factor: None })
    };
    let prompts = PromptData {
        adapter_len: 2,
        d_model: WIDTH,
        gate: Gate::Scalar,
        activation: GateActivation::Identity,
        projection: PromptProjection::Adapted,
        layers: (1..LAYERS).map(layer).collect(),
    };
    let pair = |layer: usize, name, rank: usize| {
        let (a, b) = (vec![0.5; rank * WIDTH], vec![0.25; WIDTH * rank]);
        ((layer, name), LoraPairData { rank, a, b })
    };
    let lora = LoraData {
        rank: 2,
        alpha: 3.0,
        pairs: [pair(0, LinearName::Query, 2), pair(2, LinearName::Output, 1)].into(),
    };
    let tuned = V2LinearData { scale: Some(vec![1.5; WIDTH]), bias: Some(vec![0.5; WIDTH]) };
    let norm = V2NormData { weight: vec![1.5; WIDTH], bias: None };
    let v2 = V2Data {
        scale: V2Scale::Output,
        linears: [((0, LinearName::Key), tuned)].into(),
        norms: [((LAYERS, NormName::Final), norm)].into(),
    };
    let plain = AdapterData { base: base(), ..AdapterData::default() };
    let mut per_head =
        PromptData { gate: Gate::PerHead, activation: GateActivation::Tanh, ..prompts.clone() };
    per_head.layers.values_mut().for_each(|layer| layer.gate = vec![0.5; HEADS]);
    [
        AdapterData { prompts: Some(prompts), ..plain.clone() },
        AdapterData { lora: Some(lora.clone()), ..plain.clone() },
        AdapterData { prompts: Some(per_head), lora: Some(lora), v2: Some(v2), ..plain },
    ]
}

/// What bytes are taken for: a file by itself, or one of a valid adapter's files in one of its formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileRole {
    /// Which valid adapter is beside it, its format, and the file's name in that.
    beside: Option<(usize, Format, &'static str)>,
}

impl FileRole {
    /// Every one. The first is a file by itself.
    pub const ALL: [Self; 10] = [
        Self { beside: None },
        Self { beside: Some((0, Format::Peft, CONFIG_FILE)) },
        Self { beside: Some((0, Format::Peft, TENSORS_FILE)) },
        Self { beside: Some((0, Format::PeftBin, PICKLE_FILE)) },
        Self { beside: Some((1, Format::Peft, CONFIG_FILE)) },
        Self { beside: Some((1, Format::Peft, TENSORS_FILE)) },
        Self { beside: Some((1, Format::PeftBin, PICKLE_FILE)) },
        Self { beside: Some((2, Format::LlamaAdapter, CONFIG_FILE)) },
        Self { beside: Some((2, Format::LlamaAdapter, TENSORS_FILE)) },
        Self { beside: Some((2, Format::LlamaAdapter, SETTINGS_FILE)) },
    ];

    /// The bytes that the valid adapter itself has there; none for a file by itself. `folder` is an empty
    /// one to work in.
    ///
    /// # Panics
    /// If `folder` cannot be written.
    pub fn valid(self, folder: &Path) -> Option<Vec<u8>> {
        let (index, format, name) = self.beside?;
        write_valid(index, format, folder);
        Some(fs::read(folder.join(name)).expect("it was written"))
    }
}

fn write_valid(index: usize, format: Format, folder: &Path) {
    files::write(&valid()[index], folder, format, GateActivation::Tanh, false)
        .expect("a valid adapter can be written");
}

/// `bytes` in every role. `folder` is an empty one, and what is written there stays.
///
/// # Panics
/// As [`read_in_role`].
pub fn read_in_every_role(bytes: &[u8], folder: &Path) {
    for (index, role) in FileRole::ALL.into_iter().enumerate() {
        let own = folder.join(index.to_string());
        fs::create_dir(&own).expect("the folder can be written");
        read_in_role(role, bytes, &own);
    }
}

/// `bytes` in one role: read in every way, and written in every format.
///
/// # Panics
/// If `folder` cannot be written; if an adapter that was written cannot be read.
pub fn read_in_role(role: FileRole, bytes: &[u8], folder: &Path) {
    let (path, file) = match role.beside {
        None => (folder.join("adapter.pth"), folder.join("adapter.pth")),
        Some((index, format, name)) => {
            let at = folder.join("adapter");
            write_valid(index, format, &at);
            (at.clone(), at.join(name))
        }
    };
    fs::write(file, bytes).expect("the folder can be written");
    let _ = AdapterSummary::read(&path);
    let _ = files::unknown_settings(&path);
    let _ = files::read_mix(&path);
    for (index, base) in [BaseInfo::default(), base()].into_iter().enumerate() {
        let hints = AdapterReadOptions { base, ..AdapterReadOptions::default() };
        let Ok(data) = files::read(&path, &hints) else { continue };
        let _ = AdapterSummary::of(&data);
        for format in Format::ALL {
            let copy = folder.join(format!("{index} {format}"));
            if files::write(&data, &copy, format, GateActivation::Tanh, true).is_err() {
                continue;
            }
            match files::read(&copy, &hints) {
                // Some files can only be understood beside the model.
                Ok(_) | Err(Error::MissingBaseInfo { .. }) => {}
                Err(error) => panic!("{format} was written and is not read: {error}"),
            }
        }
    }
}
