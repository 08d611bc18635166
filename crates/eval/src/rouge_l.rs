//! ROUGE-L: how much of one text occurs in another, in order.

use serde::{Deserialize, Serialize};

/// Precision, recall and F1 of the longest common subsequence of two texts' words, each 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RougeL {
    /// Fraction of the response's words that are in the subsequence.
    pub precision: f64,
    /// Fraction of the reference's words that are in the subsequence.
    pub recall: f64,
    /// The harmonic mean of both.
    pub f1: f64,
}

/// ROUGE-L of a response against its reference. All three are 0 if either has no words.
///
/// Words are runs of ASCII letters and digits in lower case, without stemming. So a text in a script
/// without them has no words: use [`token_f1`](super::token_f1) there.
///
/// ```
/// use eval::rouge_l;
///
/// let score = rouge_l("The cat is on the mat.", "The cat sat on a mat");
/// assert_eq!((score.precision, score.recall), (4.0 / 6.0, 4.0 / 6.0)); // the cat on mat
/// ```
///
/// Source: C.-Y. Lin, ROUGE: A Package for Automatic Evaluation of Summaries (2004), section 3; words
/// and their order as in Google's `rouge_score`, `rougeL` with `use_stemmer=False`.
/// <https://github.com/google-research/google-research/tree/master/rouge>
pub fn rouge_l(reference: &str, response: &str) -> RougeL {
    let (reference, response) = (words(reference), words(response));
    let common = longest_common_subsequence(&reference, &response) as f64;
    if common == 0.0 {
        return RougeL::default();
    }
    let (precision, recall) = (common / response.len() as f64, common / reference.len() as f64);
    RougeL { precision, recall, f1: 2.0 * precision * recall / (precision + recall) }
}

/// The words of a text.
fn words(text: &str) -> Vec<String> {
    // Lower case first, as there: it turns the Kelvin sign into a k.
    let text = text.to_lowercase();
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    words.filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// The length of the longest common subsequence. Time grows with the product of both lengths, memory
/// with the second.
fn longest_common_subsequence(first: &[String], second: &[String]) -> usize {
    // `lengths[n]`: of the words of `first` so far and the first n of `second`.
    let mut lengths = vec![0; second.len() + 1];
    for word in first {
        let mut diagonal = 0;
        for (index, other) in second.iter().enumerate() {
            let above = lengths[index + 1];
            lengths[index + 1] =
                if word == other { diagonal + 1 } else { above.max(lengths[index]) };
            diagonal = above;
        }
    }
    lengths[second.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_may_have_others_between_them() {
        let score = rouge_l("a b c d", "a x c d y z");
        assert_eq!((score.precision, score.recall), (0.5, 0.75));
        assert!((score.f1 - 0.6).abs() < 1e-12);
    }

    #[test]
    fn order_counts() {
        assert_eq!(rouge_l("a b", "b a").f1, 0.5);
    }

    #[test]
    fn a_text_without_words_scores_zero() {
        for (reference, response) in [("", ""), ("a", "!"), ("...", "a"), ("größe", "日本")] {
            assert_eq!(rouge_l(reference, response), RougeL::default(), "{reference} {response}");
        }
    }
}
