//! protocol.md 12.8: a peer that may have restarted under the same address and conv.

use super::*;
use crate::Fault;
use crate::in_flight::InFlightRing;
use crate::segment::{CLOSE_MARK, ECHO_MARK};

/// An accepted session with a round trip of 20 ms, whose peer has sent `taken` segments and
/// acknowledged one of ours.
fn acquainted(taken: u32) -> Script {
    acquainted_by(taken, 0)
}

/// The same with a peer that shows the mark.
fn acquainted_with_ours(taken: u32) -> Script {
    acquainted_by(taken, CLOSE_MARK)
}

fn acquainted_by(taken: u32, mark: u8) -> Script {
    let config = fast().flush_policy(FlushPolicy::Immediate);
    let mut s = Script::accepted(&config);
    s.at(10);
    for sn in 0..taken {
        s.input(&[push(sn, b"old")]);
    }
    s.send(b"answer").drain();
    s.at(30).input(&[ack(0, 10).una(1).frg(mark)]);
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
    s.input(&[push(0, b"new")]).sends(&["WASK 3 ts=1000"]);
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
    s.sends(&["WASK 3 ts=1000"]);
    s.at(1_020).input(&[push(3, b"old").una(1)]);
    s.sends(&["ACK 3 una=4 wnd=127"]);
    assert_eq!(s.recv().as_deref(), Ok(b"old".as_slice()));
    assert!(s.recv().is_err());
}

/// Sends this after every round trip of 20 ms for which a question is out, until the session ends; how many
/// questions there were, and when it was.
fn answered(s: &mut Script, answer: &Seg, until: u64) -> (usize, Option<u64>) {
    let mut questions = 0;
    for at in (1_000..until).step_by(20) {
        s.tick(at);
        let asks = s
            .drain()
            .iter()
            .filter(|line| line.contains("WASK"))
            .count();
        questions += asks;
        if asks > 0 {
            s.at(at + 20).input(core::slice::from_ref(answer));
        }
        if s.engine.fault().is_some() {
            return (questions, Some(at + 20));
        }
    }
    (questions, None)
}

/// Answers of a stock beginning end the session after a second; one that echoes does at once.
#[test]
fn stale_answers_end_the_session() {
    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]);
    let (questions, ended) = answered(&mut s, &seg(Command::Wins, 0), 10_000);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));
    assert!((4..=12).contains(&questions), "{questions}");
    assert!(
        ended.is_some_and(|at| (2_000..2_300).contains(&at)),
        "{ended:?}"
    );

    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]).drain();
    let echo = seg(Command::Wins, 0).ts(1_000).frg(CLOSE_MARK | ECHO_MARK);
    s.at(1_020).input(&[echo]);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));
}

/// A peer that shows the mark echoes: a WINS that does not, with or without the mark, is forged or late.
#[test]
fn without_an_echo_nothing_is_an_answer_of_ours() {
    let late = seg(Command::Wins, 0).frg(CLOSE_MARK);
    let guessed = seg(Command::Wins, 0).ts(999).frg(CLOSE_MARK | ECHO_MARK);
    for forged in [seg(Command::Wins, 0), late, guessed] {
        let mut s = acquainted_with_ours(3);
        // In a question, and without one.
        for asks in [true, false] {
            match asks {
                true => s.input(&[push(0, b"forged")]),
                false => s.input(&[seg(Command::Wins, 0).una(1).frg(CLOSE_MARK)]),
            };
            s.engine.keepalive();
            let (_, ended) = answered(&mut s, &forged, 30_000);
            assert_eq!(ended, None);
        }
        assert!(s.engine.stats().ignored_stale_answer > 0);
    }
}

/// A stock peer that lives: a WINS of a beginning each millisecond, before, between and after its own answers,
/// which come with varying delay and of which every second one is lost.
#[test]
fn forged_answers_do_not_outlast_a_peer_that_lives() {
    let mut s = acquainted(3);
    let mut answers = Vec::new();
    let mut questions = 0_u64;
    for at in 1_000..60_000_u64 {
        s.tick(at);
        if at.is_multiple_of(200) {
            s.input(&[push(0, b"forged")]);
        }
        if at.is_multiple_of(1_000) {
            s.engine.keepalive();
        }
        s.input(&[seg(Command::Wins, 0)]);
        for line in s.drain() {
            if line.contains("WASK") {
                questions += 1;
                if questions.is_multiple_of(2) {
                    answers.push(at + 20 + questions * 7 % 20);
                }
            }
        }
        if answers.contains(&at) {
            s.input(&[seg(Command::Wins, 0).una(1)]);
        }
        assert_eq!(s.engine.fault(), None, "at {at}");
    }
    assert!(questions < 600, "{questions}");
}

/// After 2^31 segments the numbers of a beginning are ahead of the peer's una, not behind. At the wrap they
/// are those of the session.
#[test]
fn a_beginning_is_noticed_in_the_second_half_of_the_number_space() {
    for (una, sent, is_beginning) in [
        (0x7fff_ffff_u32, (1_u64 << 31) - 1, true),
        (0x8000_0010, (1 << 31) + 16, true),
        (0xffff_ff00, (1 << 32) - 256, true),
        (0xffff_ffff, (1 << 32) - 1, false),
        (0, 1 << 32, false),
        (7, (1 << 32) + 7, true),
    ] {
        let mut s = acquainted(3);
        s.engine.in_flight = InFlightRing::new(Sn::new(una));
        s.engine.counters.segments_sent = sent;
        for told in (0..sent).step_by(1 << 30).chain([sent]) {
            s.engine.liveness.on_una(Sn::new(told as u32));
        }
        if una == 0xffff_ffff {
            s.send(b"sn of the wrap").drain(); // una 0 acknowledges it
        }
        s.input(&[push(0, b"new")]);
        let found = s.engine.stats().ignored_beginning == 1;
        assert_eq!(found, is_beginning, "{una:#x}");
        if found {
            let echo = seg(Command::Wins, 0).ts(1_000).frg(CLOSE_MARK | ECHO_MARK);
            s.drain();
            s.at(1_020).input(&[echo]);
            assert_eq!(s.engine.fault(), Some(Fault::Ghost), "{una:#x}");
        }
    }
}

/// An unanswered question is asked again, each time later.
#[test]
fn the_question_is_repeated() {
    let mut s = acquainted(3);
    s.input(&[push(0, b"new")]).sends(&["WASK 3 ts=1000"]);
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

/// protocol.md 12.8: everything has been said both ways, and is not read yet. The peer answers nothing any more,
/// so a late copy opens no question: that would stay open, and be taken for the silence of a dead peer.
#[test]
fn a_late_copy_after_the_last_word_is_no_question() {
    for missing in [false, true] {
        let mut s = acquainted_with_ours(3);
        s.engine.finish();
        s.drain();
        // More than the reader has room for, and the end.
        for sn in 3..150 {
            s.input(&[push(sn, b"old").una(1)]);
        }
        if !missing {
            s.input(&[push(150, b"old").una(1)]);
        }
        s.input(&[seg(Command::Fin, 151).una(2)]).drain();
        s.at(1_050).input(&[push(0, b"old")]);
        let asks = [false, true][usize::from(missing)];
        assert_eq!(!s.drain().is_empty(), asks, "missing: {missing}");
        assert_eq!(
            s.engine.silent_since(),
            None,
            "nothing waits for the answer"
        );
        assert!(!s.engine.fin_state().received);
        let mut words = 0;
        while s.recv().is_ok() {
            words += 1;
        }
        assert_eq!(words, if missing { 147 } else { 148 });
        assert_eq!(s.engine.fin_state().received, !missing);
    }
}
