//! From an engine to the socket: the one path that both writers and the driver use.
//!
//! A train is copied out under the session's lock and sent without it. Whoever sends marks the
//! session as `transmitting`, so that trains of one session leave in order; it asks the engine
//! again before it unmarks it, so nothing that was added meanwhile is forgotten.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use kcp_engine::{IKCP_OVERHEAD, Instant, KcpEngine};

use crate::padding::pad;
use crate::send_share::Doubt;
use crate::session::{Session, SessionCell, Train};
use crate::shared::Shared;
use crate::socket::Transmit;

/// How far sending got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drained {
    /// The engine has nothing more to say.
    Empty,
    /// The socket is full; the rest waits in the session.
    SocketFull,
    /// The bound was reached.
    Bound,
    /// Another task is at it.
    Elsewhere,
}

/// Sends what the session has to say, at most `bound` trains.
pub(crate) fn drain<'a>(
    shared: &Shared,
    cell: &'a SessionCell,
    mut session: MutexGuard<'a, Session>,
    mut now: Instant,
    bound: usize,
) -> (MutexGuard<'a, Session>, Drained) {
    if session.transmitting {
        session.driver_waits = true;
        return (session, Drained::Elsewhere);
    }
    if session.unsent.is_none() && !session.engine.wants_transmit() {
        return (session, Drained::Empty);
    }
    let mut buffer = shared.pool.take(TRAIN_BUFFER_BYTES);
    let mut sent = 0;
    let mut withholds = false;
    let outcome = loop {
        if session.unsent.is_some() {
            break Drained::SocketFull;
        }
        if sent == bound {
            break Drained::Bound;
        }
        limit_new_segments(shared, cell, &mut session, now);
        let fragmented = is_fragmented(cell, &session);
        let max_datagrams = max_datagrams(shared, cell, &session, now);
        let Some(segment_size) = session.next_train(now, &mut buffer, max_datagrams) else {
            break Drained::Empty;
        };
        session.transmitting = true;
        let doubt = session.doubt(now);
        let source = session.source;
        drop(session);
        let transmit = Transmit {
            destination: cell.peer,
            contents: &buffer,
            segment_size,
            source,
        };
        let outcome = match doubt {
            None => send(shared, &transmit, fragmented, now),
            Some(doubt) => send_doubted(shared, &transmit, fragmented, now, doubt, &mut withholds),
        };
        session = cell.state.lock("sent");
        session.transmitting = false;
        session.note_sending(now, outcome.passed, outcome.refused, outcome.failed);
        if let Some(sent) = outcome.full_after {
            session.unsent = Some(Box::new(Train {
                contents: buffer,
                segment_size,
                sent,
            }));
            return (session, Drained::SocketFull);
        }
        sent += 1;
        if session.engine.is_paced() {
            // Sending took its time, in which more may have been released.
            now = shared.clock.now();
        }
    };
    shared.pool.give(buffer);
    (session, outcome)
}

/// Sends the train that waited for room. `false` if there is still none.
pub(crate) fn resume<'a>(
    shared: &Shared,
    cell: &'a SessionCell,
    mut session: MutexGuard<'a, Session>,
) -> (MutexGuard<'a, Session>, bool) {
    let Some(mut train) = session.unsent.take() else {
        return (session, true);
    };
    session.transmitting = true;
    let now = shared.clock.now();
    let fragmented = is_fragmented(cell, &session);
    let doubt = session.doubt(now);
    let source = session.source;
    drop(session);
    let transmit = Transmit {
        destination: cell.peer,
        contents: &train.contents[train.sent..],
        segment_size: train.segment_size,
        source,
    };
    let outcome = match doubt {
        None => send(shared, &transmit, fragmented, now),
        Some(doubt) => send_doubted(shared, &transmit, fragmented, now, doubt, &mut false),
    };
    session = cell.state.lock("resumed");
    session.transmitting = false;
    session.note_sending(now, outcome.passed, outcome.refused, outcome.failed);
    let full = outcome.full_after.is_some();
    train.sent += outcome.full_after.unwrap_or_default();
    if full {
        session.unsent = Some(train);
    } else {
        shared.pool.give(train.contents);
    }
    (session, !full)
}

/// For handles: sends what a call has made ready, and calls the driver if it is needed.
pub(crate) fn send_inline<'a>(
    shared: &Shared,
    cell: &'a Arc<SessionCell>,
    session: MutexGuard<'a, Session>,
) {
    if session.unsent.is_some() || shared.socket_is_full.load(Ordering::Acquire) {
        // The driver serves what waits for room when there is room. It is called only for what it
        // does not know: a task that was woken for nothing and calls again must not wake it, or
        // each would wake the other until then.
        let mut session = session;
        let unknown = session.unsent.is_some() && !session.in_blocked_list;
        let call = unknown || session.needs_earlier_look(&shared.times);
        drop(session);
        if call {
            shared.call_driver(cell);
        }
        return;
    }
    let now = shared.clock.now();
    let (mut session, drained) = drain(shared, cell, session, now, INLINE_TRAINS);
    let waited_for = std::mem::take(&mut session.driver_waits);
    let call = match drained {
        // Whoever has it looks after the rest, this call's data included.
        Drained::Elsewhere => {
            session.driver_waits = true;
            false
        }
        Drained::Empty => waited_for || session.needs_earlier_look(&shared.times),
        Drained::SocketFull | Drained::Bound => true,
    };
    drop(session);
    if call {
        shared.call_driver(cell);
    }
}

