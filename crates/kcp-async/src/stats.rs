//! Counters of sessions and endpoints.

use std::sync::atomic::{AtomicU64, Ordering};

use kcp_engine::EngineStats;

use crate::socket::SocketBuffers;

/// A stream's counters and state, copied at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct StreamStats {
    /// The protocol's own: traffic, retransmissions, what was dropped and why, RTT, windows.
    pub engine: EngineStats,
    /// The peer has acknowledged something that we sent, so its address is real.
    pub proven: bool,
    /// The peer understands FIN and RST: a close reaches it.
    pub peer_knows_close: bool,
    /// A train waits for room in the socket.
    pub socket_full: bool,
}

/// An endpoint's counters and state. Each number is exact; together they may be from slightly
/// different moments.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct EndpointStats {
    /// Sessions now, those that wait for `accept` included.
    pub sessions: usize,
    /// Of those, sessions whose first data has not arrived.
    pub embryos: usize,
    /// Sessions that wait for `accept`.
    pub waiting: usize,
    /// Conversations remembered after their end.
    pub time_wait: usize,
    /// Sessions that reached the accept queue.
    pub accepted: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// System calls (or calls of a custom socket) that received something.
    pub receive_calls: u64,
    /// Datagrams handed to the socket.
    pub datagrams_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Trains, so system calls, that carried them.
    pub trains_sent: u64,
    /// Times the socket was full. Nothing is lost then.
    pub socket_full: u64,
    /// Trains that the socket refused for another reason. Lost, and sent again by the protocol.
    pub send_errors: u64,
    /// Of those, datagrams that the socket refused for their size (EMSGSIZE).
    pub send_too_large: u64,
    /// Datagrams that were not sent, to addresses that may not exist, because they might have stayed in the send buffer:
    /// answers to unvalidated peers, and repetitions to silent ones. Lost, and sent again by the protocol.
    pub sends_withheld: u64,
    /// Times the socket could not say whether it has room to send. Nothing is lost then.
    pub send_ready_errors: u64,
    /// Trains that the system refused and whose datagrams it then took one by one: trains of that size are not sent to
    /// that destination for a while.
    pub trains_refused: u64,
    /// Datagrams sent with fragmentation into packets of 1,280 bytes (IPv6 paths that drop large ones).
    pub datagrams_fragmented: u64,
    /// Errors from receiving.
    pub receive_errors: u64,
    /// Reports of the network about datagrams sent (ICMP) that were taken from the socket.
    pub error_reports: u64,
    /// Dropped: from a source that cannot be answered (port 0, or an unspecified, multicast or
    /// broadcast address).
    pub dropped_source: u64,
    /// Dropped: shorter than a header.
    pub dropped_short: u64,
    /// Dropped: belongs to no session and opens none.
    pub dropped_unknown: u64,
    /// Dropped: would open a session beyond the accept backlog.
    pub dropped_backlog: u64,
    /// Dropped: would open a session, and the budget for new ones was spent while traffic of
    /// established ones waited. The client repeats it.
    pub dropped_opening: u64,
    /// Dropped: would open a session beyond `max_sessions` or the limit of its source.
    pub dropped_limit: u64,
    /// Dropped: under conv 0, from an address that has got a conversation id for it; and not of a
    /// first flight, or the session has been heard under that id.
    pub dropped_conv_zero: u64,
    /// Questions that a RST would answer, but the budget of the source prefix or of the endpoint
    /// was spent.
    pub dropped_resets: u64,
    /// Small datagrams beyond the answer budget that sessions with an unvalidated peer were granted.
    pub extras_granted: u64,
    /// The same, refused: the budget of the source prefix or of the endpoint was spent. A session asks
    /// again when the datagram is next due.
    pub extras_refused: u64,
    /// Dropped: more than an embryo may hold.
    pub dropped_embryo: u64,
    /// Evicted for a new session: the address was not validated, and the application had got
    /// nothing beyond the first datagram. Embryos are among them.
    pub evicted_undelivered: u64,
    /// Evicted: the address was not validated.
    pub evicted_unvalidated: u64,
    /// Evicted: the application had closed it, and the peer had not.
    pub evicted_closing: u64,
    /// Evicted: the longest idle of the most populous source prefix.
    pub evicted_idle: u64,
    /// Dropped: belongs to a conversation that ended lately.
    pub dropped_time_wait: u64,
    /// RSTs sent in answer to a question.
    pub resets_sent: u64,
    /// RSTs sent unasked: up to three for a session that was given up, one for a session that was evicted
    /// before its peer's address was validated.
    pub resets_announced: u64,
    /// WASKs sent because a datagram of a conversation that has ended may begin a new one.
    pub time_wait_questions: u64,
    /// Conversations forgotten early because their peer has begun again.
    pub time_wait_reopened: u64,
    /// Conversations forgotten early to make room for others.
    pub time_wait_evicted: u64,
    /// Bytes held now of what cannot be delivered yet, and of unvalidated peers of what was not read, of the
    /// [`receive_memory`](crate::EndpointConfig::receive_memory).
    pub receive_memory: usize,
    /// Of those, bytes of sessions whose peer's address is not validated.
    pub receive_memory_unvalidated: usize,
    /// What the system granted for the socket's buffers; `None` for a custom socket without any.
    pub socket_buffers: Option<SocketBuffers>,
}

