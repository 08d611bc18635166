//! `llama-adapter man`: a folder ─► a man page for the program and for each of its commands

use std::path::PathBuf;

use crate::error::Error;
use crate::failure::Result;

/// Write the man pages into a folder: `llama-adapter.1`, `llama-adapter-train.1` and so on.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The folder; it is made if it is not there.
    folder: PathBuf,
}

pub fn run(args: &Args, command: clap::Command) -> Result {
    let Args { folder } = args;
    std::fs::create_dir_all(folder).map_err(Error::file(folder, "make the folder"))?;
    // The long version tells of the machine that this runs on, and not of the one that reads the pages.
    let command = command.long_version(env!("CARGO_PKG_VERSION"));
    clap_mangen::generate_to(command, folder).map_err(Error::file(folder, "write man pages"))?;
    Ok(())
}
