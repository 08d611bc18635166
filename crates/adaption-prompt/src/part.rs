//! The traits of a part.
//!
//! A part is what one method contributes to an adapter. It has a config, weights on a device, data in host
//! memory, a summary, and a section of `llama_adapter.json`. [`Part`] connects these types; the list in
//! [`parts`](crate::parts) connects all parts.
//!
//! ```text
//! config ─init─► weights ─to_data──► data ─to_tensors──► named tensors, settings ─► files
//!                   ▲                 │ ▲                        │
//!                   └────from_data────┘ └─────from_tensors───────┘
//! ```
//!
//! A part does not import another part. What it needs of the others is in [`PromptShape`] and
//! [`PrepareContext`].

use std::collections::BTreeMap;

use burn::module::Module;
use burn::tensor::{Device, Tensor};
use llama::config::{Architecture, ModelShape};
use llama::model::{NormName, NormWeights};
use llama::{Adapter, LinearName, Llama, LlamaConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::base::BaseInfo;
use crate::error::Result;
use crate::image_features::ImageFeatures;
use crate::projected_prompts::ProjectedPrompts;
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::{ModuleName, TensorAddress};

/// Prompt length and adapted layers of an adapter's prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptShape {
    /// Prompt tokens per layer.
    pub adapter_len: usize,
    /// Indices of the adapted layers, in ascending order.
    pub layers: Vec<usize>,
}

impl PromptShape {
    pub(crate) fn new(adapter_len: usize, layers: Vec<usize>) -> Self {
        Self { adapter_len, layers }
    }
}

/// What a part adds to the memory that training of a linear layer takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinearCost {
    /// Values per token that the autodiff graph keeps.
    pub activations_per_token: usize,
    /// Whether the graph keeps the layer's input.
    pub keeps_input: bool,
    /// Whether the backward pass needs the gradient of the layer's input.
    pub needs_input_gradient: bool,
}

/// Config of a part: its shape, and how it is initialized.
pub trait PartConfig {
    /// Checks the config against a model. `prompts` are the prompts of the same adapter.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config), [`Error::TooManyLayers`](crate::Error::TooManyLayers)
    /// or [`Error::NoSuchLayer`](crate::Error::NoSuchLayer).
    fn validate(&self, prompts: Option<&PromptShape>, model: &ModelShape) -> Result<()>;

    /// Number of trainable parameters.
    fn n_parameters(&self, model: &LlamaConfig) -> u64;

    /// The lowest layer that the part modifies; `None` if it only changes other parts.
    fn first_layer(&self, model: &ModelShape) -> Option<usize>;

    /// Prompt length and adapted layers, for the part that has the prompts.
    fn prompt_shape(&self, n_layers: usize) -> Option<PromptShape> {
        let _ = n_layers;
        None
    }

    /// Memory for training a linear layer that the part modifies; `None` for other layers.
    fn linear_cost(
        &self,
        layer: usize,
        name: LinearName,
        model: &ModelShape,
    ) -> Option<LinearCost> {
        let _ = (layer, name, model);
        None
    }

    /// Whether norm weights are trained.
    fn trains_norms(&self) -> bool {
        false
    }
}

/// What [`PartWeights::prompts`] needs of the model and of the other parts.
pub(crate) struct PrepareContext<'a> {
    pub llama: &'a Llama,
    /// Changes of linear layers and norms by all parts of the adapter; no prompts.
    pub modifiers: &'a dyn Adapter,
    /// Image tokens of the batch's rows.
    pub images: Option<&'a ImageFeatures>,
    /// Layers to prepare.
    pub includes_layer: &'a dyn Fn(usize) -> bool,
}

/// Weights of a part during a forward pass.
pub(crate) trait PartWeights {
    /// The lowest layer that the part modifies.
    fn first_layer(&self) -> Option<usize>;

    /// Prompt length and adapted layers.
    fn prompt_shape(&self) -> Option<PromptShape> {
        None
    }

    /// Gated prompts, projected to keys and values.
    fn prompts(&self, context: &PrepareContext) -> ProjectedPrompts {
        let _ = context;
        ProjectedPrompts::default()
    }

    /// Whether the part modifies linear layers or norms.
    fn modifies_layers(&self) -> bool {
        false
    }

    /// Whether the part modifies a linear layer.
    fn modifies_linear(&self, layer: usize, name: LinearName) -> bool {
        let _ = (layer, name);
        false
    }

    /// Whether the part changes the input of a linear layer, and not only its output.
    fn modifies_input(&self, layer: usize, name: LinearName) -> bool {
        let _ = (layer, name);
        false
    }

    /// Input of a linear layer that the part modifies, for the layer and the parts that come later in the
    /// list.
    fn linear_input(&self, layer: usize, name: LinearName, input: Tensor<3>) -> Tensor<3> {
        let _ = (layer, name);
        input
    }

