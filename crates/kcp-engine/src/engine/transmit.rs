//! Encoding what a flush decided: segments into datagrams, datagrams into trains
//! (`docs/protocol.md` 2.3).

use alloc::vec::Vec;

use super::KcpEngine;
use super::stall::LARGEST_UNFRAGMENTED;
use crate::pacing::TRAIN_BYTES;
use crate::segment::{ACCEPTING_MARK, CLOSE_MARK, Command, ECHO_MARK, IKCP_OVERHEAD, KcpHeader};
use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// One thing to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outgoing {
    Ack {
        sn: Sn,
        ts: WireTs,
    },
    Ask {
        sn: Sn,
        ts: WireTs,
    },
    /// An empty PUSH of a number before the first: acknowledged, and nothing of it is delivered
    /// (protocol.md 11.1).
    Challenge {
        ts: WireTs,
    },
    /// A WASK whose `una` acknowledges nothing.
    AskRestarted {
        ts: WireTs,
    },
    Tell {
        sn: Sn,
        ts: WireTs,
        echoes: bool,
    },
    Data {
        sn: Sn,
        len: u32,
        fin: bool,
    },
}

/// A train of datagrams appended by [`KcpEngine::poll_transmit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Bytes appended.
    pub len: usize,
    /// Size of each datagram but the last, which may be shorter.
    pub segment_size: usize,
}

/// The next datagram: how many outbox entries, how many bytes.
#[derive(Clone, Copy)]
struct Extent {
    entries: usize,
    bytes: usize,
}

