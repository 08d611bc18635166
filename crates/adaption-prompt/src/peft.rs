//! Hugging Face PEFT's files: `adapter_config.json` and `adapter_model.safetensors`.
//!
//! This is the only place that knows PEFT's key names. An adapter that PEFT's own code cannot
//! compute (a gate a head, or tanh) is written with its gates as `[1, heads or 1, 1, 1]` and two
//! more settings, `gate` and `gate_activation`: PEFT then refuses the file because of the shape
//! instead of computing something else without a word.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Device, TensorData};
use llama::architecture::KNOWN;
use llama::weights::{Bytes, SafetensorsFile};
use llama::{Architecture, LlamaConfig};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use crate::adapter::{AdaptionPrompt, LayerPrompt};
use crate::config::{Activation, AdaptionPromptConfig, Gate, Init};
use crate::error::{Error, Result};

/// File of the settings.
pub const CONFIG_FILE: &str = "adapter_config.json";
/// File of the tensors.
pub const TENSORS_FILE: &str = "adapter_model.safetensors";

/// `adapter_config.json`, keys sorted as PEFT sorts them.
#[derive(Debug, Serialize, Deserialize)]
struct ConfigJson {
    adapter_layers: usize,
    adapter_len: usize,
    #[serde(default)]
    auto_mapping: Option<serde_json::Value>,
    #[serde(default)]
    base_model_name_or_path: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate: Option<Gate>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gate_activation: Option<Activation>,
    #[serde(default)]
    inference_mode: bool,
    #[serde(default)]
    peft_type: String,
    #[serde(default)]
    revision: Option<String>,
    #[serde(default)]
    target_modules: Option<serde_json::Value>,
    #[serde(default)]
    task_type: Option<String>,
}

const PEFT_TYPE: &str = "ADAPTION_PROMPT";

pub(crate) fn prompt_key(family: &Architecture, layer: usize) -> String {
    format!("base_model.model.{}.adaption_prompt", family.attention_module(layer))
}

pub(crate) fn gate_key(family: &Architecture, layer: usize) -> String {
    format!("base_model.model.{}.adaption_gate", family.attention_module(layer))
}

/// The family of models whose names a file has, if it is any.
pub(crate) fn family_of(file: &SafetensorsFile) -> Option<&'static Architecture> {
    file.shapes().keys().find_map(|key| {
        let layer = key.split('.').find_map(|part| part.parse().ok())?;
        KNOWN.iter().copied().find(|family| *key == prompt_key(family, layer))
    })
}

/// PEFT's `target_modules`: the last part of the attention's name.
fn target_modules(family: &Architecture) -> String {
    let module = family.attention_module(0);
    module.rsplit('.').next().unwrap_or_default().into()
}

impl AdaptionPrompt {
    /// Writes the adapter's two files into `folder`, which is made if need be.
    ///
    /// `base` is what `base_model_name_or_path` shall say.
    ///
    /// # Errors
    /// [`Error::File`]; files that were there stay whole.
    pub fn save(&self, folder: &Path, base: &str) -> Result<()> {
        std::fs::create_dir_all(folder)
            .map_err(|source| llama::Error::Write { path: folder.into(), source })?;
        llama::files::write(&folder.join(TENSORS_FILE), &self.to_safetensors())?;
        let peft = self.config().is_peft();
        let config = ConfigJson {
            adapter_layers: self.config().adapter_layers,
            adapter_len: self.config().adapter_len,
            auto_mapping: None,
            base_model_name_or_path: Some(base.into()),
            gate: (!peft).then_some(self.config().gate),
            gate_activation: (!peft).then_some(self.config().activation),
            inference_mode: true,
            peft_type: PEFT_TYPE.into(),
            revision: None,
            target_modules: Some(target_modules(self.family()).into()),
            task_type: Some("CAUSAL_LM".into()),
        };
        let text = serde_json::to_string_pretty(&config).expect("plain JSON");
        llama::files::write(&folder.join(CONFIG_FILE), format!("{text}\n").as_bytes())?;
        Ok(())
    }

