//! protocol.md 3: messages, streams, and what is refused.

use alloc::vec;

use super::*;
use crate::SendError;

const MSS: usize = 1_376;

/// protocol.md 3.1: fragments count down to 0, each full but the last.
#[test]
fn a_message_is_cut_into_counted_fragments() {
    let mut s = Script::as_c(&plain());
    s.send(&[7; 2 * MSS + 1]).tick(10).sends(&[
        "PUSH 0 frg=2 ts=10 len=1376",
        "PUSH 1 frg=1 ts=10 len=1376",
        "PUSH 2 ts=10 len=1",
    ]);
}

/// protocol.md 3.1 and 2.3: messages keep their boundaries but share datagrams.
#[test]
fn small_messages_share_a_datagram() {
    let mut s = Script::as_c(&plain());
    s.send(b"one")
        .send(b"three")
        .tick(10)
        .sends(&["PUSH 0 ts=10 len=3 | PUSH 1 ts=10 len=5"]);
}

/// protocol.md 2.3: a segment that does not fit opens the next datagram.
#[test]
fn datagrams_never_exceed_the_mtu() {
    let mut s = Script::as_c(&plain());
    s.send(&[0; 1_000]).send(&[0; 352]).send(&[0; 1]).tick(10);
    s.sends(&[
        "PUSH 0 ts=10 len=1000 | PUSH 1 ts=10 len=352",
        "PUSH 2 ts=10 len=1",
    ]);
}

/// protocol.md 3.2: the last queued segment is filled up; nothing is numbered as a fragment.
#[test]
fn stream_mode_fills_the_last_queued_segment() {
    let mut s = Script::as_c(&plain().stream_mode(true));
    s.send(&[1; 1_000]).send(&[2; 1_000]).tick(10);
    s.sends(&["PUSH 0 ts=10 len=1376", "PUSH 1 ts=10 len=624"]);
    // What has been sent is not touched again.
    s.send(&[3; 10]).tick(20).sends(&["PUSH 2 ts=20 len=10"]);
}

/// protocol.md 3.2: bytes of a stream in message mode stand alone, as with kcp-go's Write.
#[test]
fn writes_in_message_mode_are_unnumbered() {
    let mut s = Script::as_c(&plain());
    s.engine.write(&[0; MSS + 5]).unwrap();
    s.engine.write(&[0; 3]).unwrap();
    s.tick(10).sends(&[
        "PUSH 0 ts=10 len=1376",
        "PUSH 1 ts=10 len=5 | PUSH 2 ts=10 len=3",
    ]);
}

/// protocol.md 3.3: 127 fragments are taken, 128 are not, and nothing of them is queued.
#[test]
fn a_message_has_at_most_127_fragments() {
    let mut s = Script::as_c(&plain());
    let size = 127 * MSS;
    let too_large = SendError::TooLarge {
        size: size + 1,
        max: size,
    };
    assert_eq!(s.engine.send(&alloc::vec![0; size + 1]), Err(too_large));
    assert_eq!(s.engine.wait_snd(), 0);
    assert_eq!(s.engine.send(&alloc::vec![0; size]), Ok(size));
    assert_eq!(s.engine.wait_snd(), 127);
}

/// protocol.md 3.3: in stream mode what filled the last segment is kept and counted.
#[test]
fn a_refused_stream_send_says_what_it_took() {
    let mut s = Script::as_c(&plain().stream_mode(true));
    s.send(&[0; 1_000]);
    assert_eq!(s.engine.send(&alloc::vec![0; 376 + 127 * MSS + 1]), Ok(376));
    assert_eq!(s.engine.wait_snd(), 1);
    assert_eq!(s.engine.send(&alloc::vec![0; 127 * MSS]), Ok(127 * MSS));
}

/// protocol.md 3.3: no more fragments than the largest window the peer has shown.
#[test]
fn a_message_fits_the_window_of_the_peer() {
    let mut s = Script::strict(&plain());
    assert_eq!(s.engine.max_message_size(), 127 * MSS);
    s.input(&[seg(Command::Wins, 0).wnd(32)]);
    assert_eq!(s.engine.max_message_size(), 32 * MSS);
    s.input(&[seg(Command::Wins, 0).wnd(0)]);
    assert_eq!(
        s.engine.max_message_size(),
        32 * MSS,
        "a full window is not a small one"
    );
    s.input(&[seg(Command::Wins, 0).wnd(1_000)]);
    assert_eq!(s.engine.max_message_size(), 127 * MSS);
}

