//! A UDP socket and what the reactor knows of it.
//!
//! **Invariant**: the reactor reports room to send only while somebody waits for it. A UDP socket has
//! room again after nearly every datagram, and each report would wake a thread for nothing.

#[cfg(not(unix))]
pub(super) use elsewhere::Watched;
#[cfg(unix)]
pub(super) use unix::Watched;

#[cfg(unix)]
mod unix {
    use std::net::{SocketAddr, UdpSocket};
    use std::os::fd::{AsFd, BorrowedFd};
    use std::pin::Pin;
    use std::sync::Arc;
    use std::task::{Context, Poll, ready};
    use std::{fmt, io};

    use quinn_udp::UdpSockRef;
    use tokio::io::Interest;
    use tokio::io::unix::AsyncFd;

    use crate::mutex::Mutex;

    /// See the module.
    #[derive(Debug)]
    pub(in crate::socket) struct Watched {
        reads: Arc<AsyncFd<UdpSocket>>,
        /// Waits for the reactor's next report of an error. The reactor has no poll function for it.
        errors: Mutex<Option<ErrorReport>>,
        /// Somebody waits for room. A reactor takes a descriptor once, so this is a second one.
        room: Mutex<Option<AsyncFd<UdpSocket>>>,
    }

    /// Enters a socket into the reactor, for one interest.
    ///
    /// tokio warns of this constructor because some types may change or close the descriptor they
    /// name. A socket of the standard library does neither, and what replaces it is not for a crate
    /// without `unsafe`. `tokio::net::UdpSocket` would be entered for both interests.
    #[allow(deprecated, reason = "sound for a socket that owns its descriptor")]
    fn watch(socket: UdpSocket, interest: Interest) -> io::Result<AsyncFd<UdpSocket>> {
        AsyncFd::with_interest(socket, interest)
    }

    impl Watched {
        /// `socket` is non-blocking.
        pub(in crate::socket) fn new(socket: UdpSocket) -> io::Result<Self> {
            Ok(Self {
                reads: Arc::new(watch(socket, Interest::READABLE)?),
                errors: Mutex::new(None),
                room: Mutex::new(None),
            })
        }

        pub(in crate::socket) fn socket(&self) -> UdpSockRef<'_> {
            self.reads.get_ref().into()
        }

