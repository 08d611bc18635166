//! `llama-adapter completions`: a shell ─► its completion script

use clap_complete::Shell;

use crate::failure::Result;
use crate::output;

/// Print the completion script of a shell.
///
/// bash: `llama-adapter completions bash > ~/.local/share/bash-completion/completions/llama-adapter`;
/// zsh: into a file `_llama-adapter` in a folder of `$fpath`; fish:
/// `llama-adapter completions fish > ~/.config/fish/completions/llama-adapter.fish`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The shell.
    shell: Shell,
}

pub fn run(args: &Args, command: clap::Command) -> Result {
    Ok(output::print(&script(args.shell, command))?)
}

fn script(shell: Shell, mut command: clap::Command) -> String {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
