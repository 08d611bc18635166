//! Values of `--schedule`.

use train::LearningRateDecay;

use crate::choice::choice;

choice! {
    /// The course of the learning rate after the warmup.
    pub enum ScheduleChoice => LearningRateDecay {
        /// Half a cosine, down to 0.
        Cosine => Self::Cosine,
        /// A straight line down to 0.
        Linear => Self::Linear,
        /// The peak to the end.
        Constant => Self::Constant,
        /// Warmup-stable-decay: the peak, then down to 0 in the last fifth of the steps.
        Wsd => Self::Wsd,
    }
}
