//! How many sessions datagrams may open while others wait (`docs/protocol.md` 11.4.2). Pure.
//!
//! A session that is opened costs a hundred times what a datagram for a known one does, most of it in
//! the application, so the time that openings take cannot be measured here. What can be seen is a
//! receive queue that is not empty when the driver reads it. The budget therefore binds in two cases:
//! where a receive call filled all its buffers and an established session was heard, both recently,
//! and where the queue was not empty for [`OVERLOADED_AFTER`]. Where the driver keeps up, every first
//! datagram opens its session.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use kcp_engine::{Conv, Instant};

use crate::keyed_hash::HashKey;
use crate::token_bucket::TokenBucket;

/// The budget of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct OpeningBudget {
    /// When an established session was last heard.
    established_at: Option<Instant>,
    /// When a receive call last filled all its buffers.
    backlog_at: Option<Instant>,
    /// The first such call since the receive queue was last empty.
    backlog_since: Option<Instant>,
    /// The queue was not empty for [`OVERLOADED_AFTER`], and no two full calls since then were
    /// [`OVERLOADED_FOR`] apart.
    is_overloaded: bool,
    /// What is taken while the budget does not bind counts too.
    first: TokenBucket,
    repeated: TokenBucket,
    refused: Refused,
}

/// Refused first datagrams. A client repeats its own, a sender of forged ones has no reason to: the
/// repetitions have a bucket of their own, which a flood from changing addresses leaves alone.
#[derive(Debug, Default)]
struct Refused {
    /// Drawn with the first refusal. Without randomness none is remembered.
    key: Option<HashKey>,
    /// Fingerprints, never 0; newer ones replace older ones. Empty until the first refusal.
    slots: Vec<u32>,
}

impl OpeningBudget {
    /// A datagram came for a session of this age that is validated, or it brought new data.
    pub(crate) fn on_known(&mut self, now: Instant, created: Instant) {
        if now.saturating_since(created) >= ESTABLISHED_AFTER {
            self.established_at = Some(now);
        }
    }

    /// A receive call filled all its buffers.
    pub(crate) fn on_backlog(&mut self, now: Instant) {
        let since = *self.backlog_since.get_or_insert(now);
        self.is_overloaded =
            self.overload_binds(now) || now.saturating_since(since) >= OVERLOADED_AFTER;
        self.backlog_at = Some(now);
    }

    /// A receive call has emptied the receive queue.
    pub(crate) const fn on_drained(&mut self) {
        self.backlog_since = None;
    }

    /// Whether a datagram may open a session. `random` is asked at the first refusal.
    pub(crate) fn take(
        &mut self,
        now: Instant,
        peer: SocketAddr,
        conv: Conv,
        random: impl Fn() -> Option<u32>,
    ) -> bool {
        let binds = self.binds(now);
        if take_one(&mut self.first, now, MICROS_PER_FIRST) || !binds {
            return true;
        }
        if self.refused.contains(peer, conv)
            && take_one(&mut self.repeated, now, MICROS_PER_REPEATED)
        {
            return true;
        }
        self.refused.insert(peer, conv, random);
        false
    }

    /// Whether a datagram of this conversation was refused before, as far as is remembered.
    pub(crate) fn has_refused(&self, peer: SocketAddr, conv: Conv) -> bool {
        self.refused.contains(peer, conv)
    }

    /// There was no room for a session.
    pub(crate) fn refuse(
        &mut self,
        peer: SocketAddr,
        conv: Conv,
        random: impl Fn() -> Option<u32>,
    ) {
        self.refused.insert(peer, conv, random);
    }

    /// Whether established sessions wait, or newcomers do for long.
    fn binds(&self, now: Instant) -> bool {
        let established = is_within(REMEMBERED, self.established_at, now);
        (established && is_within(REMEMBERED, self.backlog_at, now)) || self.overload_binds(now)
    }

    fn overload_binds(&self, now: Instant) -> bool {
        self.is_overloaded && is_within(OVERLOADED_FOR, self.backlog_at, now)
    }
}

fn is_within(time: Duration, at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| now.saturating_since(at) < time)
}

