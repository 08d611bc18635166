//! Names of an adapter's tensors, as PEFT has them and, for what PEFT does not know, in its style.
//! This and `peft.rs` are the only places that know PEFT's names.

use llama::LinearName;
use llama::architecture::ARCHITECTURES;
use llama::config::Architecture;
use llama::model::NormName;

/// Before every name: PEFT's wrapper around the model.
pub(crate) const PEFT_PREFIX: &str = "base_model.model.";

/// What a tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Prompt,
    Gate,
    Factor,
    Scale(LinearName),
    Bias(LinearName),
    NormWeight(NormName),
    NormBias(NormName),
    LoraA(LinearName),
    LoraB(LinearName),
}

/// What a module of transformers' is to an adapter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LinearModule {
    /// The family, where the name shows it.
    pub family: Option<&'static Architecture>,
    /// `None` for the head.
    pub layer: Option<usize>,
    /// The linear layers in it, one behind the other.
    pub linears: Vec<LinearName>,
}

/// What a module's name, such as `transformer.h.3.attn.c_attn`, means; nothing for one that is no
/// linear layer.
pub(crate) fn place(module: &str) -> Option<LinearModule> {
    if module == "lm_head" {
        return Some(LinearModule { family: None, layer: None, linears: vec![LinearName::Head] });
    }
    // Most families have Llama's names, which then show none of them.
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
        names.find(|&name| part.split_once('.') == Some(self::module(name)))
    });
    Some((layer, linears.collect::<Option<_>>()?))
}

/// Name of a linear layer's module in Hugging Face's Llama.
pub(crate) fn llama_module_name(layer: usize, name: LinearName) -> String {
    match module(name) {
        (place @ "lm_head", _) => place.to_owned(),
        (block, place) => format!("model.layers.{layer}.{block}.{place}"),
    }
}

/// Name of a tensor in a layer; the head and the final norm have no layer in their names. Prompts
/// are called as PEFT does in models of the family.
pub(crate) fn key(family: Option<&Architecture>, layer: usize, part: Part) -> String {
    let attention = family.map_or_else(
        || format!("model.layers.{layer}.self_attn"),
        |family| family.attention_module(layer),
    );
    let attention = format!("{PEFT_PREFIX}{attention}");
    let linear = |name| format!("{PEFT_PREFIX}{}", llama_module_name(layer, name));
    let norm = |name| match name {
        NormName::Attention => format!("{PEFT_PREFIX}model.layers.{layer}.input_layernorm"),
        NormName::FeedForward => {
            format!("{PEFT_PREFIX}model.layers.{layer}.post_attention_layernorm")
        }
        NormName::Final => format!("{PEFT_PREFIX}model.norm"),
    };
    match part {
        Part::Prompt => format!("{attention}.adaption_prompt"),
        Part::Gate => format!("{attention}.adaption_gate"),
        Part::Factor => format!("{attention}.adaption_factor"),
        Part::Scale(name) => format!("{}.adapter_scale", linear(name)),
        Part::Bias(name) => format!("{}.adapter_bias", linear(name)),
        Part::NormWeight(name) => format!("{}.weight", norm(name)),
        Part::NormBias(name) => format!("{}.bias", norm(name)),
        Part::LoraA(name) => format!("{}.lora_A.weight", linear(name)),
        Part::LoraB(name) => format!("{}.lora_B.weight", linear(name)),
    }
}

/// What a name means: its family where that shows, its layer (`None` for the head and the final
/// norm) and part.
pub(crate) fn parse(name: &str) -> Option<(Option<&'static Architecture>, Option<usize>, Part)> {
    let name = name.strip_prefix(PEFT_PREFIX)?;
    if let Some((attention, last)) = name.rsplit_once(".adaption_") {
        let part = match last {
            "prompt" => Part::Prompt,
            "gate" => Part::Gate,
            "factor" => Part::Factor,
            _ => return None,
        };
        let layer = attention.split('.').find_map(|part| part.parse::<usize>().ok())?;
        let family = ARCHITECTURES
            .iter()
            .copied()
            .find(|known| known.attention_module(layer) == attention)?;
        return Some((Some(family), Some(layer), part));
    }
    if let Some(last) = name.strip_prefix("lm_head.") {
        return Some((None, None, linear_part(LinearName::Head, last)?));
    }
    if let Some(last) = name.strip_prefix("model.norm.") {
        return Some((None, None, norm_part(NormName::Final, last)?));
    }
    let (layer, rest) = name.strip_prefix("model.layers.")?.split_once('.')?;
    let layer = parse_layer_index(layer)?;
    let (block, last) = rest.split_once('.')?;
    let part = match block {
        "input_layernorm" => norm_part(NormName::Attention, last)?,
        "post_attention_layernorm" => norm_part(NormName::FeedForward, last)?,
        _ => {
            let (place, last) = last.split_once('.')?;
            let mut names = LinearName::ALL_IN_LAYER.iter().copied();
            linear_part(names.find(|&name| module(name) == (block, place))?, last)?
        }
    };
    Some((None, Some(layer), part))
}

