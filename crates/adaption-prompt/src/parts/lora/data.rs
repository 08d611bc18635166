//! LoRA as host values: checks against a model, named tensors, settings.

use std::collections::{BTreeMap, BTreeSet};

use llama::LinearName;
use llama::config::{Architecture, ModelShape};
use serde::{Deserialize, Serialize};

use crate::part::{PartData, PartSettings, PartTensors, PromptShape};
use crate::tensors::host_tensor::{HostTensor, HostTensors};
use crate::tensors::names::{ModuleName, llama_module_name, parse_module, tensor_name};

const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";
/// Suffixes of the tensors of a linear layer.
pub(super) const LORA_SUFFIXES: [&str; 2] = [A, B];

/// LoRA in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraData {
    /// Rank of most pairs.
    pub rank: usize,
    /// Every product is multiplied by `alpha / rank`, also that of a pair of another rank.
    pub alpha: f64,
    /// By layer and linear layer.
    pub pairs: BTreeMap<(usize, LinearName), LoraPairData>,
}

/// The two matrices of a linear layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraPairData {
    /// At least 1.
    pub rank: usize,
    /// `[rank, in]`, row-major.
    pub a: Vec<f32>,
    /// `[out, rank]`, row-major.
    pub b: Vec<f32>,
}

impl PartData for LoraData {
    fn n_parameters(&self) -> usize {
        self.pairs.values().map(|own| own.a.len() + own.b.len()).sum()
    }

    fn check_shapes(
        &self,
        _prompts: Option<&PromptShape>,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) {
        for ((layer, name), LoraPairData { rank, a, b }) in &self.pairs {
            if !model.has_linear(*layer, *name) {
                problems.push(format!("the model has no {name:?} in layer {layer}"));
                continue;
            }
            let [d_out, d_in] = model.linear_shape(*name);
            for (matrix, found, expected) in
                [("A", a.len(), rank * d_in), ("B", b.len(), rank * d_out)]
            {
                if found != expected {
                    problems.push(format!(
                        "LoRA's {matrix} of {name:?} in layer {layer}: expected {expected} values, \
                         found {found}"
                    ));
                }
            }
        }
    }

    fn to_tensors(&self, _family: Option<&'static Architecture>, tensors: &mut HostTensors) {
        for (&(layer, name), LoraPairData { rank, a, b }) in &self.pairs {
            let mut insert = |suffix, shape, values: &[f32]| {
                let name = tensor_name(None, layer, ModuleName::Linear(name), suffix);
                tensors.insert(name, HostTensor::new(shape, values.to_vec()));
            };
            insert(A, [*rank, a.len() / rank], a);
            insert(B, [b.len() / rank, *rank], b);
        }
    }

    fn needs_n_layers(&self) -> bool {
        self.modifies(LinearName::Head)
    }

    fn modifies(&self, name: LinearName) -> bool {
        self.pairs.keys().any(|(_layer, own)| *own == name)
    }

    fn loss(&self) -> String {
        format!("LoRA of rank {} on {} linear layers", self.rank, self.pairs.len())
    }
}

/// Whether two tensors are a pair of matrices of a rank: A is `[rank, in]`, B `[out, rank]`.
pub(crate) fn is_lora_pair(a: &HostTensor, b: &HostTensor, rank: usize) -> bool {
    matches!(a.shape[..], [rows, _] if rows == rank)
        && matches!(b.shape[..], [_, columns] if columns == rank)
}

/// The section of `llama_adapter.json`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LoraSettings {
    pub rank: usize,
    pub alpha: f64,
    /// Ranks of linear layers with another rank, by module name in Hugging Face's Llama.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ranks: BTreeMap<String, usize>,
}

impl LoraSettings {
    pub(super) fn from_data(lora: &LoraData) -> Self {
        let others = lora.pairs.iter().filter(|(_, own)| own.rank != lora.rank);
        let ranks = others.map(|(&(layer, name), own)| (llama_module_name(layer, name), own.rank));
        Self { rank: lora.rank, alpha: lora.alpha, ranks: ranks.collect() }
    }
}

/// Layer and linear layer of a module name in Hugging Face's Llama.
fn parse_linear(module: &str, n_layers: Option<usize>) -> Option<(usize, LinearName)> {
    let found = parse_module(module).filter(|found| found.family.is_none())?;
    let layer = found.layer.or(n_layers)?;
    match found.linears[..] {
        [name] => Some((layer, name)),
        _ => None,
    }
}

impl PartSettings for LoraSettings {
    const KEYS: &'static [&'static str] = &["alpha", "rank", "ranks"];

    fn check(&self, n_layers: Option<usize>) -> Result<(), String> {
        match self.ranks.keys().find(|module| parse_linear(module, n_layers).is_none()) {
            Some(module) => Err(format!("`{}` is not a linear layer", module.escape_debug())),
            None => Ok(()),
        }
    }
}

/// Assembles the pairs of matrices from their tensors.
pub(super) fn lora_from_tensors(
    settings: &LoraSettings,
    tensors: &PartTensors,
    n_layers: Option<usize>,
    problems: &mut Vec<String>,
) -> LoraData {
    let LoraSettings { rank, alpha, ranks } = settings;
    if *rank == 0 || ranks.values().any(|rank| *rank == 0) {
        problems.push("LoRA of rank 0".into());
    }
    let ranks =
        ranks.iter().filter_map(|(module, rank)| Some((parse_linear(module, n_layers)?, *rank)));
    let ranks = ranks.collect::<BTreeMap<_, _>>();
    let mut pairs = BTreeMap::new();
    let modules = tensors.by_address.keys().map(|(layer, module, _)| (*layer, *module));
    for (layer, module) in modules.collect::<BTreeSet<_>>() {
        let ModuleName::Linear(name) = module else { continue };
        let get = |suffix| tensors.get(layer, module, suffix);
        let (Some(a), Some(b)) = (get(A), get(B)) else {
            let missing = LORA_SUFFIXES.into_iter().filter(|suffix| get(suffix).is_none());
            let missing = missing.map(|suffix| tensor_name(None, layer, module, suffix));
            problems.extend(missing.map(|name| format!("missing: {name}")));
            continue;
        };
        let rank = ranks.get(&(layer, name)).copied().unwrap_or(*rank);
        if !is_lora_pair(a, b, rank) {
            let name = tensor_name(None, layer, module, A);
            let (a, b) = (&a.shape, &b.shape);
            problems.push(format!("{name}: expected rank {rank}, found {a:?} and {b:?}"));
        }
        let (a, b) = (a.values.clone(), b.values.clone());
        pairs.insert((layer, name), LoraPairData { rank, a, b });
    }
    if pairs.is_empty() && problems.is_empty() {
        problems.push("no LoRA matrices".into());
    }
    LoraData { rank: *rank, alpha: *alpha, pairs }
}