/// protocol.md 3.4: C sends an empty segment; we refuse, because kcp-go blocks on it.
#[test]
fn empty_messages_are_c_s_business() {
    let mut c = Script::as_c(&plain());
    c.send(b"").tick(10).sends(&["PUSH 0 ts=10"]);
    let mut s = Script::strict(&plain());
    assert_eq!(s.engine.send(b""), Err(SendError::Empty));
    assert_eq!(s.engine.write(b""), Ok(0));
    s.tick(10).silent();
}

/// protocol.md 10.1: queued segments keep their size when the mtu shrinks.
#[test]
fn a_lower_mtu_does_not_split_again() {
    let mut s = Script::as_c(&plain());
    s.send(&[0; 500]);
    s.engine.set_mtu(100).unwrap();
    s.send(&[0; 77]).tick(10);
    s.sends(&[
        "PUSH 0 ts=10 len=500",
        "PUSH 1 frg=1 ts=10 len=76",
        "PUSH 2 ts=10 len=1",
    ]);
    assert!(s.engine.set_mtu(49).is_err());
}

/// protocol.md 2.3.2: what is queued is cut again; what has an sn keeps its size, and so do the fragments beside it.
#[test]
fn a_limit_cuts_new_segments_only() {
    let mut s = Script::as_c(&plain().window_size(1, 128));
    s.send(&[7; 2 * MSS]).send(&[8; 2 * MSS]);
    s.engine.write(&[9; MSS]).unwrap();
    s.tick(10).sends(&["PUSH 0 frg=1 ts=10 len=1376"]);
    s.engine.set_new_segment_limit(1_232);
    s.input(&[ack(0, 10).una(1)]).tick(20);
    s.sends(&["PUSH 1 ts=20 len=1376"]);
    for (sn, frg, len) in [
        (2, 2, 1_208),
        (3, 1, 1_208),
        (4, 0, 336),
        (5, 0, 1_208),
        (6, 0, 168),
    ] {
        s.input(&[ack(sn - 1, 10 + 10 * sn).una(sn)])
            .tick(20 + 10 * u64::from(sn));
        let frg = if frg > 0 {
            format!(" frg={frg}")
        } else {
            String::new()
        };
        let ts = 20 + 10 * sn;
        s.sends(&[&format!("PUSH {sn}{frg} ts={ts} len={len}")]);
    }
}

/// protocol.md 2.3.2: what is left of a long segment leaves with what follows it, and not alone.
#[test]
fn a_limit_leaves_no_splinters_of_a_stream() {
    let mut s = Script::as_c(&plain());
    s.engine.write(&[9; 3 * MSS + 100]).unwrap();
    s.engine.write(&[8; 10]).unwrap();
    assert_eq!(s.engine.wait_snd(), 5);
    s.engine.set_new_segment_limit(1_232);
    s.tick(10).sends(&[
        "PUSH 0 ts=10 len=1208",
        "PUSH 1 ts=10 len=1208",
        "PUSH 2 ts=10 len=1208",
        "PUSH 3 ts=10 len=604 | PUSH 4 ts=10 len=10",
    ]);
}

/// protocol.md 2.3.2: small messages share a datagram of the limit, not of the mtu.
#[test]
fn a_limit_bounds_datagrams_of_several_segments() {
    let mut s = Script::as_c(&plain());
    s.engine.set_new_segment_limit(1_232);
    s.send(&[0; 700]).send(&[0; 600]).tick(10);
    s.sends(&["PUSH 0 ts=10 len=700", "PUSH 1 ts=10 len=600"]);
}

/// protocol.md 2.3.2: a message that would need more fragments than there are is not cut smaller.
#[test]
fn a_limit_makes_no_message_too_large() {
    let mut s = Script::as_c(&plain());
    let most = s.engine.max_message_size();
    s.send(&vec![1; most]);
    s.engine.set_new_segment_limit(1_232);
    assert_eq!(s.engine.max_message_size(), most);
    s.send(&vec![2; most]);
    assert_eq!(s.engine.wait_snd(), 2 * most / MSS);
    s.send(&[3; 2 * MSS]);
    assert_eq!(s.engine.wait_snd(), 2 * most / MSS + 3);
}