impl Refused {
    fn find(key: HashKey, peer: SocketAddr, conv: Conv) -> (usize, u32) {
        let mut bytes = [0; 22];
        match peer.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes[..16].copy_from_slice(&ip.octets()),
        }
        bytes[16..18].copy_from_slice(&peer.port().to_be_bytes());
        bytes[18..].copy_from_slice(&conv.get().to_be_bytes());
        let hash = key.hash(&bytes);
        (hash as usize % SLOTS, (hash >> 32) as u32 | 1)
    }

    fn contains(&self, peer: SocketAddr, conv: Conv) -> bool {
        self.key.is_some_and(|key| {
            let (slot, fingerprint) = Self::find(key, peer, conv);
            self.slots.get(slot) == Some(&fingerprint)
        })
    }

    fn insert(&mut self, peer: SocketAddr, conv: Conv, random: impl Fn() -> Option<u32>) {
        if self.key.is_none() {
            self.key = HashKey::draw(random);
            self.slots = vec![0; SLOTS];
        }
        if let Some(key) = self.key {
            let (slot, fingerprint) = Self::find(key, peer, conv);
            self.slots[slot] = fingerprint;
        }
    }
}

fn take_one(bucket: &mut TokenBucket, now: Instant, micros: u64) -> bool {
    let has_one = bucket.has(now, 1, DEPTH * micros, micros);
    if has_one {
        bucket.spend(micros);
    }
    has_one
}

