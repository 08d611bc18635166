//! Heartbeats beside a communicator: which rank is dead, hung or far behind?
//!
//! ```text
//! rank 1 ── heartbeat, progress ──►        ◄── heartbeat, progress ── rank 2
//!                                   rank 0
//! ```
//!
//! Each rank has a connection to rank 0 and a thread that sends heartbeats over it, whatever the rank itself
//! does: an operation of MPI waits without end for a rank that is gone. A connection that closes tells at
//! once that a process has ended. One that is silent tells after the time limit that a host or a network is
//! down, or a process stopped. The progress in a heartbeat tells who lets the others wait.

mod connect;
mod heartbeat;
mod monitor;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::{Communicator, Place};
use connect::connect;
use monitor::{Monitor, Peers};

/// What is wrong with a rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RankFault {
    /// Its process ended, or its host closed the connection.
    Ended,
    /// It has sent no heartbeat for this time.
    Silent(Duration),
    /// The others have waited this time for it in a sum.
    Behind(Duration),
    /// It has failed and reported its error itself.
    Reported,
}

/// A rank without which the others cannot go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RankFailure {
    /// The rank.
    pub rank: usize,
    /// Its host.
    pub host: String,
    /// What is wrong with it.
    pub fault: RankFault,
}

impl fmt::Display for RankFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rank, host, fault } = self;
        write!(f, "rank {rank} on {host} ")?;
        match fault {
            RankFault::Ended => write!(f, "ended unexpectedly"),
            RankFault::Silent(time) => write!(f, "sent no heartbeat for {time:.0?}"),
            RankFault::Behind(time) => write!(f, "let the other ranks wait for {time:.0?}"),
            RankFault::Reported => write!(f, "failed"),
        }
    }
}

impl std::error::Error for RankFailure {}

/// The state of a rank that its heartbeats tell.
#[derive(Debug)]
struct Pulse {
    /// Twice the number of finished sums, and one more during a sum.
    progress: AtomicU64,
    phase: AtomicU8,
}

/// Values of [`Pulse::phase`].
const RUNNING: u8 = 0;
/// The rank has done its work.
const DONE: u8 = 1;
/// The rank has reported an error.
const FAILED: u8 = 2;
/// The rank is gone: its thread ends without a word.
const DROPPED: u8 = 3;

/// A communicator with heartbeats.
///
/// Dropped without [`finish`](Self::finish), it counts as a process that ended.
#[derive(Debug)]
pub struct Watched<C: Communicator> {
    inner: C,
    pulse: Arc<Pulse>,
    thread: Option<JoinHandle<()>>,
    unwatched: Vec<usize>,
}

impl<C: Communicator> Watched<C> {
    /// Starts the heartbeats of all ranks. `on_failure` is called once at most, on another thread, with the
    /// first rank that fails or is silent or behind for longer than `limit`; it should end the process,
    /// because this rank may wait for that one without end.
    pub fn start(
        inner: C,
        limit: Duration,
        on_failure: impl FnOnce(RankFailure) + Send + 'static,
    ) -> Self {
        let pulse = Pulse { progress: AtomicU64::new(0), phase: AtomicU8::new(RUNNING) };
        let pulse = Arc::new(pulse);
        if inner.world() == 1 {
            return Self { inner, pulse, thread: None, unwatched: Vec::new() };
        }
        let hosts = inner.all_gather(inner.place().host.as_bytes());
        let hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned());
        let hosts = hosts.collect::<Vec<_>>();
        let rank = inner.rank();
        let monitor = |peers: Peers| {
            let monitor =
                Monitor { rank, hosts: hosts.clone(), limit, pulse: pulse.clone(), peers };
            std::thread::spawn(move || monitor.run(on_failure))
        };
        let (thread, connected) = connect(&inner, &hosts[0], monitor);
        let connected = inner.all_gather(&[u8::from(connected)]);
        let unwatched = (1..connected.len()).filter(|&rank| connected[rank] != [1]).collect();
        Self { inner, pulse, thread, unwatched }
    }

    /// The ranks that cannot reach rank 0 for heartbeats. If they fail, only the launcher notices.
    pub fn unwatched(&self) -> &[usize] {
        &self.unwatched
    }

    /// Waits for all ranks and ends the heartbeats.
    pub fn finish(mut self) {
        self.barrier();
        self.end(DONE);
    }

    /// Tells the other ranks that this one has failed and has reported why. The process should end.
    pub fn fail(&mut self) {
        self.end(FAILED);
    }

    fn end(&mut self, phase: u8) {
        self.pulse.phase.store(phase, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            // It panics only if `on_failure` does.
            let _ = thread.join();
        }
    }

    /// An operation that lets others wait if this rank comes late.
    fn counted<T>(&self, operation: impl FnOnce(&C) -> T) -> T {
        self.pulse.progress.fetch_add(1, Ordering::SeqCst);
        let result = operation(&self.inner);
        self.pulse.progress.fetch_add(1, Ordering::SeqCst);
        result
    }
}

