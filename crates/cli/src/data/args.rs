//! The options of `data`, and the rows that they name.

use std::cell::RefCell;
use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;
use llama::ModelSource;
use text::{PromptFormat, Tokenizer};
use train::Instruction;
use train::data::LoadedRows;

use crate::data_args::{DataArgs, RowRequest, finish_rejects};
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output::note;
use crate::train::{PromptArgs, has_turns, rows_for};

/// Show what a model will see of data: rows with the tokens that are trained on, lengths, what is cut or
/// dropped, duplicates, rows of the held-out data, and what batches waste.
///
/// The model's weights are not loaded.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data, as `train --data` takes it.
    #[arg(value_name = "FILE", required = true)]
    pub data: Vec<PathBuf>,
    #[command(flatten)]
    row_options: DataArgs,
    #[command(flatten)]
    pub prompt: PromptArgs,
    /// Held-out data, to find rows of FILE that occur in it.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    eval_data: Vec<PathBuf>,
    /// Split of FILE, where it has several.
    #[arg(long, value_name = "NAME", default_value = "train")]
    split: String,
    /// The model whose tokenizer is used: a folder, a .gguf file, the name of a fetched model or a Hugging
    /// Face Hub id [default: the built-in tiny model].
    #[arg(long, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Maximum sequence length in tokens [default: the model's context].
    #[arg(long, value_name = "TOKENS")]
    max_len: Option<usize>,
    /// Batch size whose padding is computed.
    #[arg(long, value_name = "B", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..))]
    pub batch_size: u16,
    /// Tokens of a batch of similar rows whose padding is computed [default: as many as --batch-size rows
    /// have on average].
    #[arg(long, value_name = "TOKENS", value_parser = clap::value_parser!(u32).range(1..))]
    pub batch_tokens: Option<u32>,
    /// Random seed of the order of rows in batches.
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    pub seed: u64,
    /// Share of common text, from 0 to 1, from which on rows are similar.
    #[arg(long, value_name = "SHARE", default_value_t = 0.8, value_parser = parse_share)]
    pub similarity: f64,
    /// Number of rows to print.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub rows: usize,
    /// Colors of tokens: auto (on a terminal, unless NO_COLOR is set), always, never. Without colors,
    /// tokens that are trained on are in ⟦brackets⟧.
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    color: Color,
    /// Print one line of JSON instead of text.
    #[arg(long)]
    pub json: bool,
}

/// What `data` reads.
pub struct DataRows {
    pub rows: LoadedRows,
    /// The rows of `--eval-data`.
    pub held_out: Option<Vec<Instruction>>,
    /// The format of the rows' prompts.
    pub format: PromptFormat,
}

/// The values of `--color`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Color {
    #[default]
    Auto,
    Always,
    Never,
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse::<f64>().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "expected a number from 0 to 1".into())
}

impl Args {
    /// The model, without its weights.
    pub fn model_source(&self) -> Result<ModelSource> {
        ModelArgs::of(self.model.clone()).open_source()
    }

    /// The rows of FILE, those of `--eval-data` if it is given, and the format of their prompts.
    pub fn rows(&self, tokenizer: &Tokenizer) -> Result<DataRows> {
        let rejects = RefCell::new(None);
        let read = |sources: &[PathBuf], split: &str, conversations, notify: &dyn Fn(&str)| {
            let rejects = rejects.borrow();
            let rejects = Option::as_ref(&rejects);
            let request = RowRequest { images: None, split, conversations, rejects, notify };
            self.row_options.collect_rows(sources, request)
        };
        let (rows, format) = self.prompt.read_rows(
            self.prompt.chosen(None),
            || Ok(tokenizer.chat_template.is_some()),
            &|form, quiet| {
                let say_nothing = |_: &str| {};
                let notify = if quiet { &say_nothing as &dyn Fn(&str) } else { &note };
                // Records of rows that are read again in another form are rejected once.
                *rejects.borrow_mut() = self.row_options.reject_file()?;
                read(&self.data, &self.split, form, notify)
            },
            &|loaded: &LoadedRows| (&loaded.report, has_turns(&loaded.rows)),
        )?;
        let held_out = match &self.eval_data[..] {
            [] => None,
            sources => Some(read(sources, "val", rows_for(&format.template), &note)?.rows),
        };
        finish_rejects(rejects.borrow().as_ref(), &note)?;
        Ok(DataRows { rows, held_out, format })
    }

    /// The maximum sequence length for a model with this context.
    pub fn max_len(&self, context: usize) -> usize {
        self.max_len.unwrap_or(context).min(context)
    }

    /// Whether tokens are colored.
    pub fn is_colored(&self) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            // https://no-color.org: any value but an empty one.
            Color::Auto => {
                std::io::stdout().is_terminal()
                    && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            }
        }
    }
}
