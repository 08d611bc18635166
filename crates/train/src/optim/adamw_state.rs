//! The form of AdamW's state in checkpoints: `{parameter}.moment_1` and `{parameter}.moment_2`.
//!
//! AdamW does not use Burn's own names, so that checkpoints stay readable for all versions of this
//! crate. Its time is the number of steps, because every trainable parameter takes part in every step; a
//! skipped step counts too, so that nothing has to be read from the device.

use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData};
use llama::read_back;

use super::parameter_state::{ParameterInfo, ParameterState, StateFormat, StateTensor, select};
use crate::error::Result;

const MOMENT_1: &str = "moment_1";
const MOMENT_2: &str = "moment_2";

/// The form of AdamW's state.
pub(super) const ADAMW_STATE: StateFormat<AdamWState<1>> =
    StateFormat { save, load, select: Some(select_state) };

fn select_state(
    flag: &Tensor<1, Bool>,
    new: AdamWState<1>,
    old: Option<AdamWState<1>>,
) -> AdamWState<1> {
    let AdaptiveMomentumState { time, moment_1, moment_2, .. } = new.momentum;
    let (old_1, old_2) = match old {
        Some(AdamWState { momentum, .. }) => (momentum.moment_1, momentum.moment_2),
        None => (moment_1.zeros_like(), moment_2.zeros_like()),
    };
    let (moment_1, moment_2) = (select(flag, moment_1, old_1), select(flag, moment_2, old_2));
    AdamWState::new(AdaptiveMomentumState::new(time, moment_1, moment_2))
}

fn save(state: &AdamWState<1>, shape: &[usize]) -> Result<ParameterState> {
    let AdamWState { momentum, .. } = state;
    let mut saved = ParameterState::default();
    for (name, moment) in [(MOMENT_1, &momentum.moment_1), (MOMENT_2, &momentum.moment_2)] {
        let data = read_back(moment.clone())?;
        saved.tensors.insert(name.to_owned(), StateTensor { shape: shape.to_vec(), data });
    }
    Ok(saved)
}

fn load(
    mut state: ParameterState,
    parameter: &ParameterInfo,
    device: &Device,
) -> Result<AdamWState<1>, String> {
    let ParameterInfo { name, shape, step } = parameter;
    let mut moment = |field: &str| {
        let StateTensor { shape: actual, data } =
            state.tensors.remove(field).ok_or_else(|| format!("{name}.{field} is missing"))?;
        if actual != *shape {
            return Err(format!("{name}.{field} has the shape {actual:?}, expected {shape:?}"));
        }
        let count: usize = shape.iter().product();
        let data = TensorData::from_bytes(data.into_bytes(), [count], DType::F32);
        Ok(Tensor::from_data(data, device))
    };
    let (moment_1, moment_2) = (moment(MOMENT_1)?, moment(MOMENT_2)?);
    Ok(AdamWState::new(AdaptiveMomentumState::new(*step, moment_1, moment_2)))
}
