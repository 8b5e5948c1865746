//! How each peer listens, connects and takes the common settings.
//!
//! A peer is two functions: one that binds an [`Acceptor`], one that makes a [`Connector`]. What they give are streams
//! of bytes. Boxes and dynamic calls cost the same few nanoseconds for everyone.

mod ours;
pub(crate) mod raw;
mod sockets;
mod tcp;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::protocol::{Peer, Task};

/// A reliable stream of bytes, both ways.
pub(crate) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// Any peer's stream.
pub(crate) type BoxStream = Box<dyn ByteStream>;

/// Something to come.
pub(crate) type Pending<'a, T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send + 'a>>;

/// The listening side of a peer.
pub(crate) trait Acceptor: Send {
    /// Where clients connect to.
    fn address(&self) -> io::Result<SocketAddr>;
    /// The next connection.
    fn accept(&mut self) -> Pending<'_, BoxStream>;
}

/// The connecting side of a peer.
pub(crate) trait Connector: Send {
    /// A new connection. It may not have sent anything yet.
    fn connect(&mut self, server: SocketAddr) -> Pending<'_, BoxStream>;
}

/// The listening side of `peer`.
pub(crate) async fn bind(peer: Peer, task: &Task) -> io::Result<Box<dyn Acceptor>> {
    match peer {
        Peer::Ours => ours::bind(task).await,
        Peer::Tcp => tcp::bind(task),
        _ => Err(unknown(peer)),
    }
}

/// The connecting side of `peer`.
pub(crate) async fn connector(peer: Peer, task: &Task) -> io::Result<Box<dyn Connector>> {
    match peer {
        Peer::Ours => ours::connector(task).await,
        Peer::Tcp => Ok(tcp::connector(task)),
        _ => Err(unknown(peer)),
    }
}

fn unknown(peer: Peer) -> io::Error {
    io::Error::other(format!("{} has no streams", peer.name()))
}
