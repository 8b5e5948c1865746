//! What is compared with the C core.

use crate::{CKcp, Datagrams, Settings, Visible};

/// An endpoint that can be held against the C core. Result codes are C's.
pub trait Subject {
    /// A fresh endpoint whose numbers start at `first_sn` in both directions.
    fn create(conv: u32, settings: &Settings, first_sn: u32) -> Self;
    /// One message. -2 when it is too long.
    fn send(&mut self, data: &[u8]) -> i32;
    /// Bytes of a stream, in pieces of at most one segment; how many were taken.
    fn write(&mut self, data: &[u8]) -> i32;
    /// One message into `buffer`: its size, -1, -2 or -3.
    fn recv(&mut self, buffer: &mut [u8]) -> i32;
    /// As `recv`, but the message stays.
    fn peek(&mut self, buffer: &mut [u8]) -> i32;
    /// Size of the next message, or -1.
    fn peek_size(&self) -> i32;
    /// A datagram from the peer: 0, -1, -2 or -3.
    fn input(&mut self, now_us: u64, datagram: &[u8]) -> i32;
    /// The time.
    fn update(&mut self, now_us: u64);
    /// Lets the next drain flush.
    fn request_flush(&mut self);
    /// Lets the next flush ask for the peer's window, and the next drain flush.
    fn ask(&mut self);
    /// A new mtu.
    fn set_mtu(&mut self, mtu: u32);
    /// New windows.
    fn set_windows(&mut self, send: u32, receive: u32);
    /// A new interval, ms.
    fn set_interval(&mut self, interval: u32);
    /// Lets ACKs wait for an answer, where the engine knows how to.
    fn hold_acks(&mut self) {}
    /// Lets them go.
    fn release_acks(&mut self) {}
    /// Whether the next drain flushes.
    fn is_flush_due(&self) -> bool;
    /// Appends everything that leaves now.
    fn drain(&mut self, now_us: u64, output: &mut Datagrams);
    /// When the endpoint wants its next update, microseconds; `None` for never. The outer
    /// option is `None` when it does not say.
    fn deadline(&mut self) -> Option<Option<u64>>;
    /// The state to compare.
    fn visible(&self) -> Visible;
}

/// A defect to plant in a [`CSubject`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defect {
    /// The fast-resend threshold is one too high.
    LateFastResend,
    /// The receive window is one segment too small.
    NarrowWindow,
    /// The clock of `input` is that of the last update.
    StaleClock,
    /// The tick is one millisecond too long.
    LongTick,
}

/// The C core in the place of the engine: the harness held against itself, and with a
/// [`Defect`], proof that it finds and shrinks differences.
#[derive(Debug)]
pub struct CSubject<const DEFECT: u8> {
    core: CKcp,
    offset: u32,
    immediate: bool,
    flush_wanted: bool,
}

/// C without a defect.
pub type HonestC = CSubject<0>;

impl<const DEFECT: u8> CSubject<DEFECT> {
    const DEFECT: Option<Defect> = match DEFECT {
        1 => Some(Defect::LateFastResend),
        2 => Some(Defect::NarrowWindow),
        3 => Some(Defect::StaleClock),
        4 => Some(Defect::LongTick),
        _ => None,
    };

    /// The control block, for what [`Settings`] does not say.
    pub const fn core_mut(&mut self) -> &mut CKcp {
        &mut self.core
    }

    const fn millis(&self, now_us: u64) -> u32 {
        ((now_us / 1_000) as u32).wrapping_add(self.offset)
    }
}

impl<const DEFECT: u8> Subject for CSubject<DEFECT> {
    fn create(conv: u32, settings: &Settings, first_sn: u32) -> Self {
        let mut settings = settings.clone();
        match Self::DEFECT {
            Some(Defect::LateFastResend) if settings.resend > 0 => settings.resend += 1,
            Some(Defect::NarrowWindow) => settings.receive_window -= 1,
            Some(Defect::LongTick) => settings.interval += 1,
            _ => {}
        }
        Self {
            core: settings.make_core(conv, first_sn),
            offset: settings.ts_offset,
            immediate: settings.immediate,
            flush_wanted: false,
        }
    }

    fn send(&mut self, data: &[u8]) -> i32 {
        self.core.send(data)
    }

    fn write(&mut self, data: &[u8]) -> i32 {
        self.core.write(data)
    }

    fn recv(&mut self, buffer: &mut [u8]) -> i32 {
        self.core.recv(buffer)
    }

    fn peek(&mut self, buffer: &mut [u8]) -> i32 {
        self.core.peek(buffer)
    }

    fn peek_size(&self) -> i32 {
        self.core.peek_size()
    }

    fn input(&mut self, now_us: u64, datagram: &[u8]) -> i32 {
        if Self::DEFECT != Some(Defect::StaleClock) {
            self.core.set_current(self.millis(now_us));
        }
        self.core.input(datagram)
    }

    fn update(&mut self, now_us: u64) {
        let old_tick = self.core.next_tick();
        self.core.update(self.millis(now_us));
        // A tick is a flush.
        self.flush_wanted &= self.core.next_tick() == old_tick;
    }

    fn request_flush(&mut self) {
        self.flush_wanted = true;
    }

    fn ask(&mut self) {
        self.core.ask();
        self.flush_wanted = true;
    }

    fn set_mtu(&mut self, mtu: u32) {
        self.core.set_mtu(mtu);
    }

    fn set_windows(&mut self, send: u32, receive: u32) {
        self.core.set_windows(send, receive);
    }

    fn set_interval(&mut self, interval: u32) {
        self.core.set_interval(interval);
    }

    fn is_flush_due(&self) -> bool {
        let state = self.core.visible();
        let waiting = state.nsnd_que > 0 || state.probe != 0 || state.ackcount > 0;
        self.flush_wanted || self.immediate && (waiting || self.core.has_fast_resend())
    }

    fn drain(&mut self, now_us: u64, output: &mut Datagrams) {
        if self.is_flush_due() {
            self.flush_wanted = false;
            self.core.set_current(self.millis(now_us));
            if self.core.is_started() {
                self.core.flush();
            } else {
                self.core.update(self.millis(now_us));
            }
        }
        for datagram in self.core.output().iter() {
            output.push(datagram);
        }
        self.core.clear_output();
    }

    fn deadline(&mut self) -> Option<Option<u64>> {
        None
    }

    fn visible(&self) -> Visible {
        self.core.visible()
    }
}

impl Settings {
    /// A C control block with these settings.
    pub fn make_core(&self, conv: u32, first_sn: u32) -> CKcp {
        let mut core = CKcp::new(conv);
        assert_eq!(core.set_mtu(self.mtu), 0, "an mtu that C takes");
        core.set_nodelay(self.nodelay, self.interval, self.resend, self.no_window);
        core.set_windows(self.send_window, self.receive_window);
        core.set_limits(self.fast_limit, self.dead_link);
        core.set_stream(self.stream);
        core.set_first_numbers(first_sn, first_sn);
        if self.immediate {
            // protocol.md 8.3: there is no earlier tick that could have raised it.
            core.set_congestion_window(1, core.mss());
        }
        core
    }
}
