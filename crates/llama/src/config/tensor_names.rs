//! What a family calls its tensors.
//!
//! Inside this crate every tensor has the name that Hugging Face gives it in a Llama. Modules that
//! share one name in a file are stacked there, their rows in the order of the list.

use std::collections::BTreeMap;

/// The formats that have names of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    HuggingFace,
    Gguf,
}

/// Ours, Hugging Face's, llama.cpp's.
pub(crate) type Name = [&'static str; 3];

/// A family's names, without `.weight` and `.bias`.
pub(crate) struct Names {
    /// Before most names of Hugging Face's; files of a model without its head leave it out.
    pub(crate) prefix: &'static str,
    /// Between the prefix and a layer's number.
    pub(crate) layers: &'static str,
    /// A layer's attention.
    pub(crate) attention: &'static str,
    /// Whether Hugging Face's files hold the layers' matrices as `[in, out]`.
    pub(crate) transposed: bool,
    /// Outside of the layers, in full.
    pub(crate) whole: &'static [Name],
    /// Of a layer.
    pub(crate) layer: &'static [Name],
    /// Ends of the names of tensors that Hugging Face's files may have and nobody needs.
    pub(crate) ignored: &'static [&'static str],
}

/// What ours begin with in a layer.
const OUR_LAYERS: &str = "model.layers.";

impl Names {
    /// What a file calls one of our tensors.
    pub(crate) fn in_file(&self, format: Format, ours: &str) -> Option<String> {
        let (module, kind) = ours.rsplit_once('.')?;
        let in_list = |list: &[Name], module: &str| {
            let [_, huggingface, gguf] = list.iter().find(|[ours, _, _]| *ours == module)?;
            Some(match format {
                Format::HuggingFace => *huggingface,
                Format::Gguf => *gguf,
            })
        };
        let Some(rest) = module.strip_prefix(OUR_LAYERS) else {
            return Some(format!("{}.{kind}", in_list(self.whole, module)?));
        };
        let (layer, module) = rest.split_once('.')?;
        let theirs = in_list(self.layer, module)?;
        Some(match format {
            Format::HuggingFace => format!("{}{}{layer}.{theirs}.{kind}", self.prefix, self.layers),
            Format::Gguf => format!("blk.{layer}.{theirs}.{kind}"),
        })
    }

    /// Whether a file holds one of our tensors as `[in, out]`.
    pub(crate) fn is_transposed(&self, format: Format, ours: &str) -> bool {
        // llama.cpp's converter turns them all round.
        format == Format::HuggingFace && self.transposed && ours.starts_with(OUR_LAYERS)
    }

    /// One of Hugging Face's names as the file of these tensors spells it: a model that was saved
    /// without its head leaves the prefix out.
    pub(crate) fn as_in(&self, found: &BTreeMap<String, Vec<usize>>, name: String) -> String {
        let some = |start: &str| found.keys().any(|key| key.starts_with(start));
        match name.strip_prefix(self.prefix) {
            Some(bare) if some(self.layers) && !some(self.prefix) => bare.to_owned(),
            _ => name,
        }
    }

    /// Whether nobody needs a tensor of a file.
    pub(crate) fn is_ignored(&self, format: Format, theirs: &str) -> bool {
        match format {
            Format::HuggingFace => self.ignored.iter().any(|end| theirs.ends_with(end)),
            // Old files have the rotary table.
            Format::Gguf => theirs.ends_with(".attn_rot_embd.weight"),
        }
    }

    /// Layer and rest of one of Hugging Face's names without `.weight`.
    pub(crate) fn split_layer<'a>(&self, module: &'a str) -> Option<(usize, &'a str)> {
        let rest = module.strip_prefix(self.prefix)?.strip_prefix(self.layers)?;
        let (layer, rest) = rest.split_once('.')?;
        // `01` and `+1` would be other names for layer 1.
        let layer = layer.parse::<usize>().ok().filter(|number| number.to_string() == layer)?;
        Some((layer, rest))
    }

    pub(crate) fn attention(&self, layer: usize) -> String {
        format!("{}{}{layer}.{}", self.prefix, self.layers, self.attention)
    }
}
