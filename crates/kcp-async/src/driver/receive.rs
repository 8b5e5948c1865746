//! From the socket to the sessions.

use std::array;
use std::cell::RefCell;
use std::io::IoSliceMut;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};

use kcp_engine::{Conv, IKCP_OVERHEAD, Instant};

use super::EndpointDriver;
use crate::address::{can_be_answered, is_of_one_host, is_own};
use crate::error::ConnectionError;
use crate::gate;
use crate::router::Router;
use crate::send_share::Doubt;
use crate::session::{Session, SessionCell};
use crate::socket::{RecvMeta, Transmit, is_fatal};

thread_local! {
    /// Shared by the drivers of a thread: a driver needs them only while it is polled, and an idle
    /// endpoint should own none.
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers {
        bytes: vec![0; BATCH * BUFFER_BYTES].into_boxed_slice(),
        meta: [RecvMeta::default(); BATCH],
    });
}

/// Room for a batch.
struct Buffers {
    /// The pages are touched as they fill.
    bytes: Box<[u8]>,
    meta: [RecvMeta; BATCH],
}

/// Where a datagram came from and to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) peer: SocketAddr,
    pub(super) local: Option<IpAddr>,
}

/// A datagram in the buffers of the batch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Unknown {
    path: Path,
    at: usize,
    len: usize,
}

impl EndpointDriver {
    /// Receives up to a bound. `Ok(true)` if there may be more.
    pub(super) fn receive(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        for _ in 0..BATCHES_PER_TURN {
            let now = self.shared.clock.now();
            if self.receive_backoff.holds(now) {
                return Ok(false);
            }
            let received = BUFFERS.with_borrow_mut(|buffers| self.receive_batch(cx, buffers, now));
            match received {
                Poll::Pending => {
                    self.receive_backoff.reset();
                    return Ok(false);
                }
                Poll::Ready(Ok(())) => self.receive_backoff.reset(),
                Poll::Ready(Err(error)) => self.note_receive_failure(&error, now)?,
            }
            // Strangers keep nobody awake.
            if !self.touched.is_empty() {
                self.busy_poll.heard();
            }
            self.send_replies();
            self.serve_touched(now);
            self.wake.wake();
        }
        Ok(true)
    }

    fn serve_touched(&mut self, now: Instant) {
        let mut touched = mem::take(&mut self.touched);
        for cell in touched.drain(..) {
            let mut session = cell.state.lock("touched");
            if self.wants_reports {
                self.note_heard(&cell, &session);
            }
            // Whoever is woken to read may be about to answer: one datagram instead of two.
            if session.wakes_a_reader() {
                session.engine.hold_acks();
            }
            self.serve(&cell, session, now);
        }
        self.touched = touched;
    }

    fn receive_batch(
        &mut self,
        cx: &mut Context<'_>,
        buffers: &mut Buffers,
        now: Instant,
    ) -> Poll<std::io::Result<()>> {
        let Buffers { bytes, meta } = buffers;
        let offered = self.receive_buffers;
        let count = {
            let mut parts = bytes.chunks_exact_mut(BUFFER_BYTES).take(offered);
            let mut bufs: [IoSliceMut<'_>; BATCH] =
                array::from_fn(|_| IoSliceMut::new(parts.next().unwrap_or_default()));
            let bufs = &mut bufs[..offered];
            let meta = &mut meta[..offered];
            match self.shared.socket.poll_recv(cx, bufs, meta) {
                Poll::Ready(Ok(count)) => count.min(offered),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.openings.on_drained();
                    return Poll::Pending;
                }
            }
        };
        // Each buffer offered costs something, filled or not.
        self.receive_buffers = (2 * count).clamp(FEWEST_BUFFERS, BATCH);
        if count == BATCH {
            self.openings.on_backlog(now);
        } else if count < offered {
            self.openings.on_drained();
        }
        let shared = Arc::clone(&self.shared);
        let counters = &shared.counters;
        counters.receive_calls.add(1);
        let mut router = shared.router.lock("receive");
        let buffers = bytes.chunks_exact_mut(BUFFER_BYTES).zip(&meta[..count]);
        for (n, (buffer, meta)) in buffers.enumerate() {
            let train = &mut buffer[..meta.len.min(BUFFER_BYTES)];
            let stride = meta.stride.clamp(1, BUFFER_BYTES);
            counters.bytes_received.add(train.len() as u64);
            counters
                .datagrams_received
                .add(train.len().div_ceil(stride) as u64);
            let is_own = is_own(meta.source, meta.destination, shared.local_addr);
            if is_own || !can_be_answered(meta.source) {
                let datagrams = train.len().div_ceil(stride) as u64;
                counters.dropped_source.add(datagrams);
                continue;
            }
            let path = Path {
                peer: meta.source,
                local: meta.destination.filter(|&ip| is_of_one_host(ip)),
            };
            let first = n * BUFFER_BYTES;
            self.deliver_train(&mut router, path, train, first, stride, now);
        }
        drop(router);
        self.deliver_unknown(bytes, now);
        Poll::Ready(Ok(()))
    }

