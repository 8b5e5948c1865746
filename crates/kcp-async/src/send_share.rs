//! Use of the send buffer by datagrams that may stay in it (`docs/protocol.md` 11.3.1). Pure.
//!
//! The system charges a datagram to the socket's send buffer until it has left. One to an address on the
//! local link that answers neither ARP nor neighbour discovery waits for three seconds, and is then
//! dropped. Answers to forged addresses, and repetitions to peers that have left the link, can therefore
//! fill the buffer and stall every session of the endpoint. They are sent only while little of it is in
//! use; beyond that from a small reserve.

use std::net::SocketAddr;
use std::time::Duration;

use kcp_engine::Instant;

use crate::eviction::Scope;
use crate::keyed_hash::HashKey;
use crate::socket::SendQueue;
use crate::token_bucket::TokenBucket;

/// Why a datagram may stay in the send buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The address of the peer is not validated.
    Unvalidated,
    /// The peer owes an answer, or an ACK whatever else is heard, for longer than an RTO.
    Silent,
}

/// The share of one endpoint.
#[derive(Debug, Default)]
pub(crate) struct SendShare {
    /// What had been sent before, as of two moments at least [`WINDOW`] apart.
    older: Mark,
    newer: Mark,
    /// Cost of all that was admitted to unvalidated peers.
    doubted: u64,
    /// Until when datagrams are taken to stay in the buffer.
    stuck_until: Option<Instant>,
    unvalidated: Reserve,
    silent: Reserve,
    /// Drawn when a reserve is first needed. Without randomness all prefixes are one.
    key: Option<HashKey>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Mark {
    at: Option<Instant>,
    sent: u64,
    doubted: u64,
}

/// What may be sent although the share is used up.
#[derive(Debug, Default)]
struct Reserve {
    all: TokenBucket,
    /// Prefixes share a slot by a keyed hash; each may take half of the reserve. Empty until it is needed.
    prefixes: Vec<TokenBucket>,
}

impl SendShare {
    /// Notes the use of the buffer, and the cost of all that was ever sent.
    ///
    /// Datagrams that leave do so in order. So if more is in use than was sent within the window, the buffer
    /// has one that is older than that. A flood fills the buffer within the window; then the answers to
    /// unvalidated peers are themselves a large part of it.
    pub(crate) fn observe(&mut self, now: Instant, queue: SendQueue, sent: u64) {
        let mark = Mark {
            at: Some(now),
            sent,
            doubted: self.doubted,
        };
        let age = |mark: Mark| mark.at.map(|at| now.saturating_since(at));
        match age(self.newer) {
            Some(age) if age < WINDOW => {}
            Some(age) if age < 2 * WINDOW => {
                self.older = self.newer;
                self.newer = mark;
            }
            // Nothing is known of the last window.
            _ => {
                self.older = Mark::default();
                self.newer = mark;
            }
        }
        let known = age(self.older).is_some_and(|age| age >= WINDOW);
        let since = if known { self.older } else { self.newer };
        let used = queue.used as u64;
        let quarter = (queue.limit / 4) as u64;
        let is_old = known && used > quarter && used > sent.saturating_sub(since.sent);
        let is_flood = used > 2 * quarter && self.doubted - since.doubted > quarter;
        if is_old || is_flood {
            self.stuck_until = Some(now + REMEMBERED);
        }
    }

    /// Whether a train of so many bytes may be sent to this address. `random` is asked when a reserve is first
    /// needed.
    pub(crate) fn admits(
        &mut self,
        now: Instant,
        queue: SendQueue,
        doubt: Doubt,
        to: SocketAddr,
        bytes: usize,
        random: impl Fn() -> Option<u32>,
    ) -> bool {
        let cost = cost_of(1, bytes as u64);
        let used = queue.used as u64 + cost;
        let is_unvalidated = doubt == Doubt::Unvalidated;
        let is_stuck = self.stuck_until.is_some_and(|until| now < until);
        let mut admits = used <= share(doubt, queue) as u64 || is_unvalidated && !is_stuck;
        if !admits {
            let reserve = match doubt {
                Doubt::Unvalidated => &mut self.unvalidated,
                Doubt::Silent => &mut self.silent,
            };
            self.key = self.key.or_else(|| HashKey::draw(random));
            let hash = self.key.map(|key| key.hash(&Scope::prefix(to).to_bytes()));
            let slot = hash.unwrap_or(0) as usize % SLOTS;
            admits = reserve.take(now, reserve_of(queue), slot, cost);
        }
        if admits && is_unvalidated {
            self.doubted += cost;
        }
        admits
    }
}

impl Reserve {
    fn take(&mut self, now: Instant, size: u64, slot: usize, cost: u64) -> bool {
        if self.prefixes.is_empty() {
            self.prefixes = vec![TokenBucket::default(); SLOTS];
        }
        let prefix = &mut self.prefixes[slot];
        // Tokens are bytes times REFILL_MICROS: less than a byte is refilled too.
        let tokens = cost * REFILL_MICROS;
        let has_room = self.all.has(now, size, size * REFILL_MICROS, tokens)
            && prefix.has(now, size / 2, size / 2 * REFILL_MICROS, tokens);
        if has_room {
            self.all.spend(tokens);
            prefix.spend(tokens);
        }
        has_room
    }
}

/// What the system charges for trains, at most: Linux 768 bytes for a datagram of 24, 2,304 for one of 1,400, and about
/// its bytes for a train.
pub(crate) const fn cost_of(trains: u64, bytes: u64) -> u64 {
    trains * 900 + bytes + bytes / 8
}

/// Use of the buffer up to which a datagram may be sent in any case. Silent peers have more: forged addresses
/// are not to keep repetitions from a peer that was validated.
const fn share(doubt: Doubt, queue: SendQueue) -> usize {
    match doubt {
        Doubt::Unvalidated => queue.limit / 4,
        Doubt::Silent => queue.limit / 8 * 3,
    }
}

/// Bytes that may be sent beyond the share in [`REFILL_MICROS`]. Half of that is at least one full datagram.
fn reserve_of(queue: SendQueue) -> u64 {
    ((queue.limit / RESERVE) as u64).max(2 * cost_of(1, 1_500))
}

/// Time in which a buffer is emptied by any link that is not slower than some Mbit/s.
const WINDOW: Duration = Duration::from_millis(250);
/// For how long one observation of a datagram that stays counts.
const REMEMBERED: Duration = Duration::from_secs(10);
/// The part of the buffer that each reserve may take in [`REFILL_MICROS`].
const RESERVE: usize = 16;
/// Three seconds: how long Linux keeps a datagram for an address that does not answer.
const REFILL_MICROS: u64 = 3_000_000;
const SLOTS: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 425_984;

