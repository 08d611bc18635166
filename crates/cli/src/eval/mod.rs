//! `llama-adapter eval`: how well the base, and an adapter beside it, follow rows.

mod choices;

use std::path::{Path, PathBuf};

use adaption_prompt::{AdapterSet, AdapterStatus};
use clap::ValueEnum;
use llama::{Llama, NoAdapter, Tokenizer};
use serde::Serialize;
use train::data::{LoadedRows, RowCounts, RowReport, ScienceQa, TruncationCounts};
use train::eval::{Accuracy, ChoiceScoring, exact_match, generate_responses};
use train::{
    BatchAdapter, Example, ImageFeatureCache, Instruction, MultimodalAdapter, evaluate_loss,
};
use vision::EncoderInfo;

use crate::adapters::AdapterArgs;
use crate::error::Error;
use crate::failure::{Doing, Result};
use crate::images::{EncoderArgs, RowImageArgs, warn_ignored_images};
use crate::model::{Base, ModelArgs};
use crate::output::{self, note};
use crate::recipe::{self, BuiltInDataset};
use crate::rows::DataArgs;

/// Measure how well a model follows instructions: loss, perplexity and exact match; or how often it
/// takes the right one of several options.
///
/// With --adapter the adapted model is measured beside the base; several adapters are compared. Without --data the
/// built-in model is measured on its held-out instructions, or, where an adapter sees, on questions about pictures.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Files of rows: JSON lists or JSON lines of `instruction`, `input`, `output`, with an `image`
    /// and `options` beside them if there are any, or of conversations; tables of the same, or of
    /// `url` and `caption`; a folder of ScienceQA.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    #[command(flatten)]
    reading: DataArgs,
    /// What is measured: how well answers are followed; or multiple choice, of any rows with
    /// `options` or of a ScienceQA folder.
    #[arg(long, value_enum, default_value_t)]
    task: Task,
    /// How a choice is found: the option that is likeliest as the answer, or the one that is read
    /// from the answer which the model writes [default: likelihood; for scienceqa answer].
    #[arg(long, value_enum, value_name = "HOW")]
    choose_by: Option<ChooseBy>,
    /// Rows that adapters learned from: multiple choice is then compared with always giving the
    /// answer that is most common among them.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    train_data: Vec<PathBuf>,
    /// Show what the last adapter mistakes for what, for each kind of row.
    #[arg(long)]
    confusion: bool,
    /// The split that is taken of a ScienceQA folder.
    #[arg(long, value_name = "NAME", default_value = "test")]
    split: String,
    /// Rows to measure with, from the first on [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_rows: Option<u32>,
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
    encoder: EncoderArgs,
    #[command(flatten)]
    row_images: RowImageArgs,
    #[command(flatten)]
    model: ModelArgs,
}

/// The choices of `--task`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Task {
    #[default]
    Answers,
    Choices,
    #[value(name = "scienceqa")]
    ScienceQa,
}

/// The choices of `--choose-by`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ChooseBy {
    Likelihood,
    Answer,
}

/// An adapter that is measured, with the images that it sees.
struct EvaluatedAdapter<'a> {
    name: String,
    adapter: MultimodalAdapter<'a>,
}

