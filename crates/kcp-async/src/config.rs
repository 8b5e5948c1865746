//! Everything about an endpoint that is not the protocol: times, limits, sockets.

use std::cmp;
use std::time::Duration;

use kcp_engine::{ConfigError, KcpConfig};

use crate::session::QueueLimit;

/// Settings of an endpoint: the protocol's knobs, and the times, limits and socket sizes around it.
///
/// Private fields, chained setters. A setter accepts anything; [`validate`](Self::validate) (called
/// by every `bind` and `connect`) names the field, value and range of what it refuses. Wherever a
/// function takes `impl Into<EndpointConfig>`, a plain [`KcpConfig`] does.
///
/// ```
/// use std::time::Duration;
/// use kcp_async::{EndpointConfig, KcpConfig};
///
/// let config = EndpointConfig::new(KcpConfig::turbo_mode())
///     .max_sessions(10_000)
///     .keepalive(Some(Duration::from_secs(25)));
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointConfig {
    protocol: KcpConfig,
    max_sessions: usize,
    accept_backlog: usize,
    per_source_limit: Option<usize>,
    dead_peer_timeout: Option<Duration>,
    idle_timeout: Option<Duration>,
    unproven_timeout: Duration,
    keepalive: Option<Duration>,
    linger: Duration,
    close_stall_timeout: Duration,
    connect_timeout: Option<Duration>,
    send_buffer: usize,
    recv_buffer: usize,
    send_queue_limit: Option<usize>,
    receive_memory: usize,
    allow_shared_remote: bool,
    busy_poll: Duration,
    seed: Option<u64>,
}

impl EndpointConfig {
    /// Settings with these protocol knobs and the defaults of everything else.
    pub const fn new(protocol: KcpConfig) -> Self {
        Self {
            protocol,
            max_sessions: 65_536,
            accept_backlog: 1_024,
            per_source_limit: None,
            dead_peer_timeout: Some(Duration::from_secs(30)),
            idle_timeout: Some(Duration::from_secs(600)),
            unproven_timeout: Duration::from_secs(10),
            keepalive: None,
            linger: Duration::from_secs(5),
            close_stall_timeout: Duration::from_secs(60),
            connect_timeout: Some(Duration::from_secs(10)),
            send_buffer: 4 << 20,
            recv_buffer: 4 << 20,
            send_queue_limit: None,
            receive_memory: 1 << 30,
            allow_shared_remote: false,
            busy_poll: Duration::ZERO,
            seed: None,
        }
    }

    /// The protocol's knobs. Default [`KcpConfig::normal`].
    #[must_use]
    pub fn protocol(mut self, protocol: KcpConfig) -> Self {
        self.protocol = protocol;
        self
    }

    /// The most sessions on one endpoint, accepted and connected together. 1 and up, default
    /// 65536. Where there are as many, a new accepted session takes the place of another, which ends
    /// with [`Evicted`](crate::ConnectionError::Evicted). Of those whose address is not validated,
    /// after more than a second of silence: first the longest silent that has delivered nothing
    /// beyond its first datagram, then the one that has delivered least. Where unvalidated sessions
    /// have less than a sixteenth of the bound, after a minute of silence: one that is closing, then
    /// the longest idle of the source prefix that has most; this one after a second already if its
    /// prefix has more sessions than the newcomer's. Sessions that connected are never evicted. Where
    /// there is none to evict, the datagram is dropped, and the peer's retransmission tries again.
    ///
    /// `connect` fails where as many sessions have connected or are validated.
    #[must_use]
    pub const fn max_sessions(mut self, sessions: usize) -> Self {
        self.max_sessions = sessions;
        self
    }

