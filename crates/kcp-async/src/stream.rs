//! One session as a stream of bytes or of messages.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use kcp_engine::Conv;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::ToSocketAddrs;

pub use split::{OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};

use crate::config::EndpointConfig;
use crate::endpoint;
use crate::error::{ConnectionError, KcpError};
use crate::session::SessionCell;
use crate::shared::Shared;
use crate::stats::StreamStats;
use handle::StreamHandle;

mod handle;
mod split;

/// A KCP session: ordered and reliable, as bytes (`AsyncRead`, `AsyncWrite`) or as messages
/// ([`send`](Self::send), [`recv`](Self::recv)).
///
/// # Bytes and messages
/// [`send`](Self::send) is exactly one message, and [`recv`](Self::recv) returns exactly one.
/// Writing through `AsyncWrite` cuts into pieces that fit a datagram, as kcp-go does. Reading
/// through `AsyncRead` goes across messages; what a short read left, the next `recv` returns. In
/// stream mode ([`KcpConfig::stream_mode`](crate::KcpConfig::stream_mode)) there are no messages,
/// only bytes. Both sides choose for themselves.
///
/// # The end
/// A peer of this crate sees the end of the stream (a read of 0 bytes) after `shutdown` or drop
/// here, and the other way round; the other direction stays open until it is shut down too. Stock
/// KCP has no close: such a peer sees nothing, and nothing is seen of its going except silence
/// (see [`EndpointConfig::dead_peer_timeout`] and [`idle_timeout`](EndpointConfig::idle_timeout)).
///
/// Dropping the stream closes it in the background: what was written is still delivered, for as long as the
/// peer is heard within [`linger`](EndpointConfig::linger) and acknowledges within
/// [`close_stall_timeout`](EndpointConfig::close_stall_timeout). [`abort`](Self::abort) resets it.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use kcp_async::{KcpConfig, KcpListener, KcpStream};
///
/// let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::turbo_mode()).await?;
/// let client = KcpStream::connect(listener.local_addr(), KcpConfig::turbo_mode()).await?;
/// client.send(b"hello").await?; // The connecting side speaks first: KCP has no handshake.
/// let (server, _peer) = listener.accept().await?;
/// assert_eq!(server.recv_message().await?, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct KcpStream {
    handle: Arc<StreamHandle>,
}

