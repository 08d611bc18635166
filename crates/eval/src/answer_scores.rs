//! Rows with expected answers ─► a model's scores, with intervals, and the difference of two models.

use serde::{Deserialize, Serialize};

use super::bootstrap::{Bootstrap, Estimate};
use super::exact_match::is_exact_match;
use super::rouge_l::rouge_l;
use super::token_f1::token_f1;

/// A model's results on rows, one entry per row and field; equal rows for every model.
///
/// ```
/// use eval::{AnswerScores, Bootstrap};
///
/// let expected = ["A cow.", "Red.", "Two."];
/// let mut base = AnswerScores::new(vec![6.0, 3.0, 4.0], vec![3, 2, 2]);
/// base.add_responses(&expected, &["A cow, I think.", "Blue.", "Two."]);
/// let mut adapted = AnswerScores::new(vec![3.0, 1.0, 2.0], vec![3, 2, 2]);
/// adapted.add_responses(&expected, &["A cow.", "Red.", "Two."]);
///
/// let clusters = [0, 1, 2]; // independent rows
/// let bootstrap = Bootstrap::default();
/// let summary = adapted.summary(&bootstrap, &clusters);
/// assert_eq!(summary.loss.unwrap().mean, 6.0 / 7.0);
/// assert_eq!(summary.exact_match.unwrap().mean, 1.0);
/// let difference = adapted.difference_from(&base, &bootstrap, &clusters);
/// assert!(difference.loss.unwrap().mean < 0.0);
/// ```
#[derive(Debug, Clone, PartialEq, Default)]
pub struct AnswerScores {
    /// Sum of the negative log-likelihoods of each row's labels, in nats. A row without labels has 0.
    pub losses: Vec<f64>,
    /// Number of labels of each row.
    pub labels: Vec<usize>,
    /// What was generated; `None` without generation.
    pub responses: Option<ResponseScores>,
}

/// How generated responses compare with the expected ones, one entry per row.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResponseScores {
    /// 1 for a response that [equals](is_exact_match) the expected one, else 0.
    pub exact_match: Vec<f64>,
    /// F1 of [ROUGE-L](rouge_l).
    pub rouge_l: Vec<f64>,
    /// [Token F1](token_f1).
    pub token_f1: Vec<f64>,
}

/// One value per metric, of all rows: of a model, or of the difference of two models.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct AnswerMetrics<T> {
    /// Mean negative log-likelihood of a label, in nats.
    pub loss: T,
    /// Fraction of responses that equal the expected one.
    pub exact_match: T,
    /// Mean F1 of ROUGE-L.
    pub rouge_l: T,
    /// Mean token F1.
    pub token_f1: T,
}

impl AnswerScores {
    /// The loss and the number of labels of each row.
    ///
    /// # Panics
    /// If they differ in length.
    pub fn new(losses: Vec<f64>, labels: Vec<usize>) -> Self {
        assert_eq!(losses.len(), labels.len(), "one loss per row");
        Self { losses, labels, responses: None }
    }

    /// Scores the response of each row.
    ///
    /// # Panics
    /// If there is not one per row.
    pub fn add_responses(&mut self, expected: &[impl AsRef<str>], responses: &[impl AsRef<str>]) {
        assert_eq!(expected.len(), self.losses.len(), "one expected response per row");
        assert_eq!(responses.len(), self.losses.len(), "one response per row");
        let score = |score: fn(&str, &str) -> f64| -> Vec<f64> {
            let pairs = expected.iter().zip(responses);
            pairs.map(|(expected, response)| score(expected.as_ref(), response.as_ref())).collect()
        };
        self.responses = Some(ResponseScores {
            exact_match: score(|expected, response| is_exact_match(expected, response).into()),
            rouge_l: score(|expected, response| rouge_l(expected, response).f1),
            token_f1: score(token_f1),
        });
    }

    /// The metrics with their intervals; `None` for those of responses that were not generated, and
    /// for the loss of rows without a label. Rows with equal numbers in `clusters` are not independent.
    ///
    /// # Panics
    /// If there is not one cluster per row.
    pub fn summary(
        &self,
        bootstrap: &Bootstrap,
        clusters: &[usize],
    ) -> AnswerMetrics<Option<Estimate>> {
        let weights = self.labels.iter().map(|&labels| labels as f64).collect::<Vec<_>>();
        let mean = |of: fn(&ResponseScores) -> &Vec<f64>| {
            self.responses.as_ref().map(|responses| bootstrap.mean(of(responses), clusters))
        };
        AnswerMetrics {
            loss: (weights.iter().sum::<f64>() > 0.0)
                .then(|| bootstrap.ratio(&self.losses, &weights, clusters)),
            exact_match: mean(|responses| &responses.exact_match),
            rouge_l: mean(|responses| &responses.rouge_l),
            token_f1: mean(|responses| &responses.token_f1),
        }
    }

