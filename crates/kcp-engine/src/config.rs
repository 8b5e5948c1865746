//! Protocol knobs and their presets (`docs/protocol.md` 10).

use core::time::Duration;

use crate::error::ConfigError;
use crate::segment::IKCP_OVERHEAD;

/// Most fragments of a message: C refuses 128 (protocol.md 3.3).
pub(crate) const MAX_FRAGMENTS: usize = 127;

/// Largest segment payload that another implementation is likely to send, for turning the receive
/// window into a bound in bytes (kcp-go's mtu limit).
pub(crate) const USUAL_MTU: usize = 1_500;

/// How eagerly retransmission timers fire and back off (C: the `nodelay` argument).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoDelay {
    /// 0: RTO at least 100 ms and doubling; a first transmission waits an eighth longer.
    #[default]
    Off = 0,
    /// 1: RTO at least 30 ms, growing by half of the segment's own RTO.
    Fast = 1,
    /// 2: RTO at least 30 ms, growing by half of the session's RTO.
    Linear = 2,
}

/// When bytes leave (`docs/protocol.md` 7.6).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FlushPolicy {
    /// At ticks only, as C does: fewest datagrams, up to one interval of delay.
    #[default]
    Interval,
    /// Also at the end of a write, when the window opens, and after a batch of input: kcp-go's
    /// moments. Retransmission timers still fire at ticks.
    Immediate,
}

/// How far incoming segments are trusted (`docs/protocol.md` 11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validation {
    /// Impossible acknowledgements are ignored and answers are bounded until the peer has proven
    /// its address.
    #[default]
    Strict,
    /// Everything is believed, as C believes it. For comparing with C; never for a network.
    AsC,
}

/// The protocol's knobs. Private fields, chained setters, four presets beside the default.
///
/// A setter accepts anything; [`validate`](Self::validate) (called when an engine is made) names
/// the field, value and range of what it refuses.
///
/// ```
/// use kcp_engine::KcpConfig;
///
/// let config = KcpConfig::gaming().mtu(1_400).window_size(256, 256);
/// assert!(config.validate().is_ok());
/// assert!(KcpConfig::new().mtu(49).validate().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KcpConfig {
    nodelay: NoDelay,
    interval: Duration,
    fast_resend: u32,
    fast_limit: u32,
    congestion_window: bool,
    send_window: u32,
    receive_window: u32,
    mtu: usize,
    stream_mode: bool,
    flush_policy: FlushPolicy,
    dead_link: u32,
    incomplete_message: Option<usize>,
}

impl KcpConfig {
    /// The default: the same as [`normal`](Self::normal).
    pub const fn new() -> Self {
        Self::normal()
    }

    /// C's manners with a shorter tick: nodelay 0, 40 ms, no fast resend, classic congestion
    /// window, windows 32/128, mtu 1400, message mode, [`FlushPolicy::Interval`].
    ///
    /// The classic congestion window carries only tens of KiB/s at 5 % loss. Choose another preset
    /// for a bad link.
    pub const fn normal() -> Self {
        Self {
            nodelay: NoDelay::Off,
            interval: Duration::from_millis(40),
            fast_resend: 0,
            fast_limit: IKCP_FASTACK_LIMIT,
            congestion_window: true,
            send_window: IKCP_WND_SND,
            receive_window: IKCP_WND_RCV,
            mtu: IKCP_MTU_DEF,
            stream_mode: false,
            flush_policy: FlushPolicy::Interval,
            dead_link: IKCP_DEADLINK,
            incomplete_message: None,
        }
    }

    /// Low latency that still backs off: nodelay 0, 8 ms, fast resend after 2, classic congestion
    /// window, windows 128/128, mtu 1400, message mode, [`FlushPolicy::Immediate`].
    ///
    /// The classic congestion window carries only tens of KiB/s at 5 % loss.
    pub const fn fast_mode() -> Self {
        Self {
            interval: Duration::from_millis(8),
            fast_resend: 2,
            send_window: 128,
            receive_window: 128,
            flush_policy: FlushPolicy::Immediate,
            ..Self::normal()
        }
    }

