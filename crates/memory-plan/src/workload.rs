//! What memory is planned for: model, device, work.

use llama::{LlamaConfig, Precision};

use train::FineTuningMethod;
use train::{Error, Result};

/// A model and what is to be done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The model's sizes; its weights are not looked at.
    pub config: LlamaConfig,
    /// What its large matrices are kept in.
    pub precision: Precision,
    /// What learns; for answers, the adapter beside the base.
    pub method: FineTuningMethod,
    /// Training or answering.
    pub kind: WorkloadKind,
    /// Rows of a batch.
    pub batch_size: usize,
    /// Tokens of a row, padding included where a device pads; for answers, of its prompt.
    pub seq_len: usize,
    /// How the device works.
    pub device: DeviceTraits,
}

/// What is done with the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Steps of AdamW.
    Train {
        /// Labels of a row, at most `seq - 1`.
        labels: usize,
        /// Whether one layer's graph is kept at a time. A quantised base is always trained so, a
        /// whole model never.
        activation_checkpointing: bool,
    },
    /// Answers.
    Generate {
        /// Most tokens of an answer; cut to what the model's context leaves behind the prompt.
        max_new_tokens: usize,
    },
}

/// What sets one device's memory apart from another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTraits {
    /// Whether layers are made of the fused operations of `kernels`: packed weights, no padding, no
    /// scores, no logits that are all there at once.
    pub fused: bool,
    /// The 16-bit precision to advise, if there is one.
    pub half: Option<Precision>,
}

impl DeviceTraits {
    /// A device with fused operations: flex.
    pub fn fused() -> Self {
        Self { fused: true, half: Some(Precision::BF16) }
    }

    /// Devices that compose layers of Burn's own operations: all the others, without autotune.
    pub fn composed(half: Option<Precision>) -> Self {
        Self { fused: false, half }
    }
}

impl Workload {
    /// Checks the sizes and the method.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Adapter`] or [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        self.config.validate()?;
        match &self.method {
            FineTuningMethod::Adapter(adapter) => adapter.validate(&(&self.config).into())?,
            FineTuningMethod::Full if self.precision != Precision::F32 => {
                return Err(Error::Config {
                    field: "the base's precision",
                    found: self.precision.to_string(),
                    expected: "f32: all of the model's weights are to learn",
                });
            }
            FineTuningMethod::Full => {}
        }
        let at_least_1 = |field, value: usize| match value {
            0 => Err(Error::Config { field, found: "0".into(), expected: "at least 1" }),
            _ => Ok(()),
        };
        at_least_1("the batch size", self.batch_size)?;
        at_least_1("the length of a row", self.seq_len)?;
        match self.kind {
            WorkloadKind::Train { labels, .. } if labels > self.seq_len => {
                return Err(Error::Config {
                    field: "the number of labels",
                    found: labels.to_string(),
                    expected: "no more than the row has tokens",
                });
            }
            WorkloadKind::Train { .. } => {}
            WorkloadKind::Generate { max_new_tokens: new_tokens } => {
                at_least_1("the number of new tokens", new_tokens)?;
            }
        }
        let room = self.config.max_positions;
        if self.seq_len > room {
            let what = "the model's context";
            return Err(llama::Error::SequenceTooLong {
                asked: self.seq_len,
                what,
                capacity: room,
            }
            .into());
        }
        Ok(())
    }

    /// Whether one layer's graph is kept at a time.
    pub fn uses_activation_checkpointing(&self) -> bool {
        let asked = matches!(self.kind, WorkloadKind::Train { activation_checkpointing: true, .. });
        matches!(self.method, FineTuningMethod::Adapter(_))
            && (asked || self.precision.bits().is_some())
    }
}
