//! An adapter in host memory: the common form of every file format.

use llama::config::ModelShape;
use text::PromptFormat;

use crate::base::BaseInfo;
use crate::part::{PartData, PromptShape};
use crate::parts::{PartKind, with_parts};
use crate::tensors::host_tensor::HostTensors;

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, config: $config:ident, data: $data:ident, $($rest:tt)* })+) => {
        /// An adapter in host memory, independent of model and device.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub struct AdapterData {
            /// What is known of the base model.
            pub base: BaseInfo,
            /// The prompt format that it was trained with, if that is not the default.
            pub prompt_format: Option<PromptFormat>,
            $($(#[$doc])* pub $field: Option<$crate::parts::$data>,)+
        }

        impl AdapterData {
            /// The parts in the order of the list.
            pub(crate) fn parts(&self) -> Vec<(PartKind, &dyn PartData)> {
                let parts = [
                    $(self.$field.as_ref().map(|own| (PartKind::$kind, own as &dyn PartData)),)+
                ];
                parts.into_iter().flatten().collect()
            }

            /// Removes a part and describes it; `None` if it is absent.
            pub(crate) fn remove(&mut self, kind: PartKind) -> Option<String> {
                match kind {
                    $(PartKind::$kind => self.$field.take().map(|own| own.loss()),)+
                }
            }
        }
    };
}
with_parts!(define);

impl AdapterData {
    /// The kinds of the parts.
    pub fn kinds(&self) -> Vec<PartKind> {
        self.parts().into_iter().map(|(kind, _)| kind).collect()
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        self.parts().into_iter().map(|(_, part)| part.n_parameters()).sum()
    }

    /// Everything that does not fit a model of the given shape; empty if all fits.
    pub fn check_shapes(&self, model: &ModelShape) -> Vec<String> {
        let mut problems = Vec::new();
        let prompts = self.prompt_shape();
        for (_, part) in self.parts() {
            part.check_shapes(prompts.as_ref(), model, &mut problems);
        }
        problems
    }

    /// Every tensor by name.
    pub(crate) fn to_tensors(&self) -> HostTensors {
        let mut tensors = HostTensors::new();
        for (_, part) in self.parts() {
            part.to_tensors(self.base.architecture, &mut tensors);
        }
        tensors
    }

    fn prompt_shape(&self) -> Option<PromptShape> {
        self.parts().into_iter().find_map(|(_, part)| part.prompt_shape())
    }
}
