//! A socket of the simulated network that also does what a test tells it: datagrams from any source,
//! errors, local addresses.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use kcp_async::{
    DatagramSocket, EndpointConfig, KcpEndpoint, RecvMeta, SendQueue, SocketError, Transmit,
};

use crate::net::{Net, NetSocket};

pub(crate) struct Scripted {
    inner: Arc<NetSocket>,
    script: Mutex<Script>,
}

#[derive(Default)]
pub(crate) struct Script {
    /// What the next receive calls return, before anything of the network.
    pub(crate) incoming: VecDeque<Incoming>,
    /// The local address that received datagrams were sent to.
    pub(crate) local: Option<IpAddr>,
    /// Receive calls fail with this for as long as it is set.
    pub(crate) recv_fails: Option<io::ErrorKind>,
    /// A send to one of these is lost, and a receive call fails once for it.
    pub(crate) dead: HashSet<SocketAddr>,
    pub(crate) dead_error: Option<io::ErrorKind>,
    /// What [`DatagramSocket::take_error`] returns.
    pub(crate) reports: VecDeque<SocketError>,
    pub(crate) report_stops: u32,
    /// Sends find the socket full.
    pub(crate) full: bool,
    /// Sends fail with this error of the system for as long as it is set.
    pub(crate) sends_fail: Option<i32>,
    /// A full socket is not reported ready, and no one is woken once it has room.
    pub(crate) never_ready: bool,
    /// What [`DatagramSocket::send_queue`] returns.
    pub(crate) send_queue: Option<SendQueue>,
    /// What a full socket answers to the question whether it has room: that it has, or this.
    pub(crate) ready_fails: Option<io::ErrorKind>,
    pub(crate) sent: Vec<SentFrom>,
    pub(crate) recv_calls: u64,
    pub(crate) ready_calls: u64,
    reader: Option<Waker>,
}

pub(crate) enum Incoming {
    Datagram(SocketAddr, Vec<u8>),
    Error(io::ErrorKind),
}

/// A train, and the address that it was to leave from.
#[derive(Clone, Debug)]
pub(crate) struct SentFrom {
    pub(crate) source: Option<IpAddr>,
    pub(crate) to: SocketAddr,
    pub(crate) contents: Vec<u8>,
}

impl Scripted {
    pub(crate) fn endpoint(
        net: &Net,
        addr: &str,
        config: impl Into<EndpointConfig>,
    ) -> (KcpEndpoint, Arc<Self>) {
        let socket = Arc::new(Self {
            inner: net.socket(addr.parse().unwrap()),
            script: Mutex::default(),
        });
        let dynamic: Arc<dyn DatagramSocket> = Arc::clone(&socket) as _;
        (KcpEndpoint::with_socket(dynamic, config).unwrap(), socket)
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Puts something in front of what the network brings, and wakes the reader.
    pub(crate) fn inject(&self, incoming: impl IntoIterator<Item = Incoming>) {
        let mut script = self.script();
        script.incoming.extend(incoming);
        script.reader.take().into_iter().for_each(Waker::wake);
    }

    pub(crate) fn inject_datagram(&self, source: &str, datagram: &[u8]) {
        self.inject([Incoming::Datagram(
            source.parse().unwrap(),
            datagram.to_vec(),
        )]);
    }

    /// What was sent since the last call.
    pub(crate) fn take_sent(&self) -> Vec<SentFrom> {
        std::mem::take(&mut self.script().sent)
    }
}

impl Scripted {
    /// Reports of the network, and the wake-up that comes with them.
    pub(crate) fn report(&self, errors: impl IntoIterator<Item = SocketError>) {
        self.script().reports.extend(errors);
        self.inject([]);
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}

impl DatagramSocket for Scripted {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut script = self.script();
        if script.full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if let Some(errno) = script.sends_fail {
            return Err(io::Error::from_raw_os_error(errno));
        }
        script.sent.push(SentFrom {
            source: transmit.source,
            to: transmit.destination,
            contents: transmit.contents.to_vec(),
        });
        if script.dead.contains(&transmit.destination) {
            let error = script.dead_error.unwrap();
            for _ in transmit.datagrams() {
                script.incoming.push_back(Incoming::Error(error));
            }
            script.reader.take().into_iter().for_each(Waker::wake);
            return Ok(());
        }
        drop(script);
        self.inner.try_send(transmit)
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut script = self.script();
        script.ready_calls += 1;
        match script.ready_fails {
            Some(kind) => Poll::Ready(Err(kind.into())),
            None if script.never_ready => Poll::Pending,
            None if script.full => Poll::Ready(Ok(())),
            None => self.inner.poll_send_ready(cx),
        }
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut script = self.script();
        script.recv_calls += 1;
        script.reader = Some(cx.waker().clone());
        if let Some(kind) = script.recv_fails {
            return Poll::Ready(Err(kind.into()));
        }
        let destination = script.local;
        match script.incoming.pop_front() {
            Some(Incoming::Error(kind)) => return Poll::Ready(Err(kind.into())),
            Some(Incoming::Datagram(source, datagram)) => {
                bufs[0][..datagram.len()].copy_from_slice(&datagram);
                let (len, stride) = (datagram.len(), datagram.len());
                meta[0] = RecvMeta {
                    source,
                    len,
                    stride,
                    destination,
                };
                return Poll::Ready(Ok(1));
            }
            None => drop(script),
        }
        let received = self.inner.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = received {
            for meta in &mut meta[..count] {
                meta.destination = destination;
            }
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn send_queue(&self) -> Option<SendQueue> {
        self.script().send_queue
    }

    fn take_error(&self) -> Option<SocketError> {
        self.script().reports.pop_front()
    }

    fn stop_error_reports(&self) {
        self.script().report_stops += 1;
    }
}
