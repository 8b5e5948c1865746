//! protocol.md 6.3 and 9: back-off, ticks, deadlines.

use super::*;
use crate::CLOSE_MARK;

/// Times at which one segment is sent when nothing is ever acknowledged.
fn schedule(config: &KcpConfig, count: usize) -> Vec<u64> {
    let mut s = Script::as_c(config);
    s.send(b"x");
    let mut times = Vec::new();
    while times.len() < count {
        let at = s.deadline().unwrap();
        if !s.tick(at).drain().is_empty() {
            times.push(at);
        }
    }
    times
}

/// protocol.md 6.3 and 7.5: nodelay 0 doubles and gives the first transmission an eighth more.
#[test]
fn nodelay_0_doubles() {
    // 200 + 25, then 400, 800, 1600 after the one before.
    assert_eq!(schedule(&plain(), 5), [10, 235, 635, 1_435, 3_035]);
}

/// protocol.md 6.3: nodelay 1 grows by half of the segment's own time-out.
#[test]
fn nodelay_1_grows_by_half() {
    // 200, 300, 450, 675, 1012.
    let config = plain().nodelay(NoDelay::Fast);
    assert_eq!(schedule(&config, 6), [10, 210, 510, 960, 1_635, 2_647]);
}

/// protocol.md 6.3: nodelay 2 grows by half of the session's time-out.
#[test]
fn nodelay_2_grows_linearly() {
    // 200, 300, 400, 500, 600.
    let config = plain().nodelay(NoDelay::Linear);
    assert_eq!(schedule(&config, 6), [10, 210, 510, 910, 1_410, 2_010]);
}

/// protocol.md 6.3: the back-off is the segment's, a new segment starts at the session's time-out.
#[test]
fn backoff_is_per_segment() {
    let mut s = Script::as_c(&plain().nodelay(NoDelay::Fast));
    s.send(b"x").tick(10).drain();
    s.tick(210).sends(&["PUSH 0 ts=210 len=1"]);
    s.send(b"y").tick(220).sends(&["PUSH 1 ts=220 len=1"]);
    s.tick(410).silent();
    s.tick(420).sends(&["PUSH 1 ts=420 len=1"]);
    s.tick(510).sends(&["PUSH 0 ts=510 len=1"]);
}

/// protocol.md 11.8: the back-off saturates instead of wrapping.
#[test]
fn backoff_saturates() {
    let times = schedule(&plain(), 40);
    let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.is_sorted(), "{gaps:?}");
    assert_eq!(gaps.last(), Some(&(i32::MAX as u64)));
}

/// protocol.md 9.1: ticks keep their phase; a late one starts a new phase.
#[test]
fn ticks_keep_their_phase() {
    let mut s = Script::as_c(&plain());
    s.tick(14).send(b"a");
    // Late by 4: the next is at 20, not 24.
    assert_eq!(s.deadline(), Some(20));
    s.tick(20).sends(&["PUSH 0 ts=20 len=1"]);
    s.send(b"b").tick(57).sends(&["PUSH 1 ts=57 len=1"]);
    s.send(b"c");
    assert_eq!(s.deadline(), Some(67));
}

/// protocol.md 9.2: after ten seconds without an update the phase is the present.
#[test]
fn long_pauses_resynchronise() {
    let mut s = Script::as_c(&plain());
    s.tick(10_011).send(b"a");
    assert_eq!(s.deadline(), Some(10_021));
    let mut s = Script::as_c(&plain().interval(Duration::from_secs(5)));
    s.tick(14_999).send(b"a");
    // 9.999 s late: the phase is kept if it lies ahead, else it starts now.
    assert_eq!(s.deadline(), Some(19_999));
}

/// protocol.md 9.3: an idle session has no deadline.
#[test]
fn idle_is_silent() {
    let mut s = Script::strict(&plain());
    assert_eq!(s.deadline(), None);
    s.send(b"x");
    assert_eq!(s.deadline(), Some(10));
    s.tick(10).drain();
    assert_eq!(s.deadline(), Some(235));
    s.at(30).input(&[ack(0, 10).una(1)]);
    assert_eq!(s.deadline(), None);
    s.input(&[push(0, b"in")]);
    assert_eq!(s.deadline(), Some(20), "a tick that is due already");
    s.tick(30).drain();
    assert_eq!(s.deadline(), None, "unread data is nobody's deadline");
}

