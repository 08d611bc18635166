//! `--task answers`: loss, perplexity and exact match of the base model and of each adapter.

use llama::NoAdapter;
use serde::Serialize;
use text::{LossOn, PromptFormat};
use train::data::{RowCounts, RowEncoder, RowReport, TruncationCounts};
use train::eval::{Accuracy, exact_match, generate_responses};
use train::{BatchAdapter, Example, Instruction, evaluate_loss};

use super::args::Args;
use super::evaluated_adapters::EvaluatedAdapter;
use crate::failure::{ErrorContext, Result};
use crate::model::BaseModel;
use crate::output::note;

/// The results; the fields are the JSON keys of `eval --json`.
#[derive(Serialize)]
pub struct EvalReport {
    rows: usize,
    labels: usize,
    base: Scores,
    /// The first adapter.
    adapter: Option<Scores>,
    adapters: Vec<NamedScores>,
    #[serde(flatten)]
    counts: RowCounts,
}

#[derive(Serialize)]
struct NamedScores {
    name: String,
    #[serde(flatten)]
    scores: Scores,
}

#[derive(Clone, Copy, Serialize)]
struct Scores {
    loss: f64,
    perplexity: f64,
    exact_match: Option<f64>,
}

impl EvalReport {
    /// Evaluates the base model and every adapter.
    pub fn evaluate(
        args: &Args,
        base: &BaseModel,
        prompt: &PromptFormat,
        rows: &[Instruction],
        report: &RowReport,
        adapters: &[EvaluatedAdapter],
    ) -> Result<Self> {
        let tokenizer = base.source.tokenizer()?;
        let context = base.llama.config().max_positions;
        let max_len = args.max_len.unwrap_or(context).min(context);
        let encoder = RowEncoder::new(&tokenizer, prompt, LossOn::All)?;
        let (examples, truncation) = encoder.encode_all(rows, max_len)?;
        let mut counts = RowCounts::default();
        counts.add_report(report);
        counts.add_truncation(truncation);
        let TruncationCounts { truncated, dropped, .. } = truncation;
        if truncated + dropped > 0 {
            note(&format!(
                "{truncated} rows truncated to {max_len} tokens; {dropped} rows count as wrong and \
                 are excluded from the loss because the prompt leaves no room for a response"
            ));
        }
        let labels = examples.iter().map(Example::n_labels).sum();
        let scores = |adapter: &dyn BatchAdapter, own: &PromptFormat| {
            if own == prompt {
                return scores(args, base, &encoder, &examples, rows, adapter);
            }
            let encoder = RowEncoder::new(&tokenizer, own, LossOn::All)?;
            let (examples, _) = encoder.encode_all(rows, max_len)?;
            scores(args, base, &encoder, &examples, rows, adapter)
        };
        let base_scores =
            scores(&NoAdapter, prompt).with_context(|| "evaluating the base model".into())?;
        let mut named_scores = Vec::new();
        for EvaluatedAdapter { name, adapter, prompt } in adapters {
            let scores = scores(adapter, prompt);
            let scores = scores.with_context(|| format!("evaluating the adapter {name}"))?;
            named_scores.push(NamedScores { name: name.clone(), scores });
        }
        Ok(Self {
            rows: rows.len(),
            labels,
            base: base_scores,
            adapter: named_scores.first().map(|first| first.scores),
            adapters: named_scores,
            counts,
        })
    }

    /// The results as a table.
    pub fn table(&self) -> String {
        let adapters = self.adapters.iter().map(|named| (named.name.as_str(), &named.scores));
        let lines = [("base", &self.base)].into_iter().chain(adapters);
        let width = lines.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(10);
        let mut text = format!(
            "{} rows, {} label tokens\n{:width$}{:>10}{:>14}{:>14}\n",
            self.rows, self.labels, "", "loss", "perplexity", "exact match"
        );
        for (name, Scores { loss, perplexity, exact_match }) in lines {
            let share = exact_match.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
            text += &format!("{name:width$}{loss:>10.4}{perplexity:>14.3}{share:>14}\n");
        }
        text
    }
}

fn scores(
    args: &Args,
    base: &BaseModel,
    encoder: &RowEncoder,
    examples: &[Example],
    rows: &[Instruction],
    adapter: &dyn BatchAdapter,
) -> Result<Scores> {
    let BaseModel { llama, .. } = base;
    let batch = usize::from(args.batch_size);
    let loss = evaluate_loss(llama, adapter, examples, batch, &mut |_| {})?;
    let exact_match = if args.no_exact_match {
        None
    } else {
        let responses = generate_responses(llama, adapter, encoder, rows, batch, &mut |_| {})?;
        Some(Accuracy::from_correct(&exact_match(rows, &responses)).fraction())
    };
    Ok(Scores { loss: loss.loss, perplexity: loss.perplexity(), exact_match })
}
