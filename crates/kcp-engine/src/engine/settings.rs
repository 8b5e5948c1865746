//! Settings that may change while a session lives (`docs/protocol.md` 10).

use alloc::sync::Arc;
use core::time::Duration;

use super::{KcpEngine, receive_limits};
use crate::error::ConfigError;
use crate::memory::ReceiveMemory;

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
        Ok(())
    }
}
