//! How much may be in flight because of the network (`docs/protocol.md` 8).

/// Least slow-start threshold, in segments (`ikcp.c: IKCP_THRESH_MIN`).
pub const IKCP_THRESH_MIN: u32 = 2;
/// Slow-start threshold at the start, in segments (`ikcp.c: IKCP_THRESH_INIT`).
pub const IKCP_THRESH_INIT: u32 = 2;

/// A congestion strategy: told what happens, asked for a window.
///
/// The events are those of C 2.x (`wire` unchanged): acknowledged data, fast retransmit, time-out.
/// A further strategy is a further variant.
#[derive(Clone, Debug)]
pub(crate) enum Congestion {
    /// C's window, obeyed.
    Classic(ClassicWindow),
    /// No limit (nc = 1). C keeps computing its window all the same, and shows it.
    None(ClassicWindow),
}

impl Congestion {
    pub(crate) const fn new(obeyed: bool, window: ClassicWindow) -> Self {
        if obeyed {
            Self::Classic(window)
        } else {
            Self::None(window)
        }
    }

    /// The most segments that may be in flight; `u32::MAX` for no limit.
    pub(crate) const fn window(&self) -> u32 {
        match self {
            Self::Classic(classic) => classic.cwnd,
            Self::None(_) => u32::MAX,
        }
    }

    pub(crate) const fn classic(&self) -> &ClassicWindow {
        let (Self::Classic(classic) | Self::None(classic)) = self;
        classic
    }

    const fn classic_mut(&mut self) -> &mut ClassicWindow {
        let (Self::Classic(classic) | Self::None(classic)) = self;
        classic
    }

    /// A datagram acknowledged new data.
    pub(crate) fn on_acknowledged(&mut self, remote_window: u32, mss: u32) {
        self.classic_mut().grow(remote_window, mss);
    }

    /// A flush resent segments early.
    pub(crate) fn on_fast_resend(&mut self, in_flight: u32, threshold: u32, mss: u32) {
        self.classic_mut().on_fast_resend(in_flight, threshold, mss);
    }

    /// A flush resent segments whose time-out had passed.
    pub(crate) fn on_timeout(&mut self, effective_window: u32, mss: u32) {
        self.classic_mut().on_timeout(effective_window, mss);
    }

    /// A flush is over.
    pub(crate) const fn on_flush_end(&mut self, mss: u32) {
        let classic = self.classic_mut();
        if classic.cwnd < 1 {
            classic.cwnd = 1;
            classic.incr = mss;
        }
    }
}

/// C's congestion window. Arithmetic is 32 bits and wraps, as there.
#[derive(Clone, Debug)]
pub(crate) struct ClassicWindow {
    /// Window in segments.
    pub(crate) cwnd: u32,
    /// The same in bytes, with the fraction that `cwnd` drops.
    pub(crate) incr: u32,
    pub(crate) ssthresh: u32,
}

impl ClassicWindow {
    /// A window of `cwnd` segments of `mss` bytes (protocol.md 8.3).
    pub(crate) const fn new(cwnd: u32, mss: u32) -> Self {
        Self {
            cwnd,
            incr: cwnd.wrapping_mul(mss),
            ssthresh: IKCP_THRESH_INIT,
        }
    }

    /// protocol.md 8.1, once per datagram that moved `snd_una`.
    fn grow(&mut self, remote_window: u32, mss: u32) {
        if self.cwnd >= remote_window {
            return;
        }
        if self.cwnd < self.ssthresh {
            self.cwnd = self.cwnd.wrapping_add(1);
            self.incr = self.incr.wrapping_add(mss);
        } else {
            self.incr = self.incr.max(mss);
            let reno = mss.wrapping_mul(mss) / self.incr;
            self.incr = self.incr.wrapping_add(reno).wrapping_add(mss / 16);
            if self.cwnd.wrapping_add(1).wrapping_mul(mss) <= self.incr {
                self.cwnd = self.incr.wrapping_add(mss).wrapping_sub(1) / mss.max(1);
            }
        }
        if self.cwnd > remote_window {
            self.cwnd = remote_window;
            self.incr = remote_window.wrapping_mul(mss);
        }
    }

    /// protocol.md 8.2.
    fn on_fast_resend(&mut self, in_flight: u32, threshold: u32, mss: u32) {
        self.ssthresh = (in_flight / 2).max(IKCP_THRESH_MIN);
        self.cwnd = self.ssthresh.wrapping_add(threshold);
        self.incr = self.cwnd.wrapping_mul(mss);
    }

    /// protocol.md 8.2. C 1.x halves the effective window, whatever limited it.
    fn on_timeout(&mut self, effective_window: u32, mss: u32) {
        self.ssthresh = (effective_window / 2).max(IKCP_THRESH_MIN);
        self.cwnd = 1;
        self.incr = mss;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MSS: u32 = 1_376;

    /// protocol.md 8.1: one segment per datagram below ssthresh, about an eighth of one above.
    #[test]
    fn growth_follows_c() {
        let mut window = ClassicWindow::new(1, MSS);
        window.grow(128, MSS);
        assert_eq!((window.cwnd, window.incr), (2, 2 * MSS));
        // Avoidance: 2752 + 1376 * 1376 / 2752 + 86 = 3526; (2 + 1) * 1376 = 4128 is not reached.
        window.grow(128, MSS);
        assert_eq!((window.cwnd, window.incr), (2, 3_526));
        // 3526 + 536 + 86 = 4148 >= 4128: ceil(4148 / 1376) = 4.
        window.grow(128, MSS);
        assert_eq!((window.cwnd, window.incr), (4, 4_148));
    }

    /// protocol.md 8.1: never above the remote window.
    #[test]
    fn growth_is_clamped() {
        let mut window = ClassicWindow {
            cwnd: 2,
            incr: 4_100,
            ssthresh: 2,
        };
        window.grow(3, MSS);
        assert_eq!((window.cwnd, window.incr), (3, 3 * MSS));
        window.grow(3, MSS);
        assert_eq!(window.cwnd, 3);
    }

    /// protocol.md 8.2: fast resend halves what is in flight, a time-out starts over.
    #[test]
    fn reactions_follow_c() {
        let mut window = ClassicWindow {
            cwnd: 20,
            incr: 20 * MSS,
            ssthresh: 2,
        };
        window.on_fast_resend(16, 2, MSS);
        assert_eq!(
            (window.ssthresh, window.cwnd, window.incr),
            (8, 10, 10 * MSS)
        );
        window.on_timeout(10, MSS);
        assert_eq!((window.ssthresh, window.cwnd, window.incr), (5, 1, MSS));
        window.on_timeout(1, MSS);
        assert_eq!(window.ssthresh, IKCP_THRESH_MIN);
    }

    #[test]
    fn no_strategy_has_no_window() {
        assert_eq!(
            Congestion::new(false, ClassicWindow::new(1, MSS)).window(),
            u32::MAX
        );
        assert_eq!(
            Congestion::new(true, ClassicWindow::new(1, MSS)).window(),
            1
        );
    }
}