/// One counter that any task may raise.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`EndpointStats`], by the same names.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: Counter,
    pub(crate) datagrams_received: Counter,
    pub(crate) bytes_received: Counter,
    pub(crate) receive_calls: Counter,
    pub(crate) datagrams_sent: Counter,
    pub(crate) bytes_sent: Counter,
    pub(crate) trains_sent: Counter,
    pub(crate) socket_full: Counter,
    pub(crate) send_errors: Counter,
    pub(crate) sends_withheld: Counter,
    pub(crate) send_ready_errors: Counter,
    pub(crate) send_too_large: Counter,
    pub(crate) trains_refused: Counter,
    pub(crate) datagrams_fragmented: Counter,
    pub(crate) receive_errors: Counter,
    pub(crate) error_reports: Counter,
    pub(crate) dropped_source: Counter,
    pub(crate) dropped_short: Counter,
    pub(crate) dropped_unknown: Counter,
    pub(crate) dropped_backlog: Counter,
    pub(crate) dropped_opening: Counter,
    pub(crate) dropped_limit: Counter,
    pub(crate) dropped_conv_zero: Counter,
    pub(crate) dropped_resets: Counter,
    pub(crate) extras_granted: Counter,
    pub(crate) extras_refused: Counter,
    pub(crate) dropped_embryo: Counter,
    pub(crate) evicted_undelivered: Counter,
    pub(crate) evicted_unvalidated: Counter,
    pub(crate) evicted_closing: Counter,
    pub(crate) evicted_idle: Counter,
    pub(crate) dropped_time_wait: Counter,
    pub(crate) resets_sent: Counter,
    pub(crate) resets_announced: Counter,
    pub(crate) time_wait_questions: Counter,
    pub(crate) time_wait_reopened: Counter,
}

impl Counters {
    /// The counters; the caller fills in the state.
    pub(crate) fn snapshot(&self) -> EndpointStats {
        EndpointStats {
            sessions: 0,
            embryos: 0,
            waiting: 0,
            socket_buffers: None,
            time_wait: 0,
            time_wait_evicted: 0,
            receive_memory: 0,
            receive_memory_unvalidated: 0,
            accepted: self.accepted.get(),
            datagrams_received: self.datagrams_received.get(),
            bytes_received: self.bytes_received.get(),
            receive_calls: self.receive_calls.get(),
            datagrams_sent: self.datagrams_sent.get(),
            bytes_sent: self.bytes_sent.get(),
            trains_sent: self.trains_sent.get(),
            socket_full: self.socket_full.get(),
            send_errors: self.send_errors.get(),
            sends_withheld: self.sends_withheld.get(),
            send_ready_errors: self.send_ready_errors.get(),
            send_too_large: self.send_too_large.get(),
            trains_refused: self.trains_refused.get(),
            datagrams_fragmented: self.datagrams_fragmented.get(),
            receive_errors: self.receive_errors.get(),
            error_reports: self.error_reports.get(),
            dropped_source: self.dropped_source.get(),
            dropped_short: self.dropped_short.get(),
            dropped_unknown: self.dropped_unknown.get(),
            dropped_backlog: self.dropped_backlog.get(),
            dropped_opening: self.dropped_opening.get(),
            dropped_limit: self.dropped_limit.get(),
            dropped_conv_zero: self.dropped_conv_zero.get(),
            dropped_resets: self.dropped_resets.get(),
            extras_granted: self.extras_granted.get(),
            extras_refused: self.extras_refused.get(),
            dropped_embryo: self.dropped_embryo.get(),
            evicted_undelivered: self.evicted_undelivered.get(),
            evicted_unvalidated: self.evicted_unvalidated.get(),
            evicted_closing: self.evicted_closing.get(),
            evicted_idle: self.evicted_idle.get(),
            dropped_time_wait: self.dropped_time_wait.get(),
            resets_sent: self.resets_sent.get(),
            resets_announced: self.resets_announced.get(),
            time_wait_questions: self.time_wait_questions.get(),
            time_wait_reopened: self.time_wait_reopened.get(),
        }
    }
}