    /// The most sessions that have not been handed to the application by `accept`: those that wait
    /// for it and, up to half of it, those whose first data has not arrived. 0 (nothing is
    /// accepted) and up, default 1024. Beyond it a new one takes the place of one whose address is
    /// not validated and that was silent for more than a second; where there is none, the datagram
    /// is dropped, and the peer's retransmission tries again, then in the place of any that is older than a
    /// second and not validated.
    #[must_use]
    pub const fn accept_backlog(mut self, sessions: usize) -> Self {
        self.accept_backlog = sessions;
        self
    }

    /// The most accepted sessions from one source prefix (IPv4 /24, IPv6 /56). 1 and up, default
    /// 1/64 of [`max_sessions`](Self::max_sessions) and at least 64, so 1024. An IPv6 /48 may have
    /// four times as many, a /32 sixteen times. Beyond it as beyond `max_sessions`, among the
    /// sessions of that network.
    ///
    /// Raise it where many clients come from one network: behind one address, or on one host. So it is behind a load
    /// balancer or a translator that gives its own addresses to its clients. IPv4 addresses that the translator keeps in
    /// 64:ff9b::/96 (RFC 6052), and those in 2002::/16 (6to4), are bounded as IPv4 addresses; in another prefix of a
    /// translator all of IPv4 is one source prefix.
    #[must_use]
    pub const fn per_source_limit(mut self, sessions: usize) -> Self {
        self.per_source_limit = Some(sessions);
        self
    }