    /// Fast without a congestion window: nodelay 0, 4 ms, fast resend after 2, windows 256/256,
    /// mtu 1400, message mode, [`FlushPolicy::Immediate`].
    pub const fn turbo_mode() -> Self {
        Self {
            interval: Duration::from_millis(4),
            congestion_window: false,
            send_window: 256,
            receive_window: 256,
            ..Self::fast_mode()
        }
    }

    /// Small messages that must not wait: nodelay 2, 3 ms, fast resend after 1, no congestion
    /// window, windows 128/128, mtu 1200, message mode, [`FlushPolicy::Immediate`].
    pub const fn gaming() -> Self {
        Self {
            nodelay: NoDelay::Linear,
            interval: Duration::from_millis(3),
            fast_resend: 1,
            send_window: 128,
            receive_window: 128,
            mtu: 1_200,
            ..Self::turbo_mode()
        }
    }

    /// Bulk over long, lossy paths: nodelay 0, 10 ms, fast resend after 2, no congestion window,
    /// windows 1024/1024, mtu 1400, stream mode, [`FlushPolicy::Immediate`].
    ///
    /// Nothing but the window limits what is in flight. 1024 segments fill 100 Mbit/s at 110 ms;
    /// on a slower path a smaller window loses less in the path's queue, on a longer one a larger
    /// one is faster.
    pub const fn file_transfer() -> Self {
        Self {
            interval: Duration::from_millis(10),
            send_window: 1_024,
            receive_window: 1_024,
            stream_mode: true,
            ..Self::turbo_mode()
        }
    }

    /// How eagerly to retransmit. Default [`NoDelay::Off`]. kcp-go: first argument of `SetNoDelay`.
    pub const fn nodelay(mut self, level: NoDelay) -> Self {
        self.nodelay = level;
        self
    }

    /// The tick: how long a small write or an ACK may wait to share a datagram, and a term of the
    /// RTO formula. 1 ms to 5 s in whole milliseconds, default 40 ms. Longer costs latency, shorter
    /// costs datagrams. kcp-go: second argument of `SetNoDelay` (not below 10 ms there).
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Retransmit a segment after this many acknowledgements of later ones. 0 (off) to 255,
    /// default 0. kcp-go: third argument of `SetNoDelay`.
    pub const fn fast_resend(mut self, threshold: u32) -> Self {
        self.fast_resend = threshold;
        self
    }

    /// How often one segment may have been sent and still be retransmitted early. 0 (no limit)
    /// and up, default 5. C: `fastlimit`.
    pub const fn fast_resend_limit(mut self, transmissions: u32) -> Self {
        self.fast_limit = transmissions;
        self
    }

    /// Whether the classic congestion window applies. Default true. kcp-go: `nc = 0` is true.
    pub const fn congestion_window(mut self, on: bool) -> Self {
        self.congestion_window = on;
        self
    }

    /// The most segments in flight. 1 to 65535, default 32. kcp-go: first of `SetWindowSize`.
    pub const fn send_window(mut self, segments: u32) -> Self {
        self.send_window = segments;
        self
    }

    /// The most segments held for the reader. 128 to 65535, default 128: a smaller one could never
    /// assemble the largest message. kcp-go: second of `SetWindowSize`.
    pub const fn receive_window(mut self, segments: u32) -> Self {
        self.receive_window = segments;
        self
    }

    /// Both windows, in segments.
    pub const fn window_size(self, send: u32, receive: u32) -> Self {
        self.send_window(send).receive_window(receive)
    }

    /// The largest UDP payload, header included. 50 to 65507 bytes, default 1400. Both sides may
    /// differ. kcp-go: `SetMtu` (not above 1500 there).
    pub const fn mtu(mut self, bytes: usize) -> Self {
        self.mtu = bytes;
        self
    }

    /// Stream mode: small writes share segments and message boundaries are not kept. Default false.
    pub const fn stream_mode(mut self, on: bool) -> Self {
        self.stream_mode = on;
        self
    }

    /// When bytes leave. Default [`FlushPolicy::Interval`].
    pub const fn flush_policy(mut self, policy: FlushPolicy) -> Self {
        self.flush_policy = policy;
        self
    }

