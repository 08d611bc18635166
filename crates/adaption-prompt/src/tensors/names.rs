//! Names of an adapter's tensors: PEFT's, and for tensors that PEFT does not have, names in its style.
//!
//! ```text
//! base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight
//! └─ PEFT_PREFIX ─┘└────────── module ───────────┘ └─ suffix ──┘
//! ```
//!
//! A name addresses a module of the model. The suffixes belong to the parts of an adapter.

use llama::LinearName;
use llama::architecture::ARCHITECTURES;
use llama::config::Architecture;
use llama::model::NormName;

/// Prefix of every name: PEFT's wrapper modules around the model.
pub(crate) const PEFT_PREFIX: &str = "base_model.model.";

/// Suffixes of the attention's tensors begin with this.
const ATTENTION_SUFFIX: &str = "adaption_";

/// A module that has tensors of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ModuleName {
    Attention,
    Linear(LinearName),
    Norm(NormName),
}

/// A parsed tensor name.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct TensorAddress<'a> {
    /// Model family, if the name determines it.
    pub family: Option<&'static Architecture>,
    /// `None` for the head and the final norm.
    pub layer: Option<usize>,
    pub module: ModuleName,
    pub suffix: &'a str,
}

/// Parses a tensor name; `None` for a name without a known module.
pub(crate) fn parse_tensor_name(name: &str) -> Option<TensorAddress<'_>> {
    let name = name.strip_prefix(PEFT_PREFIX)?;
    if let Some((attention, suffix)) = name.rsplit_once('.')
        && suffix.starts_with(ATTENTION_SUFFIX)
    {
        let layer = attention.split('.').find_map(|part| part.parse::<usize>().ok())?;
        let mut families = ARCHITECTURES.iter().copied();
        let family = families.find(|known| known.attention_module(layer) == attention)?;
        let module = ModuleName::Attention;
        return Some(TensorAddress { family: Some(family), layer: Some(layer), module, suffix });
    }
    let address = |layer, module, suffix| TensorAddress { family: None, layer, module, suffix };
    if let Some(suffix) = name.strip_prefix("lm_head.") {
        return Some(address(None, ModuleName::Linear(LinearName::Head), suffix));
    }
    if let Some(suffix) = name.strip_prefix("model.norm.") {
        return Some(address(None, ModuleName::Norm(NormName::Final), suffix));
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = Some(parse_layer_index(layer)?);
    let (block, rest) = rest.split_once('.')?;
    match block {
        "input_layernorm" => Some(address(layer, ModuleName::Norm(NormName::Attention), rest)),
        "post_attention_layernorm" => {
            Some(address(layer, ModuleName::Norm(NormName::FeedForward), rest))
        }
        _ => {
            let (module, suffix) = rest.split_once('.')?;
            let mut names = LinearName::ALL_IN_LAYER.iter().copied();
            let name = names.find(|&name| module_path(name) == (block, module))?;
            Some(address(layer, ModuleName::Linear(name), suffix))
        }
    }
}

/// Name of a tensor in a layer. The names of the head and the final norm have no layer. The attention has
/// the name that PEFT gives it in models of the family.
pub(crate) fn tensor_name(
    family: Option<&Architecture>,
    layer: usize,
    module: ModuleName,
    suffix: &str,
) -> String {
    let module = match module {
        ModuleName::Attention => family.map_or_else(
            || format!("model.layers.{layer}.self_attn"),
            |family| family.attention_module(layer),
        ),
        ModuleName::Linear(name) => llama_module_name(layer, name),
        ModuleName::Norm(NormName::Attention) => format!("model.layers.{layer}.input_layernorm"),
        ModuleName::Norm(NormName::FeedForward) => {
            format!("model.layers.{layer}.post_attention_layernorm")
        }
        ModuleName::Norm(NormName::Final) => "model.norm".into(),
    };
    format!("{PEFT_PREFIX}{module}.{suffix}")
}

/// A module of transformers that consists of linear layers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearModule {
    /// Model family, if the name determines it.
    pub family: Option<&'static Architecture>,
    /// `None` for the head.
    pub layer: Option<usize>,
    /// The linear layers in the order of their rows; several in a fused module.
    pub linears: Vec<LinearName>,
}

/// Parses a module name, such as `transformer.h.3.attn.c_attn`; `None` if it is not a linear layer.
pub(crate) fn parse_module(module: &str) -> Option<LinearModule> {
    if module == "lm_head" {
        return Some(LinearModule { family: None, layer: None, linears: vec![LinearName::Head] });
    }
    // Most families share Llama's names, which therefore do not determine the family.
    let llama =
        Architecture::by_model_type("llama").and_then(|llama| linears_of_module(llama, module));
    if let Some((layer, linears)) = llama {
        return Some(LinearModule { family: None, layer: Some(layer), linears });
    }
    ARCHITECTURES.iter().copied().find_map(|family| {
        let (layer, linears) = linears_of_module(family, module)?;
        Some(LinearModule { family: Some(family), layer: Some(layer), linears })
    })
}

