//! Summary of an adapter, without its base model.

use serde::Serialize;
use text::PromptFormat;

use super::data::AdapterData;
use crate::part::{Part, PartSummary};
use crate::parts::{PartKind, with_parts};

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, config: $config:ident, data: $data:ident, summary: $summary:ident, $($rest:tt)* })+) => {
        /// Summary of an adapter.
        #[derive(Debug, Clone, PartialEq, Serialize)]
        #[non_exhaustive]
        pub struct AdapterSummary {
            /// Name of the base model, as the file gives it.
            pub base_model: Option<String>,
            /// The prompt format that it was trained with, if its files say so; the default is Alpaca's.
            #[serde(skip_serializing_if = "Option::is_none")]
            pub prompt_format: Option<PromptFormat>,
            $($(#[$doc])* pub $field: Option<$crate::parts::$summary>,)+
            /// Number of parameters.
            pub n_parameters: usize,
        }

        impl AdapterSummary {
            /// The parts in the order of [`PartKind::ALL`].
            pub fn parts(&self) -> Vec<(PartKind, &dyn PartSummary)> {
                let parts = [
                    $(self.$field.as_ref().map(|own| (PartKind::$kind, own as &dyn PartSummary)),)+
                ];
                parts.into_iter().flatten().collect()
            }

            /// Summarizes an adapter.
            pub fn from_data(data: &AdapterData) -> Self {
                Self {
                    base_model: data.base.name.clone(),
                    prompt_format: data.prompt_format.clone(),
                    $($field: data.$field.as_ref().map(<$crate::parts::$weights as Part>::summary),)+
                    n_parameters: data.n_parameters(),
                }
            }
        }
    };
}
with_parts!(define);
