//! The one task per socket.
//!
//! It owns the deadlines and the receive side; nobody else calls `input` or `handle_timeout`. A
//! turn has named phases: receive, fire deadlines, serve sessions that handles changed, send what
//! waited for room, re-arm the timer. Each phase is bounded, so that no flood on one side starves
//! another; what is left makes the driver call itself again.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use backoff::Backoff;
use busy_poll::BusyPoll;
use full_socket::FullSocket;
use kcp_engine::Instant;
use receive::Path;
use tokio::runtime::Handle;
use tokio::time::Sleep;

use crate::deadlines::{Deadlines, SessionId};
use crate::error::{ConnectionError, KcpError};
use crate::eviction::EvictionOrder;
use crate::lingering;
use crate::openings::OpeningBudget;
use crate::prefix_budget::PrefixBudget;
use crate::session::SessionCell;
use crate::shared::Shared;
use crate::wakers::WakeList;

mod backoff;
mod busy_poll;
mod evict;
mod full_socket;
mod open;
mod receive;
mod reports;
mod serve;

/// Starts the driver of an endpoint on the current runtime.
pub(crate) fn spawn(shared: &Arc<Shared>) -> Result<(), KcpError> {
    let runtime = Handle::try_current().map_err(std::io::Error::other)?;
    runtime.spawn(EndpointDriver::new(Arc::clone(shared)));
    Ok(())
}

/// See the module.
#[derive(Debug)]
struct EndpointDriver {
    shared: Arc<Shared>,
    deadlines: Deadlines<Arc<SessionCell>>,
    /// When the table of finished conversations has something to do.
    time_wait_due: Option<Instant>,
    /// Sessions that the current receive batch touched: served once, after all of it, so that the
    /// acknowledgements of a batch share datagrams.
    touched: Vec<Arc<SessionCell>>,
    /// Sessions that handles changed.
    dirty: Vec<Arc<SessionCell>>,
    /// Sessions that reached their bound of trains; next turn, at the back.
    unfinished: Vec<Arc<SessionCell>>,
    /// Sessions whose train waits for room in the socket, in the order in which they found it full.
    blocked: VecDeque<Arc<SessionCell>>,
    /// Answers to datagrams without a session: to be sent after unlocking, and lost if they cannot.
    replies: Vec<(Path, [u8; kcp_engine::IKCP_OVERHEAD])>,
    resets: PrefixBudget,
    /// RSTs to unvalidated peers whose sessions were evicted.
    notices: PrefixBudget,
    /// Small datagrams beyond the answer budgets of sessions.
    extras: PrefixBudget,
    openings: OpeningBudget,
    /// Datagrams of the current receive batch that belong to no session.
    unknown: Vec<receive::Unknown>,
    eviction: EvictionOrder,
    /// Embryos, oldest first.
    embryos: BTreeMap<SessionId, Arc<SessionCell>>,
    waiting: evict::Survey,
    /// Buffers of the next receive call.
    receive_buffers: usize,
    /// Receive calls that failed in a row.
    receive_backoff: Backoff,
    /// Calls in a row that said that there is room to send and were wrong, or failed.
    send_backoff: Backoff,
    /// No connecting session has heard its peer, so error reports of the socket matter.
    wants_reports: bool,
    /// Retries while the socket is not reported ready.
    full_for: FullSocket,
    /// Counted among the sockets that are open only for a TIME-WAIT.
    lingers: bool,
    busy_poll: BusyPoll,
    wake: WakeList,
    timer: Pin<Box<Sleep>>,
    timer_at: Option<Instant>,
}

impl EndpointDriver {
    fn new(shared: Arc<Shared>) -> Self {
        let timer = Box::pin(tokio::time::sleep_until(tokio::time::Instant::now()));
        let busy_poll = BusyPoll::new(shared.config.busy_poll_time());
        Self {
            eviction: EvictionOrder::new(Arc::clone(&shared.unvalidated)),
            shared,
            deadlines: Deadlines::new(),
            time_wait_due: None,
            touched: Vec::new(),
            dirty: Vec::new(),
            unfinished: Vec::new(),
            blocked: VecDeque::new(),
            replies: Vec::new(),
            resets: PrefixBudget::of_resets(),
            notices: PrefixBudget::of_notices(),
            extras: PrefixBudget::of_extras(),
            openings: OpeningBudget::default(),
            unknown: Vec::new(),
            embryos: BTreeMap::new(),
            waiting: evict::Survey::default(),
            receive_buffers: receive::FEWEST_BUFFERS,
            receive_backoff: Backoff::default(),
            send_backoff: Backoff::default(),
            wants_reports: true,
            full_for: FullSocket::default(),
            lingers: false,
            busy_poll,
            wake: WakeList::new(),
            timer,
            timer_at: None,
        }
    }

