//! The options of `eval` and the rows that they select.

use std::path::{Path, PathBuf};

use text::{PromptFormat, PromptTemplate};
use train::Instruction;
use train::data::{LoadedRows, ScienceQa};
use train::eval::{ChoiceScoring, ResponseLimit};

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

/// Evaluate a model: loss and quality of responses, multiple-choice accuracy, or a task file of
/// lm-evaluation-harness.
///
/// With --adapter, the adapted model is compared with the base model; several adapters are compared
/// with each other. Every score has a 95 % confidence interval. Without --data, the built-in held-out
/// instructions are used, or the built-in image questions for multimodal adapters.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Evaluation data: JSON or JSON Lines with `instruction`, `input`, `output` and optionally
    /// `image` and `options`, or conversations; tables (CSV, TSV, Parquet) with the same columns or `url`
    /// and `caption`; a folder of such files; a ScienceQA folder; hub:owner/name[@revision][:split].
    #[arg(long, value_name = "FILE", num_args = 1..)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    row_options: DataArgs,
    /// Task: loss, exact match, ROUGE-L and token F1 of responses (answers), multiple choice on rows
    /// with `options` (multiple-choice) or on a ScienceQA folder (scienceqa), or a multiple-choice task
    /// file of lm-evaluation-harness, which names its data itself.
    #[arg(long, value_name = "TASK|FILE.yaml", default_value = "answers", value_parser = parse_task)]
    pub task: Task,
    /// Examples before each question of a task file [default: its num_fewshot].
    #[arg(long, value_name = "N")]
    pub num_fewshot: Option<usize>,
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
    /// Skip generation, which takes most of the time, and the scores of responses: exact match,
    /// ROUGE-L and token F1.
    #[arg(long, visible_alias = "no-generation")]
    pub no_exact_match: bool,
    /// Maximum number of generated tokens per response [default: 32 and twice the expected ones].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    max_new_tokens: Option<u32>,
    /// Resamples of the rows for the confidence intervals of responses.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub resamples: u32,
    /// Random seed of the resamples.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    Answers,
    MultipleChoice,
    ScienceQa,
    /// A task file of lm-evaluation-harness.
    File(PathBuf),
}

fn parse_task(text: &str) -> Result<Task, String> {
    let is_yaml = Path::new(text).extension().is_some_and(|e| e == "yaml" || e == "yml");
    match text {
        "answers" => Ok(Task::Answers),
        "multiple-choice" | "choices" => Ok(Task::MultipleChoice),
        "scienceqa" => Ok(Task::ScienceQa),
        path if is_yaml || Path::new(path).is_file() => Ok(Task::File(path.into())),
        _ => Err("expected answers, multiple-choice, scienceqa, or a .yaml file".into()),
    }
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
        self.row_options.load_rows(paths, images, split, rows, &note)
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
        match (self.choice_scoring, &self.task) {
            (Some(choice), _) => choice.into(),
            (None, Task::ScienceQa) => ChoiceScoring::Answer,
            (None, _) => ChoiceScoring::Likelihood,
        }
    }

    /// How long a response may become.
    pub fn response_limit(&self) -> ResponseLimit {
        let tokens = self.max_new_tokens.map(|tokens| ResponseLimit::Tokens(tokens as usize));
        tokens.unwrap_or(ResponseLimit::Overlap)
    }

    /// The number of rows to evaluate at most.
    pub fn row_limit(&self) -> usize {
        self.max_rows.map_or(usize::MAX, |max| max as usize)
    }
}
