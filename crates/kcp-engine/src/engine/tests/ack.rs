//! protocol.md 5 and 8: what acknowledgements do.

use super::*;

/// Six one-byte segments in flight, sent at 10 ms.
fn six_in_flight(config: &KcpConfig) -> Script {
    let mut s = Script::as_c(config);
    for _ in 0..6 {
        s.send(b"x");
    }
    assert_eq!(s.tick(10).drain().len(), 1);
    s
}

fn unacked(s: &Script) -> (u32, u32, u32) {
    let state = s.engine.classic_state();
    (state.snd_una, state.snd_nxt, state.nsnd_buf)
}

/// protocol.md 5.1: una frees everything before it, on any command.
#[test]
fn una_frees_all_before() {
    let mut s = six_in_flight(&plain());
    s.at(15).input(&[seg(Command::Wins, 0).una(4)]);
    assert_eq!(unacked(&s), (4, 6, 2));
    // An older una changes nothing.
    s.input(&[seg(Command::Wins, 0).una(2)]);
    assert_eq!(unacked(&s), (4, 6, 2));
}

/// protocol.md 5.2: an ACK frees exactly one; the oldest stays the oldest until it goes.
#[test]
fn ack_frees_one() {
    let mut s = six_in_flight(&plain());
    s.at(15).input(&[ack(3, 10), ack(1, 10)]);
    assert_eq!(unacked(&s), (0, 6, 4));
    s.input(&[ack(0, 10)]);
    assert_eq!(unacked(&s), (2, 6, 3));
    s.input(&[ack(2, 10)]);
    assert_eq!(unacked(&s), (4, 6, 2));
    // Outside the window in either direction: nothing.
    s.input(&[ack(0, 10), ack(6, 10), ack(9, 10)]);
    assert_eq!(unacked(&s), (4, 6, 2));
}

/// protocol.md 5.3: two datagrams that acknowledge later ones resend the one they passed.
#[test]
fn overtaken_twice_is_resent() {
    let mut s = six_in_flight(&fast());
    s.at(15).input(&[ack(1, 10)]).input(&[ack(2, 10)]);
    s.tick(20).sends(&["PUSH 0 ts=20 len=1"]);
    assert_eq!(s.engine.stats().fast_resends, 1);
}

/// protocol.md 5.3: many ACKs in one datagram are one event.
#[test]
fn one_datagram_counts_once() {
    let mut s = six_in_flight(&fast());
    s.at(15)
        .input(&[ack(1, 10), ack(2, 10), ack(3, 10), ack(4, 10)]);
    s.tick(20).silent();
    s.input(&[ack(5, 10)]);
    s.tick(30).sends(&["PUSH 0 ts=30 len=1"]);
}

/// protocol.md 5.3: an ACK of an older transmission does not count against a newer one.
#[test]
fn conserve_ignores_older_transmissions() {
    let mut s = six_in_flight(&fast());
    s.at(15).input(&[ack(1, 10)]).input(&[ack(2, 10)]);
    s.tick(20).sends(&["PUSH 0 ts=20 len=1"]);
    // These were sent before segment 0 was sent again: they say nothing about it.
    s.at(25)
        .input(&[ack(3, 10)])
        .input(&[ack(4, 10)])
        .input(&[ack(5, 10)]);
    s.tick(30).silent();
    // These were sent after it.
    s.send(b"y")
        .send(b"z")
        .tick(40)
        .sends(&["PUSH 6 ts=40 len=1 | PUSH 7 ts=40 len=1"]);
    s.at(45).input(&[ack(6, 40)]).input(&[ack(7, 40)]);
    s.tick(50).sends(&["PUSH 0 ts=50 len=1"]);
}

