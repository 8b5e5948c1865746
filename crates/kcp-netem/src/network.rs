//! Many addresses, each pair joined by links.

use std::{
    collections::HashMap,
    fmt,
    hash::{Hash, Hasher},
};

use crate::{
    channel::Channel, config::LinkConfig, rng::derive_seed, schedule::Schedule, stats::LinkStats,
    time::Time,
};

/// A network of endpoints in virtual time: every ordered pair of addresses has a link of its own, made when first
/// used. `A` is any address type, `std::net::SocketAddr` for one.
///
/// A link's random decisions depend on the seed and the two addresses, not on which pair spoke first.
///
/// Drive it like a [`Link`](crate::Link): push, poll until `None`, wait for the deadline. An idle pair costs a few
/// hundred bytes and no time.
///
/// ```
/// use std::time::Duration;
/// use kcp_netem::{LinkConfig, Network, Time};
///
/// let mut network = Network::new(LinkConfig::new().delay(Duration::from_millis(20)), 1);
/// network.push(Time::ZERO, &"client", &"server", b"hello".to_vec());
/// assert_eq!(network.next_deadline(), Some(Time::from_millis(20)));
/// let delivery = network.poll(Time::from_millis(20)).unwrap();
/// assert_eq!((delivery.from, delivery.to), ("client", "server"));
/// ```
pub struct Network<A> {
    default: LinkConfig,
    seed: u64,
    links: HashMap<(A, A), usize>,
    channels: Vec<Channel>,
    held: Schedule<Held<A>>,
    /// Endpoint to the address others see, for endpoints that were rebound.
    outside: HashMap<A, A>,
    /// Seen address to endpoint, for addresses that were ever part of a rebinding. `None`: nobody is there any more.
    inside: HashMap<A, Option<A>>,
    unreachable: u64,
}

/// A datagram that has arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<A> {
    /// The source address as the receiver sees it.
    pub from: A,
    /// The endpoint that receives it: its own address, whatever others see.
    pub to: A,
    /// When it arrived, at or before the `now` of the poll.
    pub at: Time,
    /// Its bytes.
    pub datagram: Vec<u8>,
}

impl<A: Clone + Eq + Hash> Network<A> {
    /// A network whose links have the configuration `default` unless told otherwise.
    pub fn new(default: LinkConfig, seed: u64) -> Self {
        Self {
            default,
            seed,
            links: HashMap::new(),
            channels: Vec::new(),
            held: Schedule::new(),
            outside: HashMap::new(),
            inside: HashMap::new(),
            unreachable: 0,
        }
    }

    /// The endpoint `from` sends a datagram to the address `to` at the time `now`.
    pub fn push(&mut self, now: Time, from: &A, to: &A, mut datagram: Vec<u8>) {
        let Some(endpoint) = self.endpoint_at(to) else {
            self.unreachable += 1;
            return;
        };
        let link = self.link(from, &endpoint);
        let Some(fate) = self.channels[link].admit(now, &mut datagram) else {
            return;
        };
        let from = self.outside.get(from).unwrap_or(from).clone();
        let original = Held {
            link,
            index: fate.index,
            is_copy: false,
            from,
            to: to.clone(),
            endpoint,
            datagram,
        };
        let copy = fate.copy_at.map(|at| {
            (
                at,
                Held {
                    is_copy: true,
                    ..original.clone()
                },
            )
        });
        self.held.push(fate.at, original);
        if let Some((at, copy)) = copy {
            self.held.push(at, copy);
        }
    }

    /// The next datagram that has arrived by `now`, earliest first over the whole network. Call it until `None`.
    #[must_use]
    pub fn poll(&mut self, now: Time) -> Option<Delivery<A>> {
        while let Some((at, held)) = self.held.pop_due(now) {
            self.channels[held.link].release(held.index, held.datagram.len(), held.is_copy);
            // The endpoint may have moved while the datagram was under way.
            if self.endpoint_at(&held.to).as_ref() == Some(&held.endpoint) {
                return Some(Delivery {
                    from: held.from,
                    to: held.endpoint,
                    at,
                    datagram: held.datagram,
                });
            }
            self.unreachable += 1;
        }
        None
    }

