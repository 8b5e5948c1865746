//! The server's side of an endpoint.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::net::ToSocketAddrs;

use crate::config::EndpointConfig;
use crate::endpoint::KcpEndpoint;
use crate::error::KcpError;
use crate::socket::DatagramSocket;
use crate::stats::EndpointStats;
use crate::stream::KcpStream;

/// Accepts KCP sessions on one UDP socket.
///
/// A session is accepted with its first data. Plain KCP neither encrypts nor knows its peer: bind
/// to an address that only friends can reach, or put something above it that does.
///
/// Dropping the listener does not end the streams it has accepted.
#[derive(Debug)]
pub struct KcpListener {
    endpoint: KcpEndpoint,
}

impl KcpListener {
    /// Binds a UDP socket. An unspecified IPv6 address takes IPv4 peers too.
    ///
    /// # Errors
    /// A setting out of range, a name that cannot be resolved, an address in use.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn bind(
        addr: impl ToSocketAddrs,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        Ok(Self {
            endpoint: KcpEndpoint::bind(addr, config).await?,
        })
    }

    /// Takes over a bound UDP socket.
    ///
    /// # Errors
    /// A setting out of range, a socket that tokio cannot use, or no tokio runtime.
    pub fn from_std(
        socket: std::net::UdpSocket,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        Ok(Self {
            endpoint: KcpEndpoint::from_std(socket, config)?,
        })
    }

    /// Runs on any socket.
    ///
    /// # Errors
    /// A setting out of range, a socket without an address, or no tokio runtime.
    pub fn with_socket(
        socket: Arc<dyn DatagramSocket>,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        Ok(Self {
            endpoint: KcpEndpoint::with_socket(socket, config)?,
        })
    }

    /// The next session that a peer has opened, and the peer's address. One that ends while it waits, because its peer
    /// resets it or it makes room for another, is not returned.
    ///
    /// # Errors
    /// [`ConnectionError::EndpointClosed`](crate::ConnectionError::EndpointClosed) after
    /// [`close`](Self::close) or the end of the runtime; what the socket reported if it failed for
    /// good. Never because of one peer.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no session is lost.
    pub async fn accept(&self) -> Result<(KcpStream, SocketAddr), KcpError> {
        self.endpoint.accept().await
    }

    /// [`accept`](Self::accept) for hand-written futures.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn poll_accept(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(KcpStream, SocketAddr), KcpError>> {
        self.endpoint.poll_accept(cx)
    }

    /// The sessions as a `Stream` that ends when the listener is closed.
    pub const fn incoming(&self) -> Incoming<'_> {
        Incoming {
            listener: self,
            ended: false,
        }
    }

    /// Accepts nothing more. Sessions that wait for `accept` are given up; live streams go on.
    pub fn close(&self) {
        self.endpoint.close();
    }

    /// The address that the socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.endpoint.local_addr()
    }

    /// Counters and state.
    pub fn stats(&self) -> EndpointStats {
        self.endpoint.stats()
    }

    /// The endpoint, which can also connect from this port.
    pub const fn endpoint(&self) -> &KcpEndpoint {
        &self.endpoint
    }
}

/// The sessions of [`KcpListener::incoming`]. Its last item, if any, is the error that ended it.
#[derive(Debug)]
#[must_use = "streams do nothing unless polled"]
pub struct Incoming<'a> {
    listener: &'a KcpListener,
    ended: bool,
}

impl Stream for Incoming<'_> {
    type Item = Result<(KcpStream, SocketAddr), KcpError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        use crate::error::ConnectionError::EndpointClosed;
        if self.ended {
            return Poll::Ready(None);
        }
        self.listener.poll_accept(cx).map(|result| {
            self.ended = result.is_err();
            match result {
                Err(KcpError::Connection(EndpointClosed)) => None,
                result => Some(result),
            }
        })
    }
}
