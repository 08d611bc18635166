//! Everything a run needs to go on as if it had never stopped, in one file.
//!
//! `checkpoint.safetensors` holds prompts, gates and AdamW's moments in f32, and the run's progress
//! as JSON in its metadata. One file, renamed into place: a kill leaves the old one or the new one.

use std::path::Path;

use adaption_prompt::LayerPrompt;
use burn::module::Param;
use burn::optim::{AdamWState, AdaptiveMomentumState};
use burn::tensor::{DType, Device, Tensor, TensorData};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::trainer::Trainer;

/// Name of the file in a run's folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";

const PROGRESS_KEY: &str = "progress";

/// Tensors by name, as they are written.
type Named = Vec<(String, TensorData)>;

impl Trainer<'_> {
    /// Writes the trainer's state with the caller's own progress beside it.
    ///
    /// # Errors
    /// [`Error::Model`] if the file cannot be written; an older one stays.
    pub fn save_checkpoint(&self, path: &Path, progress: &impl Serialize) -> Result<()> {
        let mut named = Named::new();
        let layers = self.adapter.layers.iter().zip(&self.optimizer.state);
        for (index, (layer, (prompt, gate))) in layers.enumerate() {
            push(&mut named, &format!("{index}.prompt"), &layer.prompt, prompt.as_ref());
            push(&mut named, &format!("{index}.gate"), &layer.gate, gate.as_ref());
        }
        let views = named.iter().map(|(name, data)| {
            let view = TensorView::new(Dtype::F32, data.shape().to_vec(), data.as_bytes())
                .expect("shape and bytes belong together");
            (name.as_str(), view)
        });
        let progress = Progress { step: self.done, caller: progress };
        let text = serde_json::to_string(&progress).expect("plain JSON");
        let metadata = [(PROGRESS_KEY.to_owned(), text)].into();
        let bytes = safetensors::serialize(views, Some(metadata)).expect("the views are valid");
        llama::files::write(path, &bytes)?;
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
            .and_then(|map| map.get(PROGRESS_KEY))
            .ok_or_else(|| broken("no progress in it".into()))?;
        let progress: Progress<P> = serde_json::from_str(text)
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
        let mut adapter = self.adapter.clone();
        let mut state = Vec::new();
        for (index, layer) in adapter.layers.iter_mut().enumerate() {
            let LayerPrompt { prompt, gate } = layer;
            let name = format!("{index}.prompt");
            let prompt_state = restore(&name, prompt, progress.step, &read)?;
            let name = format!("{index}.gate");
            let gate_state = restore(&name, gate, progress.step, &read)?;
            state.push((prompt_state, gate_state));
        }
        self.adapter = adapter;
        self.optimizer.state = state;
        self.done = progress.step;
        Ok(progress.caller)
    }
}

#[derive(Serialize, Deserialize)]
struct Progress<P> {
    step: usize,
    caller: P,
}

fn push<const D: usize>(
    named: &mut Named,
    name: &str,
    param: &Param<Tensor<D>>,
    state: Option<&AdamWState<D>>,
) {
    named.push((name.to_owned(), param.val().into_data()));
    if let Some(AdamWState { momentum, .. }) = state {
        named.push((format!("{name}.moment_1"), momentum.moment_1.to_data()));
        named.push((format!("{name}.moment_2"), momentum.moment_2.to_data()));
    }
}

fn restore<const D: usize>(
    name: &str,
    param: &mut Param<Tensor<D>>,
    step: usize,
    read: &dyn Fn(&str, &[usize]) -> Result<TensorData>,
) -> Result<Option<AdamWState<D>>> {
    let shape = param.val().dims();
    let device: Device = param.val().device();
    let plain = device.clone().without_autodiff();
    let value = Tensor::from_data(read(name, &shape)?, &plain);
    *param = Param::from_tensor(if device.is_autodiff() { value.autodiff() } else { value });
    if step == 0 {
        return Ok(None);
    }
    let moment = |number: usize| -> Result<Tensor<D>> {
        Ok(Tensor::from_data(read(&format!("{name}.moment_{number}"), &shape)?, &plain))
    };
    // Every parameter takes part in every step: AdamW's clock is the number of steps.
    let momentum = AdaptiveMomentumState::new(step, moment(1)?, moment(2)?);
    Ok(Some(AdamWState::new(momentum)))
}
