//! The command `llama-adapter`: words ─► [`run`] ─► a verb ─► exit code
//!
//! One verb a file, each with its `Args` and its `run`. stdout is data, stderr is progress, notes
//! and errors. Exit codes: 0 for success, 2 for wrong usage, 1 for anything else.

mod adapters;
mod answer;
mod chat;
mod check;
mod completions;
mod condition;
mod conversation;
mod convert;
mod devices;
mod error;
mod eval;
mod failure;
mod fetch;
mod generate;
mod images;
mod inspect;
mod interrupt;
mod known;
mod list;
mod logits;
mod man;
mod method;
mod mix;
mod model;
mod output;
mod plan;
mod profile;
mod progress;
mod recipe;
mod rows;
mod sampling;
mod shown;
mod train;
mod transfer;
mod version;
mod wheel;
mod wording;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::failure::Result;

/// Teach a frozen Llama with a small gated prompt (LLaMA-Adapter), and use what it learned.
///
/// The base model is never changed: what is learned is an adapter, a small folder that Hugging
/// Face's PEFT can read too. Without `--model` every command uses the tiny model that is built into
/// this program, so all of them can be tried at once.
#[derive(Debug, Parser)]
#[command(name = "llama-adapter", version, long_version = version::LONG.as_str())]
#[command(max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
#[expect(clippy::large_enum_variant, reason = "a run has one of it")]
enum Command {
    Train(train::Args),
    Eval(eval::Args),
    Generate(generate::Args),
    Chat(chat::Args),
    List(list::Args),
    Mix(mix::Args),
    Convert(convert::Args),
    Inspect(inspect::Args),
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
    match run(&Cli::parse_from(mix::words(std::env::args_os())).command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => error.report(),
    }
}

fn run(command: &Command) -> Result {
    match command {
        Command::Train(args) => train::run(args),
        Command::Eval(args) => eval::run(args),
        Command::Generate(args) => generate::run(args),
        Command::Chat(args) => chat::run(args),
        Command::List(args) => list::run(args),
        Command::Mix(args) => mix::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Inspect(args) => inspect::run(args),
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
