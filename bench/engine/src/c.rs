//! The C core.

use oracle::CKcp;

use crate::subject::{Engine, Settings};

/// `ikcp.c` 1.x of kcp-io. Its clock is in milliseconds.
#[derive(Debug)]
pub(crate) struct C {
    end: CKcp,
    /// There has been a tick since the last drain.
    is_fresh: bool,
}

impl C {
    pub(crate) fn new(settings: Settings) -> Self {
        let mut end = CKcp::new(1);
        end.set_nodelay(1, 10, 2, true);
        end.set_windows(settings.window, settings.window);
        Self {
            end,
            is_fresh: false,
        }
    }
}

impl Engine for C {
    fn write(&mut self, message: &[u8]) {
        assert!(self.end.send(message) >= 0, "a message of a segment");
    }

    fn recv(&mut self, buffer: &mut [u8]) -> Option<usize> {
        usize::try_from(self.end.recv(buffer)).ok()
    }

    fn input(&mut self, now: u64, datagram: &[u8]) {
        self.end.set_current(millis(now));
        assert_eq!(self.end.input(datagram), 0, "what C has sent");
    }

    fn tick(&mut self, now: u64) {
        self.end.update(millis(now));
        self.is_fresh = true;
    }

    fn flush(&mut self, now: u64) {
        self.end.set_current(millis(now));
        self.end.flush();
    }

    fn drain(&mut self, _now: u64) -> bool {
        std::mem::take(&mut self.is_fresh) && !self.end.output().is_empty()
    }

    fn wake(&mut self) -> Option<u64> {
        None
    }

    fn for_each_output(&self, visit: impl FnMut(&[u8])) {
        self.end.output().iter().for_each(visit);
    }

    fn clear(&mut self) {
        self.end.clear_output();
    }

    fn allocations() -> u64 {
        oracle::allocations()
    }
}

/// C's clock: milliseconds modulo 2^32.
fn millis(micros: u64) -> u32 {
    (micros / 1_000) as u32
}
