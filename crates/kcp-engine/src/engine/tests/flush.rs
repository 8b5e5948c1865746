//! protocol.md 7: the order of one flush, probes, policies.

use super::*;

/// protocol.md 7.1: ACKs, then WASK, WINS, then data by sn; probes carry the last ACK's sn and ts.
#[test]
fn a_flush_has_c_s_order() {
    let mut s = Script::as_c(&plain());
    s.send(b"old").tick(10).sends(&["PUSH 0 ts=10 len=3"]);
    s.at(15).input(&[
        push(0, b"in").ts(7),
        push(1, b"in").ts(8),
        seg(Command::Wask, 0),
    ]);
    s.engine.keepalive();
    s.send(b"new").tick(20).sends(&[
        "ACK 0 ts=7 una=2 wnd=126 | ACK 1 ts=8 una=2 wnd=126 | WASK 1 ts=8 una=2 wnd=126 | \
         WINS 1 ts=8 una=2 wnd=126 | PUSH 1 ts=20 una=2 len=3 wnd=126",
    ]);
}

/// protocol.md 7.2: ACKs fill datagrams, 58 to one of 1400 bytes.
#[test]
fn acks_share_datagrams() {
    let mut s = Script::as_c(&plain());
    for sn in 0..60 {
        s.input(&[push(sn, b"x")]);
    }
    let lines = s.tick(10).drain();
    let counts: Vec<_> = lines
        .iter()
        .map(|line| line.matches("ACK").count())
        .collect();
    assert_eq!(counts, [58, 2]);
}

/// protocol.md 2.3.3: 51 to 1,232 bytes; data behind them may fill the datagram.
#[test]
fn datagrams_of_acks_pass_every_path() {
    let mut s = Script::strict(&plain());
    for sn in 0..111 {
        s.input(&[push(sn, b"x")]);
    }
    s.send(&[7; 152]);
    let lines = s.tick(10).drain();
    let segments: Vec<_> = lines
        .iter()
        .map(|line| (line.matches("ACK").count(), line.matches("PUSH").count()))
        .collect();
    assert_eq!(segments, [(51, 0), (51, 0), (9, 1)]);

    for sn in 111..162 {
        s.input(&[push(sn, b"x")]);
    }
    // 1,224 bytes and 176 make 1,400.
    s.send(&[8; 152]);
    let lines = s.tick(20).drain();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(lines[0].matches("ACK").count(), 51);
    assert_eq!(lines[0].matches("PUSH").count(), 1);
}

/// protocol.md 7.3: a closed window is probed after 7 s, then after half as long again each time.
#[test]
fn a_closed_window_is_probed() {
    let mut s = Script::as_c(&plain());
    s.input(&[seg(Command::Wins, 0).wnd(0)]);
    s.send(b"stuck").tick(10).silent();
    let mut asked = Vec::new();
    while asked.len() < 9 {
        let at = s.deadline().unwrap();
        if s.tick(at).drain() == ["WASK 0"] {
            asked.push(at);
        }
    }
    let gaps: Vec<_> = asked.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(asked[0], 7_010);
    assert_eq!(
        gaps,
        [
            10_500, 15_750, 23_625, 35_437, 53_155, 79_732, 119_598, 120_000
        ]
    );
    // Opened: the data leaves and the probe is forgotten.
    let now = asked[8] + 10;
    s.at(now).input(&[seg(Command::Wins, 0).wnd(5)]);
    assert_eq!(
        s.tick(now).drain(),
        [alloc::format!("PUSH 0 ts={now} len=5")]
    );
    assert_eq!(s.engine.classic_state().probe_wait, 0);
}

/// protocol.md 7.3: C probes a closed window even with nothing to send.
#[test]
fn a_closed_window_is_probed_without_data() {
    let mut s = Script::as_c(&plain());
    s.input(&[seg(Command::Wins, 0).wnd(0)]);
    assert_eq!(s.deadline(), Some(10));
    s.tick(10).silent();
    assert_eq!(s.deadline(), Some(7_010));
    s.tick(7_010).sends(&["WASK 0"]);
}

/// protocol.md 7.3: a WASK is answered by a WINS.
#[test]
fn a_probe_is_answered() {
    let mut s = Script::as_c(&plain());
    s.input(&[seg(Command::Wask, 9)]);
    s.tick(10).sends(&["WINS 0"]);
    s.tick(20).silent();
}

/// protocol.md 7.4: no more in flight than either window allows, counted from the oldest.
#[test]
fn admission_respects_both_windows() {
    let mut s = Script::as_c(&plain().send_window(3));
    for _ in 0..6 {
        s.send(b"x");
    }
    s.tick(10)
        .sends(&["PUSH 0 ts=10 len=1 | PUSH 1 ts=10 len=1 | PUSH 2 ts=10 len=1"]);
    // A hole at 0 keeps the window where it is.
    s.at(15).input(&[ack(1, 10), ack(2, 10)]);
    s.tick(20).silent();
    s.at(25).input(&[ack(0, 10).wnd(2)]);
    s.tick(30)
        .sends(&["PUSH 3 ts=30 len=1 | PUSH 4 ts=30 len=1"]);
}

/// protocol.md 7.6: Interval sends at ticks only.
#[test]
fn interval_waits_for_the_tick() {
    let mut s = Script::as_c(&plain());
    s.at(3).send(b"x").silent();
    assert_eq!(s.deadline(), Some(10));
    s.tick(9).silent();
    s.tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.at(12).input(&[push(0, b"in")]).silent();
    assert_eq!(s.deadline(), Some(20));
}