/// What became of a train.
#[derive(Debug, Default)]
struct Outcome {
    /// The socket is full; so many bytes of the train have left.
    full_after: Option<usize>,
    /// Size of the largest datagram that the socket took.
    passed: usize,
    /// Size of the last datagram that the socket refused for its size (EMSGSIZE).
    refused: Option<usize>,
    /// Why the last datagram was lost here that the socket did not refuse for its size.
    failed: Option<io::ErrorKind>,
}

/// Whether datagrams too large for the smallest IPv6 mtu are to be fragmented here: IPv6 routers never do
/// (protocol.md 2.3.1).
fn is_fragmented(cell: &SessionCell, session: &Session) -> bool {
    session.engine.suspects_small_mtu()
        && session.engine.answer_allowance().is_none()
        && session.engine.config().mtu_bytes() > LARGEST_UNFRAGMENTED
        && cell.peer.ip().to_canonical().is_ipv6()
}

/// Before the first large segment leaves: new segments are cut so that this host need not fragment them (protocol.md
/// 2.3.2). To be called after writing, before anything is numbered.
pub(crate) fn fit_new_segments(shared: &Shared, peer: SocketAddr, engine: &mut KcpEngine) {
    let size = engine.datagram_limit();
    let may_be_large = size > LARGEST_UNFRAGMENTED && engine.queued_bytes() > LARGEST_UNFRAGMENTED;
    if !may_be_large || engine.has_passed_large() {
        return;
    }
    let largest = shared.socket.largest_unfragmented(peer);
    if let Some(largest) = largest.filter(|&largest| largest < size) {
        engine.set_new_segment_limit(largest.max(LARGEST_UNFRAGMENTED));
    }
}

/// New segments are cut for the smallest IPv6 mtu where larger datagrams turned out to need fragmentation or to be lost
/// (protocol.md 2.3.2).
fn limit_new_segments(shared: &Shared, cell: &SessionCell, session: &mut Session, now: Instant) {
    let size = session.engine.datagram_limit();
    if size > LARGEST_UNFRAGMENTED
        && (session.engine.suspects_small_mtu()
            || shared.trains.needs_fragments(cell.peer.ip(), size, now))
    {
        session.engine.set_new_segment_limit(LARGEST_UNFRAGMENTED);
    }
}

fn max_datagrams(shared: &Shared, cell: &SessionCell, session: &Session, now: Instant) -> usize {
    let most = shared.socket.max_transmit_segments();
    let mtu = session.engine.datagram_limit();
    let trains = most > 1
        && (mtu <= LARGEST_UNFRAGMENTED || !is_fragmented(cell, session))
        && shared.trains.may_send(cell.peer.ip(), mtu, now);
    if trains { most } else { 1 }
}

/// Sends a train that may stay in the send buffer: all of it, its first datagram, or nothing. The rest is lost here, and
/// so are further trains of the same call (protocol.md 11.3.1).
fn send_doubted(
    shared: &Shared,
    train: &Transmit<'_>,
    fragmented: bool,
    now: Instant,
    doubt: Doubt,
    withholds: &mut bool,
) -> Outcome {
    let len = train.contents.len();
    let first = train.segment_size.min(len);
    let may_send = |bytes| shared.may_send(now, doubt, train.destination, bytes);
    let admitted = match *withholds {
        true => 0,
        false if may_send(len) => len,
        false if first < len && may_send(first) => first,
        false => 0,
    };
    let (admitted, withheld) = train.contents.split_at(admitted);
    let datagrams = withheld.len().div_ceil(train.segment_size.max(1));
    shared.counters.sends_withheld.add(datagrams as u64);
    *withholds |= datagrams > 0;
    if admitted.is_empty() {
        return Outcome::default();
    }
    let transmit = Transmit {
        contents: admitted,
        ..*train
    };
    send(shared, &transmit, fragmented, now)
}

