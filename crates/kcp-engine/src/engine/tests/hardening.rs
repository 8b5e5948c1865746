//! protocol.md 11: what a strict engine does not believe.

use super::*;
use crate::Fault;
use crate::engine::missed::Refusals;

/// protocol.md 11.2: an una beyond what was sent is impossible; nothing of the segment counts.
#[test]
fn una_beyond_what_was_sent_is_ignored() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(20).input(&[ack(0, 10).una(1)]);
    s.input(&[push(0, b"in").una(2)])
        .input(&[seg(Command::Wins, 0).una(u32::MAX - 9).wnd(3)]);
    assert_eq!(s.recv(), Err(crate::RecvError::Empty));
    let stats = s.engine.stats();
    assert_eq!((stats.ignored_invalid_una, stats.remote_window), (1, 3));
}

/// protocol.md 11.2: segments from half the number space ago are not even acknowledged.
#[test]
fn ancient_segments_are_not_acknowledged() {
    let mut s = Script::strict(&fast());
    s.input(&[push(u32::MAX - 70_000, b"old")])
        .input(&[push(u32::MAX, b"late")]);
    s.tick(10).sends(&["ACK 4294967295"]);
}

/// protocol.md 11.3: 25 bytes, 53 with headers, are worth 159: the ACK and 76 bytes of answer, once. Then
/// one small datagram, and five more that the caller grants.
#[test]
fn answers_before_proof_are_bounded() {
    for granted in 0..10 {
        let mut s = Script::accepted(&fast());
        s.at(5).input(&[push(0, b"?")]);
        s.send(&[1; 5_000])
            .tick(10)
            .sends(&["ACK 0 una=1 wnd=127 | PUSH 0 frg=4 ts=10 una=1 len=76 wnd=127"]);
        let (mut later, mut grants) = (Vec::new(), granted);
        while let Some(at) = s.deadline().filter(|&at| at < 600_000) {
            later.extend(s.tick(at).drain());
            if grants > 0 && s.engine.take_extra_wanted() {
                s.engine.grant_extra();
                grants -= 1;
            }
        }
        let pushes = later.iter().filter(|line| line.contains("PUSH 0 frg=4"));
        let most = 1 + granted.min(5);
        assert_eq!((pushes.count(), later.len()), (most, most));
        let bytes = s.engine.stats().bytes_sent + 28 * s.engine.stats().datagrams_sent;
        assert!(bytes <= 3 * 53 + 128 * most as u64, "{bytes}");
    }
}

/// protocol.md 11.3: the headers of each datagram count, also of many small ones.
#[test]
fn headers_are_in_the_budget() {
    let mut s = Script::accepted(&fast().mtu(100));
    s.at(5).input(&[push(0, &[0; 376])]);
    for _ in 0..40 {
        s.send(&[1; 60]);
    }
    s.tick(10).drain();
    let stats = s.engine.stats();
    let sent = stats.bytes_sent + 28 * stats.datagrams_sent;
    assert!((900..=3 * 428).contains(&sent), "{sent} for 428");
}

/// protocol.md 11.3: the bytes of a datagram earn answers once, however many segments are in it.
#[test]
fn many_segments_in_a_datagram_earn_no_more() {
    let mut s = Script::accepted(&fast());
    let segments: Vec<_> = (0..10).map(|sn| push(sn, b"?")).collect();
    s.at(5).input(&segments);
    for _ in 0..100 {
        s.send(&[1; 100]);
    }
    s.tick(10).drain();
    let sent = s.engine.stats().bytes_sent;
    assert!((600..=3 * 278 - 28).contains(&sent), "{sent} bytes for 278");
}

/// protocol.md 11.3: what the budget holds back is looked at again an RTO later, and not backed off:
/// once the proof has come it is sent, and again after the time-out that it had.
#[test]
fn what_the_budget_holds_back_is_not_backed_off() {
    let mut s = Script::accepted(&fast());
    s.at(5).input(&[push(0, &[0; 376])]);
    s.send(&[1; 900]).send(&[2; 900]).tick(10).drain();
    // PUSH 1 is too large for what is left, time and again; PUSH 0 is not.
    for at in [210, 410, 610, 810] {
        let sent = s.tick(at).drain();
        assert!(sent.iter().all(|line| !line.contains("PUSH 1")), "{sent:?}");
    }
    // The proof. PUSH 1 keeps its time.
    s.at(900).input(&[ack(0, 10).una(1)]);
    let is_resent = |sent: Vec<String>| sent.iter().any(|line| line.contains("PUSH 1"));
    assert!(!is_resent(s.tick(1_000).drain()));
    assert!(is_resent(s.tick(1_010).drain()));
    // 200 ms at first, 300 after a time-out.
    assert!(!is_resent(s.tick(1_300).drain()));
    assert!(is_resent(s.tick(1_310).drain()));
}

