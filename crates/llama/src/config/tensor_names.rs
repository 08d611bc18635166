//! Names of a family's tensors in Hugging Face's and llama.cpp's files.
//!
//! Inside this crate every tensor has its canonical name: the one that Hugging Face gives it in a Llama.
//! Modules with the same name in a file are one fused tensor there, with rows in the order of the list.

use std::collections::BTreeMap;

/// Formats with their own tensor names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NamingScheme {
    HuggingFace,
    Gguf,
}

/// Canonical name, Hugging Face's, llama.cpp's.
pub(crate) type NameRow = [&'static str; 3];

/// A family's names, without `.weight` and `.bias`.
pub(crate) struct TensorNames {
    /// Prefix of most of Hugging Face's names; files of a model without its head omit it.
    pub(crate) prefix: &'static str,
    /// Between the prefix and a layer's number.
    pub(crate) layer_prefix: &'static str,
    /// A layer's attention.
    pub(crate) attention_name: &'static str,
    /// Whether Hugging Face's files hold the layers' matrices as `[in, out]`.
    pub(crate) transposed: bool,
    /// Outside of the layers, in full.
    pub(crate) global: &'static [NameRow],
    /// Within a layer.
    pub(crate) per_layer: &'static [NameRow],
    /// Suffixes of tensors in Hugging Face's files that are not needed.
    pub(crate) ignored: &'static [&'static str],
}

/// Prefix of canonical names within layers.
const CANONICAL_LAYERS: &str = "model.layers.";

impl TensorNames {
    /// The name of a canonical tensor in a file.
    pub(crate) fn name_in(&self, scheme: NamingScheme, canonical: &str) -> Option<String> {
        let (module, kind) = canonical.rsplit_once('.')?;
        let in_list = |list: &[NameRow], module: &str| {
            let [_, huggingface, gguf] =
                list.iter().find(|[canonical, _, _]| *canonical == module)?;
            Some(match scheme {
                NamingScheme::HuggingFace => *huggingface,
                NamingScheme::Gguf => *gguf,
            })
        };
        let Some(rest) = module.strip_prefix(CANONICAL_LAYERS) else {
            return Some(format!("{}.{kind}", in_list(self.global, module)?));
        };
        let (layer, module) = rest.split_once('.')?;
        let file_name = in_list(self.per_layer, module)?;
        Some(match scheme {
            NamingScheme::HuggingFace => {
                format!("{}{}{layer}.{file_name}.{kind}", self.prefix, self.layer_prefix)
            }
            NamingScheme::Gguf => format!("blk.{layer}.{file_name}.{kind}"),
        })
    }

    /// Whether a file holds a canonical tensor as `[in, out]`.
    pub(crate) fn is_transposed(&self, scheme: NamingScheme, canonical: &str) -> bool {
        // llama.cpp's converter transposes all of them.
        scheme == NamingScheme::HuggingFace
            && self.transposed
            && canonical.starts_with(CANONICAL_LAYERS)
    }

    /// One of Hugging Face's names, without the prefix if the file of these tensors omits it, which is
    /// the case for models that were saved without their head.
    pub(crate) fn strip_absent_prefix(
        &self,
        found: &BTreeMap<String, Vec<usize>>,
        name: String,
    ) -> String {
        let any_starts_with = |start: &str| found.keys().any(|key| key.starts_with(start));
        match name.strip_prefix(self.prefix) {
            Some(stripped)
                if any_starts_with(self.layer_prefix) && !any_starts_with(self.prefix) =>
            {
                stripped.to_owned()
            }
            _ => name,
        }
    }

    /// Whether a tensor of a file is not needed.
    pub(crate) fn is_ignored(&self, scheme: NamingScheme, file_name: &str) -> bool {
        match scheme {
            NamingScheme::HuggingFace => self.ignored.iter().any(|end| file_name.ends_with(end)),
            // Old files contain the rotary table.
            NamingScheme::Gguf => file_name.ends_with(".attn_rot_embd.weight"),
        }
    }

    /// Layer and rest of one of Hugging Face's names without `.weight`.
    pub(crate) fn split_layer<'a>(&self, module: &'a str) -> Option<(usize, &'a str)> {
        let rest = module.strip_prefix(self.prefix)?.strip_prefix(self.layer_prefix)?;
        let (layer, rest) = rest.split_once('.')?;
        // `01` and `+1` are not the layer's name.
        let layer = layer.parse::<usize>().ok().filter(|number| number.to_string() == layer)?;
        Some((layer, rest))
    }

    pub(crate) fn attention_module(&self, layer: usize) -> String {
        format!("{}{}{layer}.{}", self.prefix, self.layer_prefix, self.attention_name)
    }
}