    fn at(ms: u64) -> Instant {
        Instant::from_micros(ms * 1_000)
    }

    fn peer(network: u8, host: u8) -> SocketAddr {
        ([10, 0, network, host], 9).into()
    }

    /// A send buffer in which what goes to nowhere stays for three seconds.
    #[derive(Default)]
    struct Buffer {
        share: SendShare,
        stays: Vec<(u64, u64)>,
        sent: u64,
        /// Bytes of others in the buffer.
        backlog: usize,
    }

    impl Buffer {
        fn queue(&mut self, ms: u64) -> SendQueue {
            self.stays.retain(|&(since, _)| ms < since + 3_000);
            let stays: u64 = self.stays.iter().map(|&(_, cost)| cost).sum();
            SendQueue {
                used: stays as usize + self.backlog,
                limit: LIMIT,
            }
        }

        fn send(&mut self, ms: u64, doubt: Doubt, to: SocketAddr, bytes: usize) -> bool {
            let queue = self.queue(ms);
            self.share.observe(at(ms), queue, self.sent);
            let sends = self
                .share
                .admits(at(ms), queue, doubt, to, bytes, || Some(7));
            if sends {
                let cost = cost_of(1, bytes as u64);
                self.sent += cost;
                self.stays.push((ms, cost));
            }
            sends
        }
    }

    /// Half until it shows, and twice the reserve: its depth and its refill.
    #[test]
    fn forged_addresses_leave_a_third_of_the_buffer() {
        for each_ms in [1, 2, 3, 5, 10, 30] {
            let mut buffer = Buffer::default();
            let mut most = 0;
            for ms in (0..30_000).step_by(each_ms) {
                buffer.send(ms, Doubt::Unvalidated, peer(0, ms as u8), 224);
                most = most.max(buffer.queue(ms).used);
            }
            assert!(most <= LIMIT / 8 * 5, "{most} at one in {each_ms} ms");
        }
    }

    #[test]
    fn a_buffer_that_drains_refuses_no_answer() {
        let mut buffer = Buffer {
            backlog: LIMIT,
            ..Buffer::default()
        };
        for ms in 0..10_000 {
            // 2 MB/s of a transfer, so the full buffer is younger than 250 ms.
            buffer.sent += 2_000;
            let answers = ms % 10 == 0;
            assert!(!answers || buffer.send(ms, Doubt::Unvalidated, peer(0, 1), 224));
            buffer.stays.clear();
        }
    }

    #[test]
    fn silent_peers_have_room_beside_forged_addresses() {
        let mut buffer = Buffer::default();
        let mut passed = 0;
        for ms in 0..30_000 {
            buffer.send(ms, Doubt::Unvalidated, peer(0, ms as u8), 224);
            if ms % 500 == 0 && ms > 10_000 {
                passed += u32::from(buffer.send(ms, Doubt::Silent, peer(0, 250), 1_400));
            }
        }
        assert!(passed >= 30, "{passed} of 39");
    }

    #[test]
    fn vanished_peers_leave_half_of_the_buffer() {
        let mut buffer = Buffer::default();
        let mut most = 0;
        for ms in 0..60_000 {
            if ms % 100 == 0 {
                let to = peer(0, (ms / 100 % 8) as u8);
                if !buffer.send(ms, Doubt::Silent, to, 64_400) {
                    buffer.send(ms, Doubt::Silent, to, 1_400);
                }
            }
            most = most.max(buffer.queue(ms).used);
        }
        assert!(most <= LIMIT / 2, "{most}");
        assert!(most >= LIMIT / 4, "{most}");
    }

    #[test]
    fn a_prefix_takes_half_of_the_reserve() {
        let mut buffer = Buffer {
            backlog: LIMIT / 2,
            ..Buffer::default()
        };
        let mut sent = |network: u8| {
            (0..1_000)
                .filter(|_| buffer.send(0, Doubt::Silent, peer(network, 1), 24))
                .count()
        };
        let bytes = (LIMIT / RESERVE / 2) as u64;
        let most = (bytes / cost_of(1, 24)) as usize;
        assert_eq!(sent(1), most);
        let others: usize = (2..100).map(sent).sum();
        assert!(others >= most, "{others}");
    }

    /// However small the buffer is, a full datagram passes every three seconds.
    #[test]
    fn a_small_buffer_still_sends() {
        let mut share = SendShare::default();
        let queue = SendQueue {
            used: 4_608,
            limit: 4_608,
        };
        let mut passed = 0;
        for ms in 0..30_000 {
            passed +=
                u32::from(
                    share.admits(at(ms), queue, Doubt::Silent, peer(0, 1), 1_400, || Some(7)),
                );
        }
        assert!((10..=12).contains(&passed), "{passed}");
    }
}
