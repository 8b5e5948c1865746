//! The protocol state machine: constructor, the application's calls, and what can be asked.

mod apply;
mod clock;
mod close;
mod flush;
mod input;
mod missed;
mod restart;
mod settings;
mod stall;
mod state;
#[cfg(test)]
mod tests;
mod transmit;

use alloc::collections::VecDeque;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::buffer::BufferPool;
use crate::capacity::PathCapacity;
use crate::config::{
    FlushPolicy, IKCP_WND_RCV, KcpConfig, MAX_FRAGMENTS, NoDelay, USUAL_MTU, Validation,
};
use crate::congestion::{ClassicWindow, Congestion};
use crate::error::{ConfigError, Fault, RecvError, SendError};
use crate::fast_resend::FastResend;
use crate::guesses::Guesses;
use crate::in_flight::InFlightRing;
use crate::liveness::Liveness;
use crate::pacing::Pacer;
use crate::probe::Probe;
use crate::proof::Proof;
use crate::recv::Receiver;
use crate::restart::RestartWatch;
use crate::rtt::{IKCP_RTO_MIN, IKCP_RTO_NDL, RttEstimator};
use crate::send_queue::SendQueue;
use crate::seq::{Conv, Sn, WireTs};
use crate::stats::EngineStats;
use crate::time::Instant;
use crate::timers::ResendTimers;
use crate::una_credit::UnaCredit;

use clock::Clock;
use close::Close;
use input::Shared;
use missed::Refusals;
use stall::HeadWatch;
use transmit::Outgoing;

pub use close::FinState;
pub use stall::HeadStall;
pub use transmit::Transmit;

/// Which side made the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    /// We chose the peer: it may be sent anything.
    #[default]
    Connecting,
    /// A datagram chose us: what it is answered is bounded until it has proven its address
    /// (`docs/protocol.md` 11.3).
    Accepted,
}

/// What an engine needs beside the protocol's knobs.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Default [`Role::Connecting`].
    pub role: Role,
    /// Default [`Validation::Strict`].
    pub validation: Validation,
    /// Added to the clock in every time stamp sent. Make it random, so that acknowledgements
    /// cannot be guessed (`docs/protocol.md` 11.1). Default 0.
    pub ts_offset: u32,
    /// First sequence number of both directions. Every stock session starts at 0, the default;
    /// other values are for tests of the wrap.
    pub first_sn: Sn,
    /// Where buffers come from. Default: a pool of its own that keeps nothing idle.
    pub pool: Arc<BufferPool>,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            role: Role::default(),
            validation: Validation::default(),
            ts_offset: 0,
            first_sn: Sn::ZERO,
            pool: Arc::new(BufferPool::with_limits([0; 4])),
        }
    }
}

/// One KCP session as a value: time and bytes in, datagrams and one deadline out.
///
/// Four kinds of call:
///
/// - the application's: [`send`](Self::send), [`write`](Self::write), [`recv`](Self::recv),
///   [`read`](Self::read), [`finish`](Self::finish);
/// - the network's and the clock's: [`input`](Self::input), [`handle_timeout`](Self::handle_timeout);
/// - outputs: [`poll_transmit`](Self::poll_transmit), [`poll_timeout`](Self::poll_timeout);
/// - questions: [`stats`](Self::stats), [`fault`](Self::fault) and the other getters.
///
/// After any number of calls of the first two kinds, drain `poll_transmit` until it returns `None`
/// (or the socket is full), then ask `poll_timeout`. The engine has no clock, no lock and no
/// callback, and no input makes it panic.
pub struct KcpEngine {
    conv: Conv,
    config: KcpConfig,
    validation: Validation,
    clock: Clock,
    /// An extra flush was asked for; at ticks it comes anyway.
    flush_wanted: bool,

    // Sending.
    queue: SendQueue,
    in_flight: InFlightRing,
    timers: ResendTimers,
    fast: FastResend,
    rtt: RttEstimator,
    congestion: Congestion,
    capacity: PathCapacity,
    pacer: Pacer,
    /// The last flush left something behind because the pacer said so.
    paced: bool,
    /// The peer's window, in segments (C: `rmt_wnd`).
    remote_window: u32,
    /// Largest window the peer has shown; `None` until it has spoken.
    largest_remote_window: Option<u16>,
    /// What the last segment that was applied shares with others; the default if to apply it again would
    /// change something.
    applied: Shared,
    una_credit: UnaCredit,
    first_sn: Sn,