    /// How much larger each metric is than that of another model on the same rows, with the interval of
    /// the paired difference. There is none of losses over other labels, as of models with other prompts.
    ///
    /// # Panics
    /// If the other model has another number of rows.
    pub fn difference_from(
        &self,
        other: &Self,
        bootstrap: &Bootstrap,
        clusters: &[usize],
    ) -> AnswerMetrics<Option<Estimate>> {
        assert_eq!(self.losses.len(), other.losses.len(), "both models have the same rows");
        let subtract = |own: &[f64], other: &[f64]| -> Vec<f64> {
            own.iter().zip(other).map(|(own, other)| own - other).collect()
        };
        let responses = self.responses.as_ref().zip(other.responses.as_ref());
        let responses = responses.map(|(own, other)| ResponseScores {
            exact_match: subtract(&own.exact_match, &other.exact_match),
            rouge_l: subtract(&own.rouge_l, &other.rouge_l),
            token_f1: subtract(&own.token_f1, &other.token_f1),
        });
        let losses = subtract(&self.losses, &other.losses);
        let same_labels = self.labels == other.labels;
        let labels = if same_labels { self.labels.clone() } else { vec![0; losses.len()] };
        Self { losses, labels, responses }.summary(bootstrap, clusters)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(losses: &[f64], labels: &[usize], responses: &[&str]) -> AnswerScores {
        let mut scores = AnswerScores::new(losses.to_vec(), labels.to_vec());
        scores.add_responses(&["a b", "c"], responses);
        scores
    }

    #[test]
    fn the_loss_is_a_mean_over_labels_and_the_others_over_rows() {
        let scores = scores(&[4.0, 1.0], &[2, 1], &["a b", "d"]);
        let found = scores.summary(&Bootstrap::default(), &[0, 1]);
        let mean = |estimate: Option<Estimate>| estimate.unwrap().mean;
        assert_eq!(mean(found.loss), 5.0 / 3.0);
        assert_eq!([found.exact_match, found.rouge_l].map(mean), [0.5, 0.5]);
        // Without the article, `b` remains of `a b`.
        assert_eq!(mean(found.token_f1), 0.5);
    }

    #[test]
    fn without_responses_there_is_only_the_loss() {
        let scores = AnswerScores::new(vec![1.0, 0.0], vec![1, 0]);
        let found = scores.summary(&Bootstrap::default(), &[0, 1]);
        assert_eq!(found.loss.map(|loss| loss.mean), Some(1.0));
        assert_eq!((found.exact_match, found.rouge_l, found.token_f1), (None, None, None));
        let none = AnswerScores::new(vec![0.0], vec![0]).summary(&Bootstrap::default(), &[0]);
        assert_eq!(none.loss, None);
    }

    #[test]
    fn a_difference_is_paired_by_row() {
        // Both models vary much between rows, their difference does not.
        let first = scores(&[10.0, 1.0], &[1, 1], &["x", "c"]);
        let second = scores(&[9.0, 0.0], &[1, 1], &["a b", "c"]);
        let found = second.difference_from(&first, &Bootstrap::default(), &[0, 1]);
        assert_eq!(found.loss, Some(Estimate { mean: -1.0, interval: (-1.0, -1.0) }));
        assert_eq!(found.exact_match.map(|gain| gain.mean), Some(0.5));
    }

    #[test]
    fn losses_over_other_labels_are_not_compared() {
        let first = scores(&[4.0, 1.0], &[2, 1], &["a b", "d"]);
        let second = scores(&[4.0, 1.0], &[3, 1], &["a b", "c"]);
        let found = second.difference_from(&first, &Bootstrap::default(), &[0, 1]);
        assert_eq!((found.loss, found.exact_match.map(|gain| gain.mean)), (None, Some(0.5)));
    }

    #[test]
    fn a_model_does_not_differ_from_itself() {
        let own = scores(&[10.0, 1.0], &[3, 1], &["x", "c"]);
        let found = own.difference_from(&own, &Bootstrap::default(), &[0, 1]);
        assert_eq!(found.rouge_l, Some(Estimate { mean: 0.0, interval: (0.0, 0.0) }));
        assert!(!found.loss.unwrap().excludes_zero());
    }
}