/// Sends a train, or as much of it as there is room for. What fails otherwise is lost.
fn send(shared: &Shared, transmit: &Transmit<'_>, fragmented: bool, now: Instant) -> Outcome {
    let mut outcome = Outcome::default();
    let single = transmit.contents.len() <= transmit.segment_size;
    let fragmented = fragmented && transmit.segment_size > LARGEST_UNFRAGMENTED;
    // Segments numbered before the limit may still make trains that are known to be refused.
    let to = transmit.destination.ip();
    if !single && (fragmented || !shared.trains.may_send(to, transmit.segment_size, now)) {
        send_singly(shared, transmit, fragmented, &mut outcome);
        return outcome;
    }
    let Err(error) = offer(shared, transmit, fragmented, &mut outcome) else {
        return outcome;
    };
    if error.kind() == io::ErrorKind::WouldBlock {
        outcome.full_after = Some(0);
    } else if single {
        note_loss(shared, transmit, &error, &mut outcome);
    } else {
        send_singly(shared, transmit, fragmented, &mut outcome);
        if outcome.passed >= transmit.segment_size && may_refuse_trains(&error) {
            shared.counters.trains_refused.add(1);
            let by_size = error.raw_os_error() != Some(EIO);
            shared.trains.note(to, transmit.segment_size, by_size, now);
        }
    }
    outcome
}

/// The datagrams of a train one by one, for a path or a driver that refuses the train.
fn send_singly(shared: &Shared, train: &Transmit<'_>, fragmented: bool, outcome: &mut Outcome) {
    let mut done = 0;
    for datagram in train.datagrams() {
        let single = Transmit {
            contents: datagram,
            segment_size: datagram.len(),
            ..*train
        };
        match offer(shared, &single, fragmented, outcome) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                outcome.full_after = Some(done);
                return;
            }
            Err(error) => note_loss(shared, &single, &error, outcome),
        }
        done += datagram.len();
    }
}

fn offer(
    shared: &Shared,
    transmit: &Transmit<'_>,
    fragmented: bool,
    outcome: &mut Outcome,
) -> io::Result<()> {
    let counters = &shared.counters;
    let fragmented = fragmented && transmit.contents.len() > LARGEST_UNFRAGMENTED;
    let result = match fragmented {
        true => send_fragmented(shared, transmit),
        false => shared.socket.try_send(transmit),
    };
    match &result {
        Ok(()) => {
            counters.trains_sent.add(1);
            counters
                .datagrams_sent
                .add(transmit.datagrams().count() as u64);
            counters.bytes_sent.add(transmit.contents.len() as u64);
            counters.datagrams_fragmented.add(u64::from(fragmented));
            let size = transmit.segment_size.min(transmit.contents.len());
            outcome.passed = outcome.passed.max(size);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            counters.socket_full.add(1);
            shared.socket_is_full.store(true, Ordering::Release);
        }
        Err(_) => {}
    }
    result
}

/// Sends one datagram so that the system fragments it. It does that only to what is larger than the path's mtu as it
/// knows it, so a smaller datagram is made longer (protocol.md 2.3.1).
fn send_fragmented(shared: &Shared, single: &Transmit<'_>) -> io::Result<()> {
    let len = single.contents.len();
    match shared.socket.fragments_above(single.destination) {
        Some(whole) if len > whole => shared.socket.try_send_fragmented(single),
        Some(whole) if whole < MOST_PADDED => {
            let mut padded = shared.pool.take(whole + 1 + IKCP_OVERHEAD);
            padded.extend_from_slice(single.contents);
            pad(&mut padded, whole + 1);
            let result = shared.socket.try_send_fragmented(&Transmit {
                contents: &padded,
                segment_size: padded.len(),
                ..*single
            });
            shared.pool.give(padded);
            result
        }
        _ => shared.socket.try_send(single),
    }
}

/// A datagram is lost here.
fn note_loss(shared: &Shared, single: &Transmit<'_>, error: &io::Error, outcome: &mut Outcome) {
    crate::log::debug!(%error, to = %single.destination, "send failed");
    shared.counters.send_errors.add(1);
    if quinn_udp::is_msg_size_err(error) {
        shared.counters.send_too_large.add(1);
        outcome.refused = Some(single.contents.len());
    } else {
        outcome.failed = Some(error.kind());
    }
}

/// Whether the system may say this of a train whose datagrams it would take: they need fragmentation (EMSGSIZE, older
/// Linux EINVAL), or the route or the driver cannot cut it (EIO, EINVAL).
fn may_refuse_trains(error: &io::Error) -> bool {
    quinn_udp::is_msg_size_err(error)
        || error.kind() == io::ErrorKind::InvalidInput
        || (cfg!(unix) && error.raw_os_error() == Some(EIO))
}

const EIO: i32 = 5;
/// The largest class of the pool; a train is at most 65507 bytes.
const TRAIN_BUFFER_BYTES: usize = 65_536;
/// A writer that finds this much to send leaves the rest to the driver: its own task has a turn
/// to end. 16 trains are about 1 MiB.
const INLINE_TRAINS: usize = 16;
/// UDP payload of the largest packet that every IPv6 link carries: 1,280 bytes with the headers of IPv6 and UDP.
const LARGEST_UNFRAGMENTED: usize = 1_280 - 48;
/// No datagram is padded beyond this. Interfaces with a larger mtu than 9,000 bytes are rare.
const MOST_PADDED: usize = 9_216;