    // Receiving.
    receiver: Receiver,
    /// What to acknowledge at the next flush.
    acks: Vec<(Sn, WireTs)>,
    /// They wait for data to share a datagram with.
    acks_held: bool,

    // Both.
    probe: Probe,
    liveness: Liveness,
    restart: RestartWatch,
    proof: Proof,
    /// Of the time stamps of our questions, once the address is validated; RSTs before too.
    guesses: Guesses,
    close: Close,
    head_watch: HeadWatch,
    refusals: Refusals,
    /// A sign of the peer's life may have something sent again: of one of the two before.
    resends_when_heard: bool,
    /// Bytes of the largest datagram that a new segment may need (protocol.md 2.3.2).
    new_segment_limit: u16,
    /// The smaller of that and the mtu.
    datagram_limit: u16,
    fault: Option<Fault>,
    last_heard: Option<Instant>,
    /// Something other than a WASK was heard: the peer has this session, and not only the record of an
    /// earlier one (protocol.md 12.3).
    session_heard: bool,
    last_acknowledged: Option<Instant>,
    last_news: Option<Instant>,
    last_new_push: Option<Instant>,
    /// What the last flush decided to send and nobody has fetched yet, in order.
    outbox: VecDeque<Outgoing>,
    /// Something in the outbox may have been acknowledged since it was put there.
    outbox_is_stale: bool,
    /// Segments due again, in order; what is left after a flush was held back by the pacer.
    due: VecDeque<Sn>,
    counters: EngineStats,
}

impl KcpEngine {
    /// A session that has not sent or heard anything.
    ///
    /// # Errors
    /// A setting of `config` out of its range.
    pub fn new(
        conv: Conv,
        config: &KcpConfig,
        options: EngineOptions,
    ) -> Result<Self, ConfigError> {
        config.validate()?;
        let EngineOptions {
            role,
            validation,
            ts_offset,
            first_sn,
            pool,
        } = options;
        let strict = validation == Validation::Strict;
        let immediate = config.flushes() == FlushPolicy::Immediate;
        let receive_window = config.receive_window_segments();
        let (receive_limit, message_limit) = receive_limits(config, validation);
        // protocol.md 8.3: with Immediate the first write leaves at once instead of at tick two.
        let cwnd = ClassicWindow::new(u32::from(immediate), config.mss() as u32);
        let threshold = config.fast_resend_threshold();
        let proof = Proof::new(strict && role == Role::Accepted);
        let mut receiver =
            Receiver::new(first_sn, receive_window, receive_limit, Arc::clone(&pool));
        receiver.set_limits(receive_limit, message_limit);
        receiver.set_stranger(proof.is_limited());
        Ok(Self {
            conv,
            validation,
            clock: Clock::new(ts_offset),
            flush_wanted: false,
            queue: SendQueue::new(pool),
            in_flight: InFlightRing::new(first_sn),
            timers: ResendTimers::default(),
            fast: FastResend::new(threshold, config.fast_resend_transmissions(), first_sn),
            rtt: RttEstimator::new(match config.nodelay_level() {
                NoDelay::Off => IKCP_RTO_MIN,
                NoDelay::Fast | NoDelay::Linear => IKCP_RTO_NDL,
            }),
            congestion: Congestion::new(config.uses_congestion_window(), cwnd),
            capacity: PathCapacity::new(),
            pacer: if strict {
                Pacer::new(config.mtu_bytes())
            } else {
                Pacer::unlimited()
            },
            paced: false,
            remote_window: IKCP_WND_RCV,
            largest_remote_window: None,
            applied: Shared::default(),
            una_credit: UnaCredit::default(),
            first_sn,
            receiver,
            acks: Vec::new(),
            acks_held: false,
            probe: Probe::default(),
            liveness: Liveness::default(),
            restart: RestartWatch::default(),
            proof,
            close: Close::default(),
            head_watch: HeadWatch::default(),
            refusals: Refusals::default(),
            resends_when_heard: false,
            guesses: Guesses::default(),
            new_segment_limit: u16::MAX,
            datagram_limit: config.mtu_bytes() as u16,
            fault: None,
            last_heard: None,
            session_heard: false,
            last_acknowledged: None,
            last_news: None,
            last_new_push: None,
            outbox: VecDeque::new(),
            outbox_is_stale: false,
            due: VecDeque::new(),
            counters: EngineStats::default(),
            config: config.clone(),
        })
    }

