//! What memory is planned for: model, device, work.

use llama::{LlamaConfig, Precision};

use crate::error::{Error, Result};
use crate::learner::Method;

/// A model and what is to be done with it.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The model's sizes; its weights are not looked at.
    pub config: LlamaConfig,
    /// What its large matrices are kept in.
    pub precision: Precision,
    /// What learns; for answers, the adapter beside the base.
    pub method: Method,
    /// Training or answering.
    pub purpose: Purpose,
    /// Rows of a batch.
    pub batch: usize,
    /// Tokens of a row, padding included where a device pads; for answers, of its prompt.
    pub seq: usize,
    /// How the device works.
    pub device: DeviceTraits,
}

/// What is done with the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Steps of AdamW.
    Train {
        /// Labels of a row, at most `seq - 1`.
        labels: usize,
        /// Whether one layer's graph is kept at a time. A quantised base is always trained so, a
        /// whole model never.
        recompute: bool,
    },
    /// Answers.
    Generate {
        /// Most tokens of an answer; cut to what the model's context leaves behind the prompt.
        new_tokens: usize,
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

impl Request {
    /// Checks the sizes and the method.
    ///
    /// # Errors
    /// [`Error::Model`], [`Error::Adapter`] or [`Error::Config`].
    pub fn validate(&self) -> Result<()> {
        self.config.validate()?;
        match &self.method {
            Method::Adapter(adapter) => adapter.validate(&(&self.config).into())?,
            Method::Full if self.precision != Precision::F32 => {
                return Err(Error::Config {
                    field: "the base's precision",
                    found: self.precision.to_string(),
                    expected: "f32: all of the model's weights are to learn",
                });
            }
            Method::Full => {}
        }
        let at_least_1 = |field, value: usize| match value {
            0 => Err(Error::Config { field, found: "0".into(), expected: "at least 1" }),
            _ => Ok(()),
        };
        at_least_1("the batch size", self.batch)?;
        at_least_1("the length of a row", self.seq)?;
        match self.purpose {
            Purpose::Train { labels, .. } if labels > self.seq => {
                return Err(Error::Config {
                    field: "the number of labels",
                    found: labels.to_string(),
                    expected: "no more than the row has tokens",
                });
            }
            Purpose::Train { .. } => {}
            Purpose::Generate { new_tokens } => {
                at_least_1("the number of new tokens", new_tokens)?;
            }
        }
        let room = self.config.max_positions;
        if self.seq > room {
            let what = "the model's context";
            return Err(llama::Error::TooLong { asked: self.seq, what, room }.into());
        }
        Ok(())
    }

    /// Whether one layer's graph is kept at a time.
    pub fn recomputes(&self) -> bool {
        let asked = matches!(self.purpose, Purpose::Train { recompute: true, .. });
        matches!(self.method, Method::Adapter(_)) && (asked || self.precision.bits().is_some())
    }
}