impl KcpStream {
    /// Opens a session with a peer, on a socket of its own and with a random conversation id.
    ///
    /// Nothing is sent: KCP has no handshake. The peer learns of the session with the first data,
    /// so the connecting side speaks first; whether anybody is there shows then, by an answer or
    /// by [`connect_timeout`](EndpointConfig::connect_timeout), or 1.5 s after the peer's host said
    /// that nothing listens there ([`Refused`](ConnectionError::Refused); Linux and Android report
    /// it). Of several addresses the first for which a socket can be made is taken.
    ///
    /// # Errors
    /// A setting out of range, a name that cannot be resolved, or no socket.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn connect(
        addr: impl ToSocketAddrs,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        endpoint::connect_alone(addr, None, config.into()).await
    }

    /// The same with a given conversation id, for peers that expect a certain one. Both sides may
    /// open the same one towards each other.
    ///
    /// # Errors
    /// As [`connect`](Self::connect), and a `conv` of 0, by which `tokio_kcp` asks for an id.
    ///
    /// # Cancel safety
    /// Nothing has happened if the future is dropped before it is ready.
    pub async fn connect_with_conv(
        addr: impl ToSocketAddrs,
        conv: Conv,
        config: impl Into<EndpointConfig>,
    ) -> Result<Self, KcpError> {
        endpoint::connect_alone(addr, Some(conv), config.into()).await
    }

    pub(crate) fn from_session(shared: Arc<Shared>, cell: Arc<SessionCell>) -> Self {
        Self {
            handle: Arc::new(StreamHandle::new(shared, cell)),
        }
    }

    /// Sends one message: all of it is queued, or nothing. In stream mode, bytes of any number.
    ///
    /// Waits while [`send_queue_limit`](EndpointConfig::send_queue_limit) bytes are queued. It does
    /// not wait for the peer.
    ///
    /// # Errors
    /// [`KcpError::Buffer`] if the message is empty or larger than
    /// [`max_message_size`](Self::max_message_size); the session is unharmed. Otherwise why the
    /// session is over.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, nothing of the message was queued.
    pub async fn send(&self, message: &[u8]) -> Result<(), KcpError> {
        poll_fn(|cx| self.poll_send(cx, message)).await
    }

    /// Receives one message into `buf` and returns its length; 0 after the last one, when the peer
    /// has finished.
    ///
    /// # Errors
    /// [`BufferError::TooSmall`](crate::BufferError::TooSmall) if it does not fit; it is still
    /// there then. Otherwise why the session is over.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no message is lost.
    pub async fn recv(&self, buf: &mut [u8]) -> Result<usize, KcpError> {
        poll_fn(|cx| self.poll_recv(cx, buf)).await
    }

    /// Receives one message of any size; empty after the last one, when the peer has finished.
    ///
    /// # Errors
    /// Why the session is over.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no message is lost.
    pub async fn recv_message(&self) -> Result<Vec<u8>, KcpError> {
        poll_fn(|cx| self.handle.poll_recv_message(cx)).await
    }

    /// [`send`](Self::send) for hand-written futures. Pending: nothing was queued, and the task is
    /// woken when there is room.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn poll_send(&self, cx: &mut Context<'_>, message: &[u8]) -> Poll<Result<(), KcpError>> {
        self.handle.poll_send(cx, message)
    }

    /// [`recv`](Self::recv) for hand-written futures. Pending: the task is woken when something
    /// has arrived.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<Result<usize, KcpError>> {
        self.handle.poll_recv(cx, buf)
    }

    /// The largest message that [`send`](Self::send) takes now, in bytes: 127 fragments, or as many
    /// as the largest window that the peer has advertised (128 before it has spoken).
    pub fn max_message_size(&self) -> usize {
        self.handle.max_message_size()
    }

    /// Ends the session at once, as TCP's reset does. Unsent data is gone; waiting calls fail with
    /// [`ConnectionError::Aborted`]. A peer of this crate that has answered is told, in the
    /// background, and its calls fail with [`ConnectionError::Reset`] once it has read what had arrived;
    /// a stock peer finds out by its own timeout.
    pub fn abort(&self) {
        self.handle.abort();
    }

    /// Counters and state.
    pub fn stats(&self) -> StreamStats {
        self.handle.stats()
    }

    /// Why the session is over; `None` while it is not. [`ConnectionError::Closed`] after an
    /// orderly end of both directions.
    pub fn close_reason(&self) -> Option<ConnectionError> {
        self.handle.close_reason()
    }

    /// The conversation id.
    pub fn conv(&self) -> Conv {
        self.handle.conv()
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.handle.peer_addr()
    }

    /// The address that the session's socket is bound to.
    pub fn local_addr(&self) -> SocketAddr {
        self.handle.local_addr()
    }

    /// Splits into a reading and a writing half that borrow the stream.
    pub fn split(&mut self) -> (ReadHalf<'_>, WriteHalf<'_>) {
        split::borrowed(&self.handle)
    }

    /// Splits into halves for different tasks. Dropping the writing half finishes that direction,
    /// as `shutdown` does but without waiting; dropping both closes the stream.
    pub fn into_split(self) -> (OwnedReadHalf, OwnedWriteHalf) {
        split::owned(self.handle)
    }
}

impl AsyncRead for KcpStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.handle.poll_read(cx, buf).map_err(io::Error::from)
    }
}

/// `poll_write` waits while [`send_queue_limit`](EndpointConfig::send_queue_limit) bytes are queued, and for a
/// quarter of that to be free if the buffer does not fit.
/// `poll_flush` sends now what the windows allow; it does not wait for acknowledgements.
/// `poll_shutdown` finishes this direction and waits until the peer has acknowledged it (a stock
/// peer: all data). It fails, and the session ends, if the peer is not heard for
/// [`linger`](EndpointConfig::linger), with [`TimeoutError::Linger`](crate::TimeoutError::Linger), or
/// acknowledges nothing more for [`close_stall_timeout`](EndpointConfig::close_stall_timeout), with
/// [`TimeoutError::CloseStall`](crate::TimeoutError::CloseStall).
impl AsyncWrite for KcpStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.handle.poll_write(cx, buf).map_err(io::Error::from)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.handle.flush().map_err(io::Error::from))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.handle.poll_shutdown(cx).map_err(io::Error::from)
    }
}