    /// What belongs to no session comes after the known sessions of the batch have been served.
    fn deliver_unknown(&mut self, bytes: &mut [u8], now: Instant) {
        if self.unknown.is_empty() {
            return;
        }
        if !self.touched.is_empty() {
            self.busy_poll.heard();
            self.serve_touched(now);
        }
        let shared = Arc::clone(&self.shared);
        let mut router = shared.router.lock("unknown");
        let mut unknown = mem::take(&mut self.unknown);
        for Unknown { path, at, len } in unknown.drain(..) {
            let datagram = &mut bytes[at..at + len];
            let Some(conv) = conv_of(datagram) else {
                continue;
            };
            match router.find(path.peer, conv) {
                // One before it has opened a session.
                Some(_) => self.deliver_train(&mut router, path, datagram, at, len, now),
                None => self.receive_from_stranger(&mut router, path, conv, datagram, now),
            }
        }
        unknown.shrink_to(MOST_UNKNOWN_KEPT);
        self.unknown = unknown;
    }

    /// Gives the datagrams of one train to their sessions: usually all to one, which is then
    /// looked up and locked once. `first` is where the train begins in the batch.
    fn deliver_train(
        &mut self,
        router: &mut Router<Arc<SessionCell>>,
        path: Path,
        train: &mut [u8],
        first: usize,
        stride: usize,
        now: Instant,
    ) {
        let mut datagrams = train.chunks_mut(stride).peekable();
        let mut next_at = first;
        while let Some(datagram) = datagrams.next() {
            let (at, len) = (next_at, datagram.len());
            next_at += len;
            let Some(conv) = conv_of(datagram) else {
                self.shared.counters.dropped_short.add(1);
                continue;
            };
            let Some(found) = router.find(path.peer, conv) else {
                self.unknown.push(Unknown { path, at, len });
                continue;
            };
            if let Some(name) = found.renamed {
                // protocol.md 13.3: the sender need not be who opened the session.
                if !gate::is_first_flight(datagram) {
                    self.shared.counters.dropped_conv_zero.add(1);
                    continue;
                }
                gate::rename(datagram, name);
            }
            let (renamed, ends_opening) = (found.renamed, found.ends_opening);
            let cell = Arc::clone(found.session);
            if ends_opening {
                router.end_opening(path.peer);
            }
            let mut session = cell.state.lock("receive");
            if session.embryo.is_some() {
                self.feed_embryo(router, &cell, session, path, datagram, now);
                continue;
            }
            // protocol.md 13.1: datagrams that anyone can forge must not move the answers to another address.
            let may_move = !session.engine.is_proven() && session.source != path.local;
            let known = may_move.then(|| session.engine.stats().segments_received);
            session.receive(now, datagram);
            if renamed.is_none() {
                while let Some(next) = datagrams.next_if(|next| conv_of(next) == Some(conv)) {
                    next_at += next.len();
                    session.receive(now, next);
                }
            }
            let in_use = session.engine.is_proven() || session.engine.last_new_push() == Some(now);
            if in_use {
                self.openings.on_known(now, session.life.created());
            }
            if known.is_some_and(|known| session.has_shown_more(known)) {
                session.source = path.local;
            }
            self.touch(&cell, &mut session);
        }
    }

    /// Puts a session on the list of those to serve after this batch.
    pub(super) fn touch(&mut self, cell: &Arc<SessionCell>, session: &mut Session) {
        if !session.touched {
            session.touched = true;
            self.touched.push(Arc::clone(cell));
        }
    }

    /// Answers that belong to no session. One that the socket has no room for is lost: the peer
    /// asks again.
    pub(super) fn send_replies(&mut self) {
        if self.replies.is_empty() {
            return;
        }
        let now = self.shared.clock.now();
        for (path, contents) in self.replies.drain(..) {
            let doubt = Doubt::Unvalidated;
            if !self.shared.may_send(now, doubt, path.peer, contents.len()) {
                self.shared.counters.sends_withheld.add(1);
                continue;
            }
            let transmit = Transmit {
                destination: path.peer,
                contents: &contents,
                segment_size: IKCP_OVERHEAD,
                source: path.local,
            };
            let _ = self.shared.socket.try_send(&transmit);
        }
    }

    /// A receive error says something about an earlier send, or about one datagram. However many
    /// there are, the endpoint goes on; only an error that says that there is no socket ends it.
    fn note_receive_failure(
        &mut self,
        error: &std::io::Error,
        now: Instant,
    ) -> Result<(), ConnectionError> {
        crate::log::debug!(%error, "receive failed");
        self.shared.counters.receive_errors.add(1);
        if is_fatal(error) {
            return Err(ConnectionError::Socket(error.kind()));
        }
        self.receive_backoff.fail(now);
        Ok(())
    }
}

fn conv_of(datagram: &[u8]) -> Option<Conv> {
    let header = datagram.get(..IKCP_OVERHEAD)?;
    let conv = header.first_chunk::<4>()?;
    Some(Conv::new(u32::from_le_bytes(*conv)))
}

/// Buffers per receive call. Each holds a whole GRO train, so this is up to 1 MiB; more would
/// leave the cache before it is parsed.
const BATCH: usize = 16;
/// One to fill, and one that shows that there was no more.
pub(super) const FEWEST_BUFFERS: usize = 2;
/// The largest UDP datagram, and so the largest train.
const BUFFER_BYTES: usize = 65_536;
/// Room that is kept for the next batch.
const MOST_UNKNOWN_KEPT: usize = 1_024;
/// Receive calls before timers and writers have their turn: at most 4 MiB, a millisecond or two.
const BATCHES_PER_TURN: usize = 4;
