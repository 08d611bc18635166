//! Gradients ─► clipped by their norm ─► optimizer ─► new parameters.

use burn::module::Module;
use burn::optim::Optimizer;
use burn::tensor::{Device, Tensor};
use llama::read_back;

use super::erased_optimizer::{ErasedOptimizer, WithStates};
use super::group_learning_rates::GroupLearningRates;
use super::module_gradients::{ModuleGradients, ParamGradient};
use super::parameter_state::{ParameterInfo, ParameterState, StateFormat};
use crate::error::Result;
use crate::trainable::map_parameters;

/// A Burn optimizer for all parameters of a module, with the state of each and clipping by the norm of
/// all gradients.
///
/// Unlike [`burn::optim::ModuleOptimizer`] it keeps states by the order of parameters, not by
/// `ParamId`, so that a checkpoint of another process can be loaded. Parameters are flattened to one
/// dimension: optimizers that need matrices, such as Muon or a factored Adafactor, do not work.
///
/// ```
/// use burn::module::{Module, Param};
/// use burn::optim::SgdConfig;
/// use burn::tensor::Tensor;
/// use train::{ModuleGradients, ParameterOptimizer};
///
/// #[derive(Module, Debug)]
/// struct Scale {
///     factor: Param<Tensor<1>>,
/// }
///
/// let device = testing::flex().autodiff();
/// let module = Scale { factor: Param::from_tensor(Tensor::from_floats([3.0], &device)) };
/// let gradients = ModuleGradients::from_grads(&module, module.factor.val().square().sum().backward());
/// let norm = gradients.norm();
/// let mut optimizer = ParameterOptimizer::new(SgdConfig::new().build());
/// let module = optimizer.step(module, gradients, &norm, 0.1);
/// assert!((testing::values(module.factor.val().inner())[0] - 2.4).abs() < 1e-6);
/// ```
#[derive(Clone)]
pub struct ParameterOptimizer {
    optimizer: Box<dyn ErasedOptimizer>,
    max_gradient_norm: Option<f64>,
    /// Learning rates of groups, as factors of the learning rate of a step.
    group_factors: GroupLearningRates,
}

impl ParameterOptimizer {
    /// An optimizer at its first step, without clipping.
    pub fn new<O: Optimizer>(optimizer: O) -> Self {
        Self::from_erased(Box::new(WithStates::new(optimizer, StateFormat::record())))
    }

    pub(super) fn from_erased(optimizer: Box<dyn ErasedOptimizer>) -> Self {
        Self { optimizer, max_gradient_norm: None, group_factors: GroupLearningRates::default() }
    }

    /// Scales gradients down if the norm of all gradients together exceeds `norm`.
    pub fn with_max_gradient_norm(self, norm: Option<f64>) -> Self {
        Self { max_gradient_norm: norm, ..self }
    }

    /// Gives the groups of [`TrainableWeights`](crate::TrainableWeights) learning rates of their own,
    /// at a peak of `peak` for all others.
    pub(crate) fn with_group_learning_rates(self, rates: &GroupLearningRates, peak: f64) -> Self {
        let factor = |rate: f64| rate / peak;
        let parts = rates.parts.iter().map(|(&part, &rate)| (part, factor(rate)));
        let group_factors =
            GroupLearningRates { gates: rates.gates.map(factor), parts: parts.collect() };
        Self { group_factors, ..self }
    }

    /// One step. If the norm is NaN or infinite, the step is skipped: parameters and state stay.
    ///
    /// AdamW does not synchronize with the device; other optimizers read the norm from it.
    ///
    /// # Shapes
    /// - `norm`: `[1]`, the [norm](ModuleGradients::norm) of `gradients`
    ///
    /// # Panics
    /// If a trainable parameter has no gradient.
    pub fn step<M: Module>(
        &mut self,
        module: M,
        gradients: ModuleGradients,
        norm: &Tensor<1>,
        learning_rate: f64,
    ) -> M {
        self.optimizer.resize(gradients.parameters.len());
        let apply = norm.clone().is_finite();
        if !self.optimizer.skips_on_device() {
            // A device that fails here fails at the next step too, which reports it.
            let norm = read_back(norm.clone()).ok();
            if !norm.is_some_and(|norm| norm.iter::<f32>().all(f32::is_finite)) {
                return module;
            }
        }
        // 1 if the norm is within the limit.
        let scale = self.max_gradient_norm.map(|max| norm.clone().clamp_min(max).recip() * max);
        let mut parameters = gradients.parameters.into_iter().enumerate();
        map_parameters(module, &mut |value| {
            let (index, parameter) = parameters.next().expect("one entry per parameter");
            let ParamGradient { name, is_trainable, gradient } = parameter;
            if !is_trainable {
                return value;
            }
            let gradient = gradient.unwrap_or_else(|| panic!("{name} has no gradient"));
            let gradient = match &scale {
                Some(scale) => gradient * scale.clone(),
                None => gradient,
            };
            let factor = self.group_factors.of(&name).unwrap_or(1.0);
            self.optimizer.step(index, learning_rate * factor, value, gradient, &apply)
        })
    }

    /// The same optimizer before its first step, for some number of parameters.
    pub(crate) fn without_states(&self, n_parameters: usize) -> Self {
        let mut fresh = self.clone();
        fresh.optimizer.resize(0);
        fresh.optimizer.resize(n_parameters);
        fresh
    }

    /// The state of a parameter of this shape; empty before the first step.
    pub(crate) fn state(&self, index: usize, shape: &[usize]) -> Result<ParameterState> {
        self.optimizer.state(index, shape)
    }

    /// Sets the state of a parameter.
    ///
    /// # Errors
    /// Why the state does not belong to this optimizer.
    pub(crate) fn set_state(
        &mut self,
        index: usize,
        state: ParameterState,
        parameter: &ParameterInfo,
        device: &Device,
    ) -> Result<(), String> {
        self.optimizer.set_state(index, state, parameter, device)
    }
}