impl KcpEngine {
    /// Appends the next train to `out`: one to `max_datagrams` (at least 1) datagrams of equal size,
    /// the last one perhaps shorter; several together have at most 65000 bytes. `None` when there is nothing to send.
    ///
    /// Call it until it returns `None` after any calls that change the engine, unless the socket
    /// is full: then stop and go on later. Nothing is lost; what was acknowledged meanwhile is not
    /// sent. With [`FlushPolicy::Immediate`](crate::FlushPolicy::Immediate) writes, opened windows
    /// and the ACKs of all input since the last drain leave here, together; with any policy, what the
    /// pacer has released by `now`.
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        max_datagrams: usize,
    ) -> Option<Transmit> {
        self.clock.observe(now);
        self.drop_acknowledged();
        if self.outbox.is_empty() && (self.flush_wanted || self.is_released()) {
            self.flush_as_asked();
        }
        let first = self.next_extent()?;
        let template = self.header_template();
        let mut extent = first;
        let (mut len, mut datagrams) = (0, 0);
        loop {
            self.encode_datagram(extent, &template, out);
            len += extent.bytes;
            datagrams += 1;
            if datagrams >= max_datagrams || extent.bytes < first.bytes {
                break;
            }
            let Some(next) = self.next_extent() else {
                break;
            };
            if next.bytes > first.bytes || len + next.bytes > TRAIN_BYTES {
                break;
            }
            extent = next;
        }
        self.counters.datagrams_sent += datagrams as u64;
        self.counters.bytes_sent += len as u64;
        self.proof.on_sent(len, datagrams);
        Some(Transmit {
            len,
            segment_size: first.bytes,
        })
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) may have something.
    pub fn wants_transmit(&self) -> bool {
        self.flush_wanted || !self.outbox.is_empty() || self.is_released()
    }

    /// Whether a part of the last flush waits for the pacer. On a fast path its time may come while
    /// the rest is being sent: whoever sends does well to read the clock again.
    pub const fn is_paced(&self) -> bool {
        self.paced
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would flush first because something asked for it;
    /// it also does when the pacer releases a rest.
    pub fn is_flush_due(&self) -> bool {
        self.flush_wanted && self.outbox.is_empty()
    }

    fn flush_as_asked(&mut self) {
        if self.clock.is_started() {
            self.flush();
        } else {
            // C ignores a flush before its first update, which flushes.
            self.flush_wanted = false;
            self.handle_timeout(self.clock.now());
        }
    }

    /// Drops what was decided and acknowledged meanwhile.
    fn drop_acknowledged(&mut self) {
        if !core::mem::take(&mut self.outbox_is_stale) {
            return;
        }
        let in_flight = &self.in_flight;
        self.outbox.retain(|entry| match entry {
            Outgoing::Data { sn, .. } => in_flight.get(*sn).is_some(),
            _ => true,
        });
    }

    /// Where the next datagram ends.
    fn next_extent(&self) -> Option<Extent> {
        let mtu = self.datagram_limit();
        // protocol.md 2.3.3: what is lost without a trace passes every path.
        let without_data = match self.is_strict() {
            true => mtu.min(LARGEST_UNFRAGMENTED),
            false => mtu,
        };
        let mut extent = Extent {
            entries: 0,
            bytes: 0,
        };
        for &entry in &self.outbox {
            // protocol.md 12.2: a peer that does not know a FIN loses nothing else with it.
            let (size, most, alone) = match entry {
                Outgoing::Data { len, fin, .. } => (IKCP_OVERHEAD + len as usize, mtu, fin),
                _ => (IKCP_OVERHEAD, without_data, false),
            };
            let bytes = extent.bytes + size;
            if extent.entries > 0 && (bytes > most || alone) {
                break;
            }
            extent.entries += 1;
            extent.bytes = bytes;
            if alone || bytes + IKCP_OVERHEAD > mtu {
                break;
            }
        }
        (extent.entries > 0).then_some(extent)
    }

    fn encode_datagram(&mut self, extent: Extent, template: &KcpHeader, out: &mut Vec<u8>) {
        for _ in 0..extent.entries {
            let Some(entry) = self.outbox.pop_front() else {
                return;
            };
            let (command, sn, ts, frg) = match entry {
                Outgoing::Data { sn, .. } => {
                    let Some(record) = self.in_flight.get(sn) else {
                        continue;
                    };
                    let header = KcpHeader {
                        cmd: match record.fin {
                            true => Command::Fin.to_wire(),
                            false => Command::Push.to_wire(),
                        },
                        frg: record.frg,
                        ts: record.last_ts,
                        sn,
                        len: record.len,
                        ..*template
                    };
                    out.extend_from_slice(&header.to_bytes());
                    if record.len > 0 {
                        let len = record.len as usize;
                        out.extend_from_slice(self.queue.store.payload(record.payload, len));
                    }
                    continue;
                }
                Outgoing::Ack { sn, ts } => {
                    self.counters.acks_sent += 1;
                    (Command::Ack, sn, ts, template.frg)
                }
                Outgoing::Ask { sn, ts } => {
                    self.counters.probes_sent += 1;
                    (Command::Wask, sn, ts, template.frg)
                }
                Outgoing::Challenge { ts } => {
                    self.counters.challenges_sent += 1;
                    let header = KcpHeader {
                        cmd: Command::Push.to_wire(),
                        frg: 0,
                        ts,
                        sn: self.challenge_sn(),
                        ..*template
                    };
                    out.extend_from_slice(&header.to_bytes());
                    continue;
                }
                Outgoing::AskRestarted { ts } => {
                    self.counters.probes_sent += 1;
                    let header = KcpHeader {
                        cmd: Command::Wask.to_wire(),
                        ts,
                        // By this the old peer sees who asks (protocol.md 12.8).
                        sn: template.una,
                        una: self.first_sn,
                        ..*template
                    };
                    out.extend_from_slice(&header.to_bytes());
                    continue;
                }
                Outgoing::Tell { sn, ts, echoes } => {
                    let echo = if echoes { ECHO_MARK } else { 0 };
                    (Command::Wins, sn, ts, template.frg | echo)
                }
            };
            let header = KcpHeader {
                cmd: command.to_wire(),
                frg,
                ts,
                sn,
                ..*template
            };
            out.extend_from_slice(&header.to_bytes());
        }
    }

    /// Fields that all segments of a datagram share, and the mark (protocol.md 12.1).
    fn header_template(&self) -> KcpHeader {
        KcpHeader {
            conv: self.conv,
            cmd: 0,
            frg: match (self.is_strict(), self.proof.is_of_accepted()) {
                (false, _) => 0,
                (true, false) => CLOSE_MARK,
                (true, true) => CLOSE_MARK | ACCEPTING_MARK,
            },
            wnd: self.receiver.advertised(),
            ts: WireTs::default(),
            sn: Sn::ZERO,
            una: self.receiver.next(),
            len: 0,
        }
    }
}
