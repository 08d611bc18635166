//! Evaluation: loss, exact match and multiple choice on held-out rows, and comparisons of models.

mod accuracy;
mod confusion_matrix;
mod evaluate;
mod majority_baseline;
mod multiple_choice;
mod paired_difference;
mod parse_choice;

pub use accuracy::{Accuracy, accuracy_by_tag};
pub use confusion_matrix::ConfusionMatrix;
pub use evaluate::{LabelLoss, evaluate_loss, exact_match, generate_responses};
pub use majority_baseline::{global_majority_baseline, majority_baseline};
pub use multiple_choice::{ChoiceScoring, correct_choices, predict_choices};
pub use paired_difference::{PairedDifference, clusters_by_image};
pub use parse_choice::parse_choice;