/// protocol.md 7.6: Immediate sends a write at once, and all ACKs of a batch together.
#[test]
fn immediate_sends_at_the_end_of_a_batch() {
    let mut s = Script::as_c(&plain().flush_policy(FlushPolicy::Immediate).send_window(1));
    s.at(3).send(b"x").send(b"y").sends(&["PUSH 0 ts=3 len=1"]);
    s.at(5)
        .input(&[push(0, b"a")])
        .input(&[push(1, b"b")])
        .input(&[ack(0, 3).una(1)]);
    s.sends(&["ACK 0 una=2 wnd=126 | ACK 1 una=2 wnd=126 | PUSH 1 ts=5 una=2 len=1 wnd=126"]);
}

/// protocol.md 7.6: held ACKs leave with the answer, when there is none, or at the tick.
#[test]
fn held_acks_wait_for_the_answer_or_the_tick() {
    let mut s = Script::as_c(&plain().flush_policy(FlushPolicy::Immediate));
    s.at(5).input(&[push(0, b"a")]);
    s.engine.hold_acks();
    s.silent().send(b"x");
    s.sends(&["ACK 0 una=1 wnd=127 | PUSH 0 ts=5 una=1 len=1 wnd=127"]);
    assert!(!s.engine.release_acks(), "they have left");
    s.at(7).input(&[push(1, b"b")]);
    s.engine.hold_acks();
    s.silent();
    assert!(s.engine.release_acks());
    s.sends(&["ACK 1 una=2 wnd=126"]);
    s.at(9).input(&[push(2, b"c")]);
    s.engine.hold_acks();
    s.silent();
    assert_eq!(s.deadline(), Some(10));
    s.tick(10).sends(&["ACK 2 una=3 wnd=125"]);
    // What leaves anyway takes them along.
    s.at(12).send(b"y").input(&[push(3, b"d")]);
    s.engine.hold_acks();
    s.sends(&["ACK 3 una=4 wnd=124 | PUSH 1 ts=12 una=4 len=1 wnd=124"]);
}

/// protocol.md 7.6: Immediate resends what was overtaken without waiting for the tick.
#[test]
fn immediate_resends_early_at_once() {
    let mut s = Script::as_c(&fast().flush_policy(FlushPolicy::Immediate));
    s.at(1).send(b"x").send(b"y").send(b"z").drain();
    s.at(4).input(&[ack(1, 1)]).silent();
    s.input(&[ack(2, 1)]).sends(&["PUSH 0 ts=4 len=1"]);
}

/// protocol.md 7.6: a flush can be asked for under Interval too.
#[test]
fn a_flush_can_be_requested() {
    let mut s = Script::as_c(&plain());
    s.at(3).send(b"x");
    s.engine.request_flush();
    s.sends(&["PUSH 0 ts=3 len=1"]);
}

/// protocol.md 7.7: C's dead-link mark appears after 20 transmissions and nothing stops.
#[test]
fn dead_link_is_reported_only() {
    let mut s = Script::as_c(&plain().nodelay(NoDelay::Linear));
    s.send(b"x");
    for sent in 1..=25 {
        let at = s.deadline().unwrap();
        assert_eq!(s.tick(at).drain().len(), 1);
        assert_eq!(s.engine.stats().dead_link, sent >= 20, "after {sent}");
    }
}

/// D6 of the design: what a full socket leaves behind is kept, and skipped once acknowledged.
#[test]
fn an_undrained_flush_is_kept() {
    let mut s = Script::strict(&plain());
    for _ in 0..3 {
        s.send(&[0; 1_000]);
    }
    let mut out = Vec::new();
    s.tick(10);
    assert!(s.engine.poll_transmit(s.now, &mut out, 1).is_some());
    assert_eq!(
        s.deadline(),
        None,
        "nothing to wait for until it is drained"
    );
    s.send(b"later").tick(20);
    s.at(21).input(&[ack(1, 10)]);
    s.sends(&["PUSH 2 ts=10 len=1000", "PUSH 3 ts=21 len=5"]);
}

/// When all that waited has been acknowledged, the drain goes on to what was wanted meanwhile.
#[test]
fn a_drain_does_not_end_early() {
    let mut s = Script::strict(&plain().flush_policy(FlushPolicy::Immediate));
    s.at(1).send(b"x").sends(&["PUSH 0 ts=1 len=1"]);
    s.at(210);
    s.engine.handle_timeout(s.now);
    // Undrained; the acknowledgement and new data come first.
    s.tick(300).input(&[ack(0, 1).una(1), push(0, b"in")]);
    s.sends(&["ACK 0 una=1 wnd=127"]);
}

/// A train is datagrams of one size, the last perhaps shorter.
#[test]
fn trains_are_equal_sized() {
    let mut s = Script::strict(&plain().stream_mode(true).window_size(256, 256));
    s.input(&[seg(Command::Wins, 0).wnd(256)]);
    s.engine.write(&[0; 10 * 1_376 + 5]).unwrap();
    s.send(b"tail").tick(10);
    let mut out = Vec::new();
    let train = s.engine.poll_transmit(s.now, &mut out, 4).unwrap();
    assert_eq!((train.len, train.segment_size), (4 * 1_400, 1_400));
    let train = s.engine.poll_transmit(s.now, &mut out, 64).unwrap();
    assert_eq!((train.len, train.segment_size), (6 * 1_400 + 33, 1_400));
    assert_eq!(s.engine.poll_transmit(s.now, &mut out, 64), None);
    assert_eq!(out.len(), 10 * 1_400 + 33);
}
