//! The checkpoint of a trainer: everything that an interrupted run needs to continue, in one file.
//!
//! `checkpoint.safetensors` holds the weights, their moving average if there is one, and the optimizer
//! state in f32, and the progress as JSON in its metadata. The file is renamed into place: an
//! interruption leaves the old file or the new one.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use llama::read_back;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::optim::{ParameterInfo, ParameterState, StateTensor};
use crate::trainable::{Parameter, TrainableWeights, map_parameters, parameters};
use crate::trainer::Trainer;

/// Name of the file in the folder of a run.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

const METADATA_KEY: &str = "progress";

/// Name of the moving average of a parameter.
fn average_name(parameter: &str) -> String {
    format!("ema.{parameter}")
}

impl Trainer<'_> {
    /// Saves the trainer's state, together with the caller's progress.
    ///
    /// # Errors
    /// [`Error::File`] if the file cannot be written; an older file is kept. [`Error::Model`] if the
    /// device fails.
    pub fn save_checkpoint(&self, path: &Path, progress: &impl Serialize) -> Result<()> {
        let (mut tensors, mut optimizer_scalars) = (Vec::new(), BTreeMap::new());
        for (index, parameter) in parameters(&self.trainable).into_iter().enumerate() {
            let Parameter { name, shape, value, .. } = parameter;
            let ParameterState { tensors: state, scalars } = self.optimizer.state(index, &shape)?;
            let state =
                state.into_iter().map(|(field, tensor)| (format!("{name}.{field}"), tensor));
            let scalars =
                scalars.into_iter().map(|(field, value)| (format!("{name}.{field}"), value));
            optimizer_scalars.extend(scalars);
            let state = state.collect::<Vec<_>>();
            let data = read_back(value)?;
            tensors.push((name, StateTensor { shape, data }));
            tensors.extend(state);
        }
        if let Some(average) = &self.average {
            for Parameter { name, shape, value, .. } in parameters(&average.weights) {
                let data = read_back(value)?;
                tensors.push((average_name(&name), StateTensor { shape, data }));
            }
        }
        let views = tensors.iter().map(|(name, StateTensor { shape, data })| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data.as_bytes())
                .expect("as many bytes as the shape has");
            (name.as_str(), view)
        });
        let step = self.completed_steps;
        let metadata = CheckpointMetadata { step, caller: progress, optimizer_scalars };
        let text = serde_json::to_string(&metadata).expect("plain JSON");
        let metadata = [(METADATA_KEY.to_owned(), text)].into();
        let bytes = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
        checkpoint::files::write(path, &bytes)?;
        Ok(())
    }

    /// Loads the state of a checkpoint and returns the caller's progress. On an error the trainer is
    /// unchanged.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is invalid or belongs to another adapter or optimizer.
    pub fn load_checkpoint<P: for<'de> Deserialize<'de>>(&mut self, path: &Path) -> Result<P> {
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        self.load_checkpoint_bytes(path, &bytes)
    }

    /// As [`load_checkpoint`](Self::load_checkpoint), from the content of the file.
    pub(crate) fn load_checkpoint_bytes<P: for<'de> Deserialize<'de>>(
        &mut self,
        path: &Path,
        bytes: &[u8],
    ) -> Result<P> {
        let invalid = |reason: String| Error::Checkpoint { path: path.into(), reason };
        let (_, metadata) =
            SafeTensors::read_metadata(bytes).map_err(|error| invalid(error.to_string()))?;
        let file = SafeTensors::deserialize(bytes).map_err(|error| invalid(error.to_string()))?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get(METADATA_KEY))
            .ok_or_else(|| invalid("it has no progress".into()))?;
        let CheckpointMetadata { step, caller, optimizer_scalars } = serde_json::from_str(text)
            .map_err(|error| invalid(format!("invalid progress: {error}")))?;
        let read = |name: &str, view: TensorView| -> Result<StateTensor> {
            if view.dtype() != Dtype::F32 {
                return Err(invalid(format!("{name} is {:?}, expected F32", view.dtype())));
            }
            let shape = view.shape().to_vec();
            let data = TensorData::from_bytes_vec(view.data().to_vec(), shape.clone(), DType::F32);
            Ok(StateTensor { shape, data })
        };
        let stored = file.tensors().into_iter().collect::<BTreeMap<_, _>>();

        let parameters = parameters(&self.trainable);
        let device = self.llama.device().without_autodiff();
        let mut optimizer = self.optimizer.without_states(parameters.len());
        let (mut values, mut averages) = (Vec::new(), Vec::new());
        // The values of a parameter, or of its moving average.
        let values_of = |tensor: &str, shape: &[usize]| -> Result<Tensor<1>> {
            let view = file.tensor(tensor).map_err(|error| invalid(error.to_string()))?;
            let StateTensor { shape: actual, data } = read(tensor, view)?;
            if actual != shape {
                let reason = format!("{tensor} has the shape {actual:?}, expected {shape:?}");
                return Err(invalid(reason));
            }
            let count = data.num_elements();
            let data = TensorData::from_bytes(data.into_bytes(), [count], DType::F32);
            Ok(Tensor::from_data(data, &device))
        };
        for (index, Parameter { name, shape, is_trainable, .. }) in parameters.iter().enumerate() {
            values.push(values_of(name, shape)?);
            if self.average.is_some() {
                averages.push(values_of(&average_name(name), shape)?);
            }
            if step == 0 || !is_trainable {
                continue;
            }
            let mut state = ParameterState::default();
            for (field, (key, view)) in fields_of(name, &stored) {
                state.tensors.insert(field, read(key, view.clone())?);
            }
            for (field, (_key, scalar)) in fields_of(name, &optimizer_scalars) {
                state.scalars.insert(field, scalar.clone());
            }
            let parameter = ParameterInfo { name, shape, step };
            optimizer.set_state(index, state, &parameter, &device).map_err(invalid)?;
        }
        self.trainable = with_values(self.trainable.clone(), values);
        if let Some(average) = &mut self.average {
            average.weights = with_values(average.weights.clone(), averages);
        }
        self.optimizer = optimizer;
        self.resume_from_step(step);
        Ok(caller)
    }
}

/// The weights with other values, one for each parameter.
fn with_values(weights: TrainableWeights, values: Vec<Tensor<1>>) -> TrainableWeights {
    let mut values = values.into_iter();
    map_parameters(weights, &mut |_old| values.next().expect("one value per parameter"))
}

/// The entries whose keys begin with `{name}.`, by the rest of the key.
fn fields_of<'a, T>(
    name: &str,
    entries: &'a BTreeMap<String, T>,
) -> impl Iterator<Item = (String, (&'a str, &'a T))> {
    let prefix = format!("{name}.");
    entries.range(prefix.clone()..).map_while(move |(key, value)| {
        Some((key.strip_prefix(&prefix)?.to_owned(), (key.as_str(), value)))
    })
}

#[derive(Serialize, Deserialize)]
struct CheckpointMetadata<P> {
    step: usize,
    caller: P,
    /// Scalars of the optimizer state; AdamW has none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    optimizer_scalars: BTreeMap<String, Value>,
}
