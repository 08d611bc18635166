//! Tensor names of lit-llama and litgpt.

use llama::LinearName;
use llama::model::NormName;

/// Program that writes a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::files) enum LitFormat {
    Llama,
    Gpt,
}

impl LitFormat {
    /// The value for this program.
    pub fn select<T>(self, llama: T, gpt: T) -> T {
        match self {
            Self::Llama => llama,
            Self::Gpt => gpt,
        }
    }
}

/// Prefix of the layers' tensors.
pub(super) const LAYERS: &str = "transformer.h.";
/// Prefix of the head's tensors.
pub(super) const HEAD: &str = "lm_head.";

/// Suffixes of the prompts' tensors.
pub(super) const PROMPT: &str = "attn.adapter_wte.weight";
pub(super) const GATE: &str = "attn.gating_factor";

/// Suffixes of the linear layers' tensors in version 2.
pub(super) const SCALE: &str = "adapter_scale";
pub(super) const BIAS: &str = "adapter_bias";

/// Linear layers that are not fused: in lit-llama, in litgpt.
pub(super) const LINEARS: [(LinearName, &str, &str); 4] = [
    (LinearName::Output, "attn.c_proj", "attn.proj"),
    (LinearName::Gate, "mlp.c_fc1", "mlp.fc_1"),
    (LinearName::Up, "mlp.c_fc2", "mlp.fc_2"),
    (LinearName::Down, "mlp.c_proj", "mlp.proj"),
];

/// The fused linear layer of query, key and value. The last column says whether each group of heads has
/// its query, key and value rows next to each other, as in older versions of litgpt.
pub(super) const FUSED: [(&str, LitFormat, bool); 3] = [
    ("attn.c_attn", LitFormat::Llama, false),
    ("attn.qkv", LitFormat::Gpt, false),
    ("attn.attn", LitFormat::Gpt, true),
];

/// Norms of a layer: in lit-llama, in litgpt.
pub(super) const NORMS: [(NormName, &str, &str); 2] = [
    (NormName::Attention, "rms_1.scale", "norm_1.weight"),
    (NormName::FeedForward, "rms_2.scale", "norm_2.weight"),
];

/// The final norm: in lit-llama, in litgpt.
pub(super) const FINAL_NORM: [&str; 2] = ["transformer.ln_f.scale", "transformer.ln_f.weight"];

/// Whether a tensor is a scale or bias of version 2.
pub(super) fn is_v2_tensor(name: &str) -> bool {
    (name.starts_with(LAYERS) || name.starts_with(HEAD))
        && (name.ends_with(".adapter_scale") || name.ends_with(".adapter_bias"))
}

/// Whether a tensor belongs to an adapter and to no model. Norms of version 2 do not.
pub(in crate::files) fn is_adapter_tensor(name: &str) -> bool {
    is_v2_tensor(name)
        || name.starts_with(LAYERS)
            && (name.ends_with(".adapter_wte.weight") || name.ends_with(".gating_factor"))
}

/// Whether a tensor is a norm, of version 2 or of a model in the same file.
pub(super) fn is_norm(name: &str) -> bool {
    FINAL_NORM.contains(&name)
        || name.starts_with(LAYERS)
            && NORMS.iter().any(|(_, llama, gpt)| name.ends_with(llama) || name.ends_with(gpt))
}

/// Whether a tensor of version 2 belongs to no layer.
pub(super) fn is_global_tensor(name: &str) -> bool {
    FINAL_NORM.contains(&name) || name.starts_with(HEAD)
}

/// Whether a tensor is one of litgpt's, not lit-llama's: the gates have another shape, and version 2 has
/// other names.
pub(in crate::files) fn is_litgpt_tensor(name: &str, shape: &[usize]) -> bool {
    name.ends_with(".gating_factor") && shape.len() == 4 && shape[1] == 1 && shape[2] > 1
        || [".norm_1.weight", ".qkv.adapter_bias", ".attn.attn.adapter_bias"]
            .iter()
            .any(|end| name.ends_with(end))
}
