//! Backward passes ─► the accumulated gradient of each parameter of a module.

use burn::module::Module;
use burn::tensor::{DType, Device, Gradients, Tensor, TensorData};
use llama::read_back;

use crate::deterministic_sum::deterministic_sum;
use crate::error::Result;
use crate::trainable::{ParameterVisitor, flatten, visit_parameters};

/// The gradient of every parameter of a module, flattened, in the order of its fields.
#[derive(Debug, Clone)]
pub struct ModuleGradients {
    pub(super) parameters: Vec<ParamGradient>,
}

#[derive(Debug, Clone)]
pub(super) struct ParamGradient {
    pub name: String,
    /// Whether the parameter is on an autodiff device.
    pub is_trainable: bool,
    pub gradient: Option<Tensor<1>>,
}

impl ModuleGradients {
    /// No gradients, for each parameter of a module.
    pub fn empty(module: &impl Module) -> Self {
        struct CollectNames(Vec<ParamGradient>);
        impl ParameterVisitor for CollectNames {
            fn visit<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
                let is_trainable = value.device().is_autodiff();
                self.0.push(ParamGradient { name: name.to_owned(), is_trainable, gradient: None });
            }
        }
        let mut names = CollectNames(Vec::new());
        visit_parameters(module, &mut names);
        Self { parameters: names.0 }
    }

    /// Adds the gradients of a backward pass. The loss was multiplied by `scale` before the pass; the
    /// gradients are divided by it.
    pub fn accumulate(&mut self, module: &impl Module, gradients: &mut Gradients, scale: f64) {
        struct TakeGradients<'a> {
            gradients: &'a mut Gradients,
            scale: f64,
            parameters: std::slice::IterMut<'a, ParamGradient>,
        }
        impl ParameterVisitor for TakeGradients<'_> {
            fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                let parameter = self.parameters.next().expect("one entry per parameter");
                if !parameter.is_trainable {
                    return;
                }
                if let Some(gradient) = value.grad_remove(self.gradients).map(flatten) {
                    let gradient = if self.scale == 1.0 { gradient } else { gradient / self.scale };
                    parameter.gradient = Some(match parameter.gradient.take() {
                        Some(sum) => sum + gradient,
                        None => gradient,
                    });
                }
            }
        }
        let parameters = self.parameters.iter_mut();
        visit_parameters(module, &mut TakeGradients { gradients, scale, parameters });
    }

    /// The gradients of one backward pass.
    pub fn from_grads(module: &impl Module, mut gradients: Gradients) -> Self {
        let mut accumulated = Self::empty(module);
        accumulated.accumulate(module, &mut gradients, 1.0);
        accumulated
    }

    /// Sets missing gradients of trainable parameters to zero. The image parameters have none in a
    /// step whose rows have no images.
    pub(crate) fn fill_missing_with_zeros(&mut self, module: &impl Module) {
        struct FillMissing<'a>(std::slice::IterMut<'a, ParamGradient>);
        impl ParameterVisitor for FillMissing<'_> {
            fn visit<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                let parameter = self.0.next().expect("one entry per parameter");
                if parameter.is_trainable {
                    let zeros = || flatten(value.inner()).zeros_like();
                    parameter.gradient.get_or_insert_with(zeros);
                }
            }
        }
        visit_parameters(module, &mut FillMissing(self.parameters.iter_mut()));
    }

    /// The name of each parameter, its path in the module, and its gradient, if it has one.
    pub fn iter_named(&self) -> impl Iterator<Item = (&str, Option<&Tensor<1>>)> {
        self.parameters
            .iter()
            .map(|parameter| (parameter.name.as_str(), parameter.gradient.as_ref()))
    }

    /// All gradients one after another, and a last value. Synchronizes with the device once.
    pub(crate) fn read_with(&self, last: Tensor<1>) -> Result<Vec<f32>> {
        let present = self.parameters.iter().filter_map(|parameter| parameter.gradient.clone());
        let values = read_back(Tensor::cat(present.chain([last]).collect(), 0))?;
        let values = values.convert_dtype(DType::F32);
        Ok(values.as_slice::<f32>().expect("the data is f32").to_vec())
    }

    /// Replaces the gradients by values in the order of [`read_with`](Self::read_with).
    pub(crate) fn replace(&mut self, mut values: &[f32], device: &Device) {
        for gradient in self.parameters.iter_mut().filter_map(|known| known.gradient.as_mut()) {
            let [len] = gradient.dims();
            let (own, rest) = values.split_at(len);
            *gradient = Tensor::from_data(TensorData::new(own.to_vec(), [len]), device);
            values = rest;
        }
    }

    /// Euclidean norm of all gradients together. Does not synchronize with the device.
    ///
    /// # Shapes
    /// - output: `[1]`
    ///
    /// # Panics
    /// If there are no gradients.
    pub fn norm(&self) -> Tensor<1> {
        let present = self.parameters.iter().filter_map(|parameter| parameter.gradient.clone());
        let squares = present.map(|gradient| deterministic_sum(gradient.square()));
        squares.reduce(|a, b| a + b).expect("no gradients").sqrt()
    }
}
