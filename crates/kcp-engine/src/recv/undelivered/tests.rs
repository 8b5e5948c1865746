use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::buffer::BufferPool;
use crate::memory::ReceiveMemory;
use crate::recv::Arrival;

fn unvalidated(memory: &Arc<ReceiveMemory>) -> Receiver {
    let pool = Arc::new(BufferPool::new());
    let mut receiver = Receiver::new(Sn::ZERO, 65_535, 1 << 20, pool);
    receiver.set_limits(1 << 20, usize::MAX);
    receiver.set_stranger(true);
    receiver.set_memory(Arc::clone(memory));
    receiver
}

/// Fragments of 1,376 bytes in order that the receiver takes of a message that they do not end.
fn fragments_taken(receiver: &mut Receiver) -> usize {
    let first = receiver.next().get();
    (first..first + 100)
        .take_while(|&sn| receiver.insert(Sn::new(sn), 255, false, &[1; 1_376]) == Arrival::New)
        .count()
}

/// Whatever the others hold, a session gets its allotment in, and the account is exceeded by no more
/// than the allotments.
#[test]
fn fragments_in_order_have_an_allotment_of_their_own() {
    const LIMIT: usize = 1 << 20;
    for (validated, limit, allotment, sessions) in
        [(true, LIMIT, 16_384, 30), (false, LIMIT / 16, 8_192, 5)]
    {
        let memory = Arc::new(ReceiveMemory::with_limit(LIMIT));
        let mut full: Vec<_> = (0..sessions)
            .map(|_| {
                let mut receiver = unvalidated(&memory);
                receiver.set_stranger(!validated);
                receiver
            })
            .collect();
        let taken = full.iter_mut().map(fragments_taken);
        assert!(taken.min() >= Some(allotment / 1_376));
        // Blocks take up to twice what is in them.
        let most = limit + sessions * 2 * allotment;
        assert!((limit..=most).contains(&memory.used()), "{memory:?}");
        drop(full);
        assert_eq!((memory.used(), memory.used_unvalidated()), (0, 0));
    }
}

/// A table full of forged sessions holds two sixteenths of the account, and a segment.
#[test]
fn allotments_of_unvalidated_sessions_are_bounded_together() {
    let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
    let mut full: Vec<_> = (0..1_000).map(|_| unvalidated(&memory)).collect();
    for receiver in &mut full {
        fragments_taken(receiver);
    }
    let used = memory.used_unvalidated();
    assert!((1 << 17..=(1 << 17) + 8_192).contains(&used), "{used}");
    let mut known = unvalidated(&memory);
    known.set_stranger(false);
    assert!(fragments_taken(&mut known) >= 16_384 / 1_376);
}

/// What waits behind a gap takes nothing from the fragments before it.
#[test]
fn segments_out_of_order_keep_no_fragment_out() {
    for validated in [true, false] {
        let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
        let mut receiver = unvalidated(&memory);
        receiver.set_stranger(!validated);
        let ahead = (20..1_000)
            .take_while(|&sn| receiver.insert(Sn::new(sn), 0, false, &[1; 1_376]) == Arrival::New);
        assert!(ahead.count() > 10);
        let mut others = unvalidated(&memory);
        others.set_stranger(!validated);
        while others.insert(others.next(), 255, false, &[1; 1_376]) == Arrival::New {}
        for (sn, frg) in [(0, 2), (1, 1), (2, 0)] {
            let arrival = receiver.insert(Sn::new(sn), frg, false, &[1; 1_376]);
            assert_eq!(arrival, Arrival::New);
        }
        assert_eq!(receiver.peek_size(), Some(3 * 1_376));
    }
}