    /// One turn. `Ok(true)` if there is more to do at once.
    fn turn(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        let mut more = self.receive(cx)?;
        // Reading the clock costs as much as looking after a session.
        let now = self.shared.clock.now();
        more |= self.fire_deadlines(now);
        more |= self.serve_dirty(cx, now);
        more |= self.send_blocked(cx, now)?;
        self.wake.wake();
        more |= self.hear_socket_errors(now);
        more |= self.rearm_timer(cx);
        // Sending what was blocked may have reached a session's bound again.
        Ok(more || !self.unfinished.is_empty())
    }

    fn fire_deadlines(&mut self, now: Instant) -> bool {
        self.look_after_time_wait(now);
        for _ in 0..DEADLINES_PER_TURN {
            let Some((_, cell)) = self.deadlines.pop_due(now) else {
                return false;
            };
            let mut session = cell.state.lock("deadline");
            session.armed = None;
            session.expire(now);
            self.serve(&cell, session, now);
        }
        true
    }

    fn serve_dirty(&mut self, cx: &Context<'_>, now: Instant) -> bool {
        let mut list = mem::take(&mut self.unfinished);
        self.serve_all(&mut list, now);
        // Two rounds: what wakes while we serve is usually the other half of the same exchange.
        for _ in 0..2 {
            let mut list = mem::take(&mut self.dirty);
            let some = self.shared.take_dirty(cx, &mut list);
            for cell in &list {
                cell.dirty.store(false, Ordering::Release);
            }
            self.serve_all(&mut list, now);
            self.dirty = list;
            self.wake.wake();
            if !some {
                return !self.unfinished.is_empty();
            }
        }
        true
    }

    fn serve_all(&mut self, list: &mut Vec<Arc<SessionCell>>, now: Instant) {
        for cell in list.drain(..) {
            let session = cell.state.lock("serve");
            self.serve(&cell, session, now);
        }
    }

    /// Arms the timer for the earliest deadline. `true` if that has passed already.
    fn rearm_timer(&mut self, cx: &mut Context<'_>) -> bool {
        let next = [
            self.deadlines.next(),
            self.time_wait_due,
            self.receive_backoff.next(),
            self.send_backoff.next(),
            self.full_for.next(),
        ];
        let Some(next) = next.into_iter().flatten().min() else {
            return false;
        };
        // Compare the clock first: a `Sleep` may stay pending past its time when the task's
        // budget is used up.
        if next <= self.shared.clock.now() {
            return true;
        }
        if self.timer_at != Some(next) {
            self.timer.as_mut().reset(self.shared.clock.at(next));
            self.timer_at = Some(next);
        }
        self.timer.as_mut().poll(cx).is_ready()
    }

    /// Forgets finished conversations in time, and tells the peers of those that were given up.
    fn look_after_time_wait(&mut self, now: Instant) {
        if self.time_wait_due.is_none_or(|due| now < due) {
            return;
        }
        let mut time_wait = self.shared.time_wait.lock("deadline");
        time_wait.expire(now);
        for _ in 0..NOTICES_PER_TURN {
            let Some(notice) = time_wait.next_notice(now) else {
                break;
            };
            self.shared.counters.resets_announced.add(1);
            let path = Path {
                peer: notice.peer,
                local: notice.source,
            };
            self.replies.push((path, notice.header.to_bytes()));
        }
        self.time_wait_due = time_wait.next();
        drop(time_wait);
        self.send_replies();
    }

    /// Nothing left to drive, and nobody who could bring something.
    fn is_done(&mut self) -> bool {
        if !self.shared.is_released() || self.shared.router.lock("done").len() > 0 {
            return false;
        }
        if self.time_wait_due.is_none() || self.shared.is_unwanted() {
            return true;
        }
        if !self.lingers {
            self.lingers = true;
            lingering::enter(&self.shared);
        }
        false
    }
}

impl Future for EndpointDriver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.turn(cx) {
            Err(reason) => {
                self.shared.driver_ends(reason);
                Poll::Ready(())
            }
            Ok(_) if self.is_done() => Poll::Ready(()),
            Ok(true) => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Ok(false) => {
                self.busy_poll.poll(cx);
                Poll::Pending
            }
        }
    }
}

/// The end of the driver, of its own accord or with its runtime: every session learns of it.
impl Drop for EndpointDriver {
    fn drop(&mut self) {
        self.shared.driver_ends(ConnectionError::EndpointClosed);
        let reason = self
            .shared
            .ended()
            .unwrap_or(ConnectionError::EndpointClosed);
        self.shared.stop_accepting();
        let cells: Vec<_> = {
            let router = self.shared.router.lock("driver ends");
            router.all().map(Arc::clone).collect()
        };
        for cell in cells {
            let mut session = cell.state.lock("driver ends");
            session.armed = None;
            session.finish(reason, &mut self.wake);
        }
        self.wake.wake();
    }
}

/// A deadline costs about a microsecond, more if it retransmits: some milliseconds a turn.
const DEADLINES_PER_TURN: usize = 1_024;
/// A system call each.
const NOTICES_PER_TURN: usize = 256;
