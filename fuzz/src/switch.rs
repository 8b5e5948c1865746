//! In-memory sockets for the endpoint target, and the wire between the two of them.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::task::{Context, Poll, Waker};

use kcp_async::{DatagramSocket, RecvMeta, SocketError, Transmit};

/// Datagrams that wait for their fate. The oldest go first when there are too many.
const IN_FLIGHT: usize = 256;
/// As many as the fuzzer can point at.
const REMEMBERED: usize = 64;

/// What lies between the sockets. Nothing moves by itself.
#[derive(Debug, Default)]
pub struct Switch {
    wire: Mutex<Wire>,
}

#[derive(Debug, Default)]
struct Wire {
    sockets: Vec<Weak<SwitchSocket>>,
    in_flight: VecDeque<InFlight>,
    /// What the first socket sent to anybody.
    sent: VecDeque<(SocketAddr, Vec<u8>)>,
}

#[derive(Clone, Debug)]
struct InFlight {
    from: SocketAddr,
    to: SocketAddr,
    datagram: Vec<u8>,
}

impl Switch {
    /// A socket at this address.
    pub fn socket(self: &Arc<Self>, addr: SocketAddr, max_segments: usize) -> Arc<SwitchSocket> {
        let socket = Arc::new(SwitchSocket {
            switch: Arc::clone(self),
            addr,
            max_segments,
            state: Mutex::default(),
        });
        self.wire().sockets.push(Arc::downgrade(&socket));
        socket
    }

    fn wire(&self) -> MutexGuard<'_, Wire> {
        self.wire.lock().expect("no holder panics")
    }

    /// One of the last datagrams of the first socket, and where it went.
    pub fn sent_by_server(&self, index: u8) -> Option<(SocketAddr, Vec<u8>)> {
        let wire = self.wire();
        let index = usize::from(index) % wire.sent.len().max(1);
        wire.sent.iter().rev().nth(index).cloned()
    }

    pub fn lose(&self, index: u8) {
        let mut wire = self.wire();
        let index = usize::from(index) % wire.in_flight.len().max(1);
        wire.in_flight.remove(index);
    }

    pub fn lose_all(&self) {
        self.wire().in_flight.clear();
    }

    /// A datagram arrives; with `again` it will once more.
    pub fn deliver(&self, index: u8, again: bool) {
        let mut wire = self.wire();
        let index = usize::from(index) % wire.in_flight.len().max(1);
        let arriving = match again {
            true => wire.in_flight.get(index).cloned(),
            false => wire.in_flight.remove(index),
        };
        let Some(arriving) = arriving else { return };
        let socket = wire
            .sockets
            .iter()
            .filter_map(Weak::upgrade)
            .find(|socket| socket.addr == arriving.to);
        drop(wire);
        if let Some(socket) = socket {
            let stride = arriving.datagram.len();
            socket.arrive(arriving.from, arriving.datagram, stride);
        }
    }

    pub fn deliver_all(&self) {
        let count = self.wire().in_flight.len();
        for _ in 0..count {
            self.deliver(0, false);
        }
    }
}

/// A socket that is moved by hand.
#[derive(Debug)]
pub struct SwitchSocket {
    switch: Arc<Switch>,
    addr: SocketAddr,
    max_segments: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    arrived: VecDeque<(SocketAddr, Vec<u8>, usize)>,
    reader: Option<Waker>,
    writer: Option<Waker>,
    full: bool,
    failing_receives: usize,
    failing_sends: usize,
    reports: Vec<SocketError>,
}

impl SwitchSocket {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }

    /// Puts a train into the inbox.
    pub fn arrive(&self, from: SocketAddr, train: Vec<u8>, stride: usize) {
        let mut state = self.state();
        state.arrived.push_back((from, train, stride));
        wake(state.reader.take());
    }

    pub fn set_full(&self, full: bool) {
        let mut state = self.state();
        state.full = full;
        wake(state.writer.take());
    }

    pub fn fail_receive(&self) {
        let mut state = self.state();
        state.failing_receives += 1;
        wake(state.reader.take());
    }

    pub fn fail_send(&self) {
        self.state().failing_sends += 1;
    }

    /// An ICMP report, about one peer or about nobody in particular.
    pub fn refuse(&self, known: bool) {
        let from = known.then_some([10, 0, 0, 1].into());
        let report = SocketError::new(from, io::ErrorKind::ConnectionRefused);
        self.state().reports.push(report);
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl DatagramSocket for SwitchSocket {
    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        assert!(transmit.segment_size > 0 && transmit.segment_size <= transmit.contents.len());
        assert!(transmit.datagrams().count() <= self.max_segments);
        {
            let mut state = self.state();
            if state.full {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if state.failing_sends > 0 {
                state.failing_sends -= 1;
                return Err(io::ErrorKind::NetworkUnreachable.into());
            }
        }
        let mut wire = self.switch.wire();
        let is_server = wire.sockets[0].as_ptr() == std::ptr::from_ref(self);
        for datagram in transmit.datagrams() {
            if is_server {
                if wire.sent.len() == REMEMBERED {
                    wire.sent.pop_front();
                }
                let sent = (transmit.destination, datagram.to_vec());
                wire.sent.push_back(sent);
            }
            if wire.in_flight.len() == IN_FLIGHT {
                wire.in_flight.pop_front();
            }
            wire.in_flight.push_back(InFlight {
                from: self.addr,
                to: transmit.destination,
                datagram: datagram.to_vec(),
            });
        }
        Ok(())
    }

    fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.state();
        if !state.full {
            return Poll::Ready(Ok(()));
        }
        state.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut state = self.state();
        if state.failing_receives > 0 {
            state.failing_receives -= 1;
            return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
        }
        let mut count = 0;
        for (buf, meta) in bufs.iter_mut().zip(meta) {
            let Some((source, train, stride)) = state.arrived.pop_front() else {
                break;
            };
            let len = train.len().min(buf.len());
            buf[..len].copy_from_slice(&train[..len]);
            *meta = RecvMeta {
                source,
                len,
                stride,
                destination: None,
            };
            count += 1;
        }
        if count > 0 {
            return Poll::Ready(Ok(count));
        }
        state.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        self.max_segments
    }

    fn take_error(&self) -> Option<SocketError> {
        self.state().reports.pop()
    }
}