/// protocol.md 5.3: the event's ACK is replaced only by one that is later in sn and in ts.
#[test]
fn conserve_needs_both_sn_and_ts_to_grow() {
    let mut s = six_in_flight(&fast());
    s.send(b"late").tick(20).sends(&["PUSH 6 ts=20 len=4"]);
    // sn 6 comes first; 2 and 3 are behind it. The event is (6, 20): 0, 1, 4, 5 count.
    s.at(25).input(&[ack(6, 20), ack(2, 10), ack(3, 10)]);
    // (1, 10) first, then a larger sn with the same ts: not replaced. Only 0 counts.
    s.input(&[ack(1, 10), ack(4, 10)]);
    s.tick(30).sends(&["PUSH 0 ts=30 len=1"]);
}

/// protocol.md 7.5: after five transmissions only the time-out resends.
#[test]
fn fast_resend_stops_at_the_limit() {
    let mut s = Script::as_c(&fast().fast_resend(1).window_size(64, 128));
    s.send(b"victim").tick(10).sends(&["PUSH 0 ts=10 len=6"]);
    let mut now = 10;
    let mut sent = 1;
    for round in 1..12_u32 {
        now += 10;
        s.send(b"x").tick(u64::from(now));
        let lines = s.drain().join("|");
        sent += u32::from(lines.contains("PUSH 0 "));
        s.at(u64::from(now)).input(&[ack(round, now)]);
    }
    // 200 ms of RTO do not pass here: one transmission, and resends while xmit <= 5.
    assert_eq!(sent, 6);
}

/// protocol.md 7.5 and 5.3: a time-out keeps the count, and the flush after it resends once more.
#[test]
fn the_count_survives_a_timeout() {
    let mut s = Script::as_c(&fast());
    s.send(b"x").send(b"y").send(b"z").tick(10).drain();
    // Overtaken twice, but no flush looks before the time-out (10 + 200 ms) has passed as well.
    s.at(20).input(&[ack(1, 10)]).input(&[ack(2, 10)]);
    s.tick(210).sends(&["PUSH 0 ts=210 len=1"]);
    assert_eq!(s.engine.stats().timeout_resends, 1);
    s.tick(220).sends(&["PUSH 0 ts=220 len=1"]);
    assert_eq!(s.engine.stats().fast_resends, 1);
    s.tick(230).silent();
}

/// protocol.md 8.3, 8.1: the classic window is 0 until the first flush, then grows per datagram.
#[test]
fn the_classic_window_opens_slowly() {
    let config = plain().congestion_window(true);
    let engine = KcpEngine::new(
        CONV,
        &config,
        EngineOptions {
            validation: Validation::AsC,
            ..Default::default()
        },
    );
    let mut s = Script {
        engine: engine.unwrap(),
        now: Instant::ZERO,
    };
    for _ in 0..8 {
        s.send(b"x");
    }
    s.tick(0).silent();
    s.tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.at(15).input(&[ack(0, 10).una(1)]);
    s.tick(20)
        .sends(&["PUSH 1 ts=20 len=1 | PUSH 2 ts=20 len=1"]);
    // Both acknowledged by one datagram: grown once, by the slower rule, and not yet by a whole.
    s.at(25).input(&[ack(1, 20).una(2), ack(2, 20).una(3)]);
    s.tick(30)
        .sends(&["PUSH 3 ts=30 len=1 | PUSH 4 ts=30 len=1"]);
}

/// protocol.md 8.2: a time-out takes the window back to one segment.
#[test]
fn a_timeout_collapses_the_classic_window() {
    let mut s = Script::as_c(&plain().congestion_window(true).nodelay(NoDelay::Fast));
    s.send(b"a").tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.at(15).input(&[ack(0, 10).una(1)]);
    assert_eq!(s.engine.classic_state().cwnd, 2);
    s.send(b"b").send(b"c").tick(20).drain();
    let rto = u64::from(s.engine.classic_state().rx_rto);
    assert_eq!(s.tick(20 + rto).drain().len(), 1);
    let state = s.engine.classic_state();
    assert_eq!((state.cwnd, state.ssthresh, state.incr), (1, 2, 1_376));
}

