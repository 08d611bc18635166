//! The optimizer state of a parameter ◄─► named tensors and scalars of a checkpoint.

use std::collections::BTreeMap;

use burn::optim::{RecordState, StateSink, StateSource};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use serde_json::Value;

use crate::error::Result;

/// The optimizer state of one parameter, by the names of its fields.
#[derive(Debug, Default)]
pub(crate) struct ParameterState {
    pub tensors: BTreeMap<String, StateTensor>,
    pub scalars: BTreeMap<String, Value>,
}

/// A tensor of a checkpoint, in f32.
#[derive(Debug)]
pub(crate) struct StateTensor {
    pub shape: Vec<usize>,
    pub data: TensorData,
}

/// What a state is loaded for.
pub(crate) struct ParameterInfo<'a> {
    pub name: &'a str,
    pub shape: &'a [usize],
    /// Completed steps.
    pub step: usize,
}

/// The state after a step: the new one if the flag of shape `[1]` is true, otherwise the old one.
pub(super) type SelectState<S> = fn(&Tensor<1, Bool>, S, Option<S>) -> S;

/// How states of type `S` are saved, loaded, and left as they were by a skipped step.
pub(super) struct StateFormat<S> {
    /// The saved form of the state of a parameter of this shape.
    pub save: fn(&S, &[usize]) -> Result<ParameterState>,
    /// The state, or why it does not belong to the optimizer.
    pub load: fn(ParameterState, &ParameterInfo, &Device) -> Result<S, String>,
    /// Skips a step on the device; `None` if only the host can decide whether a step is applied.
    pub select: Option<SelectState<S>>,
}

impl<S> Clone for StateFormat<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for StateFormat<S> {}

impl<S: RecordState> StateFormat<S> {
    /// Burn's own names for the fields of a state.
    pub fn record() -> Self {
        Self { save: save_record, load: load_record, select: None }
    }
}

/// `new` if the flag is true, otherwise `old`; of the same shape, whatever that is.
pub(super) fn select<const D: usize>(
    flag: &Tensor<1, Bool>,
    new: Tensor<D>,
    old: Tensor<D>,
) -> Tensor<D> {
    let flag = flag.clone().reshape([1; D]).expand(new.dims());
    old.mask_where(flag, new)
}

#[expect(clippy::unnecessary_wraps, reason = "the type of `StateFormat::save`")]
fn save_record<S: RecordState>(state: &S, _shape: &[usize]) -> Result<ParameterState> {
    let mut sink = StateSink::default();
    state.state_flatten("", &mut sink);
    let tensors = sink.tensors.into_iter().map(|(name, data)| {
        let data = data.convert_dtype(DType::F32);
        (name, StateTensor { shape: data.shape().to_vec(), data })
    });
    let scalars = sink
        .scalars
        .into_iter()
        .map(|(name, scalar)| (name, serde_json::to_value(scalar).expect("plain JSON")));
    Ok(ParameterState { tensors: tensors.collect(), scalars: scalars.collect() })
}

fn load_record<S: RecordState>(
    state: ParameterState,
    parameter: &ParameterInfo,
    device: &Device,
) -> Result<S, String> {
    let name = parameter.name;
    let mut scalars = BTreeMap::new();
    for (field, value) in state.scalars {
        let scalar = serde_json::from_value(value);
        scalars.insert(field.clone(), scalar.map_err(|error| format!("{name}.{field}: {error}"))?);
    }
    let mut source = StateSource::new(scalars);
    let fields = state.tensors.keys().cloned().collect::<Vec<_>>();
    for (field, StateTensor { shape, data }) in state.tensors {
        let data = TensorData::from_bytes(data.into_bytes(), shape, DType::F32);
        source.insert_tensor(field, data);
    }
    let loaded = S::state_unflatten("", &mut source, device)
        .ok_or_else(|| format!("the optimizer state of {name} is incomplete"))?;
    // A tensor that was not taken belongs to another optimizer.
    match fields.iter().find(|field| source.take_tensor("", field).is_some()) {
        Some(field) => Err(format!("{name}.{field} is the state of another optimizer")),
        None => Ok(loaded),
    }
}
