//! Parts of an adapter that learn, while the others stay as they are.
//!
//! Captions may teach what sees, instructions the rest, each leaving the other alone.

use adaption_prompt::AdapterWeights;
use burn::module::Module;
use serde::{Deserialize, Serialize};

/// A part of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterGroup {
    /// Gated prompts.
    Prompts,
    /// Scales, biases and norms.
    V2,
    /// Low-rank products.
    Lora,
    /// What makes it see pictures, with the gates of the layers whose prompts they are.
    Image,
}

impl ParameterGroup {
    /// Those that an adapter has.
    pub fn present_in(adapter: &AdapterWeights) -> Vec<Self> {
        let parts = [
            (Self::Prompts, adapter.prompts.is_some()),
            (Self::V2, adapter.v2.is_some()),
            (Self::Lora, adapter.lora.is_some()),
            (Self::Image, adapter.image.is_some()),
        ];
        parts.into_iter().filter(|(_, is_there)| *is_there).map(|(part, _)| part).collect()
    }
}

/// The same adapter, of which only some parts can learn: the others leave the autodiff device.
pub(crate) fn freeze_other_groups(
    adapter: AdapterWeights,
    parts: &[ParameterGroup],
) -> AdapterWeights {
    fn only<M: Module>(part: Option<M>, learns: bool) -> Option<M> {
        part.map(|part| if learns { part } else { part.valid() })
    }
    let learns = |part| parts.contains(&part);
    AdapterWeights {
        prompts: only(adapter.prompts, learns(ParameterGroup::Prompts)),
        v2: only(adapter.v2, learns(ParameterGroup::V2)),
        lora: only(adapter.lora, learns(ParameterGroup::Lora)),
        image: only(adapter.image, learns(ParameterGroup::Image)),
    }
}
