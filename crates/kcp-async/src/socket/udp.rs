//! The system's UDP: trains by GSO, batches by GRO and recvmmsg, through `quinn-udp`.

use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, UdpSocket as StdSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};
use std::task::{Context, Poll, ready};

use quinn_udp::{UdpSockRef, UdpSocketState};
use socket2::{Domain, SockRef, Socket, Type};

#[cfg(unix)]
use super::SendQueue;
#[cfg(unix)]
use super::SocketError;
#[cfg(unix)]
use super::error_queue;
#[cfg(unix)]
use super::path_mtu::PathMtus;
use super::watched::Watched;
use super::{DatagramSocket, RecvMeta, SocketBuffers, Transmit};

/// A UDP socket on tokio's reactor.
#[derive(Debug)]
pub(crate) struct UdpSocket {
    io: Watched,
    state: UdpSocketState,
    /// The most datagrams in one train. quinn-udp lowers its own count for good once the system has said EINVAL or EIO,
    /// whatever the reason and the destination; `trains.rs` knows better.
    segments: usize,
    /// Held to send from an IPv6 socket; alone, while it makes small fragments, which is a setting of the whole socket.
    packets: Option<RwLock<()>>,
    #[cfg(unix)]
    path_mtus: PathMtus,
    buffers: SocketBuffers,
    /// Bound to no address in particular, so that answers must name the one they leave from.
    is_wildcard: bool,
    reports_errors: AtomicBool,
}

impl UdpSocket {
    /// Binds a socket. An unspecified IPv6 address takes IPv4 too, where the system can.
    pub(crate) fn bind(addr: SocketAddr, buffers: (usize, usize)) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, None)?;
        if addr.is_ipv6() && addr.ip().is_unspecified() {
            // Not everywhere possible, and IPv6 alone is better than nothing.
            let _ = socket.set_only_v6(false);
        }
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        Self::from_std(socket.into(), buffers)
    }

    /// Takes over a bound socket; asks for buffers of `(send, receive)` bytes.
    pub(crate) fn from_std(socket: StdSocket, asked: (usize, usize)) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let buffers = ask_for_buffers(&socket, asked);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let addr = socket.local_addr()?;
        // quinn-udp forbids fragmentation, for the path mtu discovery of QUIC.
        #[cfg(any(unix, windows))]
        if let Err(_error) = kcp_sys::allow_fragmentation(&socket, addr.is_ipv6()) {
            crate::log::debug!(error = %_error, "datagrams leave unfragmented");
        }
        let io = Watched::new(socket)?;
        let is_wildcard = addr.ip().is_unspecified();
        let segments = state.max_gso_segments().max(1);
        Ok(Self {
            io,
            state,
            segments,
            packets: addr.is_ipv6().then(RwLock::default),
            #[cfg(unix)]
            path_mtus: PathMtus::new(),
            buffers,
            is_wildcard,
            reports_errors: AtomicBool::new(false),
        })
    }

    /// Asks the kernel to report what ICMP says about our datagrams, until
    /// [`stop_error_reports`](DatagramSocket::stop_error_reports).
    ///
    /// For sockets that talk to one peer, before they have heard it: anyone can fill the error queue.
    pub(crate) fn report_errors(&self) {
        // quinn-udp has this on Unix only.
        #[cfg(unix)]
        if error_queue::start(self.io.get_ref(), &self.state).is_ok_and(|on| on) {
            self.io.watch_errors();
            self.reports_errors.store(true, Ordering::Relaxed);
        }
    }

    fn reports_errors(&self) -> bool {
        self.reports_errors.load(Ordering::Relaxed)
    }

    /// Waits until the first train can be sent without going round by the driver.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Receives a batch of up to `N`.
    fn recv<const N: usize>(
        &self,
        socket: UdpSockRef<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> io::Result<usize> {
        let mut received = [quinn_udp::RecvMeta::default(); N];
        let count = self.state.recv(socket, bufs, &mut received[..meta.len()])?;
        for (meta, from) in meta.iter_mut().zip(&received[..count]) {
            *meta = RecvMeta {
                source: from.addr,
                len: from.len,
                stride: from.stride,
                destination: from.dst_ip.filter(|_| self.is_wildcard),
            };
        }
        Ok(count)
    }

    fn send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let single = transmit.contents.len() <= transmit.segment_size;
        let train = quinn_udp::Transmit {
            destination: transmit.destination,
            ecn: None,
            contents: transmit.contents,
            segment_size: (!single).then_some(transmit.segment_size),
            src_ip: transmit.source.filter(|_| self.is_wildcard),
        };
        let send = || {
            self.io
                .try_send(|socket| self.state.try_send(socket, &train))
        };
        let result = send();
        match result {
            // With error reports on, a send may return a pending error of an earlier datagram.
            Err(error) if self.reports_errors() && error.kind() != io::ErrorKind::WouldBlock => {
                send()
            }
            result => result,
        }
    }
}

