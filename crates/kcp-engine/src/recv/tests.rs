//! protocol.md 4: what is taken, delivered and refused.

use alloc::vec;

use super::*;

const LIMIT: usize = 192_000;
const JUMBO: usize = POOL_CLASS_BYTES[3];

fn receiver() -> (Receiver, Arc<BufferPool>) {
    let pool = Arc::new(BufferPool::new());
    let mut receiver = Receiver::new(Sn::ZERO, 65_535, LIMIT, Arc::clone(&pool));
    receiver.set_limits(LIMIT, usize::MAX);
    (receiver, pool)
}

/// Bytes of buffers that are not in the pool.
fn taken(pool: &BufferPool) -> usize {
    let stats = pool.stats();
    let classes = POOL_CLASS_BYTES.iter().enumerate();
    classes
        .map(|(n, bytes)| bytes * (stats.allocated[n] - stats.idle[n] - stats.freed[n]))
        .sum()
}

/// Each block is held for a few bytes far ahead, while all else in it is delivered and read.
fn most_taken(pin: usize, between: usize) -> (usize, u32) {
    let (mut receiver, pool) = receiver();
    // Blocks are as large as what waits.
    for sn in 65_000..65_070 {
        receiver.insert(Sn::new(sn), 0, false, &[2; 1_376]);
    }
    let (mut most, mut refused) = (0, 0);
    for round in 0..20_000_u32 {
        let next = receiver.next();
        receiver.insert(Sn::new(30_000 + round), 0, false, &vec![3; pin]);
        let kept = receiver.insert(next.next(), 0, false, &vec![1; between]);
        refused += u32::from(kept == Arrival::NoRoom);
        assert_eq!(receiver.insert(next, 0, false, b"y"), Arrival::New);
        while receiver.read(&mut [0; 4_096]).is_ok() {}
        most = most.max(taken(&pool));
    }
    (most, refused)
}

#[test]
fn blocks_held_for_single_bytes_are_bounded() {
    // What fills a block, and what never fits behind a pin, so that the block is left nearly empty.
    for (pin, between) in [(1, 1_376), (200, 65_483)] {
        let (most, refused) = most_taken(pin, between);
        assert!(refused > 10_000, "{pin}, {between}: {refused}");
        assert!(
            most <= 2 * LIMIT + 4 * JUMBO,
            "{pin}, {between}: {most} bytes"
        );
    }
}

/// The bytes of an unvalidated peer take at most twice their number.
#[test]
fn a_stranger_gets_little_memory() {
    for size in [1, 40, 600, 1_376, 5_000] {
        let (mut receiver, _pool) = receiver();
        receiver.set_stranger(true);
        for n in 1..=30 {
            receiver.insert(Sn::new(2 * n), 0, false, &vec![1; size]);
            let sent = n as usize * size;
            assert!(receiver.kept.block_bytes() <= 2 * sent, "{n} of {size}");
        }
    }
}

/// Fills a receiver with segments of `len` bytes in order; what it says of its window before each, and
/// whether the next one is taken.
fn filled(len: usize, frg: u8) -> impl Iterator<Item = (usize, bool)> {
    let mut receiver = Receiver::new(Sn::ZERO, 128, LIMIT, Arc::new(BufferPool::new()));
    (0..128).map(move |_| {
        let advertised = usize::from(receiver.advertised());
        let arrival = receiver.insert(receiver.next(), frg, false, &vec![1; len]);
        (advertised, arrival == Arrival::New)
    })
}

#[test]
fn the_window_is_closed_when_the_next_segment_would_be_refused() {
    for len in [1_501, 2_999, 3_001, 9_000, 65_000] {
        let mut refused = 0;
        for (advertised, is_taken) in filled(len, 0).skip_while(|(_, is_taken)| *is_taken) {
            assert!(!is_taken, "{len}");
            refused += 1;
            // The first one may be the first that shows the size.
            assert!(advertised == 0 || refused == 1, "{len}: {advertised}");
        }
        assert_eq!(refused > 0, len > 3_000, "{len}");
        let before = filled(len, 0).take_while(|(_, is_taken)| *is_taken);
        assert!(
            before.skip(1).all(|(advertised, _)| advertised > 0),
            "{len}"
        );
    }
}

#[test]
fn the_window_counts_slots_for_segments_of_usual_size() {
    for len in [0, 1, 1_376, 1_500] {
        let free = filled(len, 0).map(|(advertised, _)| advertised);
        assert!(free.eq((1..=128).rev()), "{len}");
    }
}

/// What completes the message in front is always taken, and is let come.
#[test]
fn the_window_is_open_for_the_message_in_front() {
    for (advertised, is_taken) in filled(60_000, 126).take(126) {
        assert!(is_taken && advertised > 0);
    }
}

#[test]
fn what_lies_behind_the_end_is_let_go() {
    let (mut receiver, pool) = receiver();
    receiver.insert(Sn::new(2), 0, false, &[1; 1_376]);
    receiver.insert(Sn::new(1), 0, true, b"");
    receiver.insert(Sn::ZERO, 0, false, b"last");
    assert!(receiver.is_finished());
    assert_eq!((receiver.held_bytes(), receiver.reordered()), (4, 0));
    assert_eq!(receiver.read(&mut [0; 8]), Ok(4));
    assert_eq!(taken(&pool), 0);
}

#[test]
fn nothing_is_kept_of_a_receiver_that_goes() {
    let (mut receiver, pool) = receiver();
    for sn in [0, 1, 5, 9] {
        receiver.insert(Sn::new(sn), 0, false, &[1; 1_376]);
    }
    drop(receiver);
    assert_eq!(taken(&pool), 0);
}
