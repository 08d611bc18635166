//! Gradients ─► clipped ─► AdamW ─► the next parameters

use burn::module::Module;
use burn::optim::{AdamW, AdamWConfig, AdamWState, Optimizer as _};
use burn::tensor::{Gradients, Tensor};
use serde::{Deserialize, Serialize};

use crate::deterministic_sum::deterministic_sum;
use crate::trainable::{ParameterVisitor, flatten, map_parameters, visit_parameters};

/// Settings of AdamW. The defaults are the original release's, with PyTorch's epsilon.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OptimizerConfig {
    /// Decay of the first moment.
    pub beta_1: f32,
    /// Decay of the second moment.
    pub beta_2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Share of a weight taken away in a step, times the learning rate.
    pub weight_decay: f32,
    /// Largest norm of all gradients together; larger ones are scaled down.
    #[serde(rename = "clip")]
    pub max_gradient_norm: Option<f64>,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            beta_1: 0.9,
            beta_2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.02,
            max_gradient_norm: None,
        }
    }
}

/// Gradients of every parameter of a module, in the order of its fields, each flat.
#[derive(Debug, Clone)]
pub struct ModuleGradients {
    params: Vec<ParamGradient>,
}

#[derive(Debug, Clone)]
struct ParamGradient {
    name: String,
    /// Whether the parameter is on an autodiff device.
    is_trainable: bool,
    gradient: Option<Tensor<1>>,
}

impl ModuleGradients {
    /// No gradients yet, with a place for each parameter.
    pub fn empty(module: &impl Module) -> Self {
        struct CollectNames(Vec<ParamGradient>);
        impl ParameterVisitor for CollectNames {
            fn visit_parameters<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
                let learns = value.device().is_autodiff();
                self.0.push(ParamGradient {
                    name: name.to_owned(),
                    is_trainable: learns,
                    gradient: None,
                });
            }
        }
        let mut names = CollectNames(Vec::new());
        visit_parameters(module, &mut names);
        Self { params: names.0 }
    }

    /// Adds the gradients of a backward pass, those of the parameters that took part in it. Its
    /// loss was multiplied by `scale`, which is taken away again.
    pub fn accumulate(&mut self, module: &impl Module, gradients: &mut Gradients, scale: f64) {
        struct TakeGradients<'a> {
            gradients: &'a mut Gradients,
            scale: f64,
            sums: std::slice::IterMut<'a, ParamGradient>,
        }
        impl ParameterVisitor for TakeGradients<'_> {
            fn visit_parameters<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                let ParamGradient { gradient: sum, is_trainable: learns, .. } =
                    self.sums.next().expect("one place for each parameter");
                if !*learns {
                    return;
                }
                if let Some(gradient) = value.grad_remove(self.gradients).map(flatten) {
                    let gradient = if self.scale == 1.0 { gradient } else { gradient / self.scale };
                    *sum = Some(match sum.take() {
                        Some(sum) => sum + gradient,
                        None => gradient,
                    });
                }
            }
        }
        visit_parameters(
            module,
            &mut TakeGradients { gradients, scale, sums: self.params.iter_mut() },
        );
    }

    /// Takes a module's gradients out of a backward pass.
    pub fn from_grads(module: &impl Module, mut gradients: Gradients) -> Self {
        let mut taken = Self::empty(module);
        taken.accumulate(module, &mut gradients, 1.0);
        taken
    }

    /// Puts zeros where a parameter that learns took no part: what sees pictures does not, in a step
    /// whose rows have none.
    pub(crate) fn fill_missing_with_zeros(&mut self, module: &impl Module) {
        struct FillMissing<'a>(std::slice::IterMut<'a, ParamGradient>);
        impl ParameterVisitor for FillMissing<'_> {
            fn visit_parameters<const D: usize>(&mut self, _name: &str, value: Tensor<D>) {
                let own = self.0.next().expect("one place for each parameter");
                if own.is_trainable {
                    own.gradient.get_or_insert_with(|| flatten(value.inner()).zeros_like());
                }
            }
        }
        visit_parameters(module, &mut FillMissing(self.params.iter_mut()));
    }

    /// Each parameter's place in the module and its gradient, if it took part.
    pub fn iter_named(&self) -> impl Iterator<Item = (&str, Option<&Tensor<1>>)> {
        self.params.iter().map(|own| (own.name.as_str(), own.gradient.as_ref()))
    }

    /// Euclidean norm over all of them, left on the device.
    ///
    /// # Shapes
    /// - output: `[1]`
    ///
    /// # Panics
    /// If there are no gradients.
    pub fn norm(&self) -> Tensor<1> {
        let present = self.params.iter().filter_map(|own| own.gradient.clone());
        let squares = present.map(|gradient| deterministic_sum(gradient.square()));
        squares.reduce(|a, b| a + b).expect("no gradients").sqrt()
    }
}

/// AdamW over a module's parameters, with its state in the open so that a checkpoint can hold it.
#[derive(Clone)]
pub struct ParameterOptimizer {
    adamw: AdamW,
    clip: Option<f64>,
    pub(crate) state: Vec<Option<AdamWState<1>>>,
}

impl ParameterOptimizer {
    /// A fresh optimizer.
    pub fn new(config: &OptimizerConfig) -> Self {
        let adamw = AdamWConfig::new()
            .with_beta_1(config.beta_1)
            .with_beta_2(config.beta_2)
            .with_epsilon(config.epsilon)
            .with_weight_decay(config.weight_decay)
            .build();
        Self { adamw, clip: config.max_gradient_norm, state: Vec::new() }
    }

    /// One step. `norm` is the gradients' own, `[1]`. Nothing is waited for.
    ///
    /// Source: arXiv 1711.05101.
    ///
    /// # Panics
    /// If a parameter that learns has no gradient: it takes part in every step.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: ModuleGradients,
        norm: &Tensor<1>,
        rate: f64,
    ) -> M {
        // 1 where the norm is within the limit.
        let scale = self.clip.map(|clip| norm.clone().clamp_min(clip).recip() * clip);
        self.state.resize(gradients.params.len(), None);
        let mut places = gradients.params.into_iter().zip(&mut self.state);
        map_parameters(module, &mut |value| {
            let (own, state) = places.next().expect("one place for each parameter");
            let ParamGradient { name, is_trainable: learns, gradient: sum } = own;
            if !learns {
                return value;
            }
            let gradient = sum.unwrap_or_else(|| panic!("{name} took no part in the step"));
            let gradient = match &scale {
                Some(scale) => gradient * scale.clone(),
                None => gradient,
            };
            let (value, next) = self.adamw.step(rate, value, gradient, state.take());
            *state = next;
            value
        })
    }
}