/// protocol.md 9.4: sequence numbers and time stamps wrap under acknowledgements too.
#[test]
fn acknowledging_across_both_wraps() {
    let options = EngineOptions {
        validation: Validation::AsC,
        first_sn: Sn::new(u32::MAX),
        ts_offset: u32::MAX - 14,
        ..Default::default()
    };
    let mut s = Script::with(&fast(), options);
    s.send(b"x").send(b"y").send(b"z").tick(10);
    s.sends(&["PUSH 4294967295 ts=4294967291 una=4294967295 len=1 | \
               PUSH 0 ts=4294967291 una=4294967295 len=1 | \
               PUSH 1 ts=4294967291 una=4294967295 len=1"]);
    s.at(18).input(&[ack(0, 4_294_967_291).una(u32::MAX)]);
    s.input(&[ack(1, 4_294_967_291).una(u32::MAX)]);
    s.tick(20)
        .sends(&["PUSH 4294967295 ts=5 una=4294967295 len=1"]);
    assert_eq!(s.engine.classic_state().rx_srtt, 8);
    s.at(25).input(&[ack(u32::MAX, 5).una(2)]);
    assert_eq!(s.engine.wait_snd(), 0);
}

/// protocol.md 5.1: each segment's una and wnd count, also those that change within a datagram and back.
#[test]
fn segments_of_a_datagram_need_not_agree() {
    for mut s in [Script::as_c(&fast()), Script::strict(&fast())] {
        s.send(b"a").send(b"b").send(b"c").tick(10).drain();
        let (a, b) = (ack(1, 10).wnd(100), ack(2, 10).una(1).wnd(7));
        s.at(20).input(&[a.clone(), a.clone(), b.clone()]);
        assert_eq!(s.engine.wait_snd(), 0);
        assert_eq!(s.engine.stats().remote_window, 7);
        s.input(&[a.clone(), b, a]);
        assert_eq!(s.engine.stats().remote_window, 100);
    }
}

/// protocol.md 12.5.1: how long the oldest segment has been stuck counts from the last closed window, also
/// where two segments say the same.
#[test]
fn a_window_that_stays_closed_is_closed_again_with_each_segment() {
    let mut s = Script::strict(&fast());
    s.send(b"a").tick(10).drain();
    s.at(20).input(&[ack(0, 10).una(1)]);
    s.send(b"b").tick(30).drain();
    for now in [40, 3_000] {
        s.at(now).input(&[push(0, b"x").una(1).wnd(0)]);
    }
    for now in (3_010..4_000).step_by(10) {
        s.tick(now).drain();
    }
    s.input(&[push(0, b"x").una(1)]);
    let since = s.engine.head_stall().map(|stall| stall.since);
    assert_eq!(since, Some(Instant::from_millis(3_000)));
}

/// protocol.md 11.5: what was refused while the window was 0 does not wait for its backed-off time-out.
#[test]
fn what_a_closed_window_refused_is_sent_again_when_it_opens() {
    let mut s = Script::strict(&fast());
    s.send(b"a").tick(10).drain();
    s.at(20).input(&[ack(0, 10).una(1)]);
    s.send(b"b").send(b"c").send(b"d").tick(30).drain();
    s.at(40).input(&[push(0, b"x").una(1).wnd(0)]);
    for now in (50..9_000).step_by(10) {
        s.tick(now).drain();
    }
    // As many as there is room for.
    s.at(9_000).input(&[push(1, b"x").una(1).wnd(2)]);
    let again = s.tick(9_000).drain().join(" ");
    let sent = [1, 2, 3].map(|sn| again.contains(&format!("PUSH {sn}")));
    assert_eq!(sent, [true, true, false], "{again}");
    // And the rest as the room grows.
    s.at(9_010).input(&[push(2, b"x").una(1).wnd(3)]);
    let rest = s.tick(9_010).drain().join(" ");
    assert!(
        rest.contains("PUSH 3") && !rest.contains("PUSH 2"),
        "{rest}"
    );
}