impl<C: Communicator> Drop for Watched<C> {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.end(DROPPED);
        }
    }
}

impl<C: Communicator> Communicator for Watched<C> {
    fn rank(&self) -> usize {
        self.inner.rank()
    }

    fn world(&self) -> usize {
        self.inner.world()
    }

    fn place(&self) -> Place {
        self.inner.place()
    }

    fn all_reduce_sum(&self, values: &mut [f32]) {
        self.counted(|inner| inner.all_reduce_sum(values));
    }

    fn all_reduce_sum_f64(&self, values: &mut [f64]) {
        self.counted(|inner| inner.all_reduce_sum_f64(values));
    }

    fn broadcast(&self, bytes: &mut Vec<u8>) {
        self.inner.broadcast(bytes);
    }

    fn gather(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.inner.gather(bytes)
    }

    fn barrier(&self) {
        self.inner.barrier();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};

    use super::*;
    use crate::Threads;

    const LIMIT: Duration = Duration::from_secs(50);
    const SHORT_LIMIT: Duration = Duration::from_millis(300);

    /// Two watched ranks do `act`; returns what each was told to have failed.
    fn watch<'a>(
        limit: Duration,
        act: impl Fn(Watched<&'a Threads>, &Receiver<RankFailure>) + Sync,
        ranks: &'a [Threads],
    ) {
        std::thread::scope(|scope| {
            for rank in ranks {
                let act = &act;
                scope.spawn(move || {
                    let (sender, failures) = channel();
                    act(
                        Watched::start(rank, limit, move |failure| {
                            sender.send(failure).expect("the test waits");
                        }),
                        &failures,
                    );
                });
            }
        });
    }

    #[test]
    fn ranks_that_finish_are_no_failure() {
        let ranks = Threads::new(3);
        watch(
            LIMIT,
            |watched, failures| {
                assert!(watched.unwatched().is_empty());
                let mut values = [1.0];
                watched.all_reduce_sum(&mut values);
                assert_eq!(values, [3.0]);
                watched.finish();
                assert_eq!(failures.try_recv().ok(), None);
            },
            &ranks,
        );
    }

    #[test]
    fn a_rank_that_ends_is_named_at_once() {
        for ended in [0, 1] {
            let ranks = Threads::new(2);
            watch(
                LIMIT,
                |watched, failures| {
                    if watched.rank() == ended {
                        return;
                    }
                    let failure = failures.recv_timeout(LIMIT / 2).expect("in time");
                    assert_eq!((failure.rank, failure.fault), (ended, RankFault::Ended));
                    assert_eq!(
                        failure.to_string(),
                        format!("rank {ended} on localhost ended unexpectedly")
                    );
                },
                &ranks,
            );
        }
    }

    #[test]
    fn a_rank_that_lets_the_others_wait_in_a_sum_is_named() {
        for late in [0, 1] {
            let ranks = Threads::new(2);
            watch(
                SHORT_LIMIT,
                |watched, failures| {
                    if watched.rank() == late {
                        let told = failures.recv_timeout(LIMIT).expect("the other rank tells");
                        assert_eq!(told.rank, late);
                    } else {
                        watched.pulse.progress.fetch_add(1, Ordering::SeqCst);
                        let failure = failures.recv_timeout(LIMIT).expect("in time");
                        assert_eq!(
                            (failure.rank, failure.fault),
                            (late, RankFault::Behind(SHORT_LIMIT))
                        );
                    }
                },
                &ranks,
            );
        }
    }

    #[test]
    fn a_rank_that_only_computes_for_long_is_no_failure() {
        let ranks = Threads::new(2);
        watch(
            SHORT_LIMIT,
            |watched, failures| {
                let found = failures.recv_timeout(3 * SHORT_LIMIT);
                assert_eq!(found, Err(RecvTimeoutError::Timeout));
                watched.finish();
            },
            &ranks,
        );
    }

    #[test]
    fn a_rank_that_reports_its_error_ends_all_others() {
        let ranks = Threads::new(3);
        watch(
            LIMIT,
            |mut watched, failures| {
                if watched.rank() == 2 {
                    watched.fail();
                    return;
                }
                let failure = failures.recv_timeout(LIMIT / 2).expect("in time");
                assert_eq!((failure.rank, failure.fault), (2, RankFault::Reported));
            },
            &ranks,
        );
    }
}