/// A layer's number as names have it; `01` and `+1` would be other names for layer 1.
pub(crate) fn parse_layer_index(text: &str) -> Option<usize> {
    text.parse::<usize>().ok().filter(|number| number.to_string() == text)
}

/// Block and place of a linear layer in Hugging Face's Llama.
pub(crate) fn module(name: LinearName) -> (&'static str, &'static str) {
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

fn linear_part(name: LinearName, last: &str) -> Option<Part> {
    match last {
        "adapter_scale" => Some(Part::Scale(name)),
        "adapter_bias" => Some(Part::Bias(name)),
        "lora_A.weight" => Some(Part::LoraA(name)),
        "lora_B.weight" => Some(Part::LoraB(name)),
        _ => None,
    }
}

fn norm_part(name: NormName, last: &str) -> Option<Part> {
    match last {
        "weight" => Some(Part::NormWeight(name)),
        "bias" => Some(Part::NormBias(name)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_means_what_it_was_made_for() {
        let mut parts = Vec::new();
        for &name in LinearName::ALL_IN_LAYER {
            parts.extend([Part::Scale(name), Part::Bias(name), Part::LoraA(name)]);
            parts.push(Part::LoraB(name));
        }
        for name in [NormName::Attention, NormName::FeedForward] {
            parts.extend([Part::NormWeight(name), Part::NormBias(name)]);
        }
        for part in parts {
            let name = key(None, 12, part);
            assert_eq!(parse(&name), Some((None, Some(12), part)), "{name}");
        }
        for part in [Part::Bias(LinearName::Head), Part::NormWeight(NormName::Final)] {
            let name = key(None, 12, part);
            assert_eq!(parse(&name), Some((None, None, part)), "{name}");
        }
    }

    #[test]
    fn prompts_are_called_as_their_family_calls_its_attention() {
        for known in ARCHITECTURES {
            for part in [Part::Prompt, Part::Gate, Part::Factor] {
                let name = key(Some(known), 3, part);
                let (family, layer, found) = parse(&name).unwrap();
                assert_eq!((layer, found), (Some(3), part), "{name}");
                assert_eq!(family.unwrap().attention_module(3), known.attention_module(3));
            }
        }
        let gpt2 = Architecture::by_model_type("gpt2");
        let name = key(gpt2, 3, Part::Gate);
        assert_eq!(name, "base_model.model.transformer.h.3.attn.adaption_gate");
        assert_eq!(
            key(None, 3, Part::Gate),
            "base_model.model.model.layers.3.self_attn.adaption_gate"
        );
    }

    #[test]
    fn a_module_means_the_linear_layers_that_are_stacked_in_it() {
        use LinearName::{Down, Gate, Head, Key, Output, Query, Up, Value};
        for (module, family, layer, linears) in [
            ("model.layers.3.self_attn.q_proj", None, Some(3), vec![Query]),
            ("model.layers.3.mlp.down_proj", None, Some(3), vec![Down]),
            ("lm_head", None, None, vec![Head]),
            ("transformer.h.2.attn.c_attn", Some("gpt2"), Some(2), vec![Query, Key, Value]),
            ("transformer.h.2.attn.c_proj", Some("gpt2"), Some(2), vec![Output]),
            ("model.layers.3.mlp.gate_up_proj", Some("phi3"), Some(3), vec![Gate, Up]),
        ] {
            let found = place(module).unwrap();
            assert_eq!(found.family.map(|family| family.name), family, "{module}");
            assert_eq!((found.layer, found.linears), (layer, linears), "{module}");
        }
        for module in
            ["model.embed_tokens", "model.layers.1.input_layernorm", "model.layers.01.mlp.up_proj"]
        {
            assert_eq!(place(module), None, "{module}");
        }
    }

    #[test]
    fn other_names_mean_nothing() {
        for name in [
            "model.layers.1.self_attn.adaption_gate",
            "base_model.model.model.layers.01.self_attn.adaption_gate",
            "base_model.model.model.layers.1.self_attn.q_proj.weight",
            "base_model.model.model.layers.1.mlp.q_proj.adapter_bias",
            "base_model.model.transformer.h.1.attn.c_attn.lora_A.weight",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