/// protocol.md 11.3: the answer arrives although its first transmission was lost, and the proof
/// opens everything.
#[test]
fn proof_opens_the_window() {
    let mut s = Script::accepted(&fast());
    s.at(5).input(&[push(0, b"?")]);
    s.send(&[1; 5_000]).tick(10).drain();
    // Lost; the time-out's copy gets through.
    let at = s.deadline().unwrap();
    s.tick(at)
        .sends(&["PUSH 0 frg=4 ts=210 una=1 len=76 wnd=127"]);
    s.at(at + 5).input(&[ack(0, at as u32).una(1)]);
    s.tick(at + 10).sends(&[
        "PUSH 1 frg=3 ts=220 una=1 len=1300 wnd=127",
        "PUSH 2 frg=2 ts=220 una=1 len=1376 wnd=127",
        "PUSH 3 frg=1 ts=220 una=1 len=1376 wnd=127",
        "PUSH 4 ts=220 una=1 len=872 wnd=127",
    ]);
}

/// protocol.md 11.3: questions and their answers count as well.
#[test]
fn questions_are_in_the_budget() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"?")]);
    for ms in 1..100 {
        s.engine.keepalive();
        s.tick(ms * 50).drain();
    }
    let stats = s.engine.stats();
    assert!(stats.bytes_sent + 28 * stats.datagrams_sent <= 3 * 53);
}

/// protocol.md 11.3: a cut stream keeps its bytes unnumbered.
#[test]
fn a_cut_stream_segment_is_no_fragment() {
    let mut s = Script::accepted(&fast().stream_mode(true));
    s.at(5).input(&[push(0, b"?")]);
    s.engine.write(&[1; 500]).unwrap();
    s.tick(10)
        .sends(&["ACK 0 una=1 wnd=127 | PUSH 0 ts=10 una=1 len=76 wnd=127"]);
    s.at(20).input(&[ack(0, 10).una(1)]);
    s.tick(20).sends(&["PUSH 1 ts=20 una=1 len=424 wnd=127"]);
}

/// protocol.md 11.3: more is earned by receiving more; the connecting side needs none of it.
#[test]
fn the_budget_grows_with_what_is_received() {
    let mut s = Script::accepted(&fast());
    s.at(5).input(&[push(0, &[0; 376])]);
    // 3 * 428 - 28 = 1256 bytes: the ACK, 76 bytes that can be repeated, and what else fits.
    s.send(&[1; 900]).send(&[2; 900]).tick(10);
    s.sends(&[
        "ACK 0 una=1 wnd=127 | PUSH 0 frg=1 ts=10 una=1 len=76 wnd=127 | \
               PUSH 1 ts=10 una=1 len=824 wnd=127",
    ]);
    let mut s = Script::strict(&fast());
    s.send(&[1; 1_376])
        .tick(10)
        .sends(&["PUSH 0 ts=10 len=1376"]);
}

/// protocol.md 11.3: when questions have used the budget up, the first segment is an extra: with
/// nothing in flight no time-out would ever send it.
#[test]
fn the_first_answer_never_waits_for_ever() {
    let mut s = Script::accepted(&fast());
    s.input(&[seg(Command::Wask, 0)]);
    s.engine.keepalive();
    s.tick(10).sends(&["WASK 0 ts=10 | WINS 0"]);
    s.engine.keepalive();
    s.tick(60).sends(&["WASK 0 ts=60"]);
    s.send(&[1; 500]).tick(70);
    s.sends(&["PUSH 0 frg=1 ts=70 len=76"]);
    s.at(90).input(&[ack(0, 70).una(1)]);
    s.tick(90).sends(&["PUSH 1 ts=90 len=424"]);
}

