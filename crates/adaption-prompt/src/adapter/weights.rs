//! Weights of an adapter on a device.

use std::path::Path;

use burn::module::Module;
use burn::tensor::Device;
use llama::Llama;
use llama::config::ModelShape;

use super::config::AdapterConfig;
use super::data::AdapterData;
use crate::base::BaseInfo;
use crate::error::{Error, Result};
use crate::image_features::{ImageBatch, ImageFeatures};
use crate::part::{Part, PartWeights};
use crate::parts::{PartKind, with_parts};

macro_rules! define {
    ($($(#[$doc:meta])* $kind:ident { field: $field:ident, weights: $weights:ident, $($rest:tt)* })+) => {
        /// Weights of an adapter. On an autodiff device they can be trained.
        #[derive(Module, Debug)]
        pub struct AdapterWeights {
            $($(#[$doc])* pub $field: Option<$crate::parts::$weights>,)+
        }

        impl AdapterWeights {
            /// No part at all: the base model.
            pub fn empty() -> Self {
                Self { $($field: None,)+ }
            }

            /// The parts in the order of the list.
            pub(crate) fn parts(&self) -> Vec<(PartKind, &dyn PartWeights)> {
                let parts = [
                    $(self.$field.as_ref().map(|own| (PartKind::$kind, own as &dyn PartWeights)),)+
                ];
                parts.into_iter().flatten().collect()
            }

            /// Config of the parts.
            pub fn config(&self) -> AdapterConfig {
                AdapterConfig { $($field: self.$field.as_ref().map(Part::config),)+ }
            }

            fn init_parts(
                config: &AdapterConfig,
                llama: &Llama,
                seed: u64,
                device: &Device,
            ) -> Result<Self> {
                let parts = Self {
                    $($field: match &config.$field {
                        Some(own) => Some(Part::init(own, llama, seed, device)?),
                        None => None,
                    },)+
                };
                Ok(parts)
            }

            fn parts_from_data(
                data: &AdapterData,
                model: &ModelShape,
                device: &Device,
                problems: &mut Vec<String>,
            ) -> Self {
                Self {
                    $($field: match &data.$field {
                        Some(own) => Some(Part::from_data(own, model, device, problems)),
                        None => None,
                    },)+
                }
            }

            /// The values in host memory.
            ///
            /// # Errors
            /// [`llama::Error::Device`]
            pub fn to_data(&self, base: BaseInfo) -> Result<AdapterData> {
                Ok(AdapterData { base, prompt_format: None, $($field: self.$field.as_ref().map(Part::to_data).transpose()?,)+ })
            }

            /// These parts, and those of `other` that this adapter lacks.
            #[must_use]
            pub fn or(self, other: Self) -> Self {
                Self { $($field: self.$field.or(other.$field),)+ }
            }

            /// The same parts, with matrices packed for inference.
            pub(crate) fn packed(&self) -> Self {
                Self { $($field: self.$field.as_ref().map(PartWeights::packed),)+ }
            }

            /// The parts that modify linear layers or norms.
            pub(crate) fn modifiers(&self) -> Self {
                Self { $($field: self.$field.clone().filter(PartWeights::modifies_layers),)+ }
            }

            /// The same adapter with only some parts trainable: the others leave the autodiff device.
            #[must_use]
            pub fn freeze_except(self, kinds: &[PartKind]) -> Self {
                Self {
                    $($field: self.$field.map(|own| {
                        if kinds.contains(&PartKind::$kind) { own } else { own.valid() }
                    }),)+
                }
            }

            /// Number of parameters of each part.
            pub fn parameter_groups(&self) -> Vec<(PartKind, usize)> {
                let groups = [
                    $(self.$field.as_ref().map(|own| (PartKind::$kind, own.num_params())),)+
                ];
                groups.into_iter().flatten().collect()
            }
        }

        $(
            impl From<$crate::parts::$weights> for AdapterWeights {
                fn from(own: $crate::parts::$weights) -> Self {
                    Self { $field: Some(own), ..Self::empty() }
                }
            }
        )+
    };
}
with_parts!(define);

impl AdapterConfig {
    /// A fresh adapter, drawn from `seed`: the same on every device. It equals the base model, unless
    /// its initial gates are not 0. On an autodiff device it can be trained.
    ///
    /// # Errors
    /// As [`validate`](Self::validate); [`llama::Error::Device`].
    pub fn init(&self, llama: &Llama, seed: u64, device: &Device) -> Result<AdapterWeights> {
        self.validate(&llama.config().into())?;
        AdapterWeights::init_parts(self, llama, seed, device)
    }
}

impl AdapterWeights {
    /// Moves host values to a device, for a model of the given shape. `path` is the adapter's file, for
    /// messages.
    ///
    /// # Errors
    /// [`Error::TooManyLayers`], [`Error::NoSuchLayer`], or [`Error::TensorMismatch`] with every
    /// mismatch.
    pub fn from_data(
        data: &AdapterData,
        model: &ModelShape,
        path: &Path,
        device: &Device,
    ) -> Result<Self> {
        let mut problems = Vec::new();
        for (_, part) in data.parts() {
            part.check_base(&data.base, model, &mut problems)?;
        }
        problems.extend(data.check_shapes(model));
        if !problems.is_empty() {
            return Err(Error::TensorMismatch { path: path.into(), problems });
        }
        let weights = Self::parts_from_data(data, model, device, &mut problems);
        if !problems.is_empty() {
            return Err(Error::TensorMismatch { path: path.into(), problems });
        }
        Ok(weights)
    }

    /// The kinds of the parts.
    pub fn kinds(&self) -> Vec<PartKind> {
        self.parts().into_iter().map(|(kind, _)| kind).collect()
    }

    /// Image tokens of the rows of a batch; `None` if the adapter has no image condition or no row has
    /// an image. See [`ImageCondition::image_features`](crate::parts::ImageCondition::image_features).
    ///
    /// # Panics
    /// If the features have another width, or the image index of a row is out of range.
    pub fn image_features(&self, batch: &ImageBatch) -> Option<ImageFeatures> {
        let image = self.image.as_ref()?;
        batch.rows.iter().any(Option::is_some).then(|| image.image_features(batch))
    }

    /// The lowest layer that the adapter modifies. No lower layer takes part in the backward pass.
    pub fn first_layer(&self) -> usize {
        self.parts().into_iter().filter_map(|(_, part)| part.first_layer()).min().unwrap_or(0)
    }

    /// The device of the weights.
    pub fn device(&self) -> Device {
        // All parts of an adapter are on one device.
        self.devices().into_iter().next().unwrap_or_default()
    }

    /// Number of parameters.
    pub fn n_parameters(&self) -> usize {
        self.num_params()
    }
}

#[cfg(test)]
mod tests {
    use burn::module::{ModuleVisitor, Param};
    use burn::tensor::Tensor;

    use super::*;
    use crate::parts::{ImageConfig, ImageFusion, ImageProjectorConfig};
    use crate::test_adapter::{PART_SETS, part_set, tiny_llama};

    /// Module paths of all parameters, with their shapes.
    #[derive(Default)]
    struct Paths {
        stack: Vec<String>,
        found: Vec<String>,
    }

    impl ModuleVisitor for Paths {
        fn enter_module(&mut self, name: &str, _container_type: &str) {
            self.stack.push(name.to_owned());
        }

        fn exit_module(&mut self, _name: &str, _container_type: &str) {
            self.stack.pop();
        }

        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(format!("{} {:?}", self.stack.join("."), param.val().dims()));
        }
    }

    fn paths(weights: &AdapterWeights) -> Vec<String> {
        let mut visitor = Paths::default();
        weights.visit(&mut visitor);
        visitor.found
    }

    /// Training checkpoints have these names, and optimizer states this order.
    #[test]
    fn parameter_paths_are_those_of_existing_checkpoints() {
        let llama = tiny_llama();
        let init = |config: AdapterConfig| config.init(&llama, 1, &llama.device()).unwrap();
        let found = paths(&init(part_set(PartKind::ALL)));
        let of = |prefix: &str| {
            let own = found.iter().filter(|path| path.starts_with(prefix));
            own.map(String::as_str).collect::<Vec<_>>()
        };
        assert_eq!(
            of("prompts"),
            [
                "prompts.layers.0.prompt [2, 8]",
                "prompts.layers.0.gate [2]",
                "prompts.layers.0.factor [1]",
                "prompts.layers.1.prompt [2, 8]",
                "prompts.layers.1.gate [2]",
                "prompts.layers.1.factor [1]",
            ]
        );
        assert_eq!(
            of("v2.layers.1")[12..],
            [
                "v2.layers.1.linears.6.scale [8]",
                "v2.layers.1.linears.6.bias [8]",
                "v2.layers.1.norms.0.weight [8]",
                "v2.layers.1.norms.1.weight [8]",
            ]
        );
        assert_eq!(
            of("v2.layers.3"),
            [
                "v2.layers.3.linears.0.scale [16]",
                "v2.layers.3.linears.0.bias [16]",
                "v2.layers.3.norms.0.weight [8]",
            ]
        );
        assert_eq!(
            of("lora.layers.2"),
            [
                "lora.layers.2.pairs.0.a [2, 8]",
                "lora.layers.2.pairs.0.b [8, 2]",
                "lora.layers.2.pairs.1.a [2, 8]",
                "lora.layers.2.pairs.1.b [4, 2]",
            ]
        );
        let image = of("image");
        assert_eq!(image[..2], ["image.mean [3]", "image.scale [3]"]);
        assert!(image[2].starts_with("image.tokens."), "{image:?}");
        assert!(image.contains(&"image.tokens.Queries.query [2, 4]"), "{image:?}");
        assert_eq!(image[image.len() - 1], "image.gate [1]");
        let parts = found.iter().map(|path| path.split('.').next().unwrap());
        let mut parts = parts.collect::<Vec<_>>();
        parts.dedup();
        assert_eq!(parts, PartKind::ALL.iter().map(|kind| kind.name()).collect::<Vec<_>>());

        let early = ImageConfig {
            features: 3,
            form: ImageProjectorConfig::Global { hidden: 4 },
            fusion: ImageFusion::Early {
                layers: 1,
                gate: crate::Gate::PerHead,
                activation: crate::GateActivation::Identity,
            },
            encoder: None,
        };
        let found = paths(&init(early.into()));
        assert!(
            found.contains(&"image.tokens.Global.up.weight.Dense [4, 3]".to_owned()),
            "{found:?}"
        );
        assert_eq!(found[found.len() - 1], "image.early.0 [2]");
    }

    #[test]
    fn configs_count_the_parameters_of_their_weights() {
        let llama = tiny_llama();
        for set in PART_SETS {
            let config = part_set(set);
            let weights = config.init(&llama, 1, &llama.device()).unwrap();
            let counted = config.parts().into_iter();
            let counted = counted
                .map(|(kind, part)| (kind, part.n_parameters(llama.config()) as usize))
                .collect::<Vec<_>>();
            assert_eq!(counted, weights.parameter_groups(), "{set:?}");
            assert_eq!(weights.config(), config);
            let first = config.parts().into_iter();
            let model = llama.config().into();
            let first = first.filter_map(|(_, part)| part.first_layer(&model)).min();
            assert_eq!(first, Some(weights.first_layer()), "{set:?}");
        }
    }

    #[test]
    fn only_some_parts_are_trainable() {
        let llama = tiny_llama();
        let device = llama.device().autodiff();
        for &kind in PartKind::ALL {
            let weights = part_set(PartKind::ALL).init(&llama, 1, &device).unwrap();
            let frozen = weights.freeze_except(&[kind]);
            let is_trainable = |devices: Vec<Device>| devices.iter().all(Device::is_autodiff);
            let trainable = [
                frozen.prompts.as_ref().map(|own| is_trainable(own.devices())),
                frozen.v2.as_ref().map(|own| is_trainable(own.devices())),
                frozen.lora.as_ref().map(|own| is_trainable(own.devices())),
                frozen.image.as_ref().map(|own| is_trainable(own.devices())),
            ];
            let expected = PartKind::ALL.iter().map(|own| Some(*own == kind));
            assert_eq!(trainable.to_vec(), expected.collect::<Vec<_>>(), "{kind}");
        }
    }
}
