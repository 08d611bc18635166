//! A question with its continuations, and which of them a model chooses.

use serde::{Deserialize, Serialize};

/// A context and the continuations among which a model chooses.
#[derive(Debug, Clone, PartialEq)]
pub struct ChoiceQuestion {
    /// The text before the choice: description, examples, question.
    pub context: String,
    /// The texts whose likelihood is computed: each choice with the delimiter before it.
    pub continuations: Vec<String>,
    /// The choices themselves.
    pub choices: Vec<String>,
    /// What is right.
    pub target: Target,
}

/// What is right, as the harness understands it.
#[derive(Debug, Clone, PartialEq)]
pub enum Target {
    /// The choice of this index; none if there is no such choice.
    Index(i64),
    /// The first choice that is this text; none if there is no such choice.
    Text(String),
    /// Any of these choices.
    Any(Vec<i64>),
}

/// How the choice is determined from the log-likelihoods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskMetric {
    /// The largest log-likelihood.
    Acc,
    /// The largest log-likelihood per character of the choice.
    AccNorm,
    /// The largest log-likelihood per byte of the choice.
    AccBytes,
}

impl TaskMetric {
    /// All metrics.
    pub const ALL: [Self; 3] = [Self::Acc, Self::AccNorm, Self::AccBytes];

    /// The harness's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Acc => "acc",
            Self::AccNorm => "acc_norm",
            Self::AccBytes => "acc_bytes",
        }
    }
}

impl ChoiceQuestion {
    /// The index of the choice that a model prefers, given the log-likelihood of each continuation in
    /// nats. The first of equal ones wins.
    ///
    /// # Panics
    /// If there is not one log-likelihood per choice.
    pub fn predicted(&self, metric: TaskMetric, log_likelihoods: &[f64]) -> usize {
        assert_eq!(log_likelihoods.len(), self.choices.len(), "one log-likelihood per choice");
        let score = |index: usize| {
            let choice = &self.choices[index];
            log_likelihoods[index]
                / match metric {
                    TaskMetric::Acc => 1.0,
                    TaskMetric::AccNorm => choice.chars().count() as f64,
                    TaskMetric::AccBytes => choice.len() as f64,
                }
        };
        (1..self.choices.len()).fold(
            0,
            |best, index| {
                if score(index) > score(best) { index } else { best }
            },
        )
    }

    /// Whether a choice is right.
    pub fn is_correct(&self, predicted: usize) -> bool {
        match &self.target {
            Target::Index(index) => usize::try_from(*index) == Ok(predicted),
            Target::Text(text) => {
                self.choices.iter().position(|choice| choice == text) == Some(predicted)
            }
            Target::Any(indices) => {
                indices.iter().any(|index| usize::try_from(*index) == Ok(predicted))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(choices: &[&str], target: Target) -> ChoiceQuestion {
        let choices = choices.iter().map(|&choice| choice.to_owned()).collect::<Vec<_>>();
        ChoiceQuestion { context: String::new(), continuations: choices.clone(), choices, target }
    }

    #[test]
    fn each_metric_divides_by_its_own_length() {
        // Per character -2, -3, -1.5; per byte -2, -1.5, -1.
        let question = question(&["a", "ä", "äb"], Target::Index(0));
        let predicted =
            TaskMetric::ALL.map(|metric| question.predicted(metric, &[-2.0, -3.0, -3.0]));
        assert_eq!(predicted, [0, 2, 2]);
        assert_eq!(question.predicted(TaskMetric::AccBytes, &[-2.0, -3.0, -4.6]), 1);
    }

    #[test]
    fn the_first_of_equal_choices_wins() {
        let equal = question(&["a", "b", "c"], Target::Index(1));
        assert_eq!(equal.predicted(TaskMetric::Acc, &[-2.0, -1.0, -1.0]), 1);
        // An empty choice has no length: the quotient is negative infinity, and never chosen.
        let empty = question(&["", "b"], Target::Index(1));
        assert_eq!(empty.predicted(TaskMetric::AccNorm, &[-1.0, -9.0]), 1);
    }

    #[test]
    fn a_target_is_an_index_a_text_or_several_indices() {
        let correct = |target: Target| {
            let question = question(&["a", "b", "b"], target);
            (0..3).map(|index| question.is_correct(index)).collect::<Vec<_>>()
        };
        assert_eq!(correct(Target::Index(2)), [false, false, true]);
        assert_eq!(correct(Target::Index(3)), [false; 3]);
        assert_eq!(correct(Target::Index(-1)), [false; 3]);
        assert_eq!(correct(Target::Text("b".into())), [false, true, false]);
        assert_eq!(correct(Target::Text("c".into())), [false; 3]);
        assert_eq!(correct(Target::Any(vec![0, 2])), [true, false, true]);
    }
}
