//! How rows become prompts: the options, and the default that the model and the rows imply.

use adaption_prompt::files::read_prompt_format;
use text::{LossOn, PromptFormat, PromptTemplate};
use train::data::{ConversationRows, RecordKind, RowContext, RowReport};
use train::{Instruction, RowStore};

use super::Args;
use super::data::TrainingData;
use crate::choice::choice;
use crate::failure::Result;
use crate::prompt_template::parse_template;

/// How rows become prompts and labels.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Prompts")]
pub struct PromptArgs {
    /// Prompt template: alpaca, chat (the model's own), chatml, llama-2, llama-3, mistral, raw (none),
    /// or a file with a chat template in Jinja. It is saved with the adapter. Default: chat if the model
    /// has a chat template and there are conversations in --data; that of --from-adapter; else alpaca.
    /// With alpaca and raw, each response of a conversation becomes a row.
    #[arg(long, value_parser = parse_template, value_name = "NAME|FILE")]
    prompt_template: Option<PromptTemplate>,
    /// System prompt of rows that have none. It is saved with the adapter.
    #[arg(long, alias = "system-prompt", value_name = "TEXT", allow_hyphen_values = true)]
    system: Option<String>,
    /// Tokens that are labels: the assistant's last turn, all of its turns, or every token of the row
    /// [default: all].
    #[arg(long, value_enum, value_name = "TURNS")]
    loss_on: Option<LossOnChoice>,
}

choice! {
    /// The values of `--loss-on`.
    enum LossOnChoice => LossOn {
        Last => Self::Last,
        All => Self::All,
        Everything => Self::Everything,
    }
}

impl PromptArgs {
    /// Which tokens are labels.
    pub fn loss_on(&self) -> LossOn {
        self.loss_on.map_or_else(LossOn::default, LossOn::from)
    }

    /// The format that the options name, over that of an adapter.
    pub fn chosen(&self, stored: Option<PromptFormat>) -> Option<PromptFormat> {
        let format = match (&self.prompt_template, stored) {
            (None, None) => return None,
            (None, Some(stored)) => stored,
            (Some(template), stored) => PromptFormat {
                template: template.clone(),
                system: stored.and_then(|stored| stored.system),
            },
        };
        let system = self.system.clone().or(format.system);
        Some(PromptFormat { system, ..format })
    }

    /// Reads rows in the form that the template needs. Without a chosen format, that is the model's chat
    /// template for conversations, if the model has one, and Alpaca's otherwise.
    ///
    /// `read` gets the form, and whether to say nothing. `contents` has the report and the rows.
    pub fn read_rows<T>(
        &self,
        chosen: Option<PromptFormat>,
        has_chat_template: impl FnOnce() -> Result<bool>,
        read: &dyn Fn(ConversationRows, bool) -> Result<T>,
        contents: &dyn Fn(&T) -> (&RowReport, bool),
    ) -> Result<(T, PromptFormat)> {
        if let Some(format) = chosen {
            return Ok((read(rows_for(&format.template), false)?, format));
        }
        let format = |template| PromptFormat { template, system: self.system.clone() };
        if !has_chat_template()? {
            let data = read(ConversationRows::PerResponse, false)?;
            return Ok((data, format(PromptTemplate::Alpaca)));
        }
        let data = read(ConversationRows::Whole, false)?;
        let (report, has_turns) = contents(&data);
        if report.kinds.keys().copied().any(RecordKind::is_conversation) {
            return Ok((data, format(PromptTemplate::Chat)));
        }
        // Instructions with a history.
        let data = if has_turns { read(ConversationRows::PerResponse, true)? } else { data };
        Ok((data, format(PromptTemplate::Alpaca)))
    }
}

impl Args {
    /// The rows, and the format of their prompts.
    pub(super) fn prompted_rows(
        &self,
        built_in: &built_in::Dataset,
        notify: &dyn Fn(&str),
    ) -> Result<(TrainingData, PromptFormat)> {
        let stored = self.from_adapter.as_deref().map(read_prompt_format).transpose()?;
        let chosen = self.prompt.chosen(stored.map(Option::unwrap_or_default));
        let is_default = chosen.is_none();
        let (data, format) = self.prompt.read_rows(
            chosen,
            || Ok(!self.data.is_empty() && self.model.has_chat_template()?),
            &|form, quiet| {
                let say_nothing = |_: &str| {};
                let notify = if quiet { &say_nothing as &dyn Fn(&str) } else { notify };
                self.rows(built_in, form, notify)
            },
            &|data: &TrainingData| {
                (&data.report, stores_turns(&data.train_rows) || stores_turns(&data.eval_rows))
            },
        )?;
        if is_default && format.template == PromptTemplate::Chat {
            notify("prompt template: the model's own chat template, because of the conversations");
        }
        Ok((data, format))
    }
}

/// Whether any row has turns before its output.
pub fn has_turns(rows: &[Instruction]) -> bool {
    rows.iter().any(|row| matches!(row.context, RowContext::Turns(_)))
}

/// As [`has_turns`]. A row that cannot be read is an error when it is trained on.
fn stores_turns(rows: &RowStore) -> bool {
    rows.iter().any(|row| row.is_ok_and(|row| matches!(row.context, RowContext::Turns(_))))
}

/// What becomes a row for a template.
pub fn rows_for(template: &PromptTemplate) -> ConversationRows {
    if template.is_multi_turn() { ConversationRows::Whole } else { ConversationRows::PerResponse }
}
