//! What the layer needs from a datagram socket, as a trait that anything can implement.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::{Context, Poll};
use std::{cmp, fmt};

pub(crate) use fatal::is_fatal;
pub(crate) use udp::UdpSocket;

#[cfg(unix)]
mod error_queue;
mod fatal;
#[cfg(unix)]
mod path_mtu;
mod udp;
mod watched;

/// A socket that moves datagrams: the system's UDP, a simulated network, another transport.
///
/// One endpoint uses one socket. Only its driver task calls the `poll_*` methods, so an
/// implementation needs to remember one waker for each of them; [`try_send`](Self::try_send) is
/// called from any task, also at the same time as the others.
///
/// # Errors of the socket
/// A refused, unreachable or overflowing send counts as a lost datagram. An error of `poll_recv` or
/// `poll_send_ready` is counted and the socket is tried again, however often it fails: a send to a
/// dead peer can bring one back each time. After 64 failures in a row the socket is left alone for a
/// millisecond, and a socket that goes on failing is tried ten times a second.
///
/// Fatal are only errors that say that there is no working socket: of kind
/// [`NotConnected`](io::ErrorKind::NotConnected), [`BrokenPipe`](io::ErrorKind::BrokenPipe) or
/// [`InvalidInput`](io::ErrorKind::InvalidInput), or the system's code for a bad descriptor or one
/// that is no socket (`EBADF`, `ENOTSOCK`; `WSAEBADF`, `WSAENOTSOCK`). They end the endpoint and all
/// its sessions with [`ConnectionError::Socket`](crate::ConnectionError::Socket).
pub trait DatagramSocket: fmt::Debug + Send + Sync + 'static {
    /// Sends one train of datagrams, or nothing of it.
    ///
    /// # Errors
    /// [`WouldBlock`](io::ErrorKind::WouldBlock) when the socket is full: the train is kept and
    /// offered again after [`poll_send_ready`](Self::poll_send_ready). After any other error the datagrams of a train are
    /// offered one by one; a single one is lost. A socket that says EMSGSIZE, EINVAL or EIO to a train and takes its
    /// datagrams is offered single ones for that destination for 30 s.
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()>;

    /// The largest datagram to this destination that leaves this host in one packet, in bytes of UDP payload. `None`, the
    /// default, if that is not known. It is asked for when a session is about to send more than 1,232 bytes for the first
    /// time.
    fn largest_unfragmented(&self, destination: SocketAddr) -> Option<usize> {
        let _ = destination;
        None
    }

    /// The largest datagram to this IPv6 destination that [`try_send_fragmented`](Self::try_send_fragmented) sends in one
    /// packet. `None`, the default, if there is no such thing here.
    fn fragments_above(&self, destination: SocketAddr) -> Option<usize> {
        let _ = destination;
        None
    }

    /// Sends one datagram larger than [`fragments_above`](Self::fragments_above) in packets of at most 1,280 bytes, which
    /// every IPv6 path carries: for a destination to which larger ones have failed. By default it is
    /// [`try_send`](Self::try_send).
    ///
    /// # Errors
    /// As [`try_send`](Self::try_send).
    fn try_send_fragmented(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.try_send(transmit)
    }

    /// Ready when [`try_send`](Self::try_send) is worth another try after it said `WouldBlock`;
    /// until then the task of `cx` is woken once it is. It may be ready too often.
    ///
    /// # Errors
    /// What the socket reports. It is counted, and the train is offered again; see
    /// [errors of the socket](Self#errors-of-the-socket).
    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Receives into `bufs` and says in `meta` what each one holds; returns how many were filled,
    /// at most the shorter of the two, at least one.
    ///
    /// Every buffer has room for 64 KiB, so for one datagram of any size or a train of them.
    ///
    /// # Errors
    /// What the socket reports. It is counted, and the socket is asked again; see
    /// [errors of the socket](Self#errors-of-the-socket).
    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>>;

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// What the system reports.
    fn local_addr(&self) -> io::Result<SocketAddr>;

    /// The most datagrams in one train, 1 and up. Asked before each train.
    fn max_transmit_segments(&self) -> usize {
        1
    }

    /// An error that the network reported for an earlier datagram (ICMP), oldest first. At most 64
    /// are taken in a turn of the driver, beside data. The task of the last `poll_recv` is to be
    /// woken when there is one.
    ///
    /// Anyone can forge a report. A refusal ends a connecting session that has never heard its peer,
    /// with [`Refused`](crate::ConnectionError::Refused), 1.5 s after the first one. Nothing else
    /// comes of it.
    fn take_error(&self) -> Option<SocketError> {
        None
    }

    /// Called once, when a connecting session has heard its peer for the first time: from then on
    /// reports change nothing for it, and a socket that has one peer is to stop collecting them.
    /// Does nothing by default.
    fn stop_error_reports(&self) {}

    /// How much of the send buffer is in use. `None`, the default, if that cannot be told.
    ///
    /// Asked before datagrams to addresses that may not exist: those may stay in the buffer for seconds, and are sent only
    /// while little of it is in use (`docs/protocol.md` 11.3.1).
    fn send_queue(&self) -> Option<SendQueue> {
        None
    }

    /// How much the system buffers, if there is such a thing here.
    fn buffers(&self) -> Option<SocketBuffers> {
        None
    }
}