    /// Transmissions of one segment after which C declares the link dead. 1 and up, default 20.
    /// It is only reported (`docs/protocol.md` 7.7).
    pub const fn dead_link(mut self, transmissions: u32) -> Self {
        self.dead_link = transmissions;
        self
    }

    /// The most bytes of a message of which a part is still missing. A session whose peer sends more
    /// ends with an error. `None` (default) is 127 segments of 1,500 bytes, or of our mtu if that is
    /// larger, which is also the least: any stock peer's largest message. Raise it for peers with a
    /// larger mtu that send messages that long.
    pub const fn incomplete_message_limit(mut self, bytes: Option<usize>) -> Self {
        self.incomplete_message = bytes;
        self
    }

    /// Checks every range.
    ///
    /// # Errors
    /// The first setting out of its range.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let micros = u64::try_from(self.interval.as_micros()).unwrap_or(u64::MAX);
        let checks = [
            (
                "interval",
                micros,
                1_000..=5_000_000,
                "1000 to 5000000 us (1 ms to 5 s)",
            ),
            (
                "fast_resend",
                u64::from(self.fast_resend),
                0..=255,
                "0 to 255 acknowledgements",
            ),
            (
                "send_window",
                u64::from(self.send_window),
                1..=65_535,
                "1 to 65535 segments",
            ),
            (
                "receive_window",
                u64::from(self.receive_window),
                u64::from(IKCP_WND_RCV)..=65_535,
                "128 to 65535 segments",
            ),
            ("mtu", self.mtu as u64, 50..=65_507, "50 to 65507 bytes"),
            (
                "dead_link",
                u64::from(self.dead_link),
                1..=u64::from(u32::MAX),
                "1 and up",
            ),
        ];
        for (field, value, range, text) in checks {
            if !range.contains(&value) {
                return Err(ConfigError::new(field, value, text));
            }
        }
        match self.incomplete_message {
            Some(bytes) if bytes < self.largest_usual_message() => Err(ConfigError::new(
                "incomplete_message_limit",
                bytes as u64,
                "127 segments of 1500 bytes, or of the mtu, and up",
            )),
            _ => Ok(()),
        }
    }

    /// The longest message of a peer with a usual mtu, or with ours.
    fn largest_usual_message(&self) -> usize {
        MAX_FRAGMENTS * self.mtu.max(USUAL_MTU)
    }

    /// See [`incomplete_message_limit`](Self::incomplete_message_limit), in bytes.
    pub fn incomplete_message_bytes(&self) -> usize {
        let least = self.largest_usual_message();
        self.incomplete_message
            .map_or(least, |bytes| bytes.max(least))
    }

    /// See [`nodelay`](Self::nodelay).
    pub const fn nodelay_level(&self) -> NoDelay {
        self.nodelay
    }

    /// See [`interval`](Self::interval).
    pub const fn tick_interval(&self) -> Duration {
        self.interval
    }

    /// See [`fast_resend`](Self::fast_resend).
    pub const fn fast_resend_threshold(&self) -> u32 {
        self.fast_resend
    }

    /// See [`fast_resend_limit`](Self::fast_resend_limit).
    pub const fn fast_resend_transmissions(&self) -> u32 {
        self.fast_limit
    }

    /// See [`congestion_window`](Self::congestion_window).
    pub const fn uses_congestion_window(&self) -> bool {
        self.congestion_window
    }

    /// See [`send_window`](Self::send_window).
    pub const fn send_window_segments(&self) -> u32 {
        self.send_window
    }

    /// See [`receive_window`](Self::receive_window).
    pub const fn receive_window_segments(&self) -> u32 {
        self.receive_window
    }

    /// See [`mtu`](Self::mtu).
    pub const fn mtu_bytes(&self) -> usize {
        self.mtu
    }

    /// The most payload bytes in one segment: the mtu less the header.
    pub const fn mss(&self) -> usize {
        self.mtu.saturating_sub(IKCP_OVERHEAD)
    }

    /// See [`stream_mode`](Self::stream_mode).
    pub const fn is_stream_mode(&self) -> bool {
        self.stream_mode
    }

    /// See [`flush_policy`](Self::flush_policy).
    pub const fn flushes(&self) -> FlushPolicy {
        self.flush_policy
    }

    /// See [`dead_link`](Self::dead_link).
    pub const fn dead_link_transmissions(&self) -> u32 {
        self.dead_link
    }
}

