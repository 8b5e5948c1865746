//! protocol.md 12.8: a peer that may have restarted under the same address and conv.

use super::*;
use crate::Fault;
use crate::segment::{CLOSE_MARK, ECHO_MARK};

/// An accepted session with a round trip of 20 ms, whose peer has sent `taken` segments and
/// acknowledged one of ours.
fn acquainted(taken: u32) -> Script {
    let config = fast().flush_policy(FlushPolicy::Immediate);
    let mut s = Script::accepted(&config);
    s.at(10);
    for sn in 0..taken {
        s.input(&[push(sn, b"old")]);
    }
    s.send(b"answer").drain();
    s.at(30).input(&[ack(0, 10).una(1)]);
    s.silent();
    while s.recv().is_ok() {}
    s.at(1_000);
    s
}

/// From the question to the answer nothing leaves but the question, whose una acknowledges nothing.
#[test]
fn a_beginning_on_a_known_session_is_a_question() {
    let mut s = acquainted(3);
    let heard = s.engine.last_heard();
    s.input(&[push(0, b"new")]).sends(&["WASK 0 ts=1000"]);
    s.send(b"data").silent();
    s.input(&[push(1, b"new")]).silent();
    assert_eq!(s.engine.last_heard(), heard);
    assert_eq!(s.engine.silent_since(), Some(Instant::from_millis(1_000)));
    assert_eq!(s.engine.stats().ignored_beginning, 2);
    // The peer that we know answers.
    s.at(1_020)
        .input(&[seg(Command::Wins, 0).una(1)])
        .sends(&["PUSH 1 ts=1020 una=3 len=4"]);
    assert_eq!(
        (s.engine.fault(), s.recv()),
        (None, Err(crate::RecvError::Empty))
    );
}

/// Nothing of a first flight is taken for data of the old session, also beyond what it has sent.
#[test]
fn a_first_flight_is_not_mixed_with_the_old_data() {
    let mut s = acquainted(3);
    for sn in [5, 3, 0, 31, 2, 4] {
        s.input(&[push(sn, b"new")]);
    }
    s.input(&[push(6, b"new"), push(7, b"new")]);
    s.sends(&["WASK 0 ts=1000"]);
    s.at(1_020).input(&[push(3, b"old").una(1)]);
    s.sends(&["ACK 3 una=4 wnd=127"]);
    assert_eq!(s.recv().as_deref(), Ok(b"old".as_slice()));
    assert!(s.recv().is_err());
}

/// Two answers of a beginning, a round trip apart, end the session; one that echoes does at once.
#[test]
fn stale_answers_end_the_session() {
    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]).sends(&["WASK 0 ts=1000"]);
    // The answer shares a datagram with the retransmission.
    s.at(1_020)
        .input(&[seg(Command::Wins, 0), push(0, b"new")])
        .sends(&["WASK 0 ts=1020"]);
    assert_eq!(s.engine.fault(), None);
    s.at(1_040).input(&[seg(Command::Wins, 0)]);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));

    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]).drain();
    let echo = seg(Command::Wins, 0).ts(1_000).frg(CLOSE_MARK | ECHO_MARK);
    s.at(1_020).input(&[echo]);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));
}

/// An unanswered question is asked again, each time later.
#[test]
fn the_question_is_repeated() {
    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]).sends(&["WASK 0 ts=1000"]);
    let mut times = Vec::new();
    while times.len() < 4 {
        let at = s.deadline().unwrap();
        if !s.tick(at).drain().is_empty() {
            times.push(at);
        }
    }
    let rto = s.engine.rto().as_millis() as u64;
    let waits = [1, 2, 4, 8].map(|factor| factor * rto);
    let mut last = 1_000;
    for (at, wait) in times.into_iter().zip(waits) {
        assert!((wait..wait + 12).contains(&(at - last)), "{at} {wait}");
        last = at;
    }
}

/// Copies of the first datagram, fifty a second for 20 s, on a session whose peer answers.
#[test]
fn replayed_beginnings_stop_a_session_rarely() {
    let mut s = acquainted(3);
    let (mut questions, mut blocked) = (0, 0);
    for round in 0..1_000 {
        s.at(1_000 + 20 * round).input(&[push(0, b"old")]);
        let asked = s
            .drain()
            .iter()
            .filter(|line| line.contains("WASK"))
            .count();
        questions += asked;
        if s.engine.poll_timeout().is_some() {
            blocked += 1;
            s.at(1_020 + 20 * round)
                .input(&[seg(Command::Wins, 0).una(1)]);
        }
    }
    assert!(questions <= 12, "{questions}");
    assert!(blocked <= 12, "{blocked} of 1,000 times");
}

impl Script {
    /// A duplicate's ACK leaves, perhaps with a question behind it.
    #[track_caller]
    fn acknowledges_again(&mut self) {
        let sent = self.drain();
        assert!(sent.len() == 1 && sent[0].starts_with("ACK 0"), "{sent:?}");
    }
}

/// What has no una to compare is as in C: acknowledged again. Sn 0, twice and not backed off, is of another peer, if the address is not validated.
#[test]
fn a_peer_that_told_no_una_may_begin_again_twice() {
    let mut s = Script::accepted(&fast().flush_policy(FlushPolicy::Immediate));
    s.at(10).input(&[push(0, b"old")]).acknowledges_again();
    let news = s.engine.last_news();
    // A peer that misses ACKs repeats itself sooner, and goes on.
    for at in [210, 610, 1_410] {
        s.at(at).input(&[push(0, b"old")]).acknowledges_again();
    }
    assert_eq!(s.engine.last_news(), news, "repetitions are no news");
    s.at(2_500).input(&[push(1, b"old")]).drain();
    for at in [32_500, 37_400] {
        s.at(at).input(&[push(0, b"new")]).acknowledges_again();
    }
    assert_eq!(s.engine.fault(), None);
    s.at(44_000).input(&[push(0, b"new")]);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));
}
