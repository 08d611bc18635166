//! How the ranks find rank 0: it broadcasts its addresses, and they connect to the first that answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::thread::JoinHandle;
use std::time::Duration;

use super::heartbeat::{Heartbeat, HeartbeatStream};
use super::monitor::Peers;
use crate::Communicator;

/// Time for one address of rank 0.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects this rank to rank 0, or rank 0 to all others, and starts its monitor. Returns the monitor's
/// thread, and whether this rank is connected.
pub(super) fn connect(
    ranks: &impl Communicator,
    host: &str,
    monitor: impl FnOnce(Peers) -> JoinHandle<()>,
) -> (Option<JoinHandle<()>>, bool) {
    let mut message = Vec::new();
    if ranks.rank() == 0 {
        let Ok((listener, port)) = listen() else {
            ranks.broadcast(&mut message);
            return (None, false);
        };
        let key = random_key();
        message = format!("{port}\n{key}\n{}", own_address()).into_bytes();
        // Before the others connect, because a system holds few connections that nobody has accepted.
        let peers = Peers::Others { listener, key, connections: Vec::new() };
        let thread = monitor(peers);
        ranks.broadcast(&mut message);
        return (Some(thread), true);
    }
    ranks.broadcast(&mut message);
    let Some(stream) = String::from_utf8(message).ok().and_then(|text| {
        let mut lines = text.lines();
        let (port, key) = (lines.next()?.parse().ok()?, lines.next()?.parse().ok()?);
        let address = lines.next()?.parse::<Ipv4Addr>().ok()?;
        let stream = reach(port, address, host, ranks.place().host == host).ok()?;
        let mut stream = HeartbeatStream::new(stream).ok()?;
        stream.send(Heartbeat::Hello(key)).ok()?;
        stream.send(Heartbeat::Hello(ranks.rank() as u64)).ok()?;
        Some(stream)
    }) else {
        return (None, false);
    };
    (Some(monitor(Peers::First(stream))), true)
}

fn listen() -> io::Result<(TcpListener, u16)> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    listener.set_nonblocking(true)?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

/// A number that no other program on the network knows.
fn random_key() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(std::process::id())
}

/// The address of this host in the network of its default route. Connecting a socket of UDP sends nothing.
fn own_address() -> Ipv4Addr {
    let route = || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
        socket.local_addr()
    };
    match route() {
        Ok(SocketAddr::V4(address)) => *address.ip(),
        _ => Ipv4Addr::LOCALHOST,
    }
}

/// Connects to rank 0.
fn reach(port: u16, address: Ipv4Addr, host: &str, is_local: bool) -> io::Result<TcpStream> {
    let mut addresses = Vec::new();
    if is_local {
        addresses.push(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    }
    addresses.push((address, port).into());
    addresses.extend((host, port).to_socket_addrs().into_iter().flatten());
    let mut last = io::ErrorKind::NotFound.into();
    for address in addresses {
        match TcpStream::connect_timeout(&address, CONNECT_TIMEOUT) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}
