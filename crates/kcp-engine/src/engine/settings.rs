//! Settings that may change while a session lives (`docs/protocol.md` 10).

use alloc::sync::Arc;
use core::time::Duration;

use super::{KcpEngine, receive_limits};
use crate::error::ConfigError;
use crate::memory::ReceiveMemory;
use crate::segment::IKCP_OVERHEAD;
use crate::seq::Sn;

impl KcpEngine {
    /// Changes the mtu, in bytes. Queued segments keep their size: after lowering it, some
    /// datagrams are still larger (C: `ikcp_setmtu`).
    ///
    /// # Errors
    /// Outside 50 to 65507 bytes.
    pub fn set_mtu(&mut self, bytes: usize) -> Result<(), ConfigError> {
        self.reconfigure(|config| config.mtu(bytes))
    }

    /// Changes both windows, in segments (C: `ikcp_wndsize`).
    ///
    /// # Errors
    /// Outside 1 to 65535 (send) or 128 to 65535 (receive).
    pub fn set_windows(&mut self, send: u32, receive: u32) -> Result<(), ConfigError> {
        let was_closed = self.receiver.is_closed();
        self.reconfigure(|config| config.window_size(send, receive))?;
        self.receiver.set_window(receive);
        if self.is_strict() {
            self.reopen_window(was_closed);
        }
        Ok(())
    }

    /// Changes the tick (C: `ikcp_interval`). It applies after the next tick.
    ///
    /// # Errors
    /// Outside 1 ms to 5 s.
    pub fn set_interval(&mut self, interval: Duration) -> Result<(), ConfigError> {
        self.reconfigure(|config| config.interval(interval))
    }

    /// Limits new segments to datagrams of `bytes`, header included, where the path is known to carry less than the mtu
    /// (`docs/protocol.md` 2.3.2). Values below 50 count as 50, those above the mtu as the mtu, which is the default.
    ///
    /// Segments that have a sequence number keep their size, and so do the fragments of a message of which one has, and
    /// those of a message that would otherwise need more fragments than the peer can hold:
    /// [`max_message_size`](Self::max_message_size) does not change. Everything else that is queued is cut again, in time
    /// that grows with what is queued. Raising the limit cuts nothing again.
    pub fn set_new_segment_limit(&mut self, bytes: usize) {
        let before = self.new_mss();
        self.new_segment_limit = bytes.clamp(MIN_MTU, u16::MAX as usize) as u16;
        self.limit_datagrams();
        let mss = self.new_mss();
        if mss < before {
            let most = self.max_fragments();
            let begun = self.may_have_begun_a_message();
            self.queue.recut(mss, most, begun);
        }
    }

    /// Bytes of the largest datagram that is built of several segments, or of a new one.
    pub const fn datagram_limit(&self) -> usize {
        self.datagram_limit as usize
    }

    fn limit_datagrams(&mut self) {
        // No mtu is larger than 65,507 bytes.
        self.datagram_limit = (self.config.mtu_bytes() as u16).min(self.new_segment_limit);
    }

    /// Payload bytes of a new segment.
    pub(super) const fn new_mss(&self) -> usize {
        self.datagram_limit() - IKCP_OVERHEAD
    }

    /// Whether the first queued segment may continue a message of which a fragment has an sn already. What was
    /// acknowledged is no longer known; then it may.
    fn may_have_begun_a_message(&self) -> bool {
        let nxt = self.in_flight.nxt();
        let last = self.in_flight.get(Sn::new(nxt.get().wrapping_sub(1)));
        nxt != self.first_sn && last.is_none_or(|record| record.frg > 0)
    }

    /// From now on what is held that cannot be delivered yet is on this account, which several
    /// sessions may share. Without one there is no bound but the session's own.
    pub fn set_receive_memory(&mut self, memory: Arc<ReceiveMemory>) {
        self.receiver.set_memory(memory);
    }

    fn reconfigure(
        &mut self,
        change: impl FnOnce(crate::KcpConfig) -> crate::KcpConfig,
    ) -> Result<(), ConfigError> {
        let config = change(self.config.clone());
        config.validate()?;
        let (bytes, message) = receive_limits(&config, self.validation);
        self.receiver.set_limits(bytes, message);
        self.pacer.set_mtu(config.mtu_bytes());
        self.config = config;
        self.limit_datagrams();
        Ok(())
    }
}

/// The least mtu (protocol.md 10).
const MIN_MTU: usize = 50;
