//! The command `llama-adapter`: arguments ─► [`run`] ─► a subcommand ─► exit code
//!
//! One module per subcommand, each with its `Args` and its `run`. Results go to stdout; progress,
//! notes and errors go to stderr. Exit codes: 0 for success, 2 for wrong usage, 1 for other errors.

mod adapters;
#[cfg(feature = "serve")]
mod batch;
mod cache;
mod chat;
mod choice;
mod compare;
mod completions;
mod conversation;
mod convert;
mod dashboard;
mod data;
mod data_args;
mod defaults;
mod device_check;
mod devices;
#[cfg(feature = "serve")]
mod engine_args;
mod error;
mod eval;
mod failure;
mod fetch;
mod generate;
mod hints;
mod image_args;
mod image_conditioning;
mod image_features;
mod inspect;
mod interrupt;
mod known_models;
mod list;
mod logits;
mod man;
mod memory_size;
mod method;
mod mix;
mod model;
mod output;
mod output_path;
mod plan;
mod profile;
mod progress;
mod prompt_template;
mod ranks;
mod report;
mod response;
mod sample_responses;
mod sampling;
#[cfg(feature = "serve")]
mod serve;
mod terminal;
mod text_table;
mod tokenize;
mod train;
mod transfer_progress;
mod version;
mod warnings;
mod wheel;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Result;

/// Fine-tune a frozen Llama with LLaMA-Adapter (zero-init gated prompts) and run the result.
///
/// The base model's weights stay frozen. Training produces an adapter: a small folder that Hugging
/// Face PEFT can also load. Without `--model`, every command uses the built-in tiny model.
#[derive(Debug, Parser)]
#[command(name = "llama-adapter", version, long_version = version::LONG.as_str())]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "there is one value per run")]
enum Command {
    Train(train::Args),
    Eval(eval::Args),
    Report(report::Args),
    Compare(compare::Args),
    Data(data::Args),
    Generate(generate::Args),
    Chat(chat::Args),
    #[cfg(feature = "serve")]
    Batch(batch::Args),
    #[cfg(feature = "serve")]
    Serve(serve::Args),
    List(list::Args),
    Mix(mix::Args),
    Convert(convert::Args),
    Inspect(inspect::Args),
    Tokenize(tokenize::Args),
    Plan(plan::Args),
    Fetch(fetch::Args),
    Logits(logits::Args),
    Devices(devices::Args),
    #[command(hide = true)]
    Completions(completions::Args),
    #[command(hide = true)]
    Man(man::Args),
}

fn main() -> ExitCode {
    kernels::keep_freed_memory();
    let mut cli = Cli::parse_from(mix::escape_negative_weights(std::env::args_os()));
    match run(&mut cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(command: &mut Command) -> Result {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Report(args) => report::run(args),
        Command::Compare(args) => compare::run(args),
        Command::Data(args) => data::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        #[cfg(feature = "serve")]
        Command::Batch(args) => batch::run(args),
        #[cfg(feature = "serve")]
        Command::Serve(args) => serve::run(args),
        Command::List(args) => list::run(args),
        Command::Mix(args) => mix::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
        Command::Tokenize(args) => tokenize::run(args),
        Command::Plan(args) => plan::run(args),
        Command::Fetch(args) => fetch::run(args),
        Command::Logits(args) => logits::run(args),
        Command::Devices(args) => devices::run(args),
        Command::Completions(args) => completions::run(args, Cli::command()),
        Command::Man(args) => man::run(args, Cli::command()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_do_not_contradict_each_other() {
        Cli::command().debug_assert();
    }
}