    /// Queues one message, whole or not at all; in stream mode, bytes of the stream.
    ///
    /// In stream mode C's limit of 127 segments a call applies too, after the last queued segment
    /// was filled up; the count says how many bytes were taken. [`write`](Self::write) has no limit.
    ///
    /// # Errors
    /// [`SendError::TooLarge`] beyond [`max_message_size`](Self::max_message_size),
    /// [`SendError::Empty`] for an empty message, [`SendError::Finished`] after
    /// [`finish`](Self::finish).
    pub fn send(&mut self, message: &[u8]) -> Result<usize, SendError> {
        if self.close.is_finishing() {
            return Err(SendError::Finished);
        }
        let strict = self.validation == Validation::Strict;
        if strict && message.is_empty() {
            return Err(SendError::Empty); // protocol.md 3.4
        }
        let stream = self.config.is_stream_mode();
        let topped_up = if stream {
            self.queue.top_up(message, self.new_mss())
        } else {
            0
        };
        let rest = &message[topped_up..];
        if stream && rest.is_empty() {
            self.want_flush_after_write();
            return Ok(topped_up);
        }
        let fragments = if stream {
            MAX_FRAGMENTS
        } else {
            self.max_fragments()
        };
        let mss = self.new_mss();
        if rest.len().div_ceil(mss) > fragments {
            return self.send_in_fewest(message, topped_up, fragments);
        }
        self.queue.push(rest, stream, mss);
        self.want_flush_after_write();
        Ok(message.len())
    }

    /// Queues the rest in segments of the mtu: a limit on new segments makes no message too large that fits the mtu
    /// (protocol.md 2.3.2).
    #[cold]
    fn send_in_fewest(
        &mut self,
        message: &[u8],
        topped_up: usize,
        fragments: usize,
    ) -> Result<usize, SendError> {
        let rest = &message[topped_up..];
        let mss = self.config.mss();
        let fits = rest.len().div_ceil(mss) <= fragments;
        if !fits && topped_up == 0 {
            return Err(SendError::TooLarge {
                size: message.len(),
                max: fragments * mss,
            });
        }
        if fits {
            self.queue.push(rest, self.config.is_stream_mode(), mss);
        }
        self.want_flush_after_write();
        Ok(if fits { message.len() } else { topped_up })
    }

    /// Queues bytes of a stream: all of them, in segments that stand alone.
    ///
    /// In message mode each segment is a message of its own to the peer, as with kcp-go's `Write`;
    /// in stream mode the last queued segment is filled up first. How much may be queued is the
    /// caller's decision; see [`queued_bytes`](Self::queued_bytes).
    ///
    /// # Errors
    /// [`SendError::Finished`] after [`finish`](Self::finish).
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, SendError> {
        if self.close.is_finishing() {
            return Err(SendError::Finished);
        }
        let mss = self.new_mss();
        let taken = if self.config.is_stream_mode() {
            self.queue.top_up(bytes, mss)
        } else {
            0
        };
        self.queue.push_bytes(&bytes[taken..], mss);
        if !bytes.is_empty() {
            self.want_flush_after_write();
        }
        Ok(bytes.len())
    }

    /// Takes the next message.
    ///
    /// # Errors
    /// [`RecvError::Empty`], [`RecvError::Incomplete`], [`RecvError::BufferTooSmall`] (the message
    /// stays), [`RecvError::Finished`] once the peer's last byte has been taken.
    pub fn recv(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let was_closed = self.receiver.is_closed();
        let result = self.receiver.recv(buffer);
        self.reopen_window(was_closed);
        result
    }

