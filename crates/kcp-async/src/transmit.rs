//! From an engine to the socket: the one path that both writers and the driver use.
//!
//! A train is copied out under the session's lock and sent without it. Whoever sends marks the
//! session as `transmitting`, so that trains of one session leave in order; it asks the engine
//! again before it unmarks it, so nothing that was added meanwhile is forgotten.

use std::io;
use std::sync::Arc;
use std::sync::MutexGuard;
use std::sync::atomic::Ordering;

use kcp_engine::Instant;

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
    let outcome = loop {
        if session.unsent.is_some() {
            break Drained::SocketFull;
        }
        if sent == bound {
            break Drained::Bound;
        }
        let max_datagrams = shared.socket.max_transmit_segments();
        let Some(segment_size) = session.next_train(now, &mut buffer, max_datagrams) else {
            break Drained::Empty;
        };
        session.transmitting = true;
        let source = session.source;
        drop(session);
        let transmit = Transmit {
            destination: cell.peer,
            contents: &buffer,
            segment_size,
            source,
        };
        let full = send(shared, &transmit).is_err();
        session = cell.state.lock("sent");
        session.transmitting = false;
        if full {
            session.unsent = Some(Box::new(Train {
                contents: buffer,
                segment_size,
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
    let Some(train) = session.unsent.take() else {
        return (session, true);
    };
    session.transmitting = true;
    let source = session.source;
    drop(session);
    let transmit = Transmit {
        destination: cell.peer,
        contents: &train.contents,
        segment_size: train.segment_size,
        source,
    };
    let full = send(shared, &transmit).is_err();
    session = cell.state.lock("resumed");
    session.transmitting = false;
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

/// `Err` if the socket is full. Any other failure is a lost train.
fn send(shared: &Shared, transmit: &Transmit<'_>) -> Result<(), ()> {
    let counters = &shared.counters;
    match shared.socket.try_send(transmit) {
        Ok(()) => {
            counters.trains_sent.add(1);
            counters
                .datagrams_sent
                .add(transmit.datagrams().count() as u64);
            counters.bytes_sent.add(transmit.contents.len() as u64);
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            counters.socket_full.add(1);
            shared.socket_is_full.store(true, Ordering::Release);
            return Err(());
        }
        Err(_error) => {
            crate::log::debug!(error = %_error, to = %transmit.destination, "send failed");
            counters.send_errors.add(1);
        }
    }
    Ok(())
}

/// The largest class of the pool; a train is at most 65507 bytes.
const TRAIN_BUFFER_BYTES: usize = 65_536;
/// A writer that finds this much to send leaves the rest to the driver: its own task has a turn
/// to end. 16 trains are about 1 MiB.
const INLINE_TRAINS: usize = 16;
