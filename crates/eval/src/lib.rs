//! Scores of answers and of choices, their intervals, and task files of lm-evaluation-harness.
//!
//! ```text
//! expected and generated texts ─► is_exact_match, rouge_l, token_f1 ─┐
//! losses of rows ────────────────────────────────────────────────────┴─► AnswerScores ─► Bootstrap ─► Estimate
//! predicted choices ─► Accuracy, ConfusionMatrix, majority_baseline
//! two models on the same rows ─► PairedDifference, AnswerScores::difference_from
//! task.yaml ─► harness::Task ─► ChoiceQuestion ─► TaskMetric
//! ```
//!
//! Nothing here runs a model: the numbers come from the caller. Everything is deterministic.
//!
//! ```
//! use eval::{Accuracy, PairedDifference, parse_choice, rouge_l};
//!
//! let options = ["(A) a flea", "(B) a cow"].map(String::from);
//! let correct = ["It is B.", "(A), because it is small", "a cow"]
//!     .map(|response| parse_choice(response, &options) == Some(1));
//! assert_eq!(Accuracy::from_correct(&correct).fraction(), 1.0 / 3.0);
//!
//! let difference = PairedDifference::new(&[false, false, true], &correct, &[0, 1, 2]);
//! assert_eq!(difference.mean, 0.0);
//!
//! assert!(rouge_l("A cow is larger.", "The cow is larger.").f1 > 0.7);
//! ```

mod accuracy;
mod answer_scores;
mod bootstrap;
mod compared_pairs;
mod confusion_matrix;
mod error;
mod exact_match;
pub mod harness;
mod majority_baseline;
mod paired_difference;
mod parse_choice;
mod rouge_l;
mod token_f1;

pub use accuracy::{Accuracy, accuracy_by_tag};
pub use answer_scores::{AnswerMetrics, AnswerScores, ResponseScores};
pub use bootstrap::{Bootstrap, Estimate};
pub use compared_pairs::compared_pairs;
pub use confusion_matrix::ConfusionMatrix;
// Errors of this crate implement it.
pub use diagnostic::{Advice, Diagnostic};
pub use error::{Error, Result};
pub use exact_match::is_exact_match;
pub use majority_baseline::{ChoiceRow, global_majority_baseline, majority_baseline};
pub use paired_difference::PairedDifference;
pub use parse_choice::parse_choice;
pub use rouge_l::{RougeL, rouge_l};
pub use token_f1::token_f1;
