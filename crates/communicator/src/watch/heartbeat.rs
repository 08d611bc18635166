//! What ranks tell each other: a byte and a number, over and over.

use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;

/// Bytes of a heartbeat.
const LEN: usize = 9;

/// A message of the watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heartbeat {
    /// The first one: the number of the rank.
    Hello(u64),
    /// The rank lives, and has come this far.
    Alive(u64),
    /// The rank has done its work.
    Done,
    /// The rank of this number has failed.
    Failed(u64),
}

impl Heartbeat {
    fn bytes(self) -> [u8; LEN] {
        let (kind, number) = match self {
            Self::Hello(rank) => (0, rank),
            Self::Alive(progress) => (1, progress),
            Self::Done => (2, 0),
            Self::Failed(rank) => (3, rank),
        };
        let mut bytes = [kind; LEN];
        bytes[1..].copy_from_slice(&number.to_le_bytes());
        bytes
    }

    /// `None` for bytes that no rank sends.
    fn parse(bytes: [u8; LEN]) -> Option<Self> {
        let [kind, number @ ..] = bytes;
        let number = u64::from_le_bytes(number);
        match kind {
            0 => Some(Self::Hello(number)),
            1 => Some(Self::Alive(number)),
            2 => Some(Self::Done),
            3 => Some(Self::Failed(number)),
            _ => None,
        }
    }
}

/// A connection that sends and receives heartbeats without waiting.
#[derive(Debug)]
pub(super) struct HeartbeatStream {
    stream: TcpStream,
    /// The start of a heartbeat.
    received: Vec<u8>,
}

impl HeartbeatStream {
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends a heartbeat, unless the peer has not taken earlier ones: the next one will do.
    pub fn send(&mut self, heartbeat: Heartbeat) -> io::Result<()> {
        match self.stream.write_all(&heartbeat.bytes()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            sent => sent,
        }
    }

    /// The next heartbeat that has arrived, if there is one.
    ///
    /// # Errors
    /// If the connection is closed, or something else than a heartbeat arrives.
    pub fn receive(&mut self) -> io::Result<Option<Heartbeat>> {
        let mut buffer = [0; LEN];
        while self.received.len() < LEN {
            match self.stream.read(&mut buffer[self.received.len()..]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => {
                    let start = self.received.len();
                    self.received.extend_from_slice(&buffer[start..start + count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        buffer.copy_from_slice(&self.received);
        self.received.clear();
        Heartbeat::parse(buffer).map(Some).ok_or_else(|| ErrorKind::InvalidData.into())
    }
}
