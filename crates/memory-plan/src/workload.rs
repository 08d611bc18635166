//! What memory is planned for: a model, a method, a batch, a device.

use llama::{LlamaConfig, Precision};

use train::{Error, FineTuningMethod, Result};
/// A model and what it is used for.
#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    /// The model's config.
    pub config: LlamaConfig,
    /// Precision of its matrices.
    pub precision: Precision,
    /// What is trained; for generation, the adapter that is used.
    pub method: FineTuningMethod,
    /// Training or generation.
    pub kind: WorkloadKind,
    /// Sequences of a batch.
    pub batch_size: usize,
    /// Tokens of a sequence, padding included where a device pads; for generation, of the prompt.
    pub seq_len: usize,
    /// Properties of the device.
    pub device: DeviceTraits,
}

/// What a model is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkloadKind {
    /// Training steps with AdamW.
    Train {
        /// Labels of a sequence, at most `seq_len`.
        labels: usize,
        /// Whether activation checkpointing is used. Always true for a quantized base, never for a
        /// whole model.
        activation_checkpointing: bool,
    },
    /// Generation.
    Generate {
        /// Maximum number of new tokens, limited by the model's context.
        max_new_tokens: usize,
    },
}

/// Properties of a device that determine its memory use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceTraits {
    /// Whether layers use the fused operations of `kernels`: packed weights, no padding, and neither
    /// all attention scores nor all logits in memory at once.
    pub fused: bool,
    /// Whether layers are composed, but norms, SwiGLU, attention to whole sequences, and the loss with a
    /// head in f32 are fused kernels: GPUs.
    pub gpu_kernels: bool,
    /// The 16-bit precision to recommend, if any.
    pub half: Option<Precision>,
}

impl DeviceTraits {
    /// A device with fused operations: flex.
    pub fn fused() -> Self {
        Self { fused: true, gpu_kernels: false, half: Some(Precision::BF16) }
    }

    /// A GPU, with fused kernels for some operations.
    pub fn gpu(half: Option<Precision>) -> Self {
        Self { fused: false, gpu_kernels: true, half }
    }

    /// A device whose layers are composed of Burn's operations: all others, without autotune.
    pub fn composed(half: Option<Precision>) -> Self {
        Self { fused: false, gpu_kernels: false, half }
    }
}

impl Workload {
    /// Checks sizes, method and precision.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Adapter`] or [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        self.config.validate()?;
        self.method.check_precision(self.precision)?;
        if let FineTuningMethod::Adapter(adapter) = &self.method {
            adapter.validate(&(&self.config).into())?;
        }
        let at_least_1 = |field, value: usize| match value {
            0 => Err(Error::Config { field, found: "0".into(), expected: "at least 1" }),
            _ => Ok(()),
        };
        at_least_1("the batch size", self.batch_size)?;
        at_least_1("the sequence length", self.seq_len)?;
        match self.kind {
            WorkloadKind::Train { labels, .. } if labels > self.seq_len => {
                return Err(Error::Config {
                    field: "the number of labels",
                    found: labels.to_string(),
                    expected: "at most the sequence length",
                });
            }
            WorkloadKind::Train { .. } => {}
            WorkloadKind::Generate { max_new_tokens } => {
                at_least_1("the number of new tokens", max_new_tokens)?;
            }
        }
        let capacity = self.config.max_positions;
        if self.seq_len > capacity {
            let (asked, what) = (self.seq_len, "the model's context");
            return Err(llama::Error::SequenceTooLong { asked, what, capacity }.into());
        }
        Ok(())
    }

    /// Whether training keeps one layer's graph at a time.
    pub fn uses_activation_checkpointing(&self) -> bool {
        let is_requested =
            matches!(self.kind, WorkloadKind::Train { activation_checkpointing: true, .. });
        matches!(self.method, FineTuningMethod::Adapter(_))
            && (is_requested || self.precision.bits().is_some())
    }
}