#[derive(Serialize)]
struct Report {
    rows: usize,
    labels: usize,
    base: Scores,
    /// Of the first adapter.
    adapter: Option<Scores>,
    adapters: Vec<Named>,
    #[serde(flatten)]
    counts: RowCounts,
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
pub fn run(args: &Args) -> Result {
    if args.data.is_empty() {
        recipe::require_data(&args.model, "--data")?;
    }
    let LoadedRows { mut rows, mut report } = args.rows(&args.data)?;
    let train_rows = args.reading.read_all(&args.train_data, args.images(), "train", &note)?.rows;
    let base = args.model.load()?;
    // Before the work begins: a wrong adapter should not cost the base's measurement.
    let adapters = args.adapters.load(&base)?;
    if args.data.is_empty() {
        rows = BuiltInDataset::of(sees(&adapters)?).test()?;
    }
    rows.truncate(args.max_rows.map_or(usize::MAX, |most| most as usize));
    let eyes = Eyes::open(args, &adapters, &mut rows, &mut report, &base)?;
    let subjects = eyes.subjects(&adapters, &base.llama)?;
    let text = match args.task {
        Task::Answers => {
            let report = Report::measure(args, &base, &rows, &report, &subjects)?;
            if args.json {
                return output::json(&report);
            }
            report.table()
        }
        Task::Choices | Task::ScienceQa => {
            let report =
                choices::Report::measure(args, &base, &rows, &report, &train_rows, &subjects)?;
            if args.json {
                return output::json(&report);
            }
            report.table(args.confusion)
        }
    };
    output::print(&text)
}

/// Whether any of the adapters sees images: the built-in rows are then about pictures.
fn sees(adapters: &AdapterSet) -> Result<bool> {
    for AdapterStatus { name, .. } in adapters.statuses() {
        if !adapters.get(&name)?.image_configs().is_empty() {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Args {
    fn images(&self) -> Option<&Path> {
        self.row_images.image_folder.as_deref()
    }

    fn rows(&self, paths: &[PathBuf]) -> Result<LoadedRows> {
        if self.task == Task::ScienceQa
            && let Some(path) = paths.iter().find(|path| !ScienceQa::is_science_qa_folder(path))
        {
            return Err(Error::Usage {
                message: format!(
                    "{}: no folder of ScienceQA: it has no problems.json",
                    path.display()
                ),
                hint: Some("--task choices takes other rows with `options`".into()),
            }
            .into());
        }
        Ok(self.reading.read_all(paths, self.images(), &self.split, &note)?)
    }

    fn choosing(&self) -> ChoiceScoring {
        match (self.choose_by, self.task) {
            (Some(ChooseBy::Answer), _) | (None, Task::ScienceQa) => ChoiceScoring::Answer,
            (Some(ChooseBy::Likelihood) | None, _) => ChoiceScoring::Likelihood,
        }
    }

    fn scores(
        &self,
        base: &Base,
        tokenizer: &Tokenizer,
        examples: &[Example],
        rows: &[Instruction],
        adapter: &dyn BatchAdapter,
    ) -> Result<Scores> {
        let Base { llama, .. } = base;
        let batch = usize::from(self.batch_size);
        let loss = evaluate_loss(llama, adapter, examples, batch, &mut |_| {})?;
        let found = if self.no_exact_match {
            None
        } else {
            let answers = generate_responses(llama, adapter, tokenizer, rows, batch, &mut |_| {})?;
            Some(Accuracy::from_correct(&exact_match(rows, &answers)).fraction())
        };
        Ok(Scores { loss: loss.loss, perplexity: loss.perplexity(), exact_match: found })
    }
}

/// Images of the rows, as each adapter that sees them does.
struct Eyes {
    /// One for each encoder.
    known: Vec<(Option<EncoderInfo>, ImageFeatureCache)>,
    /// Which of them each adapter sees.
    places: Vec<Option<usize>>,
}

impl Eyes {
    fn open(
        args: &Args,
        adapters: &AdapterSet,
        rows: &mut Vec<Instruction>,
        report: &mut RowReport,
        base: &Base,
    ) -> Result<Self> {
        let mut known: Vec<(Option<EncoderInfo>, ImageFeatureCache)> = Vec::new();
        let mut places = Vec::new();
        for AdapterStatus { name, .. } in adapters.statuses() {
            let images = adapters.get(&name)?.image_configs();
            let info = images.first().and_then(|image| image.encoder.clone());
            let place = known.iter().position(|(other, _)| info.is_some() && *other == info);
            let viewer = match place {
                Some(_) => None,
                None => args.encoder.viewer(&images, &base.device, &note)?,
            };
            places.push(match viewer {
                Some(viewer) => {
                    let device = &base.device;
                    let rows = &mut [&mut *rows];
                    let found = args.row_images.look(&viewer, rows, report, device, &note)?;
                    known.push((info, found));
                    Some(known.len() - 1)
                }
                None => place,
            });
        }
        if known.is_empty() {
            warn_ignored_images(rows, &note);
        }
        Ok(Self { known, places })
    }

    fn subjects<'a>(
        &'a self,
        adapters: &AdapterSet,
        llama: &'a Llama,
    ) -> Result<Vec<EvaluatedAdapter<'a>>> {
        let subjects = adapters.statuses().into_iter().zip(&self.places);
        let subject = |(AdapterStatus { name, .. }, place): (AdapterStatus, &Option<usize>)| {
            let pictures = place.map(|place| &self.known[place].1);
            let adapter = MultimodalAdapter::new(llama, adapters.get(&name)?.clone(), pictures);
            Ok(EvaluatedAdapter { name, adapter })
        };
        subjects.map(subject).collect()
    }
}

impl Report {
    fn measure(
        args: &Args,
        base: &Base,
        rows: &[Instruction],
        report: &RowReport,
        subjects: &[EvaluatedAdapter],
    ) -> Result<Self> {
        let tokenizer = base.source.tokenizer()?;
        let context = base.llama.config().max_positions;
        let max_len = args.max_len.unwrap_or(context).min(context);
        let (examples, fitted) = Example::encode_all(rows, &tokenizer, max_len)?;
        let mut counts = RowCounts::default();
        counts.add_report(report);
        counts.add_truncation(fitted);
        let TruncationCounts { truncated, dropped, .. } = fitted;
        if truncated + dropped > 0 {
            note(&format!(
                "{truncated} rows were cut at {max_len} tokens; {dropped} count as answered wrongly and \
                 not in the loss, because their prompt leaves no room for an answer"
            ));
        }
        let labels = examples.iter().map(Example::n_labels).sum();
        let measure =
            |adapter: &dyn BatchAdapter| args.scores(base, &tokenizer, &examples, rows, adapter);
        let base_scores = measure(&NoAdapter).doing(|| "measuring the base".into())?;
        let mut measured = Vec::new();
        for EvaluatedAdapter { name, adapter } in subjects {
            let scores = measure(adapter);
            let scores = scores.doing(|| format!("measuring the adapter {name}"))?;
            measured.push(Named { name: name.clone(), scores });
        }
        Ok(Self {
            rows: rows.len(),
            labels,
            base: base_scores,
            adapter: measured.first().map(|first| first.scores),
            adapters: measured,
            counts,
        })
    }

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
