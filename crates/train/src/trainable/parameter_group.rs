//! Parameter groups of an adapter, each trainable or frozen.
//!
//! A first run may train the image parameters on captions, and a second run the other groups on
//! instructions.

use adaption_prompt::AdapterWeights;
use burn::module::Module;
use serde::{Deserialize, Serialize};

/// A group of parameters of an adapter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ParameterGroup {
    /// Gated prompts.
    Prompts,
    /// Adapter V2's scales, biases and norms.
    V2,
    /// Low-rank matrices.
    Lora,
    /// The image projector, and the gates of its layers.
    Image,
}

impl ParameterGroup {
    /// The groups that an adapter has.
    pub fn present_in(adapter: &AdapterWeights) -> Vec<Self> {
        let groups = [
            (Self::Prompts, adapter.prompts.is_some()),
            (Self::V2, adapter.v2.is_some()),
            (Self::Lora, adapter.lora.is_some()),
            (Self::Image, adapter.image.is_some()),
        ];
        groups.into_iter().filter(|(_, is_present)| *is_present).map(|(group, _)| group).collect()
    }
}

/// Freezes all groups but some: their parameters leave the autodiff device.
pub(super) fn freeze_other_groups(
    adapter: AdapterWeights,
    trainable: &[ParameterGroup],
) -> AdapterWeights {
    fn freeze_unless<M: Module>(is_trainable: bool, part: Option<M>) -> Option<M> {
        part.map(|part| if is_trainable { part } else { part.valid() })
    }
    let is_trainable = |group| trainable.contains(&group);
    AdapterWeights {
        prompts: freeze_unless(is_trainable(ParameterGroup::Prompts), adapter.prompts),
        v2: freeze_unless(is_trainable(ParameterGroup::V2), adapter.v2),
        lora: freeze_unless(is_trainable(ParameterGroup::Lora), adapter.lora),
        image: freeze_unless(is_trainable(ParameterGroup::Image), adapter.image),
    }
}
