//! The link of C's test program, with seeds.

use std::{
    collections::VecDeque,
    hash::{DefaultHasher, Hasher},
};

use kcp_engine::{Command, segments};
use oracle::{Rng, mix};

/// One direction of `test.h: LatencySimulator`: 5 of each 100 datagrams are lost, the others take
/// 30 to 61 ms. Nothing overtakes: a late datagram holds back those behind it.
///
/// What happens to the n-th datagram is a function of the seed and n, so different endpoints meet
/// the same link.
#[derive(Debug)]
pub(crate) struct Link {
    rng: Rng,
    /// What is left of the shuffled hundred from which losses are drawn.
    deck: Vec<u8>,
    queue: VecDeque<(u32, Vec<u8>)>,
    sent: Seen,
    delivered: Seen,
    carried: Carried,
}

/// What an endpoint put on its link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) datagrams: u64,
    /// UDP payload.
    pub(crate) bytes: u64,
    pub(crate) pushes: u64,
    /// PUSHes that had been sent before.
    pub(crate) resent: u64,
    /// PUSHes that arrived although they had arrived before.
    pub(crate) in_vain: u64,
    /// Of every datagram and its moment.
    digest: u64,
}

impl Link {
    /// Direction 0 or 1 of the link of `seed`.
    pub(crate) fn new(seed: u64, direction: u64) -> Self {
        Self {
            rng: Rng::new(mix(2 * seed + direction)),
            deck: Vec::new(),
            queue: VecDeque::new(),
            sent: Seen::default(),
            delivered: Seen::default(),
            carried: Carried::default(),
        }
    }

    pub(crate) fn send(&mut self, now: u32, datagram: &[u8]) {
        self.carried.datagrams += 1;
        self.carried.bytes += datagram.len() as u64;
        for sn in pushes(datagram) {
            self.carried.pushes += 1;
            self.carried.resent += u64::from(!self.sent.insert(sn));
        }
        let mut hasher = DefaultHasher::new();
        hasher.write_u64(self.carried.digest);
        hasher.write_u32(now);
        hasher.write(datagram);
        self.carried.digest = hasher.finish();

        if self.deck.is_empty() {
            self.deck.extend(0..DECK);
        }
        let card = self.rng.below(self.deck.len() as u64) as usize;
        let card = self.deck.swap_remove(card);
        let delay = self.rng.between_u32(LEAST_DELAY, MOST_DELAY);
        if card >= LOST && self.queue.len() < CAPACITY {
            self.queue.push_back((now + delay, datagram.to_vec()));
        }
    }

    /// The next datagram that has arrived.
    pub(crate) fn receive(&mut self, now: u32) -> Option<Vec<u8>> {
        let (_, datagram) = match self.queue.front() {
            Some(first) if first.0 <= now => self.queue.pop_front()?,
            _ => return None,
        };
        for sn in pushes(&datagram) {
            self.carried.in_vain += u64::from(!self.delivered.insert(sn));
        }
        Some(datagram)
    }

    pub(crate) const fn carried(&self) -> Carried {
        self.carried
    }
}

/// Sequence numbers, which start at 0 and do not get far.
#[derive(Debug, Default)]
struct Seen(Vec<bool>);

impl Seen {
    /// Whether `sn` is new.
    fn insert(&mut self, sn: u32) -> bool {
        let at = sn as usize;
        self.0.resize(self.0.len().max(at + 1), false);
        !std::mem::replace(&mut self.0[at], true)
    }
}

/// The numbers of the data segments in a datagram.
fn pushes(datagram: &[u8]) -> impl Iterator<Item = u32> {
    segments(datagram).filter_map(|segment| {
        let header = segment.expect("a datagram of C or ours is whole").header;
        (header.cmd == Command::Push as u8).then(|| header.sn.get())
    })
}

/// Cards in a deck, and how many of them lose a datagram: 5 %. The program says 10 and means both
/// directions together (`LatencySimulator(10, 60, 125)`).
const DECK: u8 = 100;
const LOST: u8 = 5;

/// `rttmin / 2 + rand() % (rttmax / 2 - rttmin / 2)` ms.
const LEAST_DELAY: u32 = 30;
const MOST_DELAY: u32 = 61;

/// Datagrams under way (`nmax`).
const CAPACITY: usize = 1_000;
