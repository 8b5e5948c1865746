//! How often each branch of the protocol was taken, seen from the C side.

use std::fmt;

use crate::{
    CKcp, Datagrams, InFlight, Settings, Visible,
    wire::{self, Header},
};

/// Declares [`Coverage`] with names that can be listed.
macro_rules! coverage {
    ($($(#[$doc:meta])* $field:ident,)*) => {
        /// Counters, each of one branch.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Coverage {
            $($(#[$doc])* pub $field: u64,)*
        }

        impl Coverage {
            /// Every counter with its name.
            pub fn counters(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($field), self.$field),)*].into_iter()
            }

            /// Adds the counts of another run.
            pub fn add(&mut self, other: &Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}

coverage! {
    /// Calls of send, write, recv, peek, input and update.
    steps,
    /// Scripts begun.
    scripts,
    /// Datagrams compared byte for byte.
    datagrams,
    /// Bytes of those datagrams.
    bytes,
    /// Messages compared byte for byte.
    messages,
    /// Messages of more than one fragment among them.
    fragmented_messages,
    /// Empty messages among them.
    empty_messages,
    /// Messages sent.
    send,
    /// Messages refused for their number of fragments (C: -2).
    send_too_long,
    /// Sends of which only a part was taken (stream mode).
    send_partial,
    /// Writes as a byte stream.
    write,
    /// Sends or writes that filled up the last queued segment.
    stream_append,
    /// Receives without a message (C: -1).
    recv_empty,
    /// Receives of a message with fragments missing (C: -2).
    recv_incomplete,
    /// Receives into too small a buffer (C: -3).
    recv_small,
    /// Peeks that copied a message.
    peek,
    /// Receives that found a full queue and owe a WINS (fast recover).
    fast_recover,
    /// Datagrams kept from both sides: an ACK in them echoes a time 2^31 ms away.
    skipped,
    /// Datagrams taken whole.
    input_ok,
    /// Datagrams shorter than a header (C: -1).
    input_short,
    /// Datagrams with a foreign conv (C: -1).
    input_conv,
    /// Datagrams with an impossible length (C: -2).
    input_length,
    /// Datagrams with an unknown command (C: -3).
    input_command,
    /// Refused datagrams whose first segments had been applied.
    input_partial,
    /// New segments stored.
    push_new,
    /// Segments held already.
    push_duplicate,
    /// Segments from before the next expected.
    push_old,
    /// Segments beyond the window.
    push_beyond_window,
    /// ACKs for something in flight or acknowledged out of order.
    ack_in_window,
    /// ACKs for something older.
    ack_old,
    /// ACKs for something never sent.
    ack_unsent,
    /// Datagrams that freed more than one segment.
    una_jump,
    /// Segments whose una was never sent.
    una_unsent,
    /// Window questions received.
    wask_in,
    /// Window answers received.
    wins_in,
    /// Times the peer's window closed.
    window_closed,
    /// Times the peer's window opened again.
    window_opened,
    /// RTT samples taken as the first.
    rtt_first,
    /// RTT samples averaged in.
    rtt_next,
    /// First samples of 0 ms, which are forgotten.
    rtt_zero,
    /// ACKs from the future, without a sample.
    rtt_future,
    /// Datagrams with a fast-ack event.
    fastack_event,
    /// Fast-ack events with a number that is not in flight any more or yet.
    fastack_outside,
    /// ACKs that moved the event on to a later number.
    fastack_moved,
    /// ACKs for a later number that conserve refused because their ts was not later.
    conserve_ack,
    /// Counts against segments sent once.
    fastack_first,
    /// Counts against retransmitted segments.
    fastack_again,
    /// Segments sent once that conserve spared: sent after the transmission acknowledged.
    conserve_first,
    /// Retransmitted segments that conserve spared.
    conserve_again,
    /// Segments that reached the threshold with their count.
    fastack_reached,
    /// Congestion window grown in slow start.
    cwnd_slow_start,
    /// Bytes accumulated in avoidance without a whole segment.
    cwnd_accumulate,
    /// Congestion window grown in avoidance.
    cwnd_avoidance,
    /// Congestion window cut to the peer's window.
    cwnd_clamped,
    /// Congestion window reduced by fast resend.
    cwnd_reduced,
    /// Congestion window collapsed to 1 by a timeout.
    cwnd_collapsed,
    /// Both reactions in one flush.
    cwnd_both,
    /// Flushes at a tick.
    tick,
    /// Updates before the tick.
    tick_early,
    /// Ticks that were missed, so that the next was set from now.
    tick_catch_up,
    /// Updates 10 s or more off the tick.
    tick_resync,
    /// Flushes between ticks (Immediate).
    flush_immediate,
    /// Flushes between ticks that the application asked for (Interval).
    flush_asked,
    /// Keepalives asked for.
    asked,
    /// Inputs under Immediate after which there was nothing to flush, and no flush.
    moment_quiet,
    /// First transmissions.
    sent_first,
    /// Retransmissions by timeout.
    rto,
    /// Of those, with the fast-resend threshold reached too.
    rto_before_fast,
    /// Of those, with a count carried over.
    rto_with_count,
    /// Retransmissions by fast resend.
    fast_resend,
    /// Segments held back from fast resend because they were sent too often.
    fast_limit,
    /// Times segments waited although something was queued: window full.
    admission_limited,
    /// ACK segments sent.
    ack_out,
    /// Flushes whose ACKs needed more than one datagram.
    ack_overflow,
    /// Probe timers armed.
    probe_armed,
    /// Window questions sent.
    probe_sent,
    /// Questions sent after the longest wait.
    probe_longest,
    /// Probe timers cleared.
    probe_cleared,
    /// Window answers sent.
    wins_out,
    /// Datagrams filled to the byte.
    datagram_full,
    /// Dead-link flags set.
    dead_link,
    /// Changes of the mtu.
    set_mtu,
    /// Changes of the windows.
    set_windows,
    /// Changes of the interval.
    set_interval,
    /// Segments cut for a larger mtu that left alone in a datagram beyond the mtu.
    datagram_oversized,
    /// Sent numbers that crossed 2^32.
    wrap_snd_32,
    /// Sent numbers that crossed 2^31.
    wrap_snd_31,
    /// Received numbers that crossed 2^32.
    wrap_rcv_32,
    /// Received numbers that crossed 2^31.
    wrap_rcv_31,
    /// Clocks that crossed 2^32 ms.
    wrap_ts_32,
    /// Clocks that crossed 2^31 ms.
    wrap_ts_31,
    /// Deadlines of our engine held against C: no output before them.
    deadline_silent,
    /// Idle engines held against C: no output at all.
    deadline_idle,
}

/// The signed distance between two wrapping numbers.
pub(crate) const fn distance(later: u32, earlier: u32) -> i32 {
    later.wrapping_sub(earlier).cast_signed()
}

/// A sequence number or clock as `ikcp.h` has it.
const fn wire_number(value: i64) -> u32 {
    value as u32
}

/// What has to be known before a flush to tell afterwards what it did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BeforeFlush {
    state: Visible,
    /// Segments that the limit alone keeps from fast resend.
    limited: u64,
    /// Segments due by timeout that had reached the threshold too.
    both: u64,
    /// Segments due by timeout with a count.
    counted: u64,
}

impl BeforeFlush {
    pub(crate) fn look(core: &CKcp, settings: &Settings, current: u32) -> Self {
        let mut this = Self {
            state: core.visible(),
            ..Self::default()
        };
        let threshold = if settings.resend > 0 {
            settings.resend
        } else {
            u32::MAX
        };
        core.for_each_in_flight(|segment| {
            let due = distance(current, segment.resendts) >= 0;
            let reached = segment.fastack >= threshold;
            let limited = settings.fast_limit > 0 && segment.xmit > settings.fast_limit;
            this.both += u64::from(due && reached && !limited);
            this.counted += u64::from(due && segment.fastack > 0);
            this.limited += u64::from(!due && reached && limited);
        });
        this
    }
}

impl Coverage {
    /// Counts what a flush did, from the state before and after and from its datagrams.
    pub(crate) fn flush(
        &mut self,
        before: &BeforeFlush,
        core: &CKcp,
        settings: &Settings,
        output: &Datagrams,
    ) {
        let BeforeFlush {
            state: old,
            limited,
            both,
            counted,
        } = before;
        let new = core.visible();
        let (mut pushes, mut acks, mut with_acks) = (0, 0, 0);
        for datagram in output.iter() {
            self.datagram_full += u64::from(datagram.len() == settings.mtu as usize);
            self.datagram_oversized += u64::from(datagram.len() > settings.mtu as usize);
            let acks_before = acks;
            for header in wire::headers(datagram) {
                match header.cmd {
                    wire::PUSH => pushes += 1,
                    wire::ACK => acks += 1,
                    wire::WASK => {
                        self.probe_sent += 1;
                        self.probe_longest += u64::from(new.probe_wait == 120_000);
                    }
                    _ => self.wins_out += 1,
                }
            }
            with_acks += u64::from(acks > acks_before);
        }
        let admitted =
            u64::from(distance(wire_number(new.snd_nxt), wire_number(old.snd_nxt)) as u32);
        let timeouts = u64::from(wire_number(new.xmit).wrapping_sub(wire_number(old.xmit)));
        let fast = pushes - admitted - timeouts;
        self.sent_first += admitted;
        self.rto += timeouts;
        self.fast_resend += fast;
        self.rto_before_fast += both;
        self.rto_with_count += counted;
        self.fast_limit += limited;
        self.admission_limited += u64::from(new.nsnd_que > 0);
        self.ack_out += acks;
        self.ack_overflow += u64::from(with_acks > 1);
        self.cwnd_reduced += u64::from(fast > 0);
        self.cwnd_collapsed += u64::from(timeouts > 0 && old.cwnd > 1);
        self.cwnd_both += u64::from(fast > 0 && timeouts > 0);
        self.probe_armed += u64::from(old.probe_wait == 0 && new.probe_wait > 0);
        self.probe_cleared += u64::from(old.probe_wait > 0 && new.probe_wait == 0);
        self.dead_link += u64::from(old.state == 0 && new.state != 0);
    }

    /// Counts what an update will do to the tick; `true` when it flushes.
    pub(crate) fn tick(&mut self, next_tick: u32, current: u32, interval: u32) -> bool {
        let late = distance(current, next_tick);
        if !(-10_000..10_000).contains(&late) {
            self.tick_resync += 1;
        } else if late < 0 {
            self.tick_early += 1;
            return false;
        } else if late.cast_unsigned() >= interval {
            self.tick_catch_up += 1;
        }
        self.tick += 1;
        true
    }

    /// Counts what a datagram did.
    pub(crate) fn input(
        &mut self,
        old: &Visible,
        core: &CKcp,
        settings: &Settings,
        arrival: &Arrival<'_>,
    ) {
        let &Arrival {
            datagram,
            conv,
            current,
            result,
        } = arrival;
        let new = core.visible();
        let mut applied = 0;
        let mut event: Option<(u32, u32)> = None;
        let mut sampled = old.rx_srtt != 0;
        let mut in_window = 0;
        for header in wire::headers(datagram) {
            let left = datagram.len() - header.at - wire::HEADER;
            let known = (wire::PUSH..=wire::WINS).contains(&header.cmd);
            if header.conv != conv || header.len as usize > left || !known {
                break;
            }
            applied += 1;
            let snd_nxt = wire_number(new.snd_nxt);
            self.una_unsent += u64::from(distance(header.una, snd_nxt) > 0);
            match header.cmd {
                wire::PUSH => in_window += self.push(old, &new, settings, &header),
                wire::ACK => {
                    self.ack(old, &header);
                    let rtt = distance(current, header.ts);
                    match (rtt, sampled) {
                        (..0, _) => self.rtt_future += 1,
                        (0, false) => self.rtt_zero += 1,
                        (_, false) => self.rtt_first += 1,
                        (_, true) => self.rtt_next += 1,
                    }
                    sampled |= rtt > 0;
                    self.move_event(&mut event, &header);
                }
                wire::WASK => self.wask_in += 1,
                _ => self.wins_in += 1,
            }
        }
        match result {
            0 => self.input_ok += 1,
            -1 if datagram.len() < wire::HEADER => self.input_short += 1,
            -1 => self.input_conv += 1,
            -2 => self.input_length += 1,
            _ => self.input_command += 1,
        }
        self.input_partial += u64::from(result < 0 && applied > 0);
        let stored = new.nrcv_buf + new.nrcv_que - old.nrcv_buf - old.nrcv_que;
        self.push_new += stored.cast_unsigned();
        self.push_duplicate += in_window - stored.cast_unsigned().min(in_window);
        self.una_jump += u64::from(old.nsnd_buf - new.nsnd_buf > 1);
        self.window_closed += u64::from(old.rmt_wnd > 0 && new.rmt_wnd == 0);
        self.window_opened += u64::from(old.rmt_wnd == 0 && new.rmt_wnd > 0);
        if result == 0 {
            if let Some(event) = event {
                self.fast_ack(&new, core, settings, event);
            }
            self.growth(old, &new, core.mss());
        }
    }

    /// Counts where a PUSH falls; 1 when it is in the window.
    fn push(&mut self, old: &Visible, new: &Visible, settings: &Settings, header: &Header) -> u64 {
        let end = wire_number(new.rcv_nxt).wrapping_add(settings.receive_window);
        if distance(header.sn, end) >= 0 {
            self.push_beyond_window += 1;
            0
        } else if distance(header.sn, wire_number(old.rcv_nxt)) < 0 {
            self.push_old += 1;
            0
        } else {
            1
        }
    }

    /// Counts where an ACK falls.
    fn ack(&mut self, old: &Visible, header: &Header) {
        if distance(header.sn, wire_number(old.snd_nxt)) >= 0 {
            self.ack_unsent += 1;
        } else if distance(header.sn, wire_number(old.snd_una)) < 0 {
            self.ack_old += 1;
        } else {
            self.ack_in_window += 1;
        }
    }

    /// Follows the fast-ack event through the ACKs of a datagram (protocol.md 5.3).
    fn move_event(&mut self, event: &mut Option<(u32, u32)>, header: &Header) {
        let Some((sn, ts)) = event else {
            *event = Some((header.sn, header.ts));
            return;
        };
        if distance(header.sn, *sn) > 0 {
            if distance(header.ts, *ts) > 0 {
                *event = Some((header.sn, header.ts));
                self.fastack_moved += 1;
            } else {
                self.conserve_ack += 1;
            }
        }
    }

    /// Counts what the fast-ack event did, from the send buffer after it.
    fn fast_ack(&mut self, new: &Visible, core: &CKcp, settings: &Settings, event: (u32, u32)) {
        let (sn, ts) = event;
        self.fastack_event += 1;
        let before_first = distance(sn, wire_number(new.snd_una)) < 0;
        if before_first || distance(sn, wire_number(new.snd_nxt)) >= 0 {
            self.fastack_outside += 1;
            return;
        }
        core.for_each_in_flight(|segment: InFlight| {
            if distance(segment.sn, sn) >= 0 {
                return;
            }
            let counted = distance(ts, segment.ts) >= 0;
            match (counted, segment.xmit) {
                (true, ..=1) => self.fastack_first += 1,
                (true, _) => self.fastack_again += 1,
                (false, ..=1) => self.conserve_first += 1,
                (false, _) => self.conserve_again += 1,
            }
            self.fastack_reached += u64::from(counted && segment.fastack == settings.resend);
        });
    }

    /// Counts congestion window growth.
    fn growth(&mut self, old: &Visible, new: &Visible, mss: u32) {
        let at_remote_window = new.cwnd == new.rmt_wnd && new.incr == new.rmt_wnd * i64::from(mss);
        if old.cwnd == new.cwnd && old.incr == new.incr {
            return;
        }
        if old.cwnd < old.ssthresh {
            self.cwnd_slow_start += 1;
        } else if at_remote_window {
            self.cwnd_clamped += 1;
        } else if old.cwnd < new.cwnd {
            self.cwnd_avoidance += 1;
        } else {
            self.cwnd_accumulate += 1;
        }
    }

    /// Counts numbers and clocks that crossed the edges of 32 bits during a step.
    pub(crate) fn wraps(&mut self, old: &Visible, new: &Visible, clock: (u32, u32)) {
        let crossed = |from: u32, to: u32| {
            let moved = distance(to, from) > 0;
            let zero = moved && to < from;
            let half = moved && from < 1 << 31 && to >= 1 << 31;
            (u64::from(zero), u64::from(half))
        };
        let pairs = [
            (
                old.snd_nxt,
                new.snd_nxt,
                &mut self.wrap_snd_32,
                &mut self.wrap_snd_31,
            ),
            (
                old.rcv_nxt,
                new.rcv_nxt,
                &mut self.wrap_rcv_32,
                &mut self.wrap_rcv_31,
            ),
        ];
        for (from, to, zero, half) in pairs {
            let (at_zero, at_half) = crossed(wire_number(from), wire_number(to));
            *zero += at_zero;
            *half += at_half;
        }
        let (at_zero, at_half) = crossed(clock.0, clock.1);
        self.wrap_ts_32 += at_zero;
        self.wrap_ts_31 += at_half;
    }
}

/// A datagram that C has taken in.
pub(crate) struct Arrival<'a> {
    pub(crate) datagram: &'a [u8],
    pub(crate) conv: u32,
    pub(crate) current: u32,
    pub(crate) result: i32,
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, count) in self.counters() {
            writeln!(f, "{name:>20} {count:>14}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_of_32_bits_are_seen_once() {
        let mut coverage = Coverage::default();
        let at = |snd_nxt: u32| Visible {
            snd_nxt: snd_nxt.into(),
            ..Visible::default()
        };
        coverage.wraps(&at(u32::MAX), &at(1), (0x7fff_ffff, 0x8000_0000));
        coverage.wraps(&at(1), &at(2), (0x8000_0000, 0x8000_0000));
        assert_eq!((coverage.wrap_snd_32, coverage.wrap_snd_31), (1, 0));
        assert_eq!((coverage.wrap_ts_32, coverage.wrap_ts_31), (0, 1));
    }

    #[test]
    fn ticks_are_told_apart() {
        let mut coverage = Coverage::default();
        assert!(!coverage.tick(100, 99, 10));
        assert!(coverage.tick(100, 105, 10));
        assert!(coverage.tick(100, 110, 10));
        assert!(coverage.tick(100, 10_100, 10));
        assert_eq!(
            (
                coverage.tick,
                coverage.tick_early,
                coverage.tick_catch_up,
                coverage.tick_resync
            ),
            (3, 1, 1, 1)
        );
    }
}
