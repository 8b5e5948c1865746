//! One direction of one path.

use std::fmt;

use crate::{
    channel::Channel, config::LinkConfig, schedule::Schedule, stats::LinkStats, time::Time,
};

/// One direction of one path: datagrams go in with [`push`](Self::push) and come out of [`poll`](Self::poll) later,
/// perhaps changed, twice, in another order or never.
///
/// Drive it so: `push` whatever arrives, `poll(now)` until `None`, then wait until [`next_deadline`](Self::next_deadline)
/// or the next datagram. Time must not go backwards from call to call.
pub struct Link<D = Vec<u8>> {
    channel: Channel,
    held: Schedule<Held<D>>,
}

/// What a [`Link`] can carry: bytes, perhaps with a label that travels along, as in `(label, Vec<u8>)`.
pub trait Datagram: Clone {
    /// The number of bytes.
    fn len(&self) -> usize;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Flips bit `bit % 8` (from the least significant) of byte `bit / 8`; `bit` is below `8 * len`.
    fn flip_bit(&mut self, bit: u64);
}

impl<D: Datagram> Link<D> {
    /// A link that decides by `seed`.
    pub fn new(config: LinkConfig, seed: u64) -> Self {
        Self {
            channel: Channel::new(config, seed),
            held: Schedule::new(),
        }
    }

    /// Takes a datagram at the time `now`.
    pub fn push(&mut self, now: Time, mut datagram: D) {
        let Some(fate) = self.channel.admit(now, &mut datagram) else {
            return;
        };
        let copy = fate.copy_at.map(|at| (at, datagram.clone()));
        self.held.push(
            fate.at,
            Held {
                index: fate.index,
                is_copy: false,
                datagram,
            },
        );
        if let Some((at, datagram)) = copy {
            self.held.push(
                at,
                Held {
                    index: fate.index,
                    is_copy: true,
                    datagram,
                },
            );
        }
    }

    /// The next datagram that has arrived by `now`, earliest first. Call it until `None`.
    #[must_use]
    pub fn poll(&mut self, now: Time) -> Option<D> {
        let (_, held) = self.held.pop_due(now)?;
        self.channel
            .release(held.index, held.datagram.len(), held.is_copy);
        Some(held.datagram)
    }

    /// When the next datagram arrives. `None`: nothing is under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.held.next()
    }

    /// Changes the configuration for datagrams pushed from now on. What is under way keeps its arrival time, the
    /// bottleneck stays busy with what it has admitted, and the sequence of random decisions goes on.
    pub fn set_config(&mut self, config: LinkConfig) {
        self.channel.config = config;
    }

    /// Takes the link down (`true`: every datagram pushed is dropped) or up again. What is under way still arrives.
    pub fn set_partitioned(&mut self, partitioned: bool) {
        self.channel.partitioned = partitioned;
    }

    /// Plans a black-out: datagrams pushed at or after `from` and before `until` are dropped. There may be several.
    pub fn black_out(&mut self, from: Time, until: Time) {
        self.channel.black_out(from, until);
    }

    /// The configuration now.
    pub fn config(&self) -> LinkConfig {
        self.channel.config
    }

    /// The counters so far.
    pub fn stats(&self) -> LinkStats {
        self.channel.stats()
    }

    /// How many datagrams are under way, copies included.
    pub fn held(&self) -> usize {
        self.held.len()
    }
}

impl<D> fmt::Debug for Link<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("config", &self.channel.config)
            .field("held", &self.held.len())
            .field("stats", &self.channel.stats())
            .finish_non_exhaustive()
    }
}

impl Datagram for Vec<u8> {
    fn len(&self) -> usize {
        self.as_slice().len()
    }

    fn flip_bit(&mut self, bit: u64) {
        self[(bit / 8) as usize] ^= 1 << (bit % 8);
    }
}

impl<T: Clone, D: Datagram> Datagram for (T, D) {
    fn len(&self) -> usize {
        self.1.len()
    }

    fn flip_bit(&mut self, bit: u64) {
        self.1.flip_bit(bit);
    }
}

struct Held<D> {
    index: u64,
    is_copy: bool,
    datagram: D,
}