/// Datagrams to one destination: all of `segment_size` bytes, only the last may be shorter.
#[derive(Clone, Copy)]
pub struct Transmit<'a> {
    /// Where to.
    pub destination: SocketAddr,
    /// The datagrams, one after the other.
    pub contents: &'a [u8],
    /// Size of each datagram but the last; never 0, at most the length of `contents`.
    pub segment_size: usize,
    /// The local address to send from, where the socket has several.
    pub source: Option<IpAddr>,
}

impl Transmit<'_> {
    /// Each datagram.
    pub fn datagrams(&self) -> impl Iterator<Item = &[u8]> {
        self.contents.chunks(cmp::max(self.segment_size, 1))
    }
}

impl fmt::Debug for Transmit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transmit")
            .field("destination", &self.destination)
            .field("bytes", &self.contents.len())
            .field("segment_size", &self.segment_size)
            .finish_non_exhaustive()
    }
}

/// What one receive buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecvMeta {
    /// Where the datagrams came from.
    pub source: SocketAddr,
    /// Bytes filled.
    pub len: usize,
    /// Size of each datagram but the last, which may be shorter.
    pub stride: usize,
    /// The local address they were sent to, where known: answers leave from it.
    pub destination: Option<IpAddr>,
}

impl Default for RecvMeta {
    fn default() -> Self {
        let source = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
        Self {
            source,
            len: 0,
            stride: 0,
            destination: None,
        }
    }
}

/// An error that came back from the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketError {
    /// Who reported it: the peer's host, or a router. `None` if unknown.
    pub from: Option<IpAddr>,
    /// What was reported.
    pub kind: io::ErrorKind,
}

impl SocketError {
    /// An error of this kind.
    pub const fn new(from: Option<IpAddr>, kind: io::ErrorKind) -> Self {
        Self { from, kind }
    }
}

/// Use of a socket's send buffer, in bytes with the system's own cost of each datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SendQueue {
    /// In use by datagrams that have not left.
    pub used: usize,
    /// Use at which a send finds the socket full.
    pub limit: usize,
}

/// What was asked of the system for a socket's buffers and what it granted, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SocketBuffers {
    /// Send buffer asked for; 0: the system's default.
    pub send_asked: usize,
    /// Send buffer granted.
    pub send_granted: usize,
    /// Receive buffer asked for; 0: the system's default.
    pub recv_asked: usize,
    /// Receive buffer granted.
    pub recv_granted: usize,
}

impl SocketBuffers {
    /// Whether the system granted less than was asked.
    pub const fn is_short(&self) -> bool {
        self.send_granted < self.send_asked || self.recv_granted < self.recv_asked
    }
}

impl fmt::Display for SocketBuffers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "send buffer {} of {} KiB, receive buffer {} of {} KiB",
            self.send_granted >> 10,
            self.send_asked >> 10,
            self.recv_granted >> 10,
            self.recv_asked >> 10
        )?;
        if self.is_short() && cfg!(target_os = "linux") {
            f.write_str("; raise net.core.wmem_max and net.core.rmem_max")?;
        }
        Ok(())
    }
}
