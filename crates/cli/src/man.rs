//! `llama-adapter man`: a folder ─► a man page for the program and one per command

use std::path::PathBuf;

use crate::error::Error;
use crate::failure::Result;

/// Write the man pages into a folder: `llama-adapter.1`, `llama-adapter-train.1` and so on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Output folder; created if missing.
    folder: PathBuf,
}

pub fn run(args: &Args, command: clap::Command) -> Result {
    let Args { folder } = args;
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "create the folder"))?;
    // The default long version describes this machine, not the one that shows the pages.
    let command = command.long_version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, folder).map_err(Error::file(folder, "write man pages"))?;
    Ok(())
}
