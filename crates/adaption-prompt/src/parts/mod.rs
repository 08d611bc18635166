//! The parts of an adapter: one folder per method, and the list of all of them.
//!
//! To add a method: a folder here with the types of the list's block, and the block. The containers in
//! `adapter/` and the native file format are generated from the list. The tensor names, checks and texts of
//! the method are in its folder. Another program's file format holds the method when its folder in `files/`
//! converts it and `Format::parts` names it.

mod image;
mod lora;
mod prompts;
mod v2;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
#[doc(no_inline)]
pub use crate::part::{LinearCost, PartConfig, PartSummary, PromptShape};
pub(crate) use image::TENSOR_PREFIX;
pub use image::{
    GlobalProjector, ImageCondition, ImageConfig, ImageData, ImageFusion, ImageProjector,
    ImageProjectorConfig, QueryProjector,
};
pub use lora::{Lora, LoraConfig, LoraData, LoraLayer, LoraPair, LoraPairData, LoraSummary};
pub(crate) use lora::{LoraSettings, is_lora_pair};
pub(crate) use prompts::PromptSettings;
pub use prompts::{
    AdaptionPrompt, AdaptionPromptConfig, LayerPrompt, PromptData, PromptInit, PromptLayerData,
    PromptLayerSummary, PromptProjection, PromptSummary,
};
pub(crate) use v2::V2Settings;
pub use v2::{
    AdapterV2, V2Config, V2Data, V2Layer, V2Linear, V2LinearData, V2Norm, V2NormData, V2Scale,
    V2Summary,
};

/// Calls a macro with every part of an adapter: kind, field name, and types.
///
/// The order is the order of the parameters in checkpoints and optimizer states, and the order in which
/// parts nest around a linear layer, outermost first.
macro_rules! with_parts {
    ($callback:ident) => {
        $callback! {
            /// Gated prompts.
            Prompts { field: prompts, weights: AdaptionPrompt, config: AdaptionPromptConfig, data: PromptData, summary: PromptSummary, settings: PromptSettings }
            /// Scales and biases of linear layers, and norm weights.
            V2 { field: v2, weights: AdapterV2, config: V2Config, data: V2Data, summary: V2Summary, settings: V2Settings }
            /// Low-rank adaptation of linear layers.
            Lora { field: lora, weights: Lora, config: LoraConfig, data: LoraData, summary: LoraSummary, settings: LoraSettings }
            /// Image conditioning.
            Image { field: image, weights: ImageCondition, config: ImageConfig, data: ImageData, summary: ImageConfig, settings: ImageConfig }
        }
    };
}
pub(crate) use with_parts;

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, $($rest:tt)* })+) => {
        /// A part of an adapter. Each part is a parameter group of training.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        #[non_exhaustive]
        pub enum PartKind {
            $($(#[$doc])* $kind,)+
        }

        impl PartKind {
            /// Every part, in the order of the list.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// Name in files and on the command line: `prompts`, `v2`, `lora`, `image`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => stringify!($field),)+
                }
            }
        }
    };
}
with_parts!(define);

impl fmt::Display for PartKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for PartKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name).ok_or_else(|| Error::Config {
            field: "part",
            found: format!("`{}`", name.escape_debug()),
            expected: "a part of an adapter",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn part_kinds_have_one_name_in_json_and_on_the_command_line() {
        for &kind in PartKind::ALL {
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert_eq!(kind.name().parse::<PartKind>().unwrap(), kind);
        }
        assert_eq!(PartKind::ALL.len(), 4);
        assert!("other".parse::<PartKind>().is_err());
    }
}
