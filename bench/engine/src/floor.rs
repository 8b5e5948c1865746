//! No engine: what the drive itself costs.
//!
//! It moves as many datagrams of the same sizes, but nothing is copied into or out of queues, and headers are neither
//! written nor read. Content is written into the reader's buffer only as far as the drive changes it.

use oracle::Datagrams;

use crate::drive::MESSAGE;
use crate::subject::{Engine, Flush, Settings};

/// Bytes of a header.
const HEADER: usize = 24;
/// Headers in a datagram.
const ACKS: usize = 1_400 / HEADER;
/// Datagrams in a train.
const TRAIN: u64 = 46;

/// Counts instead of an engine.
#[derive(Debug)]
pub(crate) struct Floor {
    settings: Settings,
    /// C's output is copied once by the callback that collects it; ours is not.
    collected: Option<Datagrams>,
    datagram: Vec<u8>,
    written: u64,
    sent: u64,
    acknowledged: u64,
    received: u64,
    read: u64,
    unacknowledged: usize,
    /// What the output shows: full datagrams, and lengths of those with ACKs.
    full: u64,
    acks: Vec<usize>,
}

impl Floor {
    /// With a copy of each datagram, as C's has it, or without, as ours.
    pub(crate) fn new(settings: Settings, copies: bool) -> Self {
        Self {
            settings,
            collected: copies.then(Datagrams::new),
            datagram: vec![0; HEADER + MESSAGE],
            written: 0,
            sent: 0,
            acknowledged: 0,
            received: 0,
            read: 0,
            unacknowledged: 0,
            full: 0,
            acks: Vec::new(),
        }
    }

    fn send(&mut self, most: u64) -> bool {
        let admitted = self.acknowledged + u64::from(self.settings.window);
        let due = (self.written.min(admitted) - self.sent).min(most);
        self.sent += due;
        if let Some(collected) = &mut self.collected {
            for _ in 0..due {
                collected.push(&self.datagram);
            }
        } else {
            self.full += due;
        }
        let sent_acks = self.unacknowledged > 0;
        while self.unacknowledged > 0 {
            let count = self.unacknowledged.min(ACKS);
            self.unacknowledged -= count;
            match &mut self.collected {
                Some(collected) => collected.push(&self.datagram[..count * HEADER]),
                None => self.acks.push(count * HEADER),
            }
        }
        due > 0 || sent_acks
    }
}

impl Engine for Floor {
    fn write(&mut self, _message: &[u8]) {
        self.written += 1;
    }

    fn recv(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.read == self.received {
            return None;
        }
        buffer[..8].copy_from_slice(&self.read.to_le_bytes());
        self.read += 1;
        Some(MESSAGE)
    }

    fn input(&mut self, _now: u64, datagram: &[u8]) {
        if datagram.len() == self.datagram.len() {
            self.received += 1;
            self.unacknowledged += 1;
        } else {
            self.acknowledged += (datagram.len() / HEADER) as u64;
        }
    }

    fn tick(&mut self, _now: u64) {
        if self.settings.flush == Flush::Packet {
            self.send(u64::MAX);
        }
    }

    fn flush(&mut self, _now: u64) {
        self.send(u64::MAX);
    }

    fn drain(&mut self, _now: u64) -> bool {
        self.send(match self.collected {
            Some(_) => u64::MAX,
            None => TRAIN,
        })
    }

    fn wake(&mut self) -> Option<u64> {
        None
    }

    fn for_each_output(&self, mut visit: impl FnMut(&[u8])) {
        if let Some(collected) = &self.collected {
            collected.iter().for_each(visit);
            return;
        }
        for _ in 0..self.full {
            visit(&self.datagram);
        }
        for &len in &self.acks {
            visit(&self.datagram[..len]);
        }
    }

    fn clear(&mut self) {
        self.full = 0;
        self.acks.clear();
        if let Some(collected) = &mut self.collected {
            collected.clear();
        }
    }

    fn allocations() -> u64 {
        0
    }
}
