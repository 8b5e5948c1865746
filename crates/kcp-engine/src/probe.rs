//! Asking for the peer's window and telling ours (`docs/protocol.md` 7.3, 11.5).

use crate::seq::WireTs;
use crate::time::Millis;

/// First wait before a closed window is probed, in ms (`ikcp.c: IKCP_PROBE_INIT`).
pub const IKCP_PROBE_INIT: u32 = 7_000;
/// The same where C need not be matched: a stock peer sends the WINS that reopens its window once,
/// and when it is lost nothing else moves the transfer (protocol.md 11.5; kcp-go waits as long).
pub(crate) const FIRST_PROBE_MS: u32 = 500;
/// Longest wait between two probes, in ms (`ikcp.c: IKCP_PROBE_LIMIT`).
pub const IKCP_PROBE_LIMIT: u32 = 120_000;

/// How often a WINS that reopened the window is repeated (protocol.md 11.5).
const REOPEN_REPEATS: u8 = 5;

/// The window probe: two flags for the next flush, and the timers that raise them.
#[derive(Debug, Default)]
pub(crate) struct Probe {
    /// Send a WASK at the next flush (C: `IKCP_ASK_SEND`).
    pub(crate) ask: bool,
    /// The same, to let the peer confirm an RST (protocol.md 12.4). A peer that does not answer owes
    /// nothing: a forged RST must not start dead-peer detection.
    pub(crate) confirm: bool,
    /// Send a WINS at the next flush (C: `IKCP_ASK_TELL`).
    pub(crate) tell: bool,
    /// Time stamp of the WASK that it answers, to be echoed (protocol.md 11.1).
    pub(crate) echo: Option<WireTs>,
    /// Current wait in ms; 0 while the remote window is open (C: `probe_wait`).
    pub(crate) wait_ms: u32,
    /// When a closed window is probed next (C: `ts_probe`).
    pub(crate) at: Millis,
    reopened: Option<Reopened>,
}

#[derive(Clone, Copy, Debug)]
struct Reopened {
    /// `None` until the WINS itself has left.
    again_at: Option<Millis>,
    left: u8,
}

impl Probe {
    /// The timer of a closed remote window; protocol.md 7.3.
    pub(crate) fn on_flush(&mut self, now: Millis, remote_window: u32, first_wait_ms: u32) {
        if remote_window != 0 {
            self.at = Millis::default();
            self.wait_ms = 0;
        } else if self.wait_ms == 0 {
            self.wait_ms = first_wait_ms;
            self.at = now.plus(self.wait_ms);
        } else if now >= self.at {
            self.wait_ms = (self.wait_ms + self.wait_ms / 2).min(IKCP_PROBE_LIMIT);
            self.at = now.plus(self.wait_ms);
            self.ask = true;
        }
    }

    /// The peer asks; `echo` is what the answer is to show of the question.
    pub(crate) const fn on_question(&mut self, echo: Option<WireTs>) {
        self.tell = true;
        self.echo = echo;
    }

    /// The full receive queue has room again; protocol.md 4.5, and 11.5 if it is to be repeated.
    pub(crate) const fn on_reopened(&mut self, repeat: bool) {
        self.tell = true;
        if repeat {
            self.reopened = Some(Reopened {
                again_at: None,
                left: REOPEN_REPEATS,
            });
        }
    }

    /// A WINS goes out.
    pub(crate) fn on_told(&mut self, now: Millis, rto_ms: u32) {
        if let Some(reopened) = &mut self.reopened {
            reopened.again_at = Some(now.plus(rto_ms));
        }
    }

    /// A PUSH arrived: the peer knows that the window is open.
    pub(crate) const fn on_push(&mut self) {
        self.reopened = None;
    }

    /// Raises the WINS again when its repetition is due.
    pub(crate) fn repeat_tell(&mut self, now: Millis) {
        let Some(reopened) = &mut self.reopened else {
            return;
        };
        if reopened.again_at.is_none_or(|again_at| now < again_at) {
            return;
        }
        self.tell = true;
        reopened.left -= 1;
        if reopened.left == 0 {
            self.reopened = None;
        }
    }

    /// When [`repeat_tell`](Self::repeat_tell) has something to do.
    pub(crate) fn next_tell(&self) -> Option<Millis> {
        self.reopened?.again_at
    }
}