    /// When the next datagram arrives. `None`: nothing is under way.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Time> {
        self.held.next()
    }

    /// Changes the configuration of every link, those made later included.
    pub fn set_all(&mut self, config: LinkConfig) {
        self.default = config;
        for channel in &mut self.channels {
            channel.config = config;
        }
    }

    /// Changes the configuration of the link from one endpoint to another, in this direction only.
    pub fn set_link(&mut self, from: &A, to: &A, config: LinkConfig) {
        let link = self.link(from, to);
        self.channels[link].config = config;
    }

    /// Cuts both directions between two endpoints (`true`) or joins them again. What is under way still arrives.
    pub fn set_partitioned(&mut self, one: &A, other: &A, partitioned: bool) {
        for (from, to) in [(one, other), (other, one)] {
            let link = self.link(from, to);
            self.channels[link].partitioned = partitioned;
        }
    }

    /// Plans a black-out of both directions between two endpoints, from `from` until before `until`.
    pub fn black_out(&mut self, one: &A, other: &A, from: Time, until: Time) {
        for (source, target) in [(one, other), (other, one)] {
            let link = self.link(source, target);
            self.channels[link].black_out(from, until);
        }
    }

    /// From now on others see `endpoint` at the address `outside`, as when a NAT has forgotten it: what it sends
    /// comes from there and what is sent there reaches it. Datagrams to the address it had before are lost, those
    /// under way too. The links to and from the endpoint stay the same.
    ///
    /// `outside` must not be the address of another endpoint. Rebinding to `endpoint` itself undoes it.
    pub fn rebind(&mut self, endpoint: &A, outside: A) {
        let before = self.outside.insert(endpoint.clone(), outside.clone());
        self.inside
            .insert(before.unwrap_or_else(|| endpoint.clone()), None);
        self.inside.insert(outside, Some(endpoint.clone()));
    }

    /// The counters of the link from one endpoint to another; zeros if nothing ever used it.
    pub fn link_stats(&self, from: &A, to: &A) -> LinkStats {
        let link = self.links.get(&(from.clone(), to.clone()));
        link.map_or_else(LinkStats::default, |link| self.channels[*link].stats())
    }

    /// The sum of the counters of all links.
    pub fn stats(&self) -> LinkStats {
        let mut sum = LinkStats::default();
        for channel in &self.channels {
            sum += channel.stats();
        }
        sum
    }

    /// Datagrams that went to an address nobody has any more.
    pub fn unreachable(&self) -> u64 {
        self.unreachable
    }

    /// How many datagrams are under way.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    fn endpoint_at(&self, address: &A) -> Option<A> {
        match self.inside.get(address) {
            Some(endpoint) => endpoint.clone(),
            None => Some(address.clone()),
        }
    }

    fn link(&mut self, from: &A, to: &A) -> usize {
        let key = (from.clone(), to.clone());
        if let Some(link) = self.links.get(&key) {
            return *link;
        }
        let mut hasher = Fnv(FNV_OFFSET);
        key.hash(&mut hasher);
        let link = self.channels.len();
        self.channels.push(Channel::new(
            self.default,
            derive_seed(self.seed, hasher.finish()),
        ));
        self.links.insert(key, link);
        link
    }
}

impl<A> fmt::Debug for Network<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("links", &self.channels.len())
            .field("held", &self.held.len())
            .field("unreachable", &self.unreachable)
            .finish_non_exhaustive()
    }
}

#[derive(Clone)]
struct Held<A> {
    link: usize,
    index: u64,
    is_copy: bool,
    from: A,
    to: A,
    endpoint: A,
    datagram: Vec<u8>,
}

/// FNV-1a, 64 bits: the standard library's hasher may change from one release to the next, and seeds must not.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(FNV_PRIME);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;
