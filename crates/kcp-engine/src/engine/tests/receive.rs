//! protocol.md 4: acceptance, order, reassembly, windows.

use alloc::sync::Arc;

use super::*;
use crate::{ReceiveMemory, RecvError};

/// protocol.md 4.2: holes wait, duplicates vanish, everything accepted is acknowledged.
#[test]
fn segments_are_put_in_order() {
    let mut s = Script::as_c(&plain());
    s.input(&[push(2, b"c").ts(5)])
        .input(&[push(0, b"a").ts(6), push(0, b"X").ts(7)]);
    assert_eq!(s.recv(), Ok(b"a".to_vec()));
    assert_eq!(s.recv(), Err(RecvError::Empty));
    s.input(&[push(1, b"b").ts(8)]);
    assert_eq!((s.recv(), s.recv()), (Ok(b"b".to_vec()), Ok(b"c".to_vec())));
    s.tick(10)
        .sends(&["ACK 2 ts=5 una=3 | ACK 0 ts=6 una=3 | ACK 0 ts=7 una=3 | ACK 1 ts=8 una=3"]);
}

/// protocol.md 4.1: old segments are acknowledged again, those beyond the window are not.
#[test]
fn old_is_acknowledged_beyond_is_not() {
    let mut s = Script::as_c(&plain());
    s.input(&[push(0, b"a")]).tick(10);
    s.sends(&["ACK 0 una=1 wnd=127"]);
    s.input(&[push(0, b"a").ts(3)])
        .input(&[push(128, b"z")])
        .input(&[push(129, b"z")]);
    s.tick(20)
        .sends(&["ACK 0 ts=3 una=1 wnd=127 | ACK 128 una=1 wnd=127"]);
    assert_eq!(s.engine.stats().ignored_out_of_window, 1);
}

/// protocol.md 4.1: una and wnd of a segment beyond the window count all the same.
#[test]
fn una_of_a_dropped_segment_still_counts() {
    let mut s = Script::as_c(&plain());
    s.send(b"x").tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.input(&[push(500, b"far").una(1).wnd(77)]);
    assert_eq!(s.engine.wait_snd(), 0);
    assert_eq!(s.engine.stats().remote_window, 77);
}

/// protocol.md 4.3 and 4.4: a message is whole or not there; a short buffer leaves it.
#[test]
fn messages_are_reassembled() {
    let mut s = Script::as_c(&plain());
    s.input(&[push(0, b"ab").frg(2), push(1, b"cd").frg(1)]);
    assert_eq!(s.engine.peek_size(), None);
    assert_eq!(s.recv(), Err(RecvError::Incomplete));
    s.input(&[push(2, b"e"), push(3, b"next")]);
    assert_eq!(s.engine.peek_size(), Some(5));
    let mut four = [0; 4];
    assert_eq!(
        s.engine.recv(&mut four),
        Err(RecvError::BufferTooSmall { needed: 5 })
    );
    let mut five = [0; 5];
    assert_eq!(s.engine.peek(&mut five), Ok(5));
    assert_eq!(s.recv(), Ok(b"abcde".to_vec()));
    assert_eq!(s.recv(), Ok(b"next".to_vec()));
}

/// protocol.md 4.4: bytes are read across messages, and a message's rest stays one message.
#[test]
fn reads_cross_messages() {
    let mut s = Script::as_c(&plain());
    s.input(&[
        push(0, b"ab"),
        push(1, b""),
        push(2, b"cde").frg(1),
        push(3, b"f"),
    ]);
    let mut three = [0; 3];
    assert_eq!(s.engine.read(&mut three), Ok(3));
    assert_eq!(&three, b"abc");
    assert_eq!(s.engine.peek_size(), Some(3));
    assert_eq!(s.recv(), Ok(b"def".to_vec()));
    assert_eq!(s.engine.read(&mut three), Err(RecvError::Empty));
}

/// protocol.md 4.4: an empty message is a message to `recv` and nothing to `read`.
#[test]
fn empty_messages_do_not_end_a_stream() {
    let mut s = Script::as_c(&plain());
    s.input(&[push(0, b"")]);
    assert!(s.engine.has_readable());
    assert_eq!(s.recv(), Ok(Vec::new()));
    s.input(&[push(1, b""), push(2, b"x")]);
    assert!(s.engine.has_readable());
    let mut byte = [0];
    assert_eq!(s.engine.read(&mut byte), Ok(1));
}

/// protocol.md 4.4: a full queue of empty messages is something to take, or nothing would move.
#[test]
fn empty_messages_can_be_cleared() {
    let mut s = Script::strict(&plain());
    for sn in 0..128 {
        s.input(&[push(sn, b"")]);
    }
    assert!(s.engine.has_readable());
    let mut byte = [0];
    assert_eq!(s.engine.read(&mut byte), Err(RecvError::Empty));
    assert!(!s.engine.has_readable());
    let line = s.tick(10).drain().pop().unwrap();
    assert!(line.ends_with("WINS 127 una=128"), "{line}");
}

/// protocol.md 4.6 and 4.2: una does not pass what the ready queue has no room for.
#[test]
fn a_full_queue_stops_una_and_closes_the_window() {
    let mut s = Script::as_c(&plain());
    for sn in 0..128 {
        s.input(&[push(sn, b"x")]);
    }
    s.input(&[push(128, b"waits")]);
    let last = s.tick(10).drain().pop().unwrap();
    assert!(last.ends_with("ACK 128 una=128 wnd=0"), "{last}");
}

