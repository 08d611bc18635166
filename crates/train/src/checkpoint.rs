//! Everything a run needs to go on as if it had never stopped, in one file.
//!
//! `checkpoint.safetensors` holds what was learned and AdamW's moments in f32, and the run's
//! progress as JSON in its metadata. One file, renamed into place: a kill leaves the old one or the new one.

use std::path::Path;

use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::{DType, Tensor, TensorData};
use llama::read_back;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::trainable::{ParameterVisitor, flatten, map_parameters, visit_parameters};
use crate::trainer::Trainer;

/// Name of the file in a run's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

const METADATA_KEY: &str = "progress";

impl Trainer<'_> {
    /// Writes the trainer's state with the caller's own progress beside it.
    ///
    /// # Errors
    /// [`Error::Model`] if the file cannot be written; an older one stays.
    pub fn save_checkpoint(&self, path: &Path, progress: &impl Serialize) -> Result<()> {
        let mut collect = CollectState { named: Vec::new(), state: self.optimizer.state.iter() };
        visit_parameters(&self.trainable, &mut collect);
        let named = collect.named.into_iter();
        let named = named.map(|(name, shape, values)| Ok((name, shape, read_back(values)?)));
        let named = named.collect::<Result<Vec<_>>>()?;
        let views = named.iter().map(|(name, shape, data)| {
            let view = TensorView::new(Dtype::F32, shape.clone(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        });
        let progress = CheckpointMetadata { step: self.done, caller: progress };
        let text = serde_json::to_string(&progress).expect("plain JSON");
        let metadata = [(METADATA_KEY.to_owned(), text)].into();
        let bytes = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
        checkpoint::files::write(path, &bytes)?;
        Ok(())
    }

    /// Takes up the state of a checkpoint and gives back the caller's progress.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] for a file that is broken or belongs to another adapter.
    pub fn load_checkpoint<P: for<'de> Deserialize<'de>>(&mut self, path: &Path) -> Result<P> {
        let broken = |reason: String| Error::Checkpoint { path: path.into(), reason };
        let bytes =
            std::fs::read(path).map_err(|source| Error::Read { path: path.into(), source })?;
        let (_, metadata) =
            SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|error| broken(error.to_string()))?;
        let text = metadata
            .metadata()
            .as_ref()
            .and_then(|map| map.get(METADATA_KEY))
            .ok_or_else(|| broken("no progress in it".into()))?;
        let progress: CheckpointMetadata<P> = serde_json::from_str(text)
            .map_err(|error| broken(format!("progress is not readable: {error}")))?;
        let read = |name: &str, shape: &[usize]| -> Result<TensorData> {
            let view = file.tensor(name).map_err(|error| broken(error.to_string()))?;
            if view.shape() != shape || view.dtype() != Dtype::F32 {
                return Err(broken(format!(
                    "{name} is {:?} {:?}, expected F32 {shape:?}",
                    view.dtype(),
                    view.shape()
                )));
            }
            Ok(TensorData::from_bytes_vec(view.data().to_vec(), shape.to_vec(), DType::F32))
        };
        let mut expected = ExpectedTensors(Vec::new());
        visit_parameters(&self.trainable, &mut expected);
        let device = self.llama.device().without_autodiff();
        let tensor = |name: &str, shape: &[usize]| -> Result<Tensor<1>> {
            let data = read(name, shape)?;
            let count = data.num_elements();
            let data =
                TensorData::from_bytes_vec(data.as_bytes().to_vec(), vec![count], DType::F32);
            Ok(Tensor::from_data(data, &device))
        };
        let (mut values, mut state) = (Vec::new(), Vec::new());
        for (name, shape, learns) in &expected.0 {
            values.push(tensor(name, shape)?);
            if progress.step == 0 {
                continue;
            }
            if !learns {
                state.push(None);
                continue;
            }
            let moment = |number: usize| tensor(&format!("{name}.moment_{number}"), shape);
            // Every parameter that learns takes part in every step: AdamW's clock is the number of steps.
            let momentum = AdaptiveMomentumState::new(progress.step, moment(1)?, moment(2)?);
            state.push(Some(AdamWState::new(momentum)));
        }
        let mut values = values.into_iter();
        self.trainable = map_parameters(self.trainable.clone(), &mut |_old| {
            values.next().expect("one value for each parameter")
        });
        self.optimizer.state = state;
        self.resume_from_step(progress.step);
        Ok(progress.caller)
    }
}

#[derive(Serialize, Deserialize)]
struct CheckpointMetadata<P> {
    step: usize,
    caller: P,
}

/// Takes every parameter with its moments.
struct CollectState<'a> {
    named: Vec<(String, Vec<usize>, Tensor<1>)>,
    state: std::slice::Iter<'a, Option<AdamWState<1>>>,
}

impl ParameterVisitor for CollectState<'_> {
    fn visit_parameters<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
        let shape = value.dims().to_vec();
        self.named.push((name.to_owned(), shape.clone(), flatten(value.inner())));
        // Before the first step there is no state.
        if let Some(Some(AdamWState { momentum, .. })) = self.state.next() {
            let moments = [("moment_1", &momentum.moment_1), ("moment_2", &momentum.moment_2)];
            for (moment, values) in moments {
                self.named.push((format!("{name}.{moment}"), shape.clone(), values.clone()));
            }
        }
    }
}

/// Lists every parameter's name and shape, and whether it learns.
struct ExpectedTensors(Vec<(String, Vec<usize>, bool)>);

impl ParameterVisitor for ExpectedTensors {
    fn visit_parameters<const D: usize>(&mut self, name: &str, value: Tensor<D>) {
        let learns = value.device().is_autodiff();
        self.0.push((name.to_owned(), value.dims().to_vec(), learns));
    }
}
