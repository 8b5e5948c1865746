//! How each peer listens, connects and takes the common settings.
//!
//! A peer is two functions: one that binds an [`Acceptor`], one that makes a [`Connector`]. What they give are streams
//! of bytes. Boxes and dynamic calls cost the same few nanoseconds for everyone.

#[cfg(feature = "kcp-io")]
mod kcp_io;
#[cfg(feature = "kcp-rs")]
mod kcp_rs;
mod kcp_tokio;
mod ours;
mod quinn;
pub(crate) mod raw;
mod sockets;
mod tcp;
mod tokio_kcp;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

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
pub(crate) trait Connector: Send + Sync {
    /// A new connection. It may not have sent anything yet.
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream>;
}

/// The listening side of `peer`.
pub(crate) async fn bind(peer: Peer, task: &Task) -> io::Result<Box<dyn Acceptor>> {
    match peer {
        Peer::Ours | Peer::OursPolling | Peer::Other => ours::bind(peer, task).await,
        Peer::Tcp => tcp::bind(task),
        Peer::Quinn => quinn::bind(task),
        Peer::TokioKcp => tokio_kcp::bind(task).await,
        Peer::KcpTokio => kcp_tokio::bind(task).await,
        #[cfg(feature = "kcp-rs")]
        Peer::KcpRs => kcp_rs::bind(task),
        #[cfg(feature = "kcp-io")]
        Peer::KcpIo => kcp_io::bind(task).await,
        peer => Err(unknown(peer)),
    }
}

/// The connecting side of `peer`.
pub(crate) async fn connector(peer: Peer, task: &Task) -> io::Result<Arc<dyn Connector>> {
    match peer {
        Peer::Ours | Peer::OursPolling | Peer::Other => ours::connector(peer, task).await,
        Peer::Tcp => Ok(tcp::connector(task)),
        Peer::Quinn => quinn::connector(task),
        Peer::TokioKcp => Ok(tokio_kcp::connector(task)),
        Peer::KcpTokio => Ok(kcp_tokio::connector(task)),
        #[cfg(feature = "kcp-rs")]
        Peer::KcpRs => Ok(kcp_rs::connector(task)),
        #[cfg(feature = "kcp-io")]
        Peer::KcpIo => Ok(kcp_io::connector(task)),
        peer => Err(unknown(peer)),
    }
}

fn unknown(peer: Peer) -> io::Error {
    io::Error::other(format!("this program has no streams of {}", peer.name()))
}