/// protocol.md 4.2: after the window grew, a segment that is held already moves the rest up too.
#[test]
fn a_duplicate_moves_up_what_a_larger_window_takes() {
    let mut s = Script::as_c(&plain());
    for sn in 0..130 {
        s.input(&[push(sn, b"x")]);
    }
    s.engine.set_windows(32, 200).unwrap();
    s.input(&[push(127, b"x")]);
    assert_eq!(s.engine.classic_state().rcv_nxt, 128);
    s.input(&[push(129, b"x")]);
    assert_eq!(s.engine.classic_state().rcv_nxt, 130);
}

/// protocol.md 4.5: making room in a full queue tells the peer at the next flush.
#[test]
fn reading_from_a_full_queue_sends_a_wins() {
    let mut s = Script::as_c(&plain());
    for sn in 0..130 {
        s.input(&[push(sn, b"x").ts(sn)]);
    }
    s.tick(10).drain();
    // The first read only lets a waiting segment move up: the queue is full again.
    s.recv().unwrap();
    s.tick(20).silent();
    s.recv().unwrap();
    s.tick(30).silent();
    s.recv().unwrap();
    s.tick(40).sends(&["WINS 0 una=130 wnd=1"]);
    s.recv().unwrap();
    s.tick(50).silent();
}

/// protocol.md 9.4: the receiver's numbers wrap.
#[test]
fn receiving_across_the_wrap() {
    let options = EngineOptions {
        validation: Validation::AsC,
        first_sn: Sn::new(u32::MAX - 1),
        ..Default::default()
    };
    let mut s = Script::with(&plain(), options);
    s.input(&[push(1, b"d")])
        .input(&[push(u32::MAX, b"b")])
        .input(&[push(0, b"c")]);
    s.input(&[push(u32::MAX - 1, b"a")]);
    let mut all = [0; 8];
    assert_eq!(s.engine.read(&mut all), Ok(4));
    assert_eq!(&all[..4], b"abcd");
    let line = s.tick(10).drain().join("");
    assert!(line.contains("ACK 4294967294 una=2"), "{line}");
}

/// protocol.md 4.6: the peer of a session without room in the account finds its window closed, and with each
/// question open again: what is refused next closes it.
#[test]
fn a_full_account_looks_like_a_closed_window() {
    let fragment = |sn: u32| push(sn, &[1; 1_376]).frg(120 - sn as u8);
    let memory = Arc::new(ReceiveMemory::with_limit(1 << 17));
    let [mut s, mut other] = [(); 2].map(|()| {
        let mut script = Script::strict(&fast());
        script.engine.set_receive_memory(Arc::clone(&memory));
        script
    });
    for sn in 0..100 {
        other.input(&[fragment(sn)]);
    }
    assert!(other.engine.stats().ignored_no_memory > 0);
    let mut next = 0;
    while s.input(&[fragment(next)]).engine.stats().ignored_no_memory == 0 {
        next += 1;
    }
    assert!(next >= 11, "{next}");
    let is_open = |s: &mut Script| {
        let all = s.drain().join(" ");
        assert!(all.contains("WINS"), "{all}");
        !all.contains("wnd=0")
    };
    let mut now = 10;
    s.tick(now).drain();
    for _ in 0..3 {
        now += 10;
        assert!(!is_open(s.at(now).input(&[fragment(next)]).tick(now)));
        now += 10;
        let question = seg(Command::Wask, 0);
        assert!(is_open(s.at(now).input(&[question]).tick(now)));
    }
    assert_eq!(s.engine.stats().ignored_no_memory, 4);
    drop(other);
    let taken = s
        .at(now + 10)
        .input(&[fragment(next)])
        .tick(now + 10)
        .drain();
    assert!(taken.join("").contains(&format!("ACK {next}")), "{taken:?}");
    assert!(!taken.join("").contains("wnd=0"), "{taken:?}");
}

/// protocol.md 2.4: the result codes, and that segments before an error stay applied.
#[test]
fn errors_abort_the_datagram_only() {
    use crate::InputError::*;
    let mut s = Script::as_c(&plain());
    let now = Instant::ZERO;
    assert_eq!(s.engine.input(now, &[0; 23]), Err(TooShort));
    let mut other = datagram(&[push(0, b"a")]);
    other[0] ^= 1;
    assert_eq!(s.engine.input(now, &other), Err(WrongConv));
    let mut long = datagram(&[push(0, b"a"), push(1, b"b")]);
    long.pop();
    assert_eq!(s.engine.input(now, &long), Err(BadLength));
    assert_eq!(s.recv(), Ok(b"a".to_vec()));
    let mut odd = datagram(&[push(1, b"b"), push(2, b"c")]);
    odd[25 + 4] = 99;
    assert_eq!(s.engine.input(now, &odd), Err(UnknownCommand));
    assert_eq!(s.recv(), Ok(b"b".to_vec()));
    let stats = s.engine.stats();
    assert_eq!(
        [
            stats.dropped_short,
            stats.dropped_wrong_conv,
            stats.dropped_bad_length,
            stats.dropped_unknown_command,
        ],
        [1; 4]
    );
}
