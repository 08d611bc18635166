//! Any Burn optimizer, with the states of all parameters, behind one object-safe trait.

use burn::optim::Optimizer;
use burn::tensor::{Bool, Device, Tensor};

use super::parameter_state::{ParameterInfo, ParameterState, StateFormat, select};
use crate::error::Result;

/// An optimizer with the state of each parameter, by index.
pub(super) trait ErasedOptimizer: Send + Sync {
    /// Adds empty states or drops states.
    fn resize(&mut self, n_parameters: usize);

    /// Whether [`step`](Self::step) can skip a step on the device.
    fn skips_on_device(&self) -> bool;

    /// The new value of a parameter. If `apply` of shape `[1]` is false, the value and the state stay;
    /// `apply` is ignored by an optimizer that cannot skip on the device.
    fn step(
        &mut self,
        index: usize,
        learning_rate: f64,
        value: Tensor<1>,
        gradient: Tensor<1>,
        apply: &Tensor<1, Bool>,
    ) -> Tensor<1>;

    /// The state of a parameter of this shape; empty before the first step.
    fn state(&self, index: usize, shape: &[usize]) -> Result<ParameterState>;

    /// Sets the state of a parameter, or says why it does not belong to this optimizer.
    fn set_state(
        &mut self,
        index: usize,
        state: ParameterState,
        parameter: &ParameterInfo,
        device: &Device,
    ) -> Result<(), String>;

    fn boxed_clone(&self) -> Box<dyn ErasedOptimizer>;
}

impl Clone for Box<dyn ErasedOptimizer> {
    fn clone(&self) -> Self {
        self.boxed_clone()
    }
}

/// A Burn optimizer, its states, and their form in checkpoints.
pub(super) struct WithStates<O: Optimizer> {
    optimizer: O,
    states: Vec<Option<O::State<1>>>,
    format: StateFormat<O::State<1>>,
}

impl<O: Optimizer> WithStates<O> {
    pub fn new(optimizer: O, format: StateFormat<O::State<1>>) -> Self {
        Self { optimizer, states: Vec::new(), format }
    }
}

impl<O: Optimizer> ErasedOptimizer for WithStates<O> {
    fn resize(&mut self, n_parameters: usize) {
        self.states.resize(n_parameters, None);
    }

    fn skips_on_device(&self) -> bool {
        self.format.select.is_some()
    }

    fn step(
        &mut self,
        index: usize,
        learning_rate: f64,
        value: Tensor<1>,
        gradient: Tensor<1>,
        apply: &Tensor<1, Bool>,
    ) -> Tensor<1> {
        let old_state = self.states[index].take();
        let Some(select_state) = self.format.select else {
            let (value, state) = self.optimizer.step(learning_rate, value, gradient, old_state);
            self.states[index] = state;
            return value;
        };
        let (old_value, kept_state) = (value.clone(), old_state.clone());
        let (value, state) = self.optimizer.step(learning_rate, value, gradient, old_state);
        self.states[index] = state.map(|state| select_state(apply, state, kept_state));
        select(apply, value, old_value)
    }

    fn state(&self, index: usize, shape: &[usize]) -> Result<ParameterState> {
        match self.states.get(index) {
            Some(Some(state)) => (self.format.save)(state, shape),
            _ => Ok(ParameterState::default()),
        }
    }

    fn set_state(
        &mut self,
        index: usize,
        state: ParameterState,
        parameter: &ParameterInfo,
        device: &Device,
    ) -> Result<(), String> {
        self.states[index] = Some((self.format.load)(state, parameter, device)?);
        Ok(())
    }

    fn boxed_clone(&self) -> Box<dyn ErasedOptimizer> {
        Box::new(Self {
            optimizer: self.optimizer.clone(),
            states: self.states.clone(),
            format: self.format,
        })
    }
}