/// 100 openings a second. With 500 what is sent again to addresses that do not answer took 0.3 of the rate of bulk beside
/// a flood, with 100 it takes 0.1 (BENCHMARKING.md).
const MICROS_PER_FIRST: u64 = 10_000;
/// 500 for repetitions: clients repeat, and a sender of forged datagrams has to send each twice for it.
const MICROS_PER_REPEATED: u64 = 2_000;
/// Clients that were refused at the same moment come again at the same moments, and the time between these doubles:
/// what the bucket gains in between must not be lost.
const DEPTH: u64 = 500;
/// Younger sessions may be part of the same flood.
const ESTABLISHED_AFTER: Duration = Duration::from_secs(1);
/// For how long a full receive call, and a datagram of an established session, count.
const REMEMBERED: Duration = Duration::from_secs(1);
/// For how long the receive queue may hold something before the budget binds without an established session. Clients of a
/// restarted server may all come back at once: 8,000 keep two busy cores at it for 0.5 s. With 500 ms the last of them gets in
/// by its first repetition; with 100 ms, and a second for [`OVERLOADED_FOR`], some were out after 20 s. Beside a flood this
/// delays clients no more than 250 ms would: they come again after 0.2 and 0.6 s.
const OVERLOADED_AFTER: Duration = Duration::from_millis(500);
/// For how long a full receive call counts then: the budget empties the queue of such clients at once, and no longer
/// binds when they come again. A flood fills calls more often.
const OVERLOADED_FOR: Duration = Duration::from_millis(100);
/// 512 KiB. At 50,000 refusals a second nine in ten are remembered for 0.2 s, one in two for 1.8 s.
const SLOTS: usize = 131_072;

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn peer(n: u32) -> SocketAddr {
        let [_, a, b, c] = n.to_be_bytes();
        ([100, a, b, c], 9).into()
    }

    fn opened(budget: &mut OpeningBudget, ms: u64, peers: impl Iterator<Item = u32>) -> usize {
        peers
            .filter(|&n| budget.take(at(ms), peer(n), Conv::new(7), || Some(7)))
            .count()
    }

    /// A budget that binds from the second second on.
    fn bound() -> OpeningBudget {
        let mut budget = OpeningBudget::default();
        wait(&mut budget, 2_000);
        budget
    }

    fn wait(budget: &mut OpeningBudget, ms: u64) {
        budget.on_known(at(ms), at(0));
        budget.on_backlog(at(ms));
    }

    #[test]
    fn it_binds_only_while_established_sessions_wait() {
        let mut budget = OpeningBudget::default();
        assert_eq!(opened(&mut budget, 2_000, 0..10_000), 10_000);
        budget.on_backlog(at(2_000));
        budget.on_known(at(2_000), at(1_001));
        assert_eq!(opened(&mut budget, 2_000, 0..10_000), 10_000, "a young one");
        budget.on_known(at(2_000), at(1_000));
        assert_eq!(opened(&mut budget, 2_000, 0..10_000), 0);
        budget.on_backlog(at(2_500));
        assert_eq!(opened(&mut budget, 2_999, 10_000..20_000), 99);
        assert_eq!(opened(&mut budget, 3_000, 0..10_000), 10_000, "silent");
        budget.on_known(at(3_500), at(0));
        assert_eq!(opened(&mut budget, 3_500, 0..10_000), 10_000, "drained");
    }

    #[test]
    fn five_hundred_at_once_and_a_hundred_a_second() {
        let mut budget = bound();
        assert_eq!(opened(&mut budget, 2_000, 0..50_000), 500);
        let mut total = 0;
        for ms in 2_001..=4_000 {
            wait(&mut budget, ms);
            let first = 50 * ms as u32;
            total += opened(&mut budget, ms, first..first + 50);
        }
        assert_eq!(total, 200);
    }

    #[test]
    fn repetitions_have_a_bucket_of_their_own() {
        let mut budget = bound();
        opened(&mut budget, 2_000, 0..20_000);
        let client = 1 << 20;
        assert_eq!(opened(&mut budget, 2_000, client..client + 1), 0);
        assert_eq!(opened(&mut budget, 2_000, 20_000..20_100), 0);
        assert_eq!(opened(&mut budget, 2_000, client..client + 1), 1);
    }

    /// A queue that was full since `from` ms, up to `to`.
    fn stay_full(budget: &mut OpeningBudget, from: u64, to: u64) {
        (from..=to).for_each(|ms| budget.on_backlog(at(ms)));
    }

    #[test]
    fn it_binds_without_sessions_where_the_queue_stays_full() {
        let mut budget = OpeningBudget::default();
        stay_full(&mut budget, 1_000, 1_499);
        assert_eq!(opened(&mut budget, 1_499, 0..5_000), 5_000);
        budget.on_drained();
        stay_full(&mut budget, 1_500, 1_999);
        assert_eq!(opened(&mut budget, 1_999, 0..5_000), 5_000, "drained");
        stay_full(&mut budget, 2_000, 2_000);
        assert_eq!(opened(&mut budget, 2_000, 0..5_000), 0);
        assert_eq!(opened(&mut budget, 2_000, 4_000..5_000), 500, "repeated");
        budget.on_drained();
        budget.on_backlog(at(2_099));
        assert_eq!(opened(&mut budget, 2_198, 5_000..10_000), 19);
        assert_eq!(opened(&mut budget, 2_199, 0..5_000), 5_000, "over");
        budget.on_backlog(at(2_200));
        assert_eq!(opened(&mut budget, 2_200, 5_000..10_000), 5_000, "over");
    }

    /// When the last of `clients` gets in that come at once, in ms. An opening takes 50 us. They come again after 200, 600
    /// and 1,400 ms, or later if the queue is longer.
    fn last_of(clients: u32) -> u64 {
        let mut budget = OpeningBudget::default();
        let mut now = 0;
        let mut out: Vec<u32> = (0..clients).collect();
        for again_at in [0, 200_000, 600_000, 1_400_000] {
            now = now.max(again_at);
            out.retain(|&client| {
                let time = Instant::from_micros(now);
                budget.on_backlog(time);
                let opens = budget.take(time, peer(client), Conv::new(7), || Some(7));
                now += if opens { 50 } else { 0 };
                !opens
            });
            budget.on_drained();
            if out.is_empty() {
                return now / 1_000;
            }
        }
        panic!("{} of {clients} are out", out.len());
    }

    #[test]
    fn thousands_of_clients_that_come_back_at_once_get_in_by_their_first_repetitions() {
        assert_eq!(last_of(8_000), 400);
        // 10,000 in half a second, and the rest with repetitions.
        assert!(last_of(11_000) < 1_500);
    }

    /// Refused together, they come again together, after times that double.
    #[test]
    fn a_thousand_clients_that_begin_at_once_get_in_within_seconds() {
        let mut budget = bound();
        let mut out: Vec<u32> = (0..1_000).collect();
        for ms in [2_000, 2_200, 2_600] {
            wait(&mut budget, ms);
            out.retain(|&n| !budget.take(at(ms), peer(n), Conv::new(7), || Some(7)));
        }
        assert_eq!(out.len(), 0);
    }
}
