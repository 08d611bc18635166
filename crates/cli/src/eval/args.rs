//! The options of `eval` and the rows that they select.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use train::Instruction;
use train::data::{LoadedRows, ScienceQa};
use train::eval::ChoiceScoring;

use crate::adapters::AdapterArgs;
use crate::choice::choice;
use crate::data_args::DataArgs;
use crate::error::Error;
use crate::failure::Result;
use crate::image_args::{EncoderArgs, RowImageArgs};
use crate::model::ModelArgs;
use crate::output::note;

/// Evaluate a model: loss, perplexity and exact match on instructions, or multiple-choice accuracy.
///
/// With --adapter, the adapted model is compared with the base model; several adapters are compared
/// with each other. Without --data, the built-in held-out instructions are used, or the built-in image
/// questions for multimodal adapters.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Evaluation data: JSON or JSON Lines with `instruction`, `input`, `output` and optionally
    /// `image` and `options`, or conversations; tables (CSV, TSV, Parquet) with the same columns or `url`
    /// and `caption`; a folder of such files; a ScienceQA folder; hub:owner/name[@revision][:split].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    row_options: DataArgs,
    /// Task: loss and exact match of responses, or multiple choice on rows with `options` or a
    /// ScienceQA folder.
    #[arg(long, value_enum, default_value_t)]
    pub task: Task,
    /// Choice scoring: the option with the highest likelihood, or the option parsed from the generated
    /// response [default: likelihood; scienceqa: generation].
    #[arg(long, alias = "choose-by", value_enum, value_name = "SCORING")]
    choice_scoring: Option<ScoringChoice>,
    /// Training data, for a majority-class baseline in multiple choice.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    train_data: Vec<PathBuf>,
    /// Print the confusion matrix of the last adapter for each tag.
    #[arg(long, alias = "confusion")]
    pub confusion_matrix: bool,
    /// Split of folders and data sets.
    #[arg(long, value_name = "NAME", default_value = "test")]
    split: String,
    /// Evaluate only the first N rows [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub max_rows: Option<u32>,
    /// Skip generation and exact match, which take most of the time.
    #[arg(long)]
    pub no_exact_match: bool,
    /// Batch size.
    #[arg(long, value_name = "B", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Maximum sequence length in tokens; longer outputs are truncated [default: the model's context].
    #[arg(long, value_name = "TOKENS")]
    pub max_len: Option<usize>,
    /// Print one line of JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub adapters: AdapterArgs,
    #[command(flatten)]
    pub encoder: EncoderArgs,
    #[command(flatten)]
    pub row_images: RowImageArgs,
    #[command(flatten)]
    pub model: ModelArgs,
}

/// The values of `--task`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum Task {
    #[default]
    Answers,
    #[value(alias = "choices")]
    MultipleChoice,
    #[value(name = "scienceqa")]
    ScienceQa,
}

choice! {
    /// The values of `--choice-scoring`.
    enum ScoringChoice => ChoiceScoring {
        Likelihood => Self::Likelihood,
        #[value(alias = "answer")]
        Generation => Self::Answer,
    }
}

impl Args {
    /// The rows of `--data`; of ScienceQA folders those of `--split`.
    pub fn rows(&self) -> Result<LoadedRows> {
        if self.task == Task::ScienceQa
            && let Some(path) = self.data.iter().find(|path| !ScienceQa::is_science_qa_folder(path))
        {
            return Err(Error::usage_with_hint(
                format!("{}: not a ScienceQA folder: problems.json is missing", path.display()),
                "use --task multiple-choice for other rows with `options`",
            )
            .into());
        }
        self.row_options.load_rows(&self.data, self.image_folder(), &self.split, &note)
    }

    /// The rows of `--train-data`.
    pub fn train_rows(&self) -> Result<Vec<Instruction>> {
        let paths = &self.train_data;
        Ok(self.row_options.load_rows(paths, self.image_folder(), "train", &note)?.rows)
    }

    /// The requested scoring, or the default of the task.
    pub fn choice_scoring(&self) -> ChoiceScoring {
        match (self.choice_scoring, self.task) {
            (Some(choice), _) => choice.into(),
            (None, Task::ScienceQa) => ChoiceScoring::Answer,
            (None, _) => ChoiceScoring::Likelihood,
        }
    }

    fn image_folder(&self) -> Option<&Path> {
        self.row_images.image_folder.as_deref()
    }
}
