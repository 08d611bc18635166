//! Evaluation: what needs the model. Losses of rows, responses, predicted choices, likelihoods of
//! continuations. The scores themselves are in the crate [`eval`].

mod clusters;
mod continuations;
mod evaluate;
mod multiple_choice;

pub use clusters::clusters_by_image;
pub use continuations::{Continuation, continuation_log_likelihoods};
pub use evaluate::{
    LabelLoss, ResponseLimit, evaluate_loss, evaluate_row_losses, exact_match, generate_responses,
    generate_responses_within,
};
pub use multiple_choice::{ChoiceScoring, correct_choices, predict_choices};
