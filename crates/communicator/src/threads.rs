//! Ranks that are threads of one process.

use std::fmt;
use std::sync::{Arc, Barrier, Mutex, PoisonError};

use crate::{Communicator, Place};

/// A rank that is a thread: for tests, and for programs that divide work without MPI.
///
/// Sums are in the order of the ranks.
pub struct Threads {
    rank: usize,
    shared: Arc<Shared>,
}

struct Shared {
    barrier: Barrier,
    /// What each rank gives to the operation that is in progress.
    given: Mutex<Vec<Vec<u8>>>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Threads({} of {})", self.rank, self.world())
    }
}

impl Threads {
    /// The ranks of a world, one for each thread.
    pub fn new(world: usize) -> Vec<Self> {
        let shared =
            Shared { barrier: Barrier::new(world), given: Mutex::new(vec![Vec::new(); world]) };
        let shared = Arc::new(shared);
        (0..world).map(|rank| Self { rank, shared: shared.clone() }).collect()
    }

    /// Runs a function once in each rank, and returns the results in the order of the ranks.
    ///
    /// # Panics
    /// If the function panics in every rank. If it panics in some of them only, the others wait forever.
    pub fn run<T: Send>(world: usize, run: impl Fn(&Self) -> T + Sync) -> Vec<T> {
        let (ranks, run) = (Self::new(world), &run);
        std::thread::scope(|scope| {
            let threads = ranks.iter().map(|rank| scope.spawn(move || run(rank)));
            let threads = threads.collect::<Vec<_>>();
            threads.into_iter().map(|thread| thread.join().expect("a rank panicked")).collect()
        })
    }

    /// What all ranks give, in their order.
    fn exchange(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let lock = || self.shared.given.lock().unwrap_or_else(PoisonError::into_inner);
        lock()[self.rank] = bytes.to_vec();
        self.shared.barrier.wait();
        let given = lock().clone();
        // Nobody gives to the next operation before all have read.
        self.shared.barrier.wait();
        given
    }
}

impl Communicator for Threads {
    fn rank(&self) -> usize {
        self.rank
    }

    fn world(&self) -> usize {
        self.shared.given.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn place(&self) -> Place {
        Place { host: "localhost".into(), local_rank: self.rank, local_world: self.world() }
    }

    fn all_reduce_sum(&self, values: &mut [f32]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        values.fill(0.0);
        for given in self.exchange(&bytes) {
            for (sum, bytes) in values.iter_mut().zip(given.as_chunks::<4>().0) {
                *sum += f32::from_le_bytes(*bytes);
            }
        }
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>();
        values.fill(0.0);
        for given in self.exchange(&bytes) {
            for (sum, bytes) in values.iter_mut().zip(given.as_chunks::<8>().0) {
                *sum += f64::from_le_bytes(*bytes);
            }
        }
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        *bytes = self.exchange(bytes).swap_remove(0);
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let parts = self.exchange(bytes);
        if self.rank == 0 { parts } else { Vec::new() }
    }

    fn barrier(&self) {
        self.exchange(&[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rank_gets_the_sums_of_all() {
        let found = Threads::run(3, |ranks| {
            let mut single = [1.0, ranks.rank() as f32];
            ranks.all_reduce_sum(&mut single);
            let mut double = [0.1 * ranks.rank() as f64];
            ranks.all_reduce_sum_f64(&mut double);
            (single, double)
        });
        assert!(found.iter().all(|found| *found == ([3.0, 3.0], [0.1 + 0.2])));
    }

    #[test]
    fn bytes_are_gathered_in_the_order_of_the_ranks_and_those_of_rank_0_broadcast() {
        let found = Threads::run(3, |ranks| {
            let own = vec![ranks.rank() as u8; ranks.rank()];
            let mut first = vec![7 + ranks.rank() as u8];
            ranks.broadcast(&mut first);
            (ranks.gather(&own), ranks.all_gather(&own), first)
        });
        let all = vec![vec![], vec![1], vec![2, 2]];
        assert_eq!(found[0], (all.clone(), all.clone(), vec![7]));
        assert_eq!(found[2], (vec![], all, vec![7]));
    }
}
