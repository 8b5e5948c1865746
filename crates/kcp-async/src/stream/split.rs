//! Halves of a stream.

use std::error::Error;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{fmt, io, mem};

use kcp_engine::Conv;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::KcpStream;
use super::handle::StreamHandle;
use crate::error::KcpError;
use crate::stats::StreamStats;

/// The reading half of a stream, borrowed by [`KcpStream::split`].
#[derive(Debug)]
pub struct ReadHalf<'a>(&'a StreamHandle);

/// The writing half of a stream, borrowed by [`KcpStream::split`].
#[derive(Debug)]
pub struct WriteHalf<'a>(&'a StreamHandle);

/// The reading half of a stream, from [`KcpStream::into_split`].
///
/// Dropping it alone changes nothing for the peer; what arrives afterwards stays unread, and in the
/// end closes the window.
#[derive(Debug)]
pub struct OwnedReadHalf {
    handle: Arc<StreamHandle>,
}

/// The writing half of a stream, from [`KcpStream::into_split`].
///
/// Dropping it finishes this direction, in the background.
#[derive(Debug)]
pub struct OwnedWriteHalf {
    handle: Arc<StreamHandle>,
    finish_on_drop: bool,
}

/// The halves given to [`OwnedReadHalf::reunite`] belong to different streams. They come back
/// unharmed.
#[derive(Debug)]
pub struct ReuniteError(pub OwnedReadHalf, pub OwnedWriteHalf);

pub(super) fn borrowed(handle: &StreamHandle) -> (ReadHalf<'_>, WriteHalf<'_>) {
    (ReadHalf(handle), WriteHalf(handle))
}

pub(super) fn owned(handle: Arc<StreamHandle>) -> (OwnedReadHalf, OwnedWriteHalf) {
    let read = OwnedReadHalf {
        handle: Arc::clone(&handle),
    };
    (
        read,
        OwnedWriteHalf {
            handle,
            finish_on_drop: true,
        },
    )
}

impl OwnedReadHalf {
    /// Puts a stream together again.
    ///
    /// # Errors
    /// If the halves belong to different streams.
    pub fn reunite(self, write: OwnedWriteHalf) -> Result<KcpStream, ReuniteError> {
        if !Arc::ptr_eq(&self.handle, &write.handle) {
            return Err(ReuniteError(self, write));
        }
        write.forget();
        Ok(KcpStream {
            handle: self.handle,
        })
    }
}

impl OwnedWriteHalf {
    /// Puts a stream together again.
    ///
    /// # Errors
    /// If the halves belong to different streams.
    pub fn reunite(self, read: OwnedReadHalf) -> Result<KcpStream, ReuniteError> {
        read.reunite(self)
    }

    /// Drops the half without finishing its direction.
    pub fn forget(mut self) {
        self.finish_on_drop = false;
    }
}

/// Finishes this direction, in the background.
impl Drop for OwnedWriteHalf {
    fn drop(&mut self) {
        if mem::take(&mut self.finish_on_drop) {
            self.handle.finish();
        }
    }
}

impl fmt::Display for ReuniteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the halves belong to different streams")
    }
}

impl Error for ReuniteError {}

/// The methods that both kinds of a half have.
macro_rules! reading_half {
    ([$($generics:tt)*] $half:ty, $self:ident => $handle:expr) => {
        impl $($generics)* $half {
            /// See [`KcpStream::recv`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// If the future is dropped before it is ready, no message is lost.
            pub async fn recv(&mut $self, buf: &mut [u8]) -> Result<usize, KcpError> {
                poll_fn(|cx| $handle.poll_recv(cx, buf)).await
            }

            /// See [`KcpStream::recv_message`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// If the future is dropped before it is ready, no message is lost.
            pub async fn recv_message(&mut $self) -> Result<Vec<u8>, KcpError> {
                poll_fn(|cx| $handle.poll_recv_message(cx)).await
            }

            /// See [`KcpStream::poll_recv`].
            ///
            /// # Errors
            /// As there.
            pub fn poll_recv(
                &mut $self,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<Result<usize, KcpError>> {
                $handle.poll_recv(cx, buf)
            }
        }

        impl $($generics)* AsyncRead for $half {
            fn poll_read(
                $self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &mut ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                $handle.poll_read(cx, buf).map_err(io::Error::from)
            }
        }
    };
}

macro_rules! writing_half {
    ([$($generics:tt)*] $half:ty, $self:ident => $handle:expr) => {
        impl $($generics)* $half {
            /// See [`KcpStream::send`].
            ///
            /// # Errors
            /// As there.
            ///
            /// # Cancel safety
            /// If the future is dropped before it is ready, nothing of the message was queued.
            pub async fn send(&mut $self, message: &[u8]) -> Result<(), KcpError> {
                poll_fn(|cx| $handle.poll_send(cx, message)).await
            }

            /// See [`KcpStream::poll_send`].
            ///
            /// # Errors
            /// As there.
            pub fn poll_send(
                &mut $self,
                cx: &mut Context<'_>,
                message: &[u8],
            ) -> Poll<Result<(), KcpError>> {
                $handle.poll_send(cx, message)
            }
        }

        impl $($generics)* AsyncWrite for $half {
            fn poll_write(
                $self: Pin<&mut Self>,
                cx: &mut Context<'_>,
                buf: &[u8],
            ) -> Poll<io::Result<usize>> {
                $handle.poll_write(cx, buf).map_err(io::Error::from)
            }

            fn poll_flush($self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
                Poll::Ready($handle.flush().map_err(io::Error::from))
            }

            fn poll_shutdown(
                $self: Pin<&mut Self>,
                cx: &mut Context<'_>,
            ) -> Poll<io::Result<()>> {
                $handle.poll_shutdown(cx).map_err(io::Error::from)
            }
        }
    };
}

macro_rules! both_halves {
    ([$($generics:tt)*] $half:ty, $self:ident => $handle:expr) => {
        impl $($generics)* $half {
            /// Counters and state of the session.
            pub fn stats(&$self) -> StreamStats {
                $handle.stats()
            }

            /// The conversation id.
            pub fn conv(&$self) -> Conv {
                $handle.conv()
            }

            /// The peer's address.
            pub fn peer_addr(&$self) -> SocketAddr {
                $handle.peer_addr()
            }

            /// The address that the session's socket is bound to.
            pub fn local_addr(&$self) -> SocketAddr {
                $handle.local_addr()
            }
        }
    };
}

reading_half!([] OwnedReadHalf, self => self.handle);
reading_half!([<'a>] ReadHalf<'a>, self => self.0);
writing_half!([] OwnedWriteHalf, self => self.handle);
writing_half!([<'a>] WriteHalf<'a>, self => self.0);
both_halves!([] OwnedReadHalf, self => self.handle);
both_halves!([<'a>] ReadHalf<'a>, self => self.0);
both_halves!([] OwnedWriteHalf, self => self.handle);
both_halves!([<'a>] WriteHalf<'a>, self => self.0);
