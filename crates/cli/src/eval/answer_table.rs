//! Scores of responses ─► a table with an interval below each score.

use ::eval::{AnswerMetrics, Estimate};

/// The titles of the columns.
const TITLES: [&str; 5] = ["loss", "perplexity", "exact match", "ROUGE-L", "token F1"];

/// Lines of the table, without its title.
#[derive(Default)]
pub struct AnswerTable {
    lines: Vec<(String, [String; 5])>,
}

impl AnswerTable {
    /// Adds the scores of a model.
    pub fn push_scores(
        &mut self,
        name: &str,
        metrics: &AnswerMetrics<Option<Estimate>>,
        perplexity: Option<Estimate>,
    ) {
        let percent = |value: f64| format!("{:.1} %", value * 100.0);
        let AnswerMetrics { loss, exact_match, rouge_l, token_f1 } = *metrics;
        self.push(
            name,
            [
                cells(loss, |value| format!("{value:.4}")),
                cells(perplexity, |value| format!("{value:.3}")),
                cells(exact_match, percent),
                cells(rouge_l, percent),
                cells(token_f1, percent),
            ],
        );
    }

    /// Adds the difference of two models, with signs.
    pub fn push_difference(&mut self, name: &str, metrics: &AnswerMetrics<Option<Estimate>>) {
        let points = |value: f64| format!("{:+.1}", value * 100.0);
        let AnswerMetrics { loss, exact_match, rouge_l, token_f1 } = *metrics;
        self.push(
            name,
            [
                cells(loss, |value| format!("{value:+.4}")),
                cells(None, points),
                cells(exact_match, points),
                cells(rouge_l, points),
                cells(token_f1, points),
            ],
        );
    }

    fn push(&mut self, name: &str, cells: [(String, String); 5]) {
        let (means, intervals) = (cells.clone().map(|(mean, _)| mean), cells.map(|(_, ci)| ci));
        self.lines.push((name.into(), means));
        self.lines.push(("  95 % CI".into(), intervals));
    }

    /// The table.
    pub fn text(&self) -> String {
        let titles = (String::new(), TITLES.map(str::to_owned));
        let lines = || [&titles].into_iter().chain(&self.lines);
        let chars = |text: &str| text.chars().count();
        let head = lines().map(|(name, _)| chars(name)).max().unwrap_or(0);
        let width = |column: usize| lines().map(|(_, cells)| chars(&cells[column])).max();
        let widths = [0, 1, 2, 3, 4].map(|column| width(column).unwrap_or(0));
        let mut text = String::new();
        for (name, cells) in lines() {
            text += &format!("{name:head$}");
            for (cell, width) in cells.iter().zip(widths) {
                text += &format!("  {cell:>width$}");
            }
            text.push('\n');
        }
        text
    }
}

/// The mean and the interval; dashes without a value.
fn cells(estimate: Option<Estimate>, format: impl Fn(f64) -> String) -> (String, String) {
    match estimate {
        None => ("-".into(), "-".into()),
        Some(Estimate { mean, interval: (low, high) }) => {
            (format(mean), format!("{} to {}", format(low), format(high)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_below_their_scores() {
        let estimate = |mean: f64| Some(Estimate { mean, interval: (mean - 0.1, mean + 0.1) });
        let metrics = AnswerMetrics {
            loss: estimate(0.5),
            exact_match: estimate(0.25),
            rouge_l: estimate(0.75),
            token_f1: None,
        };
        let mut table = AnswerTable::default();
        table.push_scores("base", &metrics, estimate(1.5));
        table.push_difference("a - base", &metrics);
        insta::assert_snapshot!(table.text(), @r"
                                 loss      perplexity       exact match           ROUGE-L  token F1
        base                   0.5000           1.500            25.0 %            75.0 %         -
          95 % CI    0.4000 to 0.6000  1.400 to 1.600  15.0 % to 35.0 %  65.0 % to 85.0 %         -
        a - base              +0.5000               -             +25.0             +75.0         -
          95 % CI  +0.4000 to +0.6000               -    +15.0 to +35.0    +65.0 to +85.0         -
        ");
    }
}