    /// The bytes of `adapter_model.safetensors`.
    pub fn to_safetensors(&self) -> Vec<u8> {
        let d_model = |prompt: &TensorData| prompt.shape()[1];
        let mut tensors = BTreeMap::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let index = self.first_layer() + index;
            let prompt = layer.prompt.val().into_data();
            let gate = layer.gate.val().into_data();
            let gates = gate.num_elements();
            let gate_shape = if self.config().is_peft() { vec![1] } else { vec![1, gates, 1, 1] };
            let prompt_shape = vec![1, self.config().adapter_len, d_model(&prompt)];
            tensors.insert(prompt_key(self.family(), index), (prompt_shape, prompt));
            tensors.insert(gate_key(self.family(), index), (gate_shape, gate));
        }
        let views = tensors.iter().map(|(name, (shape, data))| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        });
        let metadata = [("format".to_owned(), "pt".to_owned())].into();
        safetensors::serialize(views, Some(metadata)).expect("the views are valid")
    }

    /// Reads an adapter that was written here or by PEFT, for a model of the given sizes.
    ///
    /// # Errors
    /// [`Error::NotAnAdapter`], [`Error::ConfigFile`], [`Error::TooManyLayers`], or
    /// [`Error::Tensors`] with everything that does not fit at once.
    pub fn load(folder: &Path, model: &LlamaConfig, device: &Device) -> Result<Self> {
        let (config, _base_model) = read_settings(folder)?;
        config.validate(model.n_layers)?;
        let file = open_tensors(folder)?;
        Self::from_file(config, &file, &folder.join(TENSORS_FILE), model, device)
    }

    fn from_file(
        config: AdaptionPromptConfig,
        file: &SafetensorsFile,
        path: &Path,
        model: &LlamaConfig,
        device: &Device,
    ) -> Result<Self> {
        let first = model.n_layers - config.adapter_layers;
        let gates = config.gates(model.n_heads);
        let mut problems = Vec::new();
        let mut wanted = Vec::new();
        for layer in first..model.n_layers {
            wanted.push((
                prompt_key(model.architecture, layer),
                vec![1, config.adapter_len, model.d_model],
            ));
            wanted.push((gate_key(model.architecture, layer), vec![gates]));
        }
        for (key, shape) in &wanted {
            match file.shapes().get(key) {
                None => problems.push(format!("missing: {key}")),
                // Any number of dimensions of size one around it is fine: formats differ there.
                Some(found) if found != shape && squeezed(found) != squeezed(shape) => {
                    problems.push(format!("{key}: expected {shape:?}, found {found:?}"));
                }
                Some(_) => {}
            }
        }
        for key in file.shapes().keys() {
            if !wanted.iter().any(|(wanted, _)| wanted == key) {
                problems.push(format!("unexpected: {key}"));
            }
        }
        let mut values = Vec::new();
        if problems.is_empty() {
            for (key, _) in &wanted {
                let data = file.read(key)?.convert_dtype(DType::F32);
                let numbers = data.iter::<f32>().collect::<Vec<_>>();
                if numbers.iter().any(|x| !x.is_finite()) {
                    problems.push(format!("{key} has NaN or infinite numbers"));
                }
                values.push(numbers);
            }
        }
        if !problems.is_empty() {
            return Err(Error::Tensors { path: path.into(), problems });
        }
        let mut values = values.into_iter();
        let mut layers = Vec::new();
        while let (Some(prompt), Some(gate)) = (values.next(), values.next()) {
            layers.push(LayerPrompt::from_values(prompt, gate, config.adapter_len, device));
        }
        Ok(Self::new(config, model, layers))
    }
}

/// Opens an adapter's file of tensors.
pub(crate) fn open_tensors(folder: &Path) -> Result<SafetensorsFile> {
    let path = folder.join(TENSORS_FILE);
    if !path.exists() {
        return Err(Error::NotAnAdapter {
            path: folder.into(),
            reason: format!("{TENSORS_FILE} is missing"),
        });
    }
    Ok(SafetensorsFile::new(Bytes::open(&path)?)?)
}

/// The settings, and what the file calls the base model.
pub(crate) fn read_settings(folder: &Path) -> Result<(AdaptionPromptConfig, Option<String>)> {
    let path = folder.join(CONFIG_FILE);
    if !path.exists() {
        return Err(Error::NotAnAdapter {
            path: folder.into(),
            reason: format!("{CONFIG_FILE} is missing"),
        });
    }
    let text = std::fs::read_to_string(&path)
        .map_err(|source| llama::Error::Read { path: path.clone(), source })?;
    let wrong = |reason: String| Error::ConfigFile { path: path.clone(), reason };
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| wrong(format!("not valid JSON: {error}")))?;
    let method = json.get("peft_type").and_then(|t| t.as_str()).unwrap_or("none");
    if method != PEFT_TYPE {
        return Err(wrong(format!("the method is `{method}`, expected `{PEFT_TYPE}`")));
    }
    let json = ConfigJson::deserialize(json)
        .map_err(|error| wrong(format!("not an adapter's config: {error}")))?;
    let config = AdaptionPromptConfig {
        adapter_len: json.adapter_len,
        adapter_layers: json.adapter_layers,
        gate: json.gate.unwrap_or(Gate::Scalar),
        activation: json.gate_activation.unwrap_or(Activation::Identity),
        init: Init::default(),
    };
    Ok((config, json.base_model_name_or_path))
}

fn squeezed(shape: &[usize]) -> Vec<usize> {
    shape.iter().copied().filter(|&size| size != 1).collect()
}
