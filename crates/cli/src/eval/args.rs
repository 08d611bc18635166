//! The options of `eval` and the rows that they select.

use std::path::PathBuf;

use clap::ValueEnum;
use text::{PromptFormat, PromptTemplate};
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
use crate::prompt_template::{PromptFormats, parse_template};
use crate::train::rows_for;

/// Evaluate a model: loss, perplexity and exact match on instructions, or multiple-choice accuracy.
///
/// With --adapter, the adapted model is compared with the base model; several adapters are compared
/// with each other. Without --data, the built-in held-out instructions are used, or the built-in image
/// questions for multimodal adapters.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Evaluation data: JSON or JSON Lines with `instruction`, `input`, `output` and optionally
    /// `image` and `options`, or conversations; tables (CSV, TSV) with the same columns or `url` and
    /// `caption`; a ScienceQA folder.
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
    /// ScienceQA split.
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
    /// Prompt template for all models: alpaca, chat (the model's own), chatml, llama-2, llama-3, mistral,
    /// raw (none), or a file with a chat template in Jinja. Default: that of each adapter's training, and
    /// for the base model that of the first adapter; alpaca if nothing says otherwise.
    #[arg(long, value_parser = parse_template, value_name = "NAME|FILE")]
    prompt_template: Option<PromptTemplate>,
    /// System prompt of rows that have none [default: that of the adapter's training].
    #[arg(long, alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
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
    pub fn rows(&self, prompt: &PromptFormat) -> Result<LoadedRows> {
        if self.task == Task::ScienceQa
            && let Some(path) = self.data.iter().find(|path| !ScienceQa::is_science_qa_folder(path))
        {
            return Err(Error::usage_with_hint(
                format!("{}: not a ScienceQA folder: problems.json is missing", path.display()),
                "use --task multiple-choice for other rows with `options`",
            )
            .into());
        }
        self.load_rows(&self.data, &self.split, prompt)
    }

    /// The rows of `--train-data`.
    pub fn train_rows(&self, prompt: &PromptFormat) -> Result<Vec<Instruction>> {
        Ok(self.load_rows(&self.train_data, "train", prompt)?.rows)
    }

    fn load_rows(
        &self,
        paths: &[PathBuf],
        split: &str,
        prompt: &PromptFormat,
    ) -> Result<LoadedRows> {
        let images = self.row_images.image_folder.as_deref();
        let rows = rows_for(&prompt.template);
        Ok(self.row_options.load_rows(paths, images, split, rows, &note)?)
    }

    /// The prompt formats of the adapters.
    pub fn prompt_formats(&self) -> Result<PromptFormats> {
        Ok(PromptFormats {
            template: self.prompt_template.clone(),
            system: self.system.clone(),
            stored: self.adapters.prompt_formats()?,
        })
    }

    /// The prompt format of the base model: that of the first adapter, so that both are compared with the
    /// same prompts, or Alpaca's.
    pub fn prompt_format(&self) -> Result<PromptFormat> {
        let first = self.adapters.first_name()?;
        Ok(self.prompt_formats()?.of_or(first.as_deref(), PromptTemplate::Alpaca))
    }

    /// The requested scoring, or the default of the task.
    pub fn choice_scoring(&self) -> ChoiceScoring {
        match (self.choice_scoring, self.task) {
            (Some(choice), _) => choice.into(),
            (None, Task::ScienceQa) => ChoiceScoring::Answer,
            (None, _) => ChoiceScoring::Likelihood,
        }
    }
}