    /// How long data may wait for the peer while nothing valid is heard, before both halves fail
    /// with [`PeerDead`](crate::ConnectionError::PeerDead). 100 ms and up, `None` is never,
    /// default 30 s.
    #[must_use]
    pub const fn dead_peer_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.dead_peer_timeout = timeout;
        self
    }

    /// How long nothing may be heard before a session ends with
    /// [`Idle`](crate::ConnectionError::Idle). 100 ms and up, `None` is never, default 10 minutes.
    ///
    /// Stock peers have no close, so without it a server keeps the sessions of clients that left.
    #[must_use]
    pub const fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How long a session from outside may go without new data while the peer's address is not
    /// validated: it has neither acknowledged something that we sent nor answered a question. 100 ms
    /// and up, default 10 s. Where one more session would be too many, it is one second.
    ///
    /// It bounds what forged datagrams can hold. Once `accept` has returned the session, it counts
    /// only while something waits for the peer: data that was written, or a writer that waits until
    /// the address is validated. An accepted session that owes nothing lives until the
    /// [`idle_timeout`](Self::idle_timeout).
    #[must_use]
    pub const fn unproven_timeout(mut self, timeout: Duration) -> Self {
        self.unproven_timeout = timeout;
        self
    }

    /// Ask a silent peer for a sign of life after this long. 100 ms and up, `None` is never,
    /// default `None`; 25 s keeps most address translators open. Every KCP answers it. Where that is shorter than a
    /// third of the RTO, it is that third, but at most 8 s.
    ///
    /// An unanswered one counts as data that waits, for
    /// [`dead_peer_timeout`](Self::dead_peer_timeout).
    #[must_use]
    pub const fn keepalive(mut self, after: Option<Duration>) -> Self {
        self.keepalive = after;
        self
    }

    /// How long `shutdown` and a dropped stream wait for the peer to acknowledge everything, counted
    /// from the last time anything valid was heard of it; it is asked for a sign of life meanwhile. So a
    /// slow path or a slow reader loses nothing, and a peer that is gone does not hold up the close.
    /// 0 (give up at once) and up, default 5 s.
    ///
    /// A peer that understands it is told when the session is given up, and its reads fail. A dropped
    /// stream whose data has all been acknowledged waits as long for the peer's own end.
    #[must_use]
    pub const fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// How long a close may go without the peer acknowledging anything more, although it is heard:
    /// behind a window that stays closed, say. Then the session ends with
    /// [`CloseStalled`](crate::ConnectionError::CloseStalled), whichever way the close began: by
    /// `shutdown`, or by dropping the stream or its writing half. 100 ms and up, default 60 s.
    #[must_use]
    pub const fn close_stall_timeout(mut self, timeout: Duration) -> Self {
        self.close_stall_timeout = timeout;
        self
    }

    /// How long the first data of a connecting session may stay unanswered before both halves fail
    /// with [`TimeoutError::Connect`](crate::TimeoutError::Connect), or with
    /// [`Refused`](crate::ConnectionError::Refused) if the peer's host said so, then after 1.5 s. It runs from the
    /// first data, not from `connect`. 100 ms and up, `None` leaves it to
    /// [`dead_peer_timeout`](Self::dead_peer_timeout), default 10 s.
    #[must_use]
    pub const fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// The socket's send buffer to ask the kernel for, in bytes. 0 leaves the system's default.
    /// Default 4 MiB. What was granted is in
    /// [`EndpointStats::socket_buffers`](crate::EndpointStats::socket_buffers).
    #[must_use]
    pub const fn send_buffer(mut self, bytes: usize) -> Self {
        self.send_buffer = bytes;
        self
    }

    /// The socket's receive buffer to ask the kernel for, in bytes. 0 leaves the system's default.
    /// Default 4 MiB. A burst larger than it is lost, so it should hold the sum of the windows of
    /// the sessions that are busy at once.
    #[must_use]
    pub const fn recv_buffer(mut self, bytes: usize) -> Self {
        self.recv_buffer = bytes;
        self
    }

    /// Bytes queued and in flight at which a session's writers wait. 1 and up. `None` (default) is
    /// twice what may be in flight: two send windows, or less where the path carries less. One
    /// message may overshoot it. An accepted session takes less until its peer's address is
    /// validated: three times what has arrived, and 4 KiB; a longer `send` waits. A `send` that waits,
    /// and a `write` whose bytes do not fit, go on when a quarter of it is free.
    #[must_use]
    pub const fn send_queue_limit(mut self, bytes: Option<usize>) -> Self {
        self.send_queue_limit = bytes;
        self
    }

    /// Memory for data of all sessions that cannot be delivered yet: segments out of order, and
    /// messages of which a part is missing; of a peer whose address is not validated also whole messages
    /// that were not read. 1 MiB and up, default 1 GiB. Sessions of such peers together take at most a
    /// sixteenth, and a quarter is kept for fragments in order.
    /// What is beyond is dropped, counted, and sent again by the peer, except for an allotment of each
    /// session: this divided by [`max_sessions`](Self::max_sessions), at least 16 KiB (a sixteenth of
    /// it, at least 8 KiB, and only fragments in order, before validation; all unvalidated sessions
    /// together take at most an eighth of the whole in this way). What is in use is in
    /// [`EndpointStats::receive_memory`](crate::EndpointStats::receive_memory).
    #[must_use]
    pub const fn receive_memory(mut self, bytes: usize) -> Self {
        self.receive_memory = bytes;
        self
    }

    /// Whether an endpoint may have several sessions with the same remote address. Default false.
    ///
    /// Every stock server keeps one session per address and takes a second one for a restart of the
    /// first. Set it on both sides, and only where both are this crate.
    #[must_use]
    pub const fn allow_shared_remote(mut self, allow: bool) -> Self {
        self.allow_shared_remote = allow;
        self
    }

    /// After something has arrived, ask for more for this long before the thread may sleep. 0 (never)
    /// to 1 ms, default 0.
    ///
    /// Being woken is most of a round trip between two processes of a machine, and some of one on a
    /// local network. A process that has a core to spare answers sooner with 50 us or so, best on a
    /// runtime of one thread. The thread is busy all that time, in turns with whatever else it runs:
    /// where every core has work already, throughput suffers.
    #[must_use]
    pub const fn busy_poll(mut self, time: Duration) -> Self {
        self.busy_poll = time;
        self
    }

    /// Draws conversation ids and time stamp offsets from this seed instead of the system's
    /// randomness, so that a simulation can be replayed. Default `None`.
    ///
    /// For simulated networks only: what can be guessed can be forged.
    #[must_use]
    pub const fn simulation_seed(mut self, seed: Option<u64>) -> Self {
        self.seed = seed;
        self
    }

    /// Checks every range, the protocol's included.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.protocol.validate()?;
        let counts = [
            ("max_sessions", self.max_sessions),
            ("per_source_limit", self.per_source_limit.unwrap_or(1)),
            ("send_queue_limit", self.send_queue_limit.unwrap_or(1)),
        ];
        for (field, value) in counts {
            if value == 0 {
                return Err(ConfigError::new(field, 0, "1 and up"));
            }
        }
        if self.receive_memory < LEAST_RECEIVE_MEMORY {
            let value = self.receive_memory as u64;
            return Err(ConfigError::new("receive_memory", value, "1048576 and up"));
        }
        let times = [
            ("dead_peer_timeout", self.dead_peer_timeout),
            ("idle_timeout", self.idle_timeout),
            ("unproven_timeout", Some(self.unproven_timeout)),
            ("keepalive", self.keepalive),
            ("connect_timeout", self.connect_timeout),
            ("close_stall_timeout", Some(self.close_stall_timeout)),
        ];
        for (field, value) in times {
            let Some(value) = value else { continue };
            if !(SHORTEST_TIME..=LONGEST_TIME).contains(&value) {
                return Err(ConfigError::new(
                    field,
                    millis(value),
                    "100 ms to 10 years, in ms",
                ));
            }
        }
        if self.busy_poll > LONGEST_BUSY_POLL {
            let value = u64::try_from(self.busy_poll.as_micros()).unwrap_or(u64::MAX);
            return Err(ConfigError::new("busy_poll", value, "0 to 1000 us"));
        }
        if self.linger > LONGEST_TIME {
            return Err(ConfigError::new(
                "linger",
                millis(self.linger),
                "0 to 10 years, in ms",
            ));
        }
        for (field, bytes) in [
            ("send_buffer", self.send_buffer),
            ("recv_buffer", self.recv_buffer),
        ] {
            if bytes > LARGEST_SOCKET_BUFFER {
                return Err(ConfigError::new(
                    field,
                    bytes as u64,
                    "0 to 1073741824 bytes",
                ));
            }
        }
        Ok(())
    }

    /// See [`protocol`](Self::protocol).
    pub const fn protocol_config(&self) -> &KcpConfig {
        &self.protocol
    }

    /// Bytes queued at which writers wait at the latest: the set limit or two send windows.
    pub fn send_queue_bytes(&self) -> usize {
        let window = self.protocol.send_window_segments() as usize * self.protocol.mss();
        self.send_queue_limit.unwrap_or(2 * window)
    }

    pub(crate) fn queue_limit(&self) -> QueueLimit {
        match self.send_queue_limit {
            Some(bytes) => QueueLimit::Fixed(bytes),
            None => QueueLimit::AsSent(self.send_queue_bytes()),
        }
    }
}