/// 50 bytes made a ring of 1 MB.
#[test]
fn the_ring_grows_with_what_was_received() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::ZERO, 0, false, b"x");
    for refused in [65_534, 1_024, 41] {
        let arrival = receiver.insert(Sn::new(refused), 0, false, b"x");
        assert_eq!(arrival, Arrival::NoRoom, "{refused}");
    }
    assert_eq!(receiver.insert(Sn::new(40), 0, false, b"x"), Arrival::New);
    assert!(memory.used_unvalidated() <= 1_536, "{memory:?}");
    // A flight of the default window of stock peers, of which the first segments are lost.
    let mut behind = unvalidated(&memory);
    for sn in (1..32).rev() {
        assert_eq!(behind.insert(Sn::new(sn), 0, false, b"x"), Arrival::New);
    }
    // A window of 1,024 of which the first half was lost.
    for sn in 1..125 {
        receiver.insert(Sn::new(sn), 0, false, b"x");
    }
    for sn in (637..1_149).rev() {
        assert_eq!(receiver.insert(Sn::new(sn), 0, false, b"x"), Arrival::New);
    }
    // A peer that has proven its address has the window.
    receiver.set_stranger(false);
    let last = receiver.next().get() + 65_534;
    assert_eq!(receiver.insert(Sn::new(last), 0, false, b"x"), Arrival::New);
}

#[test]
fn what_cannot_be_delivered_is_on_the_account() {
    let memory = Arc::new(ReceiveMemory::with_limit(1 << 20));
    let mut receiver = unvalidated(&memory);
    let held = (1..100)
        .take_while(|&sn| receiver.insert(Sn::new(sn), 0, false, &[1; 1_376]) == Arrival::New);
    // Three quarters of the share.
    assert!((20..36).contains(&held.count()));
    assert!(memory.used_unvalidated() <= (1 << 16) + 8_192);
    // So are whole messages in order that wait for the reader: what is left of the share.
    let mut other = unvalidated(&memory);
    let free = (1 << 16) - memory.used_unvalidated();
    let unread = |receiver: &mut Receiver, frg| {
        let from = receiver.next().get();
        let taken = (from..from + 100).take_while(|&sn| {
            receiver.insert(Sn::new(sn), frg, false, &[1; 1_376]) == Arrival::New
        });
        taken.count()
    };
    let count = unread(&mut other, 0);
    assert!(
        (8_192 / 1_376..=free / 1_376 + 1).contains(&count),
        "{count}"
    );
    // And what never becomes whole, at least the allotment.
    assert_eq!(other.read(&mut [0; 200_000]), Ok(count * 1_376));
    let count = unread(&mut other, 255);
    assert!(
        (8_192 / 1_376..=free / 1_376 + 1).contains(&count),
        "{count}"
    );
    // A reader that keeps up is not slowed down by a full account.
    let mut third = unvalidated(&memory);
    for sn in 0..100 {
        let arrival = third.insert(Sn::new(sn), 0, false, &[1; 1_376]);
        assert_eq!(arrival, Arrival::New);
        assert_eq!(third.read(&mut [0; 2_000]), Ok(1_376));
    }
    // A validated session's whole messages are not counted.
    third.set_stranger(false);
    assert_eq!(unread(&mut third, 0), 100);
    drop(third);
    drop(receiver);
    drop(other);
    assert_eq!((memory.used(), memory.used_unvalidated()), (0, 0));
}

fn unbounded() -> Arc<ReceiveMemory> {
    Arc::new(ReceiveMemory::with_limit(usize::MAX))
}

const fn at(seconds: u64) -> Instant {
    Instant::from_millis(1_000 * seconds)
}

#[test]
fn a_gap_that_stays_is_let_go() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::new(1), 0, false, b"x");
    receiver.watch(at(0));
    receiver.insert(Sn::new(3), 0, false, b"x");
    receiver.watch(at(50));
    assert_eq!(receiver.expire(at(59)), Stale::None);
    assert_eq!(receiver.expire(at(60)), Stale::Gap(2));
    assert_eq!((receiver.reordered(), memory.used()), (0, 0));
    // The peer sends all of it again: nothing is missing.
    for sn in 0..4 {
        assert_eq!(receiver.insert(Sn::new(sn), 0, false, b"x"), Arrival::New);
        receiver.watch(at(70));
    }
    assert_eq!(receiver.stale_at(), None);
}

/// protocol.md 11.4: whatever arrives in front of it.
#[test]
fn a_gap_that_stays_is_let_go_although_the_peer_goes_on() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::new(31), 0, false, b"x");
    receiver.watch(at(0));
    for n in 0..6 {
        assert_eq!(receiver.expire(at(10 * n)), Stale::None);
        receiver.insert(Sn::new(n as u32), 0, false, b"x");
        receiver.watch(at(10 * n));
    }
    assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
    assert_eq!((receiver.reordered(), receiver.stale_at()), (0, None));
}

