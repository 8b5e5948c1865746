//! Encoding what a flush decided: segments into datagrams, datagrams into trains
//! (`docs/protocol.md` 2.3).

use alloc::vec::Vec;

use super::KcpEngine;
use crate::segment::{CLOSE_MARK, Command, ECHO_MARK, IKCP_OVERHEAD, KcpHeader};
use crate::seq::{Sn, WireTs};
use crate::time::Instant;

/// Most bytes of one train: what UDP takes in one call, on every system.
const TRAIN_BYTES: usize = 65_000;

/// One thing to send.
#[derive(Clone, Copy, Debug)]
pub(super) enum Outgoing {
    Ack { sn: Sn, ts: WireTs },
    Ask { sn: Sn, ts: WireTs },
    Tell { sn: Sn, ts: WireTs, echoes: bool },
    Data { sn: Sn },
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
    /// and the ACKs of all input since the last drain leave here, together.
    #[must_use]
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        out: &mut Vec<u8>,
        max_datagrams: usize,
    ) -> Option<Transmit> {
        self.clock.observe(now);
        self.drop_acknowledged();
        if self.outbox.is_empty() && self.flush_wanted {
            self.flush_as_asked();
        }
        let first = self.next_extent()?;
        let mut extent = first;
        let mut len = 0;
        for count in 1.. {
            self.encode_datagram(extent, out);
            len += extent.bytes;
            if count >= max_datagrams || extent.bytes < first.bytes {
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
        Some(Transmit {
            len,
            segment_size: first.bytes,
        })
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would flush first.
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

    /// Drops what was decided and acknowledged meanwhile, up to the first entry to be sent.
    fn drop_acknowledged(&mut self) {
        while let Some(&front) = self.outbox.front() {
            if self.size_of(front).is_some() {
                return;
            }
            self.outbox.pop_front();
        }
    }

    /// Where the next datagram ends.
    fn next_extent(&mut self) -> Option<Extent> {
        self.drop_acknowledged();
        let mut extent = Extent {
            entries: 0,
            bytes: 0,
        };
        for &entry in &self.outbox {
            let size = self.size_of(entry).unwrap_or(0);
            if extent.bytes > 0 && extent.bytes + size > self.config.mtu_bytes() {
                break;
            }
            // protocol.md 12.2: whoever does not know a FIN loses nothing else with it.
            let alone = self.is_fin(entry);
            if alone && extent.bytes > 0 {
                break;
            }
            extent.entries += 1;
            extent.bytes += size;
            if alone {
                break;
            }
        }
        (extent.bytes > 0).then_some(extent)
    }

    fn size_of(&self, entry: Outgoing) -> Option<usize> {
        match entry {
            Outgoing::Data { sn } => self
                .in_flight
                .get(sn)
                .map(|record| IKCP_OVERHEAD + record.len as usize),
            _ => Some(IKCP_OVERHEAD),
        }
    }

    fn is_fin(&self, entry: Outgoing) -> bool {
        matches!(entry, Outgoing::Data { sn }
            if self.in_flight.get(sn).is_some_and(|record| record.fin))
    }

    fn encode_datagram(&mut self, extent: Extent, out: &mut Vec<u8>) {
        let template = self.header_template();
        for _ in 0..extent.entries {
            let Some(entry) = self.outbox.pop_front() else {
                break;
            };
            match entry {
                Outgoing::Data { sn } => self.encode_data(sn, template, out),
                Outgoing::Ack { sn, ts } => {
                    self.counters.acks_sent += 1;
                    let cmd = Command::Ack.to_wire();
                    out.extend_from_slice(
                        &KcpHeader {
                            cmd,
                            sn,
                            ts,
                            ..template
                        }
                        .to_bytes(),
                    );
                }
                Outgoing::Ask { sn, ts } => {
                    self.counters.probes_sent += 1;
                    let cmd = Command::Wask.to_wire();
                    out.extend_from_slice(
                        &KcpHeader {
                            cmd,
                            sn,
                            ts,
                            ..template
                        }
                        .to_bytes(),
                    );
                }
                Outgoing::Tell { sn, ts, echoes } => {
                    let cmd = Command::Wins.to_wire();
                    let echo = if echoes { ECHO_MARK } else { 0 };
                    out.extend_from_slice(
                        &KcpHeader {
                            cmd,
                            frg: template.frg | echo,
                            sn,
                            ts,
                            ..template
                        }
                        .to_bytes(),
                    );
                }
            }
        }
        self.counters.datagrams_sent += 1;
        self.counters.bytes_sent += extent.bytes as u64;
        self.proof.on_sent(extent.bytes);
    }

    fn encode_data(&mut self, sn: Sn, template: KcpHeader, out: &mut Vec<u8>) {
        let Some(record) = self.in_flight.get(sn) else {
            return;
        };
        let command = if record.fin {
            Command::Fin
        } else {
            Command::Push
        };
        let header = KcpHeader {
            cmd: command.to_wire(),
            frg: record.frg,
            ts: record.last_ts,
            sn,
            len: record.len,
            ..template
        };
        if record.fin {
            out.extend_from_slice(&header.to_bytes());
            return;
        }
        let slot = self
            .queue
            .store
            .slot_mut(record.payload, record.len as usize);
        header.emit_front(slot);
        out.extend_from_slice(slot);
    }

    /// Fields that all segments of a datagram share, and the mark (protocol.md 12.1).
    fn header_template(&self) -> KcpHeader {
        KcpHeader {
            conv: self.conv,
            cmd: 0,
            frg: if self.is_strict() { CLOSE_MARK } else { 0 },
            wnd: self.receiver.advertised(),
            ts: WireTs::default(),
            sn: Sn::ZERO,
            una: self.receiver.next(),
            len: 0,
        }
    }
}