/// The values as the layer reads them; the setters have the public names.
impl EndpointConfig {
    pub(crate) const fn session_limit(&self) -> usize {
        self.max_sessions
    }

    pub(crate) const fn busy_poll_time(&self) -> Duration {
        self.busy_poll
    }

    pub(crate) const fn backlog(&self) -> usize {
        self.accept_backlog
    }

    /// Accepted sessions of one source prefix.
    pub(crate) fn source_limit(&self) -> usize {
        let share = cmp::max(self.max_sessions / SOURCE_SHARE, LEAST_SOURCE_LIMIT);
        self.per_source_limit.unwrap_or(share)
    }

    pub(crate) const fn times(&self) -> Times {
        Times {
            dead_peer: self.dead_peer_timeout,
            idle: self.idle_timeout,
            unproven: self.unproven_timeout,
            keepalive: self.keepalive,
            linger: self.linger,
            close_stall: self.close_stall_timeout,
            connect: self.connect_timeout,
        }
    }

    pub(crate) const fn socket_buffers(&self) -> (usize, usize) {
        (self.send_buffer, self.recv_buffer)
    }

    pub(crate) const fn receive_memory_bytes(&self) -> usize {
        self.receive_memory
    }

    pub(crate) const fn shares_remote(&self) -> bool {
        self.allow_shared_remote
    }

