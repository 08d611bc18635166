//! One sum over all ranks for each step: gradients, loss, counts and signals in one flat buffer.
//!
//! ```text
//! gradients x labels │ loss x labels │ labels │ processed tokens │ stop │ save
//! ```
//!
//! Each rank computes the mean over its own labels, in whose scale nothing overflows, and multiplies it by
//! their number; the sum over ranks divided by the labels of all is the exact mean. A rank without labels
//! adds zeros. NaN and infinity stay what they are in a sum, so that all ranks skip the same steps.

use std::time::Instant;

use burn::tensor::{Device, Tensor, TensorData};
use communicator::Communicator;

use crate::error::Result;
use crate::optim::ModuleGradients;

/// What a rank tells the others with a step, and what any of them has told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StepSignals {
    /// Told to stop.
    pub stop: bool,
    /// A checkpoint is due by the clock of this rank.
    pub save: bool,
}

/// The results of a step: of one rank, and after the exchange of all ranks.
pub(crate) struct StepResult {
    /// Of the mean loss.
    pub gradients: ModuleGradients,
    /// Mean loss of a label, `[1]`.
    pub loss: Tensor<1>,
    pub labels: usize,
    pub processed_tokens: usize,
    pub signals: StepSignals,
}

/// What the exchanges of a training have cost.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct ExchangeStatistics {
    /// Number of exchanges.
    pub steps: usize,
    /// Bytes of one of them.
    pub bytes: usize,
    /// Seconds in sums, waiting for the slowest rank included.
    pub seconds: f64,
}

/// Values after the gradients and the loss.
const TAIL: usize = 6;
/// f32 counts up to 2^24 exactly: a count is two numbers of at most this size.
const COUNT_BASE: usize = 4096;

impl StepResult {
    /// Sums over all ranks. The gradients of all trainable parameters must be present.
    ///
    /// # Errors
    /// [`Error::Model`](crate::Error::Model) if the device fails.
    pub fn sum_over_ranks(
        self,
        ranks: &dyn Communicator,
        device: &Device,
        statistics: &mut ExchangeStatistics,
    ) -> Result<Self> {
        let _span = tracing::trace_span!("all-reduce").entered();
        let Self { mut gradients, loss, labels, processed_tokens, signals } = self;
        let mut values = gradients.read_with(loss)?;
        for value in &mut values {
            *value *= labels as f32;
        }
        let n_means = values.len();
        for count in [labels, processed_tokens] {
            values.extend([(count / COUNT_BASE) as f32, (count % COUNT_BASE) as f32]);
        }
        values.extend([signals.stop, signals.save].map(|signal| f32::from(u8::from(signal))));
        debug_assert_eq!(values.len(), n_means + TAIL);
        let begin = Instant::now();
        ranks.all_reduce_sum(&mut values);
        statistics.seconds += begin.elapsed().as_secs_f64();
        statistics.steps += 1;
        statistics.bytes = size_of_val(&values[..]);
        let (means, tail) = values.split_at_mut(n_means);
        let count = |high: f32, low: f32| high as usize * COUNT_BASE + low as usize;
        let labels = count(tail[0], tail[1]);
        for mean in means.iter_mut() {
            *mean /= labels.max(1) as f32;
        }
        let (flat, loss) = means.split_at(n_means - 1);
        gradients.replace(flat, device);
        Ok(Self {
            gradients,
            loss: Tensor::from_data(TensorData::new(loss.to_vec(), [1]), device),
            labels,
            processed_tokens: count(tail[2], tail[3]),
            signals: StepSignals { stop: tail[4] > 0.0, save: tail[5] > 0.0 },
        })
    }
}
