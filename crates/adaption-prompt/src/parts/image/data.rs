//! An image condition as host values: checks against a model, named tensors.

use std::collections::BTreeMap;

use llama::config::{Architecture, ModelShape};

use super::config::ImageConfig;
use crate::part::{PartData, PromptShape};
use crate::tensors::host_tensor::{HostTensor, HostTensors};

/// The first component of the tensor names in files.
pub(crate) const TENSOR_PREFIX: &str = "image";

pub(super) fn is_image_tensor(name: &str) -> bool {
    name.strip_prefix(TENSOR_PREFIX).is_some_and(|rest| rest.starts_with('.'))
}

/// An image condition in host memory.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageData {
    /// Shape of the condition.
    pub config: ImageConfig,
    /// Shapes and values by tensor name.
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

impl PartData for ImageData {
    fn n_parameters(&self) -> usize {
        self.tensors.values().map(|(_shape, values)| values.len()).sum()
    }

    fn check_shapes(
        &self,
        prompts: Option<&PromptShape>,
        model: &ModelShape,
        problems: &mut Vec<String>,
    ) {
        if let Err(error) = self.config.validate(prompts, model.n_layers) {
            problems.push(error.to_string());
            return;
        }
        // The tensors are compared one by one after the condition was allocated: sizes far beyond
        // the file are refused before.
        let present = self.n_parameters();
        let expected = self.config.n_matrix_parameters(model.d_model);
        if expected > 2 * present {
            problems.push(format!(
                "image condition: expected matrices of {expected} values, found {present} values"
            ));
        }
    }

    fn to_tensors(&self, _family: Option<&'static Architecture>, tensors: &mut HostTensors) {
        for (name, (shape, values)) in &self.tensors {
            tensors.insert(name.clone(), HostTensor::new(shape.clone(), values.clone()));
        }
    }

    fn loss(&self) -> String {
        "the image condition".into()
    }
}
