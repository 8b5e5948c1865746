//! A peer that may have restarted under the same address and conv (`docs/protocol.md` 12.8).
//!
//! What its first datagrams say (`una` still 0) cannot be told from late copies of what the old
//! peer once sent, so the peer is asked: its answer shows the una that it knows. Until then nothing
//! leaves that a new peer would take for an answer to what it sends.

use core::time::Duration;

use crate::seq::WireTs;
use crate::time::Instant;

/// The question, while it is open, and how soon the next one may be.
#[derive(Debug, Default)]
pub(crate) struct RestartWatch {
    open: bool,
    /// When the question is sent, again or for the first time.
    ask_at: Instant,
    /// When it was sent last.
    asked_at: Instant,
    /// How often, since it was opened.
    asks: u32,
    /// The time stamps of the last of these.
    asked: [WireTs; 4],
    /// A question that the old peer answers was for nothing: the next one waits until then.
    quiet_until: Instant,
    /// How long that will be the next time.
    quiet_for: Duration,
    /// When sn 0 was repeated last, by a peer that has acknowledged nothing; zero is never.
    repeated_at: Instant,
}

impl RestartWatch {
    /// Whether the answer is awaited.
    pub(crate) const fn is_open(&self) -> bool {
        self.open
    }

    /// When the question is to be sent; `None` while there is none.
    pub(crate) fn ask_at(&self) -> Option<Instant> {
        self.open.then_some(self.ask_at)
    }

    /// A datagram of a beginning arrived. Whether it opens the question.
    pub(crate) fn on_beginning(&mut self, now: Instant, rtt: Duration) -> bool {
        if !self.open && now < self.quiet_until {
            return false;
        }
        let opens = !self.open;
        if opens && now.saturating_since(self.quiet_until) >= FORGET_FALSE_ALARMS {
            self.quiet_for = Duration::ZERO;
        }
        self.ask_soon(now, rtt, opens);
        if opens {
            self.asks = 0;
        }
        self.open = true;
        opens
    }

    /// An answer came that is of a beginning too: the next question decides.
    pub(crate) fn on_stale_answer(&mut self, now: Instant, rtt: Duration) {
        if self.open {
            self.ask_soon(now, rtt, false);
        }
    }

    /// At most one question per round trip.
    fn ask_soon(&mut self, now: Instant, rtt: Duration, opens: bool) {
        let earliest = now.max(self.asked_at + rtt);
        self.ask_at = if opens {
            earliest
        } else {
            self.ask_at.min(earliest)
        };
    }

    /// Whether the question leaves now; it is repeated after `rto`, then twice as long, and so on.
    pub(crate) fn takes_question(&mut self, now: Instant, ts: WireTs, rto: Duration) -> bool {
        if !self.open || now < self.ask_at {
            return false;
        }
        self.asked_at = now;
        self.ask_at = now + rto * (1 << self.asks.min(MOST_DOUBLINGS));
        self.asks += 1;
        self.asked.rotate_right(1);
        self.asked[0] = ts;
        true
    }

    /// Whether a WINS with this time stamp answers the question that is open. Not any WASK: what
    /// answers one of before the peer's first una may be late.
    pub(crate) fn has_asked(&self, ts: WireTs) -> bool {
        let known = self.asked.len().min(self.asks as usize);
        self.open && self.asked[..known].contains(&ts)
    }

    /// The old peer spoke. Whether that closes the question.
    pub(crate) fn on_old_peer(&mut self, now: Instant, rtt: Duration) -> bool {
        if !self.open {
            return false;
        }
        self.open = false;
        self.quiet_for = (self.quiet_for * 2).clamp(rtt, LONGEST_QUIET.max(rtt));
        self.quiet_until = now + self.quiet_for;
        true
    }

    /// A peer that never told an una repeats sn 0; `news` is when something new came. Whether this and
    /// the last one are of a peer that begins over and over. One that misses ACKs backs off, so that
    /// its retransmissions lie further apart the longer it has waited.
    pub(crate) fn on_repeated_first(&mut self, now: Instant, rto: Duration, news: Instant) -> bool {
        let last = core::mem::replace(&mut self.repeated_at, now);
        if last == Instant::ZERO {
            return false;
        }
        let apart = now.saturating_since(last);
        apart >= rto.max(REPEATED_APART) && apart * 4 <= last.saturating_since(news)
    }

    /// Something new arrived from it.
    pub(crate) const fn on_new_data(&mut self) {
        self.repeated_at = Instant::ZERO;
    }
}

/// Of the wait for an answer.
const MOST_DOUBLINGS: u32 = 4;
/// False alarms stop a session for a round trip each: one that repeats may do so this rarely.
const LONGEST_QUIET: Duration = Duration::from_secs(10);
/// After this long without one, the next question is asked at once again.
const FORGET_FALSE_ALARMS: Duration = Duration::from_secs(60);
/// A peer with nodelay 2, which backs off the least, waits this long after two minutes.
const REPEATED_APART: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);
    const RTO: Duration = Duration::from_millis(200);
    const TS: WireTs = WireTs::new(7);

    const fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn one_question_per_round_trip_and_again_after_a_time_out() {
        let mut watch = RestartWatch::default();
        assert!(watch.on_beginning(at(1_000), RTT));
        assert!(watch.takes_question(at(1_000), TS, RTO));
        assert!(!watch.on_beginning(at(1_010), RTT));
        assert!(!watch.takes_question(at(1_099), TS, RTO));
        assert!(watch.takes_question(at(1_100), TS, RTO));
        assert_eq!(watch.ask_at(), Some(at(1_500)));
    }

    /// protocol.md 12.8: what came of an earlier question neither makes this one wait nor answers it.
    #[test]
    fn each_question_begins_with_one_time_out() {
        let mut watch = RestartWatch::default();
        for n in 1..=8 {
            let (now, ts) = (at(60_000 * n), WireTs::new(n as u32));
            assert!(watch.on_beginning(now, RTT));
            assert!(!watch.has_asked(WireTs::new(n as u32 - 1)));
            assert!(watch.takes_question(now, ts, RTO));
            assert_eq!(watch.ask_at(), Some(now + RTO));
            assert!(watch.has_asked(ts));
            assert!(watch.on_old_peer(now + RTT, RTT));
        }
    }

    #[test]
    fn false_alarms_become_rare_and_are_forgotten() {
        let mut watch = RestartWatch::default();
        let (mut now, mut opened) = (at(1_000), 0);
        for _ in 0..5_000 {
            now += Duration::from_millis(20);
            if watch.on_beginning(now, RTT) {
                opened += 1;
                assert!(watch.takes_question(now, TS, RTO) || watch.is_open());
                assert!(watch.on_old_peer(now + RTT, RTT));
            }
        }
        assert!((7..=18).contains(&opened), "{opened} in 100 s");
        now += Duration::from_secs(71);
        assert!(watch.on_beginning(now, RTT));
        watch.on_old_peer(now, RTT);
        assert!(watch.on_beginning(now + RTT, RTT));
    }
}