/// protocol.md 9.3: a deadline is never before the next tick, so an overdue segment does not spin.
#[test]
fn an_overdue_segment_waits_for_the_tick() {
    let mut s = Script::as_c(&plain().interval(Duration::from_millis(150)));
    s.send(b"x").tick(150).drain();
    // Due at 375 (200 + 25 after 150), but ticks are at 300 and 450.
    s.tick(300).silent();
    assert_eq!(s.deadline(), Some(450));
    s.tick(400).silent();
    s.tick(450).sends(&["PUSH 0 ts=450 len=1"]);
}

/// protocol.md 9.3: data queued while the classic window is still 0 has a deadline.
#[test]
fn a_closed_start_window_is_not_idle() {
    let config = plain().congestion_window(true);
    let mut engine = KcpEngine::new(CONV, &config, EngineOptions::default()).unwrap();
    engine.send(b"x").unwrap();
    assert!(engine.poll_timeout().is_some());
    engine.handle_timeout(Instant::ZERO);
    assert_eq!(engine.poll_timeout(), Some(Instant::from_millis(10)));
}

/// protocol.md 6.1: the sample is the echoed time of the very transmission that arrived.
#[test]
fn samples_come_from_the_echoed_transmission() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.tick(210).sends(&["PUSH 0 ts=210 len=1"]);
    s.at(240).input(&[ack(0, 210).una(1)]);
    let stats = s.engine.stats();
    assert_eq!(stats.smoothed_rtt, Duration::from_millis(30));
    assert_eq!(s.engine.classic_state().rx_srtt, 30);
    assert_eq!(stats.rto, Duration::from_millis(90));
}

/// Time that goes back does no harm.
#[test]
fn the_clock_never_goes_back() {
    let mut s = Script::as_c(&plain());
    s.send(b"x").tick(1_000).sends(&["PUSH 0 ts=1000 len=1"]);
    s.tick(10).silent();
    s.send(b"y").tick(1_010).sends(&["PUSH 1 ts=1010 len=1"]);
}

/// protocol.md 11.9: an answer that echoes a question shows what the peer had not when that came.
#[test]
fn what_an_answer_shows_to_be_missing_is_sent_again_at_once() {
    let mut s = Script::strict(&fast());
    let answer = |ts, una| seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(ts).una(una);
    s.send(b"x").tick(10).drain();
    // A round trip of 20 s, by an outage: the next segment would wait for 60 s.
    s.at(20_010).input(&[ack(0, 10).frg(CLOSE_MARK).una(1)]);
    s.send(b"y").send(b"z").tick(20_020);
    s.sends(&["PUSH 1 ts=20020 len=1 | PUSH 2 ts=20020 len=1"]);
    assert_eq!(s.engine.rto(), Duration::from_secs(60));
    s.engine.keepalive();
    s.tick(20_510).sends(&["WASK 0 ts=20510"]);
    s.at(20_515).input(&[answer(20_510, 1)]);
    s.tick(20_520).silent();
    s.engine.keepalive();
    s.tick(20_530).sends(&["WASK 0 ts=20530"]);
    // No echo, of no question, with a closed window.
    s.at(20_535)
        .input(&[seg(Command::Wins, 0).ts(20_530).una(1)]);
    s.input(&[answer(20_529, 1)]);
    s.input(&[answer(20_530, 1).wnd(0)]);
    s.tick(20_540).silent();
    s.input(&[answer(20_530, 1)]);
    s.tick(20_550);
    s.sends(&["PUSH 1 ts=20550 len=1 | PUSH 2 ts=20550 len=1"]);
    // What left after the question is not missing yet, also where the answer comes twice.
    s.at(20_560).input(&[answer(20_530, 1)]);
    s.tick(20_570).silent();
}

/// protocol.md 11.9: of a large flight the oldest, and with the next answer the next.
#[test]
fn an_answer_brings_the_oldest_of_what_is_missing() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(20_010).input(&[ack(0, 10).frg(CLOSE_MARK).una(1)]);
    for _ in 0..40 {
        s.send(b"y");
    }
    s.tick(20_020).drain();
    s.engine.keepalive();
    s.tick(21_000).drain();
    let answer = seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(21_000).una(1);
    s.at(21_005).input(&[answer]);
    s.tick(21_010).drain();
    assert_eq!(s.engine.stats().timeout_resends, 32);
}