    pub(crate) const fn seed(&self) -> Option<u64> {
        self.seed
    }
}

/// The times that a session lives by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) dead_peer: Option<Duration>,
    pub(crate) idle: Option<Duration>,
    pub(crate) unproven: Duration,
    pub(crate) keepalive: Option<Duration>,
    pub(crate) linger: Duration,
    pub(crate) close_stall: Duration,
    pub(crate) connect: Option<Duration>,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self::new(KcpConfig::normal())
    }
}

impl From<KcpConfig> for EndpointConfig {
    fn from(protocol: KcpConfig) -> Self {
        Self::new(protocol)
    }
}

impl From<&Self> for EndpointConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// So many source prefixes fill the table.
const SOURCE_SHARE: usize = 64;
const LEAST_SOURCE_LIMIT: usize = 64;
/// Below this a scheduler's hiccup would end sessions.
const SHORTEST_TIME: Duration = Duration::from_millis(100);
/// Keeps every deadline far from the end of the clock.
const LONGEST_TIME: Duration = Duration::from_secs(86_400 * 3_652);
/// Longer would be a thread that never sleeps.
const LONGEST_BUSY_POLL: Duration = Duration::from_millis(1);
/// A session's largest messages, a few times.
const LEAST_RECEIVE_MEMORY: usize = 1 << 20;
/// `setsockopt` takes an `int`, and the kernel doubles it.
const LARGEST_SOCKET_BUFFER: usize = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_the_field() {
        let base = EndpointConfig::default;
        let short = Some(Duration::from_millis(99));
        for (bad, field) in [
            (base().max_sessions(0), "max_sessions"),
            (base().per_source_limit(0), "per_source_limit"),
            (base().send_queue_limit(Some(0)), "send_queue_limit"),
            (base().receive_memory(1_000), "receive_memory"),
            (base().dead_peer_timeout(short), "dead_peer_timeout"),
            (base().idle_timeout(short), "idle_timeout"),
            (base().unproven_timeout(Duration::ZERO), "unproven_timeout"),
            (base().keepalive(short), "keepalive"),
            (
                base().connect_timeout(Some(Duration::MAX)),
                "connect_timeout",
            ),
            (base().linger(Duration::MAX), "linger"),
            (
                base().close_stall_timeout(Duration::from_millis(99)),
                "close_stall_timeout",
            ),
            (base().busy_poll(Duration::from_micros(1_001)), "busy_poll"),
            (base().send_buffer(usize::MAX), "send_buffer"),
            (base().protocol(KcpConfig::new().mtu(1)), "mtu"),
        ] {
            assert_eq!(bad.validate().unwrap_err().field, field);
        }
        assert_eq!(base().validate(), Ok(()));
        assert_eq!(
            base().linger(Duration::ZERO).accept_backlog(0).validate(),
            Ok(())
        );
    }

    #[test]
    fn a_source_prefix_has_a_share_of_the_table_unless_told() {
        let config = EndpointConfig::default();
        assert_eq!(config.source_limit(), 1_024);
        assert_eq!(config.clone().max_sessions(1_000).source_limit(), 64);
        assert_eq!(config.per_source_limit(9_500).source_limit(), 9_500);
    }

    #[test]
    fn writers_wait_at_two_windows_unless_told() {
        let config = EndpointConfig::from(KcpConfig::turbo_mode());
        assert_eq!(config.send_queue_bytes(), 2 * 256 * 1_376);
        assert_eq!(config.send_queue_limit(Some(10)).send_queue_bytes(), 10);
    }
}