    /// Output of a linear layer that the part modifies. `input` is what
    /// [`linear_input`](Self::linear_input) took, `output` the layer's output with the modifications of the
    /// parts that come later in the list.
    fn linear_output(
        &self,
        layer: usize,
        name: LinearName,
        input: Tensor<3>,
        output: Tensor<3>,
    ) -> Tensor<3> {
        let _ = (layer, name, input);
        output
    }

    /// Weights that replace those of a norm.
    fn norm(&self, layer: usize, name: NormName) -> Option<NormWeights> {
        let _ = (layer, name);
        None
    }

    /// The same part with its matrices packed for inference. Its device is fused, without autodiff.
    fn packed(&self) -> Self
    where
        Self: Sized + Clone,
    {
        self.clone()
    }

    /// Size of the packed matrices in bytes.
    fn packed_bytes(&self) -> usize {
        0
    }
}

/// Values of a part in host memory.
pub(crate) trait PartData {
    /// Number of parameters.
    fn n_parameters(&self) -> usize;

    /// Prompt length and adapted layers.
    fn prompt_shape(&self) -> Option<PromptShape> {
        None
    }

    /// Checks the layers and module names against a model. Mismatches are added to `problems`.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`](crate::Error::TooManyLayers) or
    /// [`Error::NoSuchLayer`](crate::Error::NoSuchLayer).
    fn check_base(
        &self,
        base: &BaseInfo,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) -> Result<()> {
        let _ = (base, model, problems);
        Ok(())
    }

    /// Checks the shapes against a model. Mismatches are added to `problems`.
    fn check_shapes(
        &self,
        prompts: Option<&PromptShape>,
        model: &ModelShape,
        problems: &mut Vec<String>,
    );

    /// Adds the tensors under their names.
    fn to_tensors(&self, family: Option<&'static Architecture>, tensors: &mut HostTensors);

    /// Whether a layer index is the model's number of layers: the head's or the final norm's. The names
    /// of these tensors have no layer, so a file needs the base's sizes.
    fn needs_n_layers(&self) -> bool {
        false
    }

    /// Whether a linear layer of this name is modified in any layer.
    fn modifies(&self, name: LinearName) -> bool {
        let _ = name;
        false
    }

    /// Describes the part, as something that a format cannot hold.
    fn loss(&self) -> String;
}

/// Summary of a part as text. The texts are for the command line.
pub trait PartSummary {
    /// A few words for a list of adapters.
    fn short(&self) -> String;

    /// Label and text of each line of a report. The label of a continued line is empty.
    fn lines(&self) -> Vec<(&'static str, String)>;

    /// A table of details, for the end of a report.
    fn table(&self) -> Option<String> {
        None
    }
}

/// A part's section of `llama_adapter.json`.
pub(crate) trait PartSettings: Serialize + DeserializeOwned {
    /// Names of the section's fields.
    const KEYS: &'static [&'static str];

    /// Checks a section that was read, for a model of `n_layers` layers, if that is known.
    ///
    /// # Errors
    /// The reason.
    fn check(&self, n_layers: Option<usize>) -> Result<(), String> {
        let _ = n_layers;
        Ok(())
    }
}

/// The model of an adapter whose tensors are assembled.
pub(crate) struct AssembleContext {
    pub family: Option<&'static Architecture>,
    pub n_layers: Option<usize>,
}

/// Tensors of a file that a part claims.
#[derive(Default)]
pub(crate) struct PartTensors {
    /// Tensors of modules, by layer, module and suffix.
    pub by_address: BTreeMap<(usize, ModuleName, String), HostTensor>,
    /// All others.
    pub by_name: HostTensors,
}

impl PartTensors {
    pub fn get(&self, layer: usize, module: ModuleName, suffix: &str) -> Option<&HostTensor> {
        self.by_address.get(&(layer, module, suffix.to_owned()))
    }
}

/// Connects the types of a part.
pub(crate) trait Part: PartWeights + Module {
    type Config: PartConfig;
    type Data: PartData;
    type Summary: PartSummary;
    type Settings: PartSettings;

    /// Fresh weights, drawn from `seed`. The config is valid for the model.
    fn init(config: &Self::Config, llama: &Llama, seed: u64, device: &Device) -> Result<Self>;

    fn config(&self) -> Self::Config;

    /// Weights from host values. Mismatches are added to `problems`.
    fn from_data(
        data: &Self::Data,
        model: &ModelShape,
        device: &Device,
        problems: &mut Vec<String>,
    ) -> Self;

    /// # Errors
    /// [`llama::Error::Device`]
    fn to_data(&self) -> Result<Self::Data>;

    fn summary(data: &Self::Data) -> Self::Summary;

    fn settings(data: &Self::Data) -> Self::Settings;

    /// Whether a tensor belongs to this part; `address` is the parsed name, if it is a module's.
    fn claims(name: &str, address: Option<&TensorAddress>) -> bool;

    /// Data from the claimed tensors. Mismatches are added to `problems`.
    fn from_tensors(
        settings: Self::Settings,
        tensors: PartTensors,
        context: &AssembleContext,
        problems: &mut Vec<String>,
    ) -> Self::Data;
}