/// protocol.md 11.5: a WINS that reopens the window is repeated until data comes.
#[test]
fn reopening_is_repeated() {
    let mut s = Script::strict(&fast());
    for sn in 0..128 {
        s.input(&[push(sn, b"x")]);
    }
    s.tick(10).drain();
    s.recv().unwrap();
    s.tick(20).sends(&["WINS 0 una=128 wnd=1"]);
    let mut times = Vec::new();
    while let Some(at) = s.deadline() {
        s.tick(at).sends(&["WINS 0 una=128 wnd=1"]);
        times.push(at);
    }
    assert_eq!(times, [220, 420, 620, 820, 1_020]);
    for _ in 0..2 {
        s.recv().unwrap();
    }
    s.at(1_100).input(&[push(128, b"x")]);
    s.tick(1_100).drain();
    assert_eq!(s.deadline(), None);
}

/// protocol.md 11.5: a closed window is first probed after half a second: a stock peer sends the
/// WINS that reopens it only once.
#[test]
fn a_closed_window_is_probed_early() {
    let mut s = Script::strict(&fast());
    s.input(&[seg(Command::Wins, 0).wnd(0)]);
    s.send(b"stuck").tick(10).silent();
    let mut asked = Vec::new();
    while asked.len() < 4 {
        let at = s.deadline().unwrap();
        asked.extend((!s.tick(at).drain().is_empty()).then_some(at));
    }
    assert_eq!(asked, [510, 1_260, 2_385, 4_072]);
}

/// protocol.md 11.5: without a congestion window at most 32 segments leave before the peer spoke.
#[test]
fn the_first_flight_is_32_segments() {
    let mut s = Script::strict(&fast().window_size(256, 256));
    s.engine.write(&alloc::vec![0; 100 * 1_376]).unwrap();
    assert_eq!(s.tick(10).drain().len(), 32);
    s.at(20).input(&[ack(0, 10).una(1).wnd(256)]);
    assert_eq!(s.tick(20).drain().len(), 68);
}

/// An engine at 90 ms whose path carries 92 segments in 10 ms, over 40 ms: 1,472 may be in flight.
fn on_a_wide_path() -> Script {
    let mut s = Script::strict(&fast().window_size(1_024, 1_024));
    s.send(b"x").tick(10).drain();
    s.at(50).input(&[ack(0, 10).una(1).wnd(1_024)]);
    s.engine.write(&alloc::vec![0; 92 * 1_376]).unwrap();
    assert_eq!(s.tick(50).drain().len(), 92);
    for sn in 1..93 {
        s.at(90).input(&[ack(sn, 50).una(sn + 1).wnd(1_024)]);
    }
    s
}

/// protocol.md 11.5: 256 segments a datagram, however often it closes and opens the window.
#[test]
fn what_a_closed_window_refused_is_looked_at_in_parts() {
    let mut s = on_a_wide_path();
    s.engine.write(&alloc::vec![0; 600 * 1_376]).unwrap();
    let mut now = 100;
    while s.engine.stats().queued_segments > 0 {
        s.tick(now).drain();
        now += 1;
    }
    let flaps = [0, 1_024, 0, 1_024].map(|wnd| push(0, b"x").una(93).wnd(wnd));
    s.input(&flaps);
    let mut left = alloc::vec![];
    while let Refusals::From(sn) = s.engine.refusals {
        left.push(sn.get());
        s.input(&flaps[3..]);
    }
    assert_eq!(left, [93 + 256, 93 + 512]);
}

/// protocol.md 11.5: the peer is gone, and forged WASKs close and open the window each second. 48 bytes a second made
/// 519 kB a second, without end.
#[test]
fn a_window_that_flaps_undoes_no_backoff_for_ever() {
    let mut s = on_a_wide_path();
    s.engine.write(&alloc::vec![0; 90 * 1_376]).unwrap();
    let mut sent = [0, 0];
    for now in (100..240_000).step_by(10) {
        if now % 1_000 == 0 {
            s.at(now)
                .input(&[0, 1_024].map(|wnd| seg(Command::Wask, 0).una(93).wnd(wnd)));
        }
        let lines = s.tick(now).drain().join(" ");
        sent[usize::from(now > 120_000)] += lines.matches("PUSH").count();
    }
    // 16 each, 17 to back off by half as much again from 100 ms to a minute, and one more; then one or two a minute.
    assert!(sent[0] <= 90 * 35, "{sent:?}");
    assert!(sent[1] <= 90 * 4, "{sent:?}");
}