#[test]
fn a_peer_that_takes_what_was_let_go_for_delivered_is_told() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::new(1), 0, false, b"x");
    receiver.watch(at(0));
    assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
    for sn in [0, 2] {
        receiver.insert(Sn::new(sn), 0, false, b"x");
        receiver.watch(at(70));
    }
    assert_eq!(receiver.expire(at(130)), Stale::Stream);
}

/// What was let go was all that the peer had sent: nothing more comes that would show it.
#[test]
fn a_peer_that_has_sent_all_is_told() {
    let memory = unbounded();
    for validated in [false, true] {
        let mut receiver = unvalidated(&memory);
        receiver.insert(Sn::new(1), 0, false, b"x");
        receiver.watch(at(0));
        assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
        assert!(receiver.has_let_go());
        receiver.set_stranger(!validated);
        receiver.insert(Sn::ZERO, 0, false, b"x");
        receiver.watch(at(70));
        assert_eq!(receiver.expire(at(129)), Stale::None);
        assert_eq!(receiver.expire(at(130)), Stale::Stream);
    }
}

/// What was let go is awaited, and more behind it is let go: found by the fuzz target `pair`. The peer was validated
/// then, and its reader waited for ever.
#[test]
fn what_was_let_go_is_not_forgotten_with_more() {
    let memory = unbounded();
    for validated in [false, true] {
        let mut receiver = unvalidated(&memory);
        for sn in 1..6 {
            receiver.insert(Sn::new(sn), 0, false, b"x");
        }
        receiver.watch(at(0));
        assert_eq!(receiver.expire(at(60)), Stale::Gap(5));
        for sn in [2, 0] {
            receiver.insert(Sn::new(sn), 0, false, b"x");
            receiver.watch(at(61));
        }
        assert_eq!(receiver.expire(at(121)), Stale::Gap(1));
        receiver.set_stranger(!validated);
        assert_eq!(receiver.expire(at(181)), Stale::Stream);
    }
}

/// A validated peer's gap stays, whatever was let go before.
#[test]
fn nothing_of_a_validated_peer_is_let_go() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::new(1), 0, false, b"x");
    receiver.watch(at(0));
    assert_eq!(receiver.expire(at(60)), Stale::Gap(1));
    receiver.set_stranger(false);
    for sn in [0, 1, 3] {
        receiver.insert(Sn::new(sn), 0, false, b"x");
        receiver.watch(at(70));
    }
    for minute in 2..10 {
        assert_eq!(receiver.expire(at(60 * minute + 20)), Stale::None);
    }
    assert_eq!(receiver.reordered(), 1);
}

#[test]
fn a_peer_that_goes_on_keeps_its_segments() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    for n in 0..100 {
        receiver.insert(Sn::new(2 * n + 1), 0, false, b"x");
        receiver.watch(at(u64::from(n)));
        receiver.insert(Sn::new(2 * n), 0, false, b"x");
        receiver.insert(Sn::new(2 * n + 3), 0, false, b"x");
        receiver.watch(at(u64::from(n)));
        assert_eq!(receiver.expire(at(u64::from(n))), Stale::None);
    }
}

#[test]
fn a_message_that_stays_incomplete_ends_the_stream() {
    let memory = unbounded();
    let mut receiver = unvalidated(&memory);
    receiver.insert(Sn::ZERO, 3, false, b"x");
    receiver.watch(at(0));
    receiver.insert(Sn::new(1), 2, false, b"x");
    receiver.watch(at(59));
    assert_eq!(receiver.expire(at(60)), Stale::None, "it goes on");
    assert_eq!(receiver.expire(at(120)), Stale::Stream);
}

/// What is unread of many unvalidated peers: the share, allotments of as much, and a first segment each.
#[test]
fn unread_bytes_of_many_unvalidated_peers_are_bounded() {
    let memory = Arc::new(ReceiveMemory::with_limit(16 << 20).shared_by(65_536));
    let mut receivers: Vec<_> = (0..1_000).map(|_| unvalidated(&memory)).collect();
    for sn in 0..100 {
        for receiver in &mut receivers {
            receiver.insert(Sn::new(sn), 0, false, &[1; 1_376]);
        }
    }
    let unread: usize = receivers.iter().map(Receiver::held_bytes).sum();
    assert!(unread <= (2 << 20) + 1_000 * 1_376, "{unread}");
}
