//! The processes that train together, called ranks as in MPI.
//!
//! A [`Communicator`] sums, broadcasts and gathers over all ranks. There are three of them: [`Alone`], one
//! process; `Mpi`, with the feature `mpi`, the processes that `mpirun` or `srun` started; and [`Threads`],
//! threads of one process. [`Watched`] adds heartbeats, which tell which rank is dead or hung.
//!
//! ```
//! use communicator::{Communicator, Threads};
//!
//! let sums = Threads::run(3, |ranks| {
//!     let mut values = [1.0, ranks.rank() as f32];
//!     ranks.all_reduce_sum(&mut values);
//!     values
//! });
//! assert_eq!(sums, [[3.0, 3.0]; 3]);
//! ```

mod alone;
#[cfg(feature = "mpi")]
mod mpi;
mod threads;
mod watch;

use std::fmt;

pub use alone::Alone;
#[cfg(feature = "mpi")]
pub use mpi::Mpi;
pub use threads::Threads;
pub use watch::{RankFailure, RankFault, Watched};

/// The ranks of a training, seen from one of them.
///
/// Every rank calls the same operations in the same order; an operation returns when the ranks that it
/// needs have called it. Nothing returns an error: a rank whose peers have failed cannot go on. An
/// implementation ends the process or panics, or waits for a [`Watched`] to end it.
pub trait Communicator: fmt::Debug {
    /// The number of this rank, from 0. Rank 0 is the one that writes and prints.
    fn rank(&self) -> usize;

    /// Number of ranks.
    fn world(&self) -> usize;

    /// Where this rank runs.
    fn place(&self) -> Place;

    /// Replaces each value by its sum over all ranks. All ranks get the same bits, and get them again if
    /// the same number of ranks sums the same values again.
    fn all_reduce_sum(&self, values: &mut [f32]);

    /// As [`all_reduce_sum`](Self::all_reduce_sum), in double precision.
    fn all_reduce_sum_f64(&self, values: &mut [f64]);

    /// Replaces the bytes by those of rank 0.
    fn broadcast(&self, bytes: &mut Vec<u8>);

    /// The bytes of all ranks in their order, at rank 0; nothing at the others.
    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>>;

    /// Returns when every rank has called it.
    fn barrier(&self);

    /// The bytes of all ranks in their order, at each of them.
    fn all_gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let parts = self.gather(bytes);
        let mut joined = Vec::new();
        for part in &parts {
            joined.extend((part.len() as u64).to_le_bytes());
            joined.extend(part);
        }
        self.broadcast(&mut joined);
        let mut rest = &joined[..];
        let mut parts = Vec::with_capacity(self.world());
        while let Some((len, more)) = rest.split_first_chunk::<8>() {
            let (part, more) = more.split_at(u64::from_le_bytes(*len) as usize);
            parts.push(part.to_vec());
            rest = more;
        }
        parts
    }
}

impl<C: Communicator + ?Sized> Communicator for &C {
    fn rank(&self) -> usize {
        (**self).rank()
    }

    fn world(&self) -> usize {
        (**self).world()
    }

    fn place(&self) -> Place {
        (**self).place()
    }

    fn all_reduce_sum(&self, values: &mut [f32]) {
        (**self).all_reduce_sum(values);
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) {
        (**self).all_reduce_sum_f64(values);
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        (**self).broadcast(bytes);
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        (**self).gather(bytes)
    }

    fn barrier(&self) {
        (**self).barrier();
    }
}

/// Where a rank runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Name of the host.
    pub host: String,
    /// The number of the rank among those of its host, from 0.
    pub local_rank: usize,
    /// Number of ranks on the host.
    pub local_world: usize,
}