/// protocol.md 11.6: a flush sends at most two trains, the rest follows at window / srtt.
#[test]
fn bursts_are_bounded() {
    let mut s = on_a_wide_path();
    s.engine.write(&alloc::vec![0; 1_000 * 1_376]).unwrap();
    assert_eq!(s.tick(100).drain().len(), 92);
    // 1024 * 1400 bytes per 40 ms: 35.84 bytes a microsecond, in trains of a millisecond.
    assert_eq!(s.engine.poll_timeout(), Some(Instant::from_millis(101)));
    let mut sent = 92;
    let mut trains = 0;
    while sent < 1_000 {
        trains += 1;
        let at = s.engine.poll_timeout().unwrap();
        s.now = at;
        s.engine.handle_timeout(at);
        sent += s.drain().len();
    }
    let end = s.now.as_micros();
    // 908 segments at 25.6 a millisecond.
    assert!((100_000 + 35_200..100_000 + 37_600).contains(&end), "{end}");
    assert!(trains <= 37, "{trains}");
}

/// protocol.md 11.6 and 7.6: whoever drains when the time has come need not be called by a timer.
#[test]
fn a_released_rest_leaves_without_a_timer() {
    let mut s = on_a_wide_path();
    s.engine.write(&alloc::vec![0; 1_000 * 1_376]).unwrap();
    assert_eq!(s.tick(100).drain().len(), 92);
    assert!(s.engine.is_paced() && !s.engine.wants_transmit());
    s.silent();
    // 35.84 bytes a microsecond, from the end of the burst on.
    s.at(101);
    assert_eq!(s.drain().len(), 26);
    assert!(s.engine.is_paced());
}

/// protocol.md 11.7: a flood of duplicates fills the ACK list only so far.
#[test]
fn the_ack_list_is_bounded() {
    let mut s = Script::strict(&fast());
    for _ in 0..10_000 {
        s.input(&[push(0, b"x")]);
    }
    let lines = s.tick(10).drain();
    let acks: usize = lines.iter().map(|line| line.matches("ACK").count()).sum();
    assert_eq!(acks, 256);
    assert_eq!(s.engine.stats().ignored_ack_list_full, 10_000 - 256);
}

/// protocol.md 11.4: bytes held are bounded, what completes the message in front still gets in, and
/// the bound follows the settings.
#[test]
fn held_bytes_are_bounded() {
    let mut s = Script::strict(&fast());
    let huge = alloc::vec![7; 60_000];
    for sn in 1..128 {
        s.input(&[push(sn, &huge)]);
    }
    let held = s.engine.stats();
    assert!(held.unread_bytes <= 128 * 1_500, "{}", held.unread_bytes);
    assert!(held.ignored_no_room >= 124);
    s.engine.set_windows(128, 1_000).unwrap();
    for sn in 1..128 {
        s.input(&[push(sn, &huge)]);
    }
    assert!(s.engine.stats().unread_bytes > 128 * 1_500);
}

/// protocol.md 4.1 and 11.4: the peer's mtu is its own business: its largest message arrives.
#[test]
fn a_message_of_large_segments_arrives() {
    let config = fast().incomplete_message_limit(Some(127 * 60_000));
    let mut s = Script::strict(&config);
    let huge = alloc::vec![7; 60_000];
    for sn in 0..127 {
        s.input(&[push(sn, &huge).frg(126 - sn as u8)]);
    }
    assert_eq!(s.engine.peek_size(), Some(127 * 60_000));
    assert_eq!(s.engine.fault(), None);
}

/// protocol.md 11.4: a message without an end is bounded; the largest of a usual peer gets in.
#[test]
fn a_message_without_an_end_ends_the_session() {
    for (len, limit) in [(1_376, 127), (65_000, 3)] {
        let mut s = Script::strict(&fast().window_size(128, 256));
        let taken = (0..255).find(|&sn| {
            s.input(&[push(sn, &alloc::vec![7; len]).frg(255)]);
            s.engine.fault().is_some()
        });
        let taken = taken.unwrap() + 1;
        assert_eq!(s.engine.fault(), Some(Fault::MessageTooLong));
        assert!(s.engine.stats().unread_bytes <= 127 * 1_500 + len);
        assert!((limit..=limit + 12).contains(&taken), "{taken} of {len}");
    }
    // What a reader can take is no such message.
    let mut s = Script::strict(&fast().window_size(128, 1_024));
    for sn in 0..500 {
        s.input(&[push(sn, &[7; 1_376])]);
    }
    assert_eq!(s.engine.fault(), None);
}