        pub(in crate::socket) fn descriptor(&self) -> BorrowedFd<'_> {
            self.reads.get_ref().as_fd()
        }

        pub(in crate::socket) fn get_ref(&self) -> &UdpSocket {
            self.reads.get_ref()
        }

        pub(in crate::socket) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.reads.get_ref().local_addr()
        }

        /// Nothing to wait for: the first send may be tried at once.
        pub(in crate::socket) fn writable(&self) -> impl Future<Output = io::Result<()>> {
            std::future::ready(Ok(()))
        }

        pub(in crate::socket) fn try_send(
            &self,
            send: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
        ) -> io::Result<()> {
            send(self.socket())
        }

        pub(in crate::socket) fn poll_send_ready(
            &self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            // Only the driver asks, so nobody misses it meanwhile.
            let waiting = self.room.lock("ask for room").take();
            let waits = match waiting {
                Some(waits) => Ok(waits),
                None => {
                    let socket = self.reads.get_ref().try_clone();
                    socket.and_then(|socket| watch(socket, Interest::WRITABLE))
                }
            };
            // Out of descriptors, or of what a reactor may watch: the caller may ask the socket
            // itself, again and again.
            let Ok(waits) = waits else {
                return Poll::Ready(Ok(()));
            };
            let ready = waits.poll_write_ready(cx).map_ok(drop);
            if ready.is_pending() {
                *self.room.lock("wait for room") = Some(waits);
            }
            ready
        }

        pub(in crate::socket) fn poll_recv_ready(
            &self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            let _stays_ready = ready!(self.reads.poll_read_ready(cx))?;
            Poll::Ready(Ok(()))
        }

        /// `WouldBlock` makes the socket wait for the reactor's next report.
        pub(in crate::socket) fn try_recv<R>(
            &self,
            recv: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>,
        ) -> io::Result<R> {
            self.reads
                .try_io(Interest::READABLE, |socket| recv(socket.into()))
        }

        /// From now on [`poll_error`](Self::poll_error) waits for errors.
        pub(in crate::socket) fn watch_errors(&self) {
            *self.errors.lock("watch errors") = Some(ErrorReport::of(&self.reads));
        }

        pub(in crate::socket) fn stop_watching_errors(&self) {
            *self.errors.lock("stop watching errors") = None;
        }

        /// Whether the reactor has reported an error that no
        /// [`try_take_error`](Self::try_take_error) has found gone. If not, the task of `cx` is woken
        /// by the next one.
        pub(in crate::socket) fn poll_error(&self, cx: &mut Context<'_>) -> bool {
            let mut errors = self.errors.lock("poll error");
            let Some(report) = errors.as_mut() else {
                return false;
            };
            let is_reported = report.0.as_mut().poll(cx).is_ready();
            if is_reported {
                *report = ErrorReport::of(&self.reads);
            }
            is_reported
        }

        /// Calls `take` if an error has been reported. `WouldBlock` makes
        /// [`poll_error`](Self::poll_error) wait for the reactor's next report.
        pub(in crate::socket) fn try_take_error<R>(
            &self,
            take: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>,
        ) -> io::Result<R> {
            self.reads
                .try_io(Interest::ERROR, |socket| take(socket.into()))
        }
    }

    /// A future that ends with the reactor's report of an error.
    struct ErrorReport(Pin<Box<dyn Future<Output = ()> + Send>>);

    impl ErrorReport {
        fn of(socket: &Arc<AsyncFd<UdpSocket>>) -> Self {
            let socket = Arc::clone(socket);
            Self(Box::pin(async move {
                // It fails only where the runtime ends, and the driver with it.
                let _stays_ready = socket.ready(Interest::ERROR).await;
            }))
        }
    }

    impl fmt::Debug for ErrorReport {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("ErrorReport")
        }
    }

    #[cfg(test)]
    mod tests {
        use std::future::poll_fn;

        use super::*;

        #[tokio::test]
        async fn room_is_watched_only_while_somebody_waits() {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            let watched = Watched::new(socket).unwrap();
            for _ in 0..3 {
                poll_fn(|cx| watched.poll_send_ready(cx)).await.unwrap();
                assert!(watched.room.lock("test").is_none());
            }
        }
    }
}

#[cfg(not(unix))]
mod elsewhere {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::task::{Context, Poll};

    use quinn_udp::UdpSockRef;
    use tokio::io::Interest;

    /// See the module. Here it is as tokio has it.
    #[derive(Debug)]
    pub(in crate::socket) struct Watched(tokio::net::UdpSocket);

    impl Watched {
        /// `socket` is non-blocking.
        pub(in crate::socket) fn new(socket: UdpSocket) -> io::Result<Self> {
            tokio::net::UdpSocket::from_std(socket).map(Self)
        }

        pub(in crate::socket) fn socket(&self) -> UdpSockRef<'_> {
            (&self.0).into()
        }

        pub(in crate::socket) fn local_addr(&self) -> io::Result<SocketAddr> {
            self.0.local_addr()
        }

        /// Until the reactor knows that the socket can send.
        pub(in crate::socket) async fn writable(&self) -> io::Result<()> {
            self.0.writable().await
        }

        pub(in crate::socket) fn try_send(
            &self,
            send: impl FnOnce(UdpSockRef<'_>) -> io::Result<()>,
        ) -> io::Result<()> {
            self.0.try_io(Interest::WRITABLE, || send(self.socket()))
        }

        pub(in crate::socket) fn poll_send_ready(
            &self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.poll_send_ready(cx)
        }

        pub(in crate::socket) fn poll_recv_ready(
            &self,
            cx: &mut Context<'_>,
        ) -> Poll<io::Result<()>> {
            self.0.poll_recv_ready(cx)
        }

        /// `WouldBlock` makes the socket wait for the reactor's next report.
        pub(in crate::socket) fn try_recv<R>(
            &self,
            recv: impl FnOnce(UdpSockRef<'_>) -> io::Result<R>,
        ) -> io::Result<R> {
            self.0.try_io(Interest::READABLE, || recv(self.socket()))
        }
    }
}
