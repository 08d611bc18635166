//! The thread of a rank that sends its heartbeats and watches those of its peers.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::heartbeat::{Heartbeat, HeartbeatStream};
use super::{DONE, DROPPED, FAILED, Pulse, RUNNING, RankFailure, RankFault};

/// Time between two looks at the peers.
const PERIOD: Duration = Duration::from_millis(20);
/// Time between two heartbeats, at most.
const MAX_INTERVAL: Duration = Duration::from_secs(1);

/// The peers of a rank.
pub(super) enum Peers {
    /// Of rank 0: all others, as they connect.
    Others { listener: TcpListener, key: u64, connections: Vec<Connection> },
    /// Of any other rank: rank 0.
    First(HeartbeatStream),
}

/// A connection to rank 0 whose peer has not yet said who it is, or a peer.
pub(super) struct Connection {
    stream: HeartbeatStream,
    has_key: bool,
    /// Known after its second message.
    rank: Option<usize>,
    heard: Heard,
}

/// What is known of a peer.
struct Heard {
    last: Instant,
    progress: u64,
    is_done: bool,
}

impl Heard {
    fn now() -> Self {
        Self { last: Instant::now(), progress: 0, is_done: false }
    }
}

/// The state of the thread.
pub(super) struct Monitor {
    pub rank: usize,
    pub hosts: Vec<String>,
    pub limit: Duration,
    pub pulse: Arc<Pulse>,
    pub peers: Peers,
}

impl Monitor {
    /// Runs until this rank ends or another one fails.
    pub fn run(self, on_failure: impl FnOnce(RankFailure)) {
        let Self { rank, hosts, limit, pulse, peers } = self;
        let (listener, mut connections) = match peers {
            Peers::Others { listener, key, connections } => (Some((listener, key)), connections),
            Peers::First(stream) => {
                let first =
                    Connection { stream, has_key: true, rank: Some(0), heard: Heard::now() };
                (None, vec![first])
            }
        };
        let interval = (limit / 10).min(MAX_INTERVAL);
        let mut sent: Option<Instant> = None;
        // Since when this rank waits in a sum, and its progress then.
        let mut waiting = (Instant::now(), 0);
        loop {
            let phase = pulse.phase.load(Ordering::SeqCst);
            let last_word = match phase {
                DONE => Some(Heartbeat::Done),
                FAILED => Some(Heartbeat::Failed(rank as u64)),
                _ => None,
            };
            if let Some(word) = last_word {
                send_all(&mut connections, word);
            }
            if phase != RUNNING {
                debug_assert!(matches!(phase, DONE | FAILED | DROPPED));
                return;
            }
            if let Some((listener, key)) = &listener {
                accept(listener, *key, &mut connections, hosts.len());
            }
            let progress = pulse.progress.load(Ordering::SeqCst);
            if progress != waiting.1 {
                waiting = (Instant::now(), progress);
            }
            if sent.is_none_or(|sent| sent.elapsed() >= interval) {
                send_all(&mut connections, Heartbeat::Alive(progress));
                sent = Some(Instant::now());
            }
            // In a sum, and for too long.
            let waits_for = (progress % 2 == 1 && waiting.0.elapsed() >= limit).then_some(progress);
            let failed = connections.iter_mut().find_map(|peer| peer.look(limit, waits_for));
            if let Some((failed, fault)) = failed {
                // Ranks that are told so do not search for another reason.
                send_all(&mut connections, Heartbeat::Failed(failed as u64));
                let host = hosts.get(failed).cloned().unwrap_or_default();
                on_failure(RankFailure { rank: failed, host, fault });
                return;
            }
            std::thread::sleep(PERIOD);
        }
    }
}

/// Sends to all peers. A connection that fails is found by the next look.
fn send_all(connections: &mut [Connection], heartbeat: Heartbeat) {
    for peer in connections.iter_mut().filter(|peer| peer.rank.is_some()) {
        let _ = peer.stream.send(heartbeat);
    }
}

/// Accepts new connections, and drops those of strangers.
fn accept(listener: &TcpListener, key: u64, connections: &mut Vec<Connection>, world: usize) {
    while let Ok((stream, _address)) = listener.accept() {
        if let Ok(stream) = HeartbeatStream::new(stream) {
            let (has_key, rank, heard) = (false, None, Heard::now());
            connections.push(Connection { stream, has_key, rank, heard });
        }
    }
    connections.retain_mut(|peer| {
        while peer.rank.is_none() {
            match peer.stream.receive() {
                Ok(Some(Heartbeat::Hello(found))) if !peer.has_key && found == key => {
                    peer.has_key = true;
                }
                Ok(Some(Heartbeat::Hello(rank))) if peer.has_key && rank < world as u64 => {
                    peer.rank = Some(rank as usize);
                    peer.heard = Heard::now();
                }
                Ok(None) => return true,
                _ => return false,
            }
        }
        true
    });
}

impl Connection {
    /// Takes what the peer has sent. Returns the rank that has failed, if one has: the peer, or one that it
    /// names. `waits_for` is the progress of a sum in which this rank has waited too long.
    fn look(&mut self, limit: Duration, waits_for: Option<u64>) -> Option<(usize, RankFault)> {
        let rank = self.rank?;
        while !self.heard.is_done {
            match self.stream.receive() {
                Ok(Some(heartbeat)) => {
                    self.heard.last = Instant::now();
                    match heartbeat {
                        Heartbeat::Alive(progress) => self.heard.progress = progress,
                        Heartbeat::Done => self.heard.is_done = true,
                        Heartbeat::Failed(failed) => {
                            return Some((failed as usize, RankFault::Reported));
                        }
                        Heartbeat::Hello(_) => {}
                    }
                }
                Ok(None) => break,
                Err(_) => return Some((rank, RankFault::Ended)),
            }
        }
        if self.heard.is_done {
            return None;
        }
        if self.heard.last.elapsed() >= limit {
            return Some((rank, RankFault::Silent(limit)));
        }
        let is_behind = waits_for.is_some_and(|progress| self.heard.progress < progress);
        is_behind.then_some((rank, RankFault::Behind(limit)))
    }
}
