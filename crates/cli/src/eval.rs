//! `llama-adapter eval`: how well the base, and an adapter beside it, follow rows.

use std::path::PathBuf;

use adaption_prompt::Status;
use anyhow::Context;
use llama::{Adapter, NoAdapter, Tokenizer};
use serde::Serialize;
use train::{Example, Fitted, Instruction, answer_rows, evaluate_loss, exact_match};

use crate::adapters::AdapterArgs;
use crate::model::{Base, ModelArgs};
use crate::output::{self, note};
use crate::recipe;

/// Measure how well a model follows instructions: loss, perplexity and exact match.
///
/// With --adapter the adapted model is measured beside the base; several adapters are compared. Without any option the built-in
/// model is measured on its held-out instructions.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of rows: JSON lists or JSON lines of `instruction`, `input`, `output`.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// Leave out the answers, which take most of the time.
    #[arg(long)]
    no_exact_match: bool,
    /// Rows of a batch.
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    batch_size: u16,
    /// Longest row in tokens; longer ones lose the end of their output [default: the model's
    /// context].
    #[arg(long, value_name = "TOKENS")]
    max_len: Option<usize>,
    /// Write one line of JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    adapters: AdapterArgs,
    #[command(flatten)]
    model: ModelArgs,
}

#[derive(Serialize)]
struct Report {
    rows: usize,
    labels: usize,
    base: Scores,
    /// Of the first adapter.
    adapter: Option<Scores>,
    adapters: Vec<Named>,
}

#[derive(Serialize)]
struct Named {
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

/// Measures and reports.
pub fn run(args: &Args) -> anyhow::Result<()> {
    let rows = if args.data.is_empty() {
        recipe::need_data(args.model.model.as_ref(), "--data")?;
        recipe::built_in_test()?
    } else {
        recipe::read_all(&args.data)?
    };
    let base = args.model.load()?;
    let tokenizer = base.source.tokenizer()?;
    // Before the work begins: a wrong adapter should not cost the base's measurement.
    let adapters = args.adapters.load(&base)?;
    let context = base.llama.config().max_positions;
    let max_len = args.max_len.unwrap_or(context).min(context);
    let (examples, fitted) = Example::encode_all(&rows, &tokenizer, max_len)?;
    let Fitted { truncated, dropped, .. } = fitted;
    if truncated + dropped > 0 {
        note(&format!(
            "{truncated} rows were cut at {max_len} tokens; {dropped} count as answered wrongly and \
             not in the loss, because their prompt leaves no room for an answer"
        ));
    }
    let labels = examples.iter().map(Example::n_labels).sum();
    let measure = |adapter: &dyn Adapter| args.scores(&base, &tokenizer, &examples, &rows, adapter);
    let base_scores = measure(&NoAdapter).context("measuring the base")?;
    let mut measured = Vec::new();
    for Status { name, .. } in adapters.list() {
        let scores = measure(adapters.named(&name)?);
        let scores = scores.with_context(|| format!("measuring the adapter {name}"))?;
        measured.push(Named { name, scores });
    }
    let report = Report {
        rows: rows.len(),
        labels,
        base: base_scores,
        adapter: measured.first().map(|first| first.scores),
        adapters: measured,
    };
    if args.json {
        return output::json(&report);
    }
    output::print(&report.table())
}

impl Args {
    fn scores(
        &self,
        base: &Base,
        tokenizer: &Tokenizer,
        examples: &[Example],
        rows: &[Instruction],
        adapter: &dyn Adapter,
    ) -> anyhow::Result<Scores> {
        let Base { llama, .. } = base;
        let batch = usize::from(self.batch_size);
        let loss = evaluate_loss(llama, adapter, examples, batch, &mut |_| {})?;
        let found = if self.no_exact_match {
            None
        } else {
            let answers = answer_rows(llama, adapter, tokenizer, rows, batch, &mut |_| {})?;
            Some(exact_match(rows, &answers).share())
        };
        Ok(Scores { loss: loss.loss, perplexity: loss.perplexity(), exact_match: found })
    }
}

impl Report {
    fn table(&self) -> String {
        let adapters = self.adapters.iter().map(|own| (own.name.as_str(), &own.scores));
        let lines = [("base", &self.base)].into_iter().chain(adapters);
        let width = lines.clone().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(10);
        let mut text = format!(
            "{} rows, {} labels\n{:width$}{:>10}{:>14}{:>14}\n",
            self.rows, self.labels, "", "loss", "perplexity", "exact match"
        );
        for (name, Scores { loss, perplexity, exact_match }) in lines {
            let share = exact_match.map_or("-".into(), |share| format!("{:.1} %", share * 100.0));
            text += &format!("{name:width$}{loss:>10.4}{perplexity:>14.3}{share:>14}\n");
        }
        text
    }
}