impl DatagramSocket for UdpSocket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let packets = self.packets.as_ref();
        let _shared = packets.map(|lock| lock.read().unwrap_or_else(PoisonError::into_inner));
        self.send(transmit)
    }

    #[cfg(unix)]
    fn largest_unfragmented(&self, destination: SocketAddr) -> Option<usize> {
        let destination = SocketAddr::new(destination.ip().to_canonical(), destination.port());
        let headers = match destination.is_ipv4() {
            true => IPV4_AND_UDP_HEADERS,
            false => IPV6_AND_UDP_HEADERS,
        };
        self.path_mtus.of(destination)?.checked_sub(headers)
    }

    #[cfg(unix)]
    fn fragments_above(&self, destination: SocketAddr) -> Option<usize> {
        self.packets.as_ref()?;
        let mtu = self.path_mtus.of(destination)?;
        mtu.checked_sub(IPV6_AND_UDP_HEADERS)
    }

    #[cfg(unix)]
    fn try_send_fragmented(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Some(packets) = &self.packets else {
            return self.send(transmit);
        };
        let _alone = packets.write().unwrap_or_else(PoisonError::into_inner);
        let socket = self.io.descriptor();
        // Where that fails, the datagram leaves as the system likes.
        let _ = kcp_sys::set_small_fragments(&socket, true);
        let result = self.send(transmit);
        let _ = kcp_sys::set_small_fragments(&socket, false);
        result
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let batch = bufs.len().min(meta.len()).min(quinn_udp::BATCH_SIZE);
        let (bufs, meta) = (&mut bufs[..batch], &mut meta[..batch]);
        loop {
            let is_ready = self.io.poll_recv_ready(cx);
            #[cfg(unix)]
            if is_ready.is_pending() && self.reports_errors() && self.io.poll_error(cx) {
                // The driver takes reports after data. Then it is called again, to wait for more.
                cx.waker().wake_by_ref();
            }
            ready!(is_ready)?;
            let mut last = None;
            let result = self.io.try_recv(|socket| {
                let count = match batch {
                    ..=FEW => self.recv::<FEW>(socket, bufs, meta)?,
                    _ => self.recv::<{ quinn_udp::BATCH_SIZE }>(socket, bufs, meta)?,
                };
                // The queue was empty, which saves asking for it. What came since, an error report
                // that ended the batch included, the reactor has yet to report.
                if RECEIVES_ALL_IT_CAN && count < batch {
                    last = Some(count);
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(count)
            });
            match (last, result) {
                (Some(count), _) => return Poll::Ready(Ok(count)),
                (None, Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                (None, result) => return Poll::Ready(result),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.io.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.segments
    }

    #[cfg(unix)]
    fn take_error(&self) -> Option<SocketError> {
        if !self.reports_errors() {
            return None;
        }
        let report = self.io.try_take_error(|socket| {
            let report = self.state.recv_transport_error(socket).ok().flatten();
            report.ok_or_else(|| io::ErrorKind::WouldBlock.into())
        });
        let error = report.ok()?;
        let kind = io::Error::from_raw_os_error(error.raw_errno).kind();
        Some(SocketError::new(error.addr.map(|addr| addr.ip()), kind))
    }

    #[cfg(unix)]
    fn stop_error_reports(&self) {
        if self.reports_errors() && error_queue::stop(self.io.get_ref()).is_ok() {
            self.reports_errors.store(false, Ordering::Relaxed);
            self.io.stop_watching_errors();
        }
    }

    #[cfg(unix)]
    fn send_queue(&self) -> Option<SendQueue> {
        let used = kcp_sys::send_buffer_used(&self.io.descriptor()).ok()??;
        // The system counts in the unit in which it reports the buffer, and Linux reports the double.
        let limit = 2 * self.buffers.send_granted;
        (limit > 0).then_some(SendQueue { used, limit })
    }

    fn buffers(&self) -> Option<SocketBuffers> {
        Some(self.buffers)
    }
}

#[cfg(unix)]
const IPV6_AND_UDP_HEADERS: usize = 48;
#[cfg(unix)]
const IPV4_AND_UDP_HEADERS: usize = 28;
/// A batch for which the descriptions of a large one would be most of the work.
const FEW: usize = 2;
/// Whether a receive call that returns fewer datagrams than it has room for has emptied the queue.
/// Elsewhere it returns one at a time.
const RECEIVES_ALL_IT_CAN: bool = cfg!(any(target_os = "linux", target_os = "android"));

fn ask_for_buffers(socket: &StdSocket, (send, recv): (usize, usize)) -> SocketBuffers {
    let socket = SockRef::from(socket);
    // A refusal shows in what is read back.
    if send > 0 {
        let _ = socket.set_send_buffer_size(send);
    }
    if recv > 0 {
        let _ = socket.set_recv_buffer_size(recv);
    }
    // Linux doubles what it is given, for its own bookkeeping, and reports the double.
    let share = if cfg!(target_os = "linux") { 2 } else { 1 };
    SocketBuffers {
        send_asked: send,
        send_granted: socket.send_buffer_size().unwrap_or(0) / share,
        recv_asked: recv,
        recv_granted: socket.recv_buffer_size().unwrap_or(0) / share,
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn a_train_arrives_as_its_datagrams() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let left = UdpSocket::bind(loopback, (0, 0)).unwrap();
        let right = UdpSocket::bind(loopback, (0, 0)).unwrap();
        left.writable().await.unwrap();
        let contents: Vec<u8> = (0..250).collect();
        let segment_size = if left.max_transmit_segments() > 1 {
            100
        } else {
            250
        };
        let transmit = Transmit {
            destination: right.local_addr().unwrap(),
            contents: &contents,
            segment_size,
            source: None,
        };
        left.try_send(&transmit).unwrap();

        let mut datagrams: Vec<Vec<u8>> = Vec::new();
        while datagrams.concat().len() < contents.len() {
            let mut storage = [vec![0; 65_536], vec![0; 65_536]];
            let mut meta = [RecvMeta::default(); 2];
            let count = poll_fn(|cx| {
                let mut bufs = storage.each_mut().map(|buffer| IoSliceMut::new(buffer));
                right.poll_recv(cx, &mut bufs, &mut meta)
            })
            .await
            .unwrap();
            for (buffer, meta) in storage.iter().zip(&meta[..count]) {
                assert_eq!(meta.source, left.local_addr().unwrap());
                datagrams.extend(buffer[..meta.len].chunks(meta.stride).map(<[u8]>::to_vec));
            }
        }
        assert_eq!(
            datagrams,
            transmit.datagrams().map(<[u8]>::to_vec).collect::<Vec<_>>()
        );
    }

    /// Linux says EINVAL to port 0, which quinn-udp takes for a system without trains.
    #[tokio::test]
    async fn a_refused_destination_changes_nothing_for_others() {
        let loopback = "127.0.0.1:0".parse().unwrap();
        let socket = UdpSocket::bind(loopback, (0, 0)).unwrap();
        let other = UdpSocket::bind(loopback, (0, 0)).unwrap();
        let before = socket.max_transmit_segments();
        let contents = [0; 1_000];
        let mut transmit = Transmit {
            destination: loopback,
            contents: &contents,
            segment_size: if before > 1 { 100 } else { 1_000 },
            source: None,
        };
        if cfg!(target_os = "linux") {
            socket.try_send(&transmit).unwrap_err();
        }
        assert_eq!(socket.max_transmit_segments(), before);
        transmit.destination = other.local_addr().unwrap();
        socket.try_send(&transmit).unwrap();
    }

    #[tokio::test]
    async fn says_what_buffers_were_granted() {
        let socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap(), (8_192, 1 << 30)).unwrap();
        let buffers = socket.buffers().unwrap();
        assert_eq!((buffers.send_asked, buffers.recv_asked), (8_192, 1 << 30));
        assert!(buffers.send_granted >= 8_192);
        assert_eq!(buffers.is_short(), buffers.recv_granted < 1 << 30);
    }
}
