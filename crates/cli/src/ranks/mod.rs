//! The ranks of a training: the processes that `mpirun` or `srun` has started, or this one alone.
//!
//! Rank 0 prints and writes. The others are silent, unless they fail alone: then their message says which
//! rank it is from, and ends all.

mod identity;
mod launcher;
mod resources;

use std::process::ExitCode;
use std::time::Duration;

use communicator::{Alone, Communicator};
#[cfg(feature = "mpi")]
use communicator::{RankFailure, RankFault, Watched};
use train::RowStore;
use train::run::{check_equal_facts, hash_rows};

#[cfg(feature = "mpi")]
use crate::error::Error;
use crate::failure::{Failure, Result};
use crate::model::{BaseModel, ModelArgs};

use identity::identity;

/// Default of `--rank-timeout`.
#[cfg(feature = "mpi")]
const RANK_TIMEOUT: Duration = Duration::from_secs(300);

/// What a build without MPI can have.
#[cfg(not(feature = "mpi"))]
type Launched = Alone;
#[cfg(feature = "mpi")]
type Launched = Watched<communicator::Mpi>;

/// The ranks of this run.
#[derive(Debug)]
pub struct Ranks {
    /// `None`: one process.
    launched: Option<Launched>,
    /// Whether the error of this rank is that of all ranks.
    is_common_error: bool,
}

impl Ranks {
    /// Joins the ranks that a launcher has started. A rank that is dead or hung for `timeout` ends this
    /// process with a message.
    #[cfg(feature = "mpi")]
    pub fn join(timeout: Option<Duration>) -> Result<Self> {
        if !launcher::is_launched() {
            return Ok(Self { launched: None, is_common_error: false });
        }
        let mpi = communicator::Mpi::init().ok_or(Error::MpiInUse)?;
        let rank = mpi.rank();
        let timeout = timeout.unwrap_or(RANK_TIMEOUT);
        let watched = Watched::start(mpi, timeout, move |failure| end_after(&failure, rank));
        if rank == 0 && !watched.unwatched().is_empty() {
            let ranks = crate::text_table::list_first(watched.unwatched(), 8, ", ");
            crate::output::note(&format!(
                "note: no connection to the ranks {ranks}: only MPI notices if they fail"
            ));
        }
        Ok(Self { launched: Some(watched), is_common_error: false })
    }

    /// One process. Fails if a launcher has started more: they would all do the same.
    #[cfg(not(feature = "mpi"))]
    pub fn join(_timeout: Option<Duration>) -> Result<Self> {
        match launcher::announced_ranks() {
            Some(ranks) if ranks > 1 => Err(crate::error::Error::NoMpi { ranks }.into()),
            _ => Ok(Self { launched: None, is_common_error: false }),
        }
    }

    /// The ranks, for a training.
    pub fn communicator(&self) -> &dyn Communicator {
        match &self.launched {
            Some(launched) => launched,
            None => &Alone,
        }
    }

    /// Whether there is one process.
    pub fn is_alone(&self) -> bool {
        self.communicator().world() == 1
    }

    /// Whether this rank prints and writes.
    pub fn is_first(&self) -> bool {
        self.communicator().rank() == 0
    }

    /// Gives this rank a device of its own and a part of the host's CPUs, unless the options do, and says what
    /// the ranks have.
    pub fn share_host(&self, model: &mut ModelArgs, notify: &dyn Fn(&str)) -> Result {
        if !self.is_alone() {
            resources::share_host(self.communicator(), model, notify)?;
        }
        Ok(())
    }

    /// Checks that all ranks have the same program, base model and rows: what they do next has no sense
    /// otherwise.
    pub fn check_equal(&mut self, base: &BaseModel, rows: &[&RowStore]) -> Result {
        if self.is_alone() {
            return Ok(());
        }
        let mut facts = identity(base.source.path());
        facts["data"] = hash_rows(rows)?.into();
        let checked = check_equal_facts(self.communicator(), &facts);
        self.is_common_error = checked.is_err();
        Ok(checked?)
    }

    /// A text of rank 0, at all ranks.
    pub fn agree_on(&self, text: String) -> String {
        let mut bytes = text.into_bytes();
        self.communicator().broadcast(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Says that all ranks have the error which this one is about to return: rank 0 reports it for all.
    pub fn mark_common_error(&mut self) {
        self.is_common_error = true;
    }

    /// Waits for the other ranks, as each must before it ends in order.
    pub fn finish(&mut self) {
        #[cfg(feature = "mpi")]
        if let Some(watched) = self.launched.take() {
            watched.finish();
        }
        self.launched = None;
    }

    /// Ends the ranks: in order if all have succeeded or have the same error, else with the message of the
    /// one that fails.
    pub fn end(mut self, result: Result) -> Result {
        if self.is_alone() {
            return result;
        }
        let Err(failure) = result else {
            self.finish();
            return Ok(());
        };
        let rank = self.communicator().rank();
        if self.is_common_error {
            self.finish();
            if rank > 0 {
                std::process::exit(failure.exit_code().into());
            }
            return Err(failure);
        }
        self.fail(failure)
    }

    /// Ends all ranks with the error of this one.
    fn fail(&mut self, failure: Failure) -> ! {
        /// Rank 0 often has the same error, and reports it for all.
        const TIME_FOR_RANK_0: Duration = Duration::from_secs(1);
        let rank = self.communicator().rank();
        let host = self.communicator().place().host;
        if rank > 0 {
            std::thread::sleep(TIME_FOR_RANK_0);
        }
        let failure = match rank {
            0 => failure,
            rank => Failure::with_context(format!("rank {rank} on {host} failed"), failure),
        };
        let _: ExitCode = failure.report();
        #[cfg(feature = "mpi")]
        if let Some(watched) = &mut self.launched {
            watched.fail();
        }
        // Without an end of MPI, which would wait for the others.
        std::process::exit(failure.exit_code().into())
    }
}

/// Ends this process because another rank has failed. One rank tells: rank 0, or rank 1 if it is rank 0 that
/// failed.
#[cfg(feature = "mpi")]
fn end_after(failure: &RankFailure, rank: usize) {
    let teller = usize::from(failure.rank == 0);
    if failure.fault != RankFault::Reported && rank == teller {
        let _: ExitCode = Failure::from(Error::RankFailed { failure: failure.clone() }).report();
    }
    std::process::exit(1);
}
