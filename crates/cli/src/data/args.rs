//! The options of `data`, and the rows that they name.

use std::io::IsTerminal;
use std::path::PathBuf;

use clap::ValueEnum;
use llama::ModelSource;
use train::Instruction;
use train::data::LoadedRows;

use crate::data_args::DataArgs;
use crate::failure::Result;
use crate::model::ModelArgs;
use crate::output::note;

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
        let model = self.model.clone();
        ModelArgs { model, precision: None, device: None, threads: None, skip_device_check: false }
            .open_source()
    }

    /// The rows of FILE.
    pub fn rows(&self) -> Result<LoadedRows> {
        Ok(self.row_options.load_rows(&self.data, None, &self.split, &note)?)
    }

    /// The rows of `--eval-data`, if it is given.
    pub fn held_out_rows(&self) -> Result<Option<Vec<Instruction>>> {
        if self.eval_data.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.row_options.load_rows(&self.eval_data, None, "val", &note)?.rows))
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
