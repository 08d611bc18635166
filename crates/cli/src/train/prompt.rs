//! How rows become prompts: the options, and the default that the model and the rows imply.

use adaption_prompt::files::read_prompt_format;
use text::{LossOn, PromptFormat, PromptTemplate};
use train::data::{ConversationRows, RecordKind, RowContext};

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
}

impl Args {
    /// The rows, and the format of their prompts.
    pub(super) fn prompted_rows(
        &self,
        built_in: &built_in::Dataset,
        notify: &dyn Fn(&str),
    ) -> Result<(TrainingData, PromptFormat)> {
        if let Some(format) = self.chosen_prompt_format()? {
            let data = self.rows(built_in, rows_for(&format.template), notify)?;
            return Ok((data, format));
        }
        let system = self.prompt.system.clone();
        let format = |template| PromptFormat { template, system };
        if self.data.is_empty() || !self.model.has_chat_template()? {
            let data = self.rows(built_in, ConversationRows::PerResponse, notify)?;
            return Ok((data, format(PromptTemplate::Alpaca)));
        }
        let data = self.rows(built_in, ConversationRows::Whole, notify)?;
        if data.report.kinds.keys().copied().any(RecordKind::is_conversation) {
            notify("prompt template: the model's own chat template, because of the conversations");
            return Ok((data, format(PromptTemplate::Chat)));
        }
        // Instructions with a history.
        let mut rows = data.train_rows.iter().chain(&data.eval_rows);
        let data = if rows.any(|row| matches!(row.context, RowContext::Turns(_))) {
            self.rows(built_in, ConversationRows::PerResponse, &|_| {})?
        } else {
            data
        };
        Ok((data, format(PromptTemplate::Alpaca)))
    }

    /// The format of the options, or of the adapter in `--from-adapter`.
    fn chosen_prompt_format(&self) -> Result<Option<PromptFormat>> {
        let stored = self.from_adapter.as_deref().map(read_prompt_format).transpose()?;
        let stored = stored.map(Option::unwrap_or_default);
        let format = match (&self.prompt.prompt_template, stored) {
            (None, None) => return Ok(None),
            (None, Some(stored)) => stored,
            (Some(template), stored) => PromptFormat {
                template: template.clone(),
                system: stored.and_then(|stored| stored.system),
            },
        };
        let system = self.prompt.system.clone().or(format.system);
        Ok(Some(PromptFormat { system, ..format }))
    }
}

/// What becomes a row for a template.
pub fn rows_for(template: &PromptTemplate) -> ConversationRows {
    if template.is_multi_turn() { ConversationRows::Whole } else { ConversationRows::PerResponse }
}
