//! Config of an adapter.

use llama::config::ModelShape;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parts::{AdaptionPromptConfig, PartConfig, PartKind, PromptShape, with_parts};

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, config: $config:ident, $($rest:tt)* })+) => {
        /// Config of an adapter: a config for each of its parts, at least one.
        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub struct AdapterConfig {
            $(
                $(#[$doc])*
                #[serde(default, skip_serializing_if = "Option::is_none")]
                pub $field: Option<$crate::parts::$config>,
            )+
        }

        impl AdapterConfig {
            /// No part at all; invalid until one is set.
            pub fn empty() -> Self {
                Self { $($field: None,)+ }
            }

            /// The parts in the order of [`PartKind::ALL`].
            pub fn parts(&self) -> Vec<(PartKind, &dyn PartConfig)> {
                let parts = [
                    $(self.$field.as_ref().map(|own| (PartKind::$kind, own as &dyn PartConfig)),)+
                ];
                parts.into_iter().flatten().collect()
            }

            /// These parts, and those of `other` that this config lacks.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)+ }
            }
        }

        $(
            impl From<$crate::parts::$config> for AdapterConfig {
                fn from(own: $crate::parts::$config) -> Self {
                    Self { $field: Some(own), ..Self::empty() }
                }
            }
        )+
    };
}
with_parts!(define);

impl Default for AdapterConfig {
    fn default() -> Self {
        AdaptionPromptConfig::default().into()
    }
}

impl AdapterConfig {
    /// The kinds of the parts.
    pub fn kinds(&self) -> Vec<PartKind> {
        self.parts().into_iter().map(|(kind, _)| kind).collect()
    }

    /// Prompt length and adapted layers in a model of `n_layers` layers, if there are valid prompts.
    pub fn prompt_shape(&self, n_layers: usize) -> Option<PromptShape> {
        self.parts().into_iter().find_map(|(_, part)| part.prompt_shape(n_layers))
    }

    /// Checks every part against a model.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::TooManyLayers`] or [`Error::NoSuchLayer`].
    pub fn validate(&self, model: &ModelShape) -> Result<()> {
        let parts = self.parts();
        if parts.is_empty() {
            let (found, expected) = ("empty".into(), "at least one part");
            return Err(Error::Config { field: "the adapter", found, expected });
        }
        let prompts = self.prompt_shape(model.n_layers);
        parts.into_iter().try_for_each(|(_, part)| part.validate(prompts.as_ref(), model))
    }
}