/// The layer and the linear layers of a module in models of a family.
pub(crate) fn linears_of_module(
    family: &Architecture,
    module: &str,
) -> Option<(usize, Vec<LinearName>)> {
    let (layer, parts) = family.resolve_module(module)?;
    let linears = parts.into_iter().map(|part| {
        let mut names = LinearName::ALL_IN_LAYER.iter().copied();
        names.find(|&name| part.split_once('.') == Some(module_path(name)))
    });
    Some((layer, linears.collect::<Option<_>>()?))
}

/// Name of a linear layer's module in Hugging Face's Llama.
pub(crate) fn llama_module_name(layer: usize, name: LinearName) -> String {
    match module_path(name) {
        (head @ "lm_head", _) => head.to_owned(),
        (block, module) => format!("model.layers.{layer}.{block}.{module}"),
    }
}

/// Block and name of a linear layer in Hugging Face's Llama.
pub(crate) fn module_path(name: LinearName) -> (&'static str, &'static str) {
    match name {
        LinearName::Query => ("self_attn", "q_proj"),
        LinearName::Key => ("self_attn", "k_proj"),
        LinearName::Value => ("self_attn", "v_proj"),
        LinearName::Output => ("self_attn", "o_proj"),
        LinearName::Gate => ("mlp", "gate_proj"),
        LinearName::Up => ("mlp", "up_proj"),
        LinearName::Down => ("mlp", "down_proj"),
        LinearName::Head => ("lm_head", ""),
    }
}

/// A layer index in canonical form: `01` and `+1` are not names of layer 1.
pub(crate) fn parse_layer_index(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensor_names_round_trip() {
        let linears = LinearName::ALL_IN_LAYER.iter().copied().map(ModuleName::Linear);
        let norms = [NormName::Attention, NormName::FeedForward].map(ModuleName::Norm);
        for module in linears.chain(norms) {
            let name = tensor_name(None, 12, module, "lora_A.weight");
            let suffix = "lora_A.weight";
            let expected = TensorAddress { family: None, layer: Some(12), module, suffix };
            assert_eq!(parse_tensor_name(&name), Some(expected), "{name}");
        }
        for module in [ModuleName::Linear(LinearName::Head), ModuleName::Norm(NormName::Final)] {
            let name = tensor_name(None, 12, module, "bias");
            let expected = TensorAddress { family: None, layer: None, module, suffix: "bias" };
            assert_eq!(parse_tensor_name(&name), Some(expected), "{name}");
        }
    }

    #[test]
    fn prompt_names_use_the_attention_module_of_the_family() {
        for known in ARCHITECTURES {
            let name = tensor_name(Some(known), 3, ModuleName::Attention, "adaption_prompt");
            let found = parse_tensor_name(&name).unwrap();
            assert_eq!((found.layer, found.module), (Some(3), ModuleName::Attention), "{name}");
            assert_eq!(found.suffix, "adaption_prompt");
            assert_eq!(found.family.unwrap().attention_module(3), known.attention_module(3));
        }
        let gate = |family| tensor_name(family, 3, ModuleName::Attention, "adaption_gate");
        let gpt2 = gate(Architecture::by_model_type("gpt2"));
        assert_eq!(gpt2, "base_model.model.transformer.h.3.attn.adaption_gate");
        assert_eq!(gate(None), "base_model.model.model.layers.3.self_attn.adaption_gate");
    }

    #[test]
    fn fused_module_maps_to_its_linear_layers() {
        use LinearName::{Down, Gate, Head, Key, Output, Query, Up, Value};
        for (module, family, layer, linears) in [
            ("model.layers.3.self_attn.q_proj", None, Some(3), vec![Query]),
            ("model.layers.3.mlp.down_proj", None, Some(3), vec![Down]),
            ("lm_head", None, None, vec![Head]),
            ("transformer.h.2.attn.c_attn", Some("gpt2"), Some(2), vec![Query, Key, Value]),
            ("transformer.h.2.attn.c_proj", Some("gpt2"), Some(2), vec![Output]),
            ("model.layers.3.mlp.gate_up_proj", Some("phi3"), Some(3), vec![Gate, Up]),
        ] {
            let found = parse_module(module).unwrap();
            assert_eq!(found.family.map(|family| family.name), family, "{module}");
            assert_eq!((found.layer, found.linears), (layer, linears), "{module}");
        }
        for module in
            ["model.embed_tokens", "model.layers.1.input_layernorm", "model.layers.01.mlp.up_proj"]
        {
            assert_eq!(parse_module(module), None, "{module}");
        }
    }

    #[test]
    fn unrelated_names_are_not_parsed() {
        for name in [
            "model.layers.1.self_attn.adaption_gate",
            "base_model.model.model.layers.01.self_attn.adaption_gate",
            "base_model.model.model.layers.1.mlp.q_proj.adapter_bias",
            "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight",
        ] {
            assert_eq!(parse_tensor_name(name), None, "{name}");
        }
    }
}