    /// Takes bytes across messages. What a short read leaves of a message, the next
    /// [`recv`](Self::recv) returns. Empty messages are skipped.
    ///
    /// # Errors
    /// [`RecvError::Empty`], or [`RecvError::Finished`] once the peer's last byte has been taken.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        let was_closed = self.receiver.is_closed();
        let result = self.receiver.read(buffer);
        self.reopen_window(was_closed);
        result
    }

    /// Copies the next message and leaves it.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    pub fn peek(&mut self, buffer: &mut [u8]) -> Result<usize, RecvError> {
        self.receiver.peek(buffer)
    }

    /// Size of the next message in bytes, if all of it has arrived.
    pub fn peek_size(&self) -> Option<usize> {
        self.receiver.peek_size()
    }

    /// Lets [`poll_transmit`](Self::poll_transmit) send at once what the windows allow, whatever
    /// the flush policy.
    pub const fn request_flush(&mut self) {
        self.flush_wanted = true;
    }

    /// Lets ACKs that nothing else goes with wait for the application's answer, at the latest for the
    /// next tick (protocol.md 7.6). For a caller that knows that somebody is about to read.
    pub fn hold_acks(&mut self) {
        let more = !self.outbox.is_empty()
            || self.receiver.is_finished()
            || self.probe.ask
            || self.probe.confirm
            || self.probe.tell
            || self.can_admit()
            || self.restart.is_open()
            || self.fast.is_ready(&self.in_flight);
        if self.flush_wanted && !self.acks.is_empty() && !more {
            self.flush_wanted = false;
            self.acks_held = true;
            self.clock.put_off_overdue_tick(self.interval_ms());
        }
    }

    /// The answer does not come: whether ACKs have waited for it, and leave now.
    pub const fn release_acks(&mut self) -> bool {
        let held = core::mem::replace(&mut self.acks_held, false);
        self.flush_wanted |= held;
        held
    }

    /// Asks the peer for a sign of life: one WASK, which every KCP answers (protocol.md 12.6).
    pub const fn keepalive(&mut self) {
        self.probe.ask = true;
        self.flush_wanted = true;
    }

    /// Asks a peer whose address is not validated for a sign that it sees what we send: an empty PUSH of
    /// the number before the first, which every KCP acknowledges and none delivers (protocol.md 11.1).
    /// The peer owes no answer: one that never comes does not count for
    /// [`silent_since`](Self::silent_since). Does nothing once the address is validated, or where it
    /// need not be.
    pub const fn ask_for_validation(&mut self) {
        self.proof.want_challenge();
        self.flush_wanted |= self.proof.is_limited();
    }

    /// Whether a small datagram beyond the answer budget is wanted (`docs/protocol.md` 11.3), which the
    /// caller may grant by [`grant_extra`](Self::grant_extra). Each wish is told once; one that was
    /// not granted returns when the datagram is next due.
    pub const fn take_extra_wanted(&mut self) -> bool {
        self.proof.take_extra_wanted()
    }

    /// Allows one more datagram of at most 100 bytes to a peer whose address is not validated. Up to
    /// five count.
    pub const fn grant_extra(&mut self) {
        self.proof.grant_extra();
    }

    const fn is_strict(&self) -> bool {
        matches!(self.validation, Validation::Strict)
    }

    const fn is_immediate(&self) -> bool {
        matches!(self.config.flushes(), FlushPolicy::Immediate)
    }

    const fn want_flush_after_write(&mut self) {
        self.flush_wanted |= self.is_immediate();
    }

    /// protocol.md 4.5: a closed window that opens again is told to the peer.
    fn reopen_window(&mut self, was_closed: bool) {
        if !was_closed || self.receiver.is_closed() {
            return;
        }
        self.probe.on_reopened(self.is_strict());
        self.flush_wanted |= self.is_immediate();
    }

    /// protocol.md 3.3: what the peer can hold, and the one fragment that a cut head may add.
    fn max_fragments(&self) -> usize {
        if !self.is_strict() {
            return MAX_FRAGMENTS;
        }
        let window = self
            .largest_remote_window
            .map_or(IKCP_WND_RCV as usize, usize::from);
        let spare = window.saturating_sub(usize::from(self.proof.is_limited()));
        spare.clamp(1, MAX_FRAGMENTS)
    }
}

/// protocol.md 11.4: bytes that a session holds for its reader, and of a message of which a part is
/// missing.
fn receive_limits(config: &KcpConfig, validation: Validation) -> (usize, usize) {
    match validation {
        Validation::Strict => (
            config.receive_window_segments() as usize * config.mtu_bytes().max(USUAL_MTU),
            config.incomplete_message_bytes(),
        ),
        Validation::AsC => (usize::MAX, usize::MAX),
    }
}

impl fmt::Debug for KcpEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KcpEngine")
            .field("conv", &self.conv)
            .field("snd_una", &self.in_flight.una().get())
            .field("snd_nxt", &self.in_flight.nxt().get())
            .field("rcv_nxt", &self.receiver.next().get())
            .field("in_flight", &self.in_flight.outstanding())
            .field("queued", &self.queue.len())
            .field("remote_window", &self.remote_window)
            .finish_non_exhaustive()
    }
}