impl Default for KcpConfig {
    fn default() -> Self {
        Self::normal()
    }
}

/// Default mtu in bytes (`ikcp.c: IKCP_MTU_DEF`).
pub const IKCP_MTU_DEF: usize = 1_400;
/// Default send window in segments (`ikcp.c: IKCP_WND_SND`).
pub const IKCP_WND_SND: u32 = 32;
/// Default receive window, and what a peer's window is taken to be before it has spoken, in
/// segments (`ikcp.c: IKCP_WND_RCV`).
pub const IKCP_WND_RCV: u32 = 128;
/// Transmissions after which C declares a link dead (`ikcp.c: IKCP_DEADLINK`).
pub const IKCP_DEADLINK: u32 = 20;
/// Most transmissions of a segment that is still resent early (`ikcp.c: IKCP_FASTACK_LIMIT`).
pub const IKCP_FASTACK_LIMIT: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    /// protocol.md 10: each limit is inclusive, one beyond is refused by name.
    #[test]
    fn ranges_are_inclusive_and_named() {
        let ms = Duration::from_millis;
        let base = KcpConfig::new;
        for ok in [
            base().interval(ms(1)),
            base().interval(ms(5_000)),
            base().fast_resend(255),
            base().send_window(1),
            base().window_size(65_535, 65_535),
            base().mtu(50),
            base().mtu(65_507),
        ] {
            assert_eq!(ok.validate(), Ok(()), "{ok:?}");
        }
        for (bad, field) in [
            (base().interval(Duration::from_micros(999)), "interval"),
            (base().interval(ms(5_001)), "interval"),
            (base().interval(Duration::MAX), "interval"),
            (base().fast_resend(256), "fast_resend"),
            (base().send_window(0), "send_window"),
            (base().send_window(65_536), "send_window"),
            (base().receive_window(127), "receive_window"),
            (base().receive_window(65_536), "receive_window"),
            (base().mtu(49), "mtu"),
            (base().mtu(65_508), "mtu"),
            (base().dead_link(0), "dead_link"),
        ] {
            assert_eq!(bad.validate().unwrap_err().field, field, "{bad:?}");
        }
    }

    #[test]
    fn presets_are_valid_and_have_their_documented_numbers() {
        let rows = [
            (
                KcpConfig::normal(),
                0,
                40,
                0,
                true,
                (32, 128),
                1_400,
                false,
                FlushPolicy::Interval,
            ),
            (
                KcpConfig::fast_mode(),
                0,
                8,
                2,
                true,
                (128, 128),
                1_400,
                false,
                FlushPolicy::Immediate,
            ),
            (
                KcpConfig::turbo_mode(),
                0,
                4,
                2,
                false,
                (256, 256),
                1_400,
                false,
                FlushPolicy::Immediate,
            ),
            (
                KcpConfig::gaming(),
                2,
                3,
                1,
                false,
                (128, 128),
                1_200,
                false,
                FlushPolicy::Immediate,
            ),
            (
                KcpConfig::file_transfer(),
                0,
                10,
                2,
                false,
                (1_024, 1_024),
                1_400,
                true,
                FlushPolicy::Immediate,
            ),
        ];
        for (config, nodelay, interval, resend, cwnd, windows, mtu, stream, flush) in rows {
            assert_eq!(config.validate(), Ok(()));
            assert_eq!(config.nodelay_level() as u8, nodelay);
            assert_eq!(config.tick_interval(), Duration::from_millis(interval));
            assert_eq!(config.fast_resend_threshold(), resend);
            assert_eq!(config.uses_congestion_window(), cwnd);
            assert_eq!(config.send_window_segments(), windows.0);
            assert_eq!(config.receive_window_segments(), windows.1);
            assert_eq!(config.mtu_bytes(), mtu);
            assert_eq!(config.is_stream_mode(), stream);
            assert_eq!(config.flushes(), flush);
        }
    }
}