/// protocol.md 11.4: a gap of an unvalidated peer is let go after a minute, the session is not; a peer
/// that has proven its address keeps it.
#[test]
fn a_gap_is_kept_for_a_minute() {
    for proven in [false, true] {
        let mut s = Script::accepted(&fast());
        s.input(&[push(0, b"x")]);
        if proven {
            s.send(b"y").tick(10).drain();
            s.at(20).input(&[ack(0, 10)]);
        }
        s.at(1_000).input(&[push(2, b"z")]).tick(1_010).drain();
        s.tick(60_900).drain();
        assert_eq!(s.engine.stats().unread_bytes, 2);
        s.tick(61_020).drain();
        let stats = s.engine.stats();
        let left = if proven { (2, 0) } else { (1, 1) };
        assert_eq!((stats.unread_bytes, stats.dropped_stale), left);
        assert_eq!(s.engine.fault(), None);
        s.input(&[push(1, b"y"), push(2, b"z")]);
        assert_eq!(s.recv().as_deref(), Ok(b"x".as_slice()));
        assert_eq!(s.engine.stats().unread_bytes, 2);
    }
}

/// protocol.md 11.5: a window enlarged while it was closed is told to the peer.
#[test]
fn enlarging_a_full_window_tells_the_peer() {
    let mut s = Script::strict(&fast());
    for sn in 0..128 {
        s.input(&[push(sn, b"x")]);
    }
    s.tick(10).drain();
    s.engine.set_windows(128, 200).unwrap();
    s.tick(20).sends(&["WINS 0 una=128 wnd=72"]);
}

/// protocol.md 11.6: what is unacknowledged opens as the path shows that it carries it.
#[test]
fn the_flight_grows_with_the_path() {
    let mut s = Script::strict(&fast().window_size(8_192, 8_192));
    s.send(b"x").tick(10).drain();
    s.at(110).input(&[ack(0, 10).una(1).wnd(8_192)]);
    s.engine.write(&alloc::vec![0; 9_000 * 1_376]).unwrap();
    let in_flight_at = |s: &mut Script, end: u64| {
        let end = Instant::from_millis(end);
        while let Some(at) = s.engine.poll_timeout().filter(|&at| at < end) {
            s.now = at;
            s.engine.handle_timeout(at);
            s.drain();
        }
        s.engine.stats().in_flight_segments
    };
    assert_eq!(in_flight_at(&mut s, 250), 128);
    // The first burst arrives within 10 ms, 100 ms after the round trip of the first segment began.
    for sn in 1..93 {
        s.at(250).input(&[ack(sn, 110).una(sn + 1).wnd(8_192)]);
    }
    // Four times 92 segments per 10 ms, over 100 ms.
    assert_eq!(in_flight_at(&mut s, 400), 3_680);
}

/// protocol.md 11.6: what the pacer holds back after an outage costs a flush a train, not one a
/// segment, and every segment once.
#[test]
fn a_held_back_window_is_resent_in_trains() {
    let mut s = on_a_wide_path();
    s.engine.write(&alloc::vec![0; 1_000 * 1_376]).unwrap();
    while s.engine.stats().segments_sent < 1_093 {
        let at = s.engine.poll_timeout().unwrap();
        s.now = at;
        s.engine.handle_timeout(at);
        s.drain();
    }
    // Silence until all of it has timed out, as after a suspend.
    let sent = s.engine.stats().segments_sent;
    let mut flushes = 0;
    s.tick(60_000).drain();
    while s.engine.stats().segments_sent < sent + 1_000 {
        flushes += 1;
        let at = s.engine.poll_timeout().unwrap();
        s.now = at;
        s.engine.handle_timeout(at);
        s.drain();
    }
    assert_eq!(s.engine.stats().timeout_resends, 1_000);
    // A millisecond of 1024 segments per 40 ms is 25.
    assert!(flushes <= 1_000 / 20, "{flushes}");
}
