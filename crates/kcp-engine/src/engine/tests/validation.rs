//! protocol.md 11.1: validation of the peer's address, and guesses at it.

use super::*;
use crate::{CLOSE_MARK, Fault};

/// protocol.md 11.1: only an ACK that echoes a transmission of that segment counts.
#[test]
fn forged_acks_are_ignored_whole() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.tick(210).drain();
    for (sn, ts) in [(0, 9), (0, 211), (0, 0), (1, 10), (7, 10)] {
        s.at(220).input(&[ack(sn, ts).una(1).wnd(0)]);
    }
    assert_eq!(s.engine.wait_snd(), 1);
    let stats = s.engine.stats();
    assert_eq!((stats.ignored_invalid_ack, stats.remote_window), (5, 128));
    assert!(!s.engine.is_proven());
    // Anything from the first to the last transmission is believed: which one arrived is the
    // network's choice.
    s.input(&[ack(0, 10).una(1)]);
    assert!(s.engine.is_proven());
    assert_eq!(s.engine.wait_snd(), 0);
}

/// protocol.md 11.1: before a valid ACK, una frees nothing; after it, it does.
#[test]
fn una_frees_nothing_before_proof() {
    let mut s = Script::strict(&fast());
    s.send(b"x").send(b"y").tick(10).drain();
    s.at(20).input(&[seg(Command::Wins, 0).una(2)]);
    assert_eq!(s.engine.wait_snd(), 2);
    s.input(&[ack(0, 10)]);
    assert_eq!(s.engine.wait_snd(), 1);
    s.input(&[seg(Command::Wins, 0).una(2)]);
    assert_eq!(s.engine.wait_snd(), 0);
}

/// protocol.md 11.1: the una of a segment behind the one that validates frees, although it says the same.
#[test]
fn una_frees_behind_the_proof_in_a_datagram() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.engine.keepalive();
    s.tick(20).drain();
    let echo = seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(20).una(1);
    s.at(30).input(core::slice::from_ref(&echo));
    assert!(s.engine.is_proven());
    assert_eq!(s.engine.wait_snd(), 1);
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.engine.keepalive();
    s.tick(20).drain();
    s.at(30).input(&[echo.clone(), echo]);
    assert_eq!(s.engine.wait_snd(), 0);
}

/// protocol.md 11.1: datagrams with invalid ACKs before a valid one, 64 of them, are an attack on an accepted
/// session, whose peer has sent data and waits for nothing else.
#[test]
fn guessing_is_bounded() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]);
    s.send(b"x").tick(10).drain();
    for guess in 0..63 {
        let guesses: Vec<_> = (0..50).map(|n| ack(0, 1_000 + guess * 50 + n)).collect();
        s.at(20).input(&guesses);
    }
    assert_eq!(s.engine.fault(), None);
    s.input(&[ack(0, 5_000)]);
    assert_eq!(s.engine.fault(), Some(Fault::ForgedAcks));
}

/// protocol.md 11.1: a session that connects has not heard its peer yet; forged ACKs do not end it.
#[test]
fn forged_acks_end_no_session_that_connects() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    let all: Vec<_> = (0..64).map(|guess| ack(0, 1_000 + guess)).collect();
    s.at(20).input(&all);
    for guess in 0..1_000 {
        s.input(&[ack(0, 2_000 + guess)]);
    }
    assert_eq!(s.engine.stats().ignored_invalid_ack, 1_064);
    s.at(30).input(&[ack(0, 10).una(1)]);
    assert_eq!((s.engine.fault(), s.engine.wait_snd()), (None, 0));
}

/// protocol.md 11.1: behind a wrong guess nothing in a datagram validates an address, or 64 datagrams would
/// be as many guesses as they have segments.
#[test]
fn a_datagram_has_one_guess() {
    for connects in [true, false] {
        let mut s = match connects {
            true => Script::strict(&fast()),
            false => Script::accepted(&fast()),
        };
        s.input(&[push(0, b"in")]);
        s.send(b"x").tick(10).drain();
        s.at(20).input(&[ack(0, 9), ack(0, 10).una(1)]);
        assert_eq!((s.engine.is_proven(), s.engine.wait_snd()), (false, 1));
        s.input(&[ack(0, 10).una(1), ack(0, 11)]);
        assert_eq!((s.engine.is_proven(), s.engine.wait_snd()), (true, 0));
    }
}

/// protocol.md 11.1: with nothing in flight there is nothing to guess: a session that only receives
/// cannot be ended by forged ACKs.
#[test]
fn guessing_without_a_chance_does_not_count() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]);
    for guess in 0..1_000 {
        s.at(20).input(&[ack(guess % 3, guess)]);
    }
    assert_eq!(s.engine.fault(), None);
    assert_eq!(s.engine.stats().ignored_invalid_ack, 1_000);
}

/// protocol.md 11.1: a peer that gets nothing to acknowledge is challenged once a second. Every KCP
/// acknowledges a number before the first, and shows the time stamp.
#[test]
fn who_only_sends_is_challenged() {
    let challenged = || {
        let mut s = Script::accepted(&fast());
        s.input(&[push(0, b"first")]);
        s.tick(100).sends(&["ACK 0 una=1 wnd=127"]);
        s.input(&[push(1, b"second")]);
        s.tick(1_090).sends(&["ACK 1 una=2 wnd=126"]);
        s.input(&[push(2, b"third")]);
        s.tick(1_100)
            .sends(&["ACK 2 una=3 wnd=125 | PUSH 4294967295 ts=1100 una=3 wnd=125"]);
        s.input(&[push(3, b"fourth")]);
        s.tick(1_150).sends(&["ACK 3 una=4 wnd=124"]);
        s
    };
    let mut s = challenged();
    s.input(&[ack(u32::MAX, 1_101)]);
    // The number of no challenge: C ignores it, and so do we.
    s.input(&[ack(u32::MAX - 1, 1_100)]);
    assert!(!s.engine.is_proven());
    s.input(&[ack(u32::MAX, 1_100)]);
    assert!(s.engine.is_proven());
    assert_eq!(s.engine.stats().challenges_sent, 1);
    assert!(s.engine.is_drained());
    s.input(&[push(4, b"fifth")]);
    s.tick(9_000).sends(&["ACK 4 una=5 wnd=123"]);

    // As good as the echo of a WASK.
    let mut s = challenged();
    let window = |flags, ts| seg(Command::Wins, 0).frg(CLOSE_MARK | flags).ts(ts);
    s.input(&[window(2, 1_101), window(0, 1_100)]);
    assert!(!s.engine.is_proven());
    s.input(&[window(2, 1_100)]);
    assert!(s.engine.is_proven());
}

/// protocol.md 11.1: our engine answers a challenge like C, also behind data, and is moved by nothing in it.
#[test]
fn a_challenge_is_acknowledged_and_delivers_nothing() {
    for taken in 0..3 {
        let mut s = Script::strict(&fast());
        s.send(b"mine").tick(10).drain();
        for sn in 0..taken {
            s.input(&[push(sn, b"x")])
                .tick(20 + 10 * u64::from(sn))
                .drain();
        }
        s.input(&[push(u32::MAX, b"").ts(77).una(1)]);
        let shared = match taken {
            0 => String::new(),
            _ => format!(" una={taken} wnd={}", 128 - taken),
        };
        s.tick(50)
            .sends(&[&format!("ACK 4294967295 ts=77{shared}")]);
        let stats = s.engine.stats();
        assert_eq!(stats.segments_received, u64::from(taken));
        assert_eq!(s.engine.classic_state().rcv_nxt, taken);
    }
}

/// protocol.md 11.1: what is sent again for hours has a range of time stamps in which one of 64 guesses is
/// right by chance. Only the first and the last transmission validate.
#[test]
fn the_time_between_transmissions_validates_nothing() {
    let sent_again = || {
        let mut s = Script::accepted(&fast());
        s.input(&[push(0, b"in")]);
        s.send(b"x").tick(10).drain();
        let again = s.tick(210).drain();
        assert!(again[0].starts_with("PUSH 0 ts=210"), "{again:?}");
        s
    };
    for (ts, validates) in [
        (9, false),
        (10, true),
        (11, false),
        (209, false),
        (210, true),
        (211, false),
    ] {
        let mut s = sent_again();
        s.at(220).input(&[ack(0, ts).una(1)]);
        assert_eq!(s.engine.is_proven(), validates, "{ts}");
        assert_eq!(s.engine.wait_snd() == 0, validates, "{ts}");
    }
}

/// protocol.md 11.1.1: RSTs and echoes that guess at the time stamps of questions.
#[test]
fn guessing_at_questions_of_a_validated_session_is_bounded() {
    let asked = || {
        let mut s = Script::accepted(&fast());
        s.input(&[push(0, b"in")]);
        s.send(b"x").tick(10).drain();
        s.input(&[ack(0, 10).una(1)]);
        assert!(s.engine.is_proven());
        s.engine.keepalive();
        s.at(5_000).sends(&["WASK 0 ts=5000 una=1 wnd=127"]);
        s
    };
    let rst = |ts| seg(Command::Rst, u32::MAX).frg(CLOSE_MARK).ts(ts);
    let mut s = asked();
    s.input(&[rst(5_000)]);
    assert_eq!(s.engine.fault(), Some(Fault::Reset));

    // A datagram has one guess.
    let mut s = asked();
    s.input(&(4_970..5_030).map(rst).collect::<Vec<_>>());
    assert_eq!(s.engine.fault(), None);
    s.input(&[rst(5_000)]);
    assert_eq!(s.engine.fault(), Some(Fault::Reset));

    // Wrong ones use up the 64 of a minute, whatever the kind.
    let mut s = asked();
    let echo = |ts| seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(ts).una(1);
    for wrong in 0..32 {
        s.input(&[rst(wrong)]).input(&[echo(wrong)]);
    }
    s.input(&[rst(5_000)]);
    assert_eq!(s.engine.fault(), None);
    s.at(6_000).input(&[rst(5_000)]);
    assert_eq!(s.engine.fault(), Some(Fault::Reset));
}

/// protocol.md 12.1: a listener's answer to a forged first datagram does not validate it at another one.
#[test]
fn two_accepting_sides_do_not_validate_each_other() {
    for command in [Command::Ack, Command::Wins] {
        let mut s = Script::accepted(&fast());
        s.input(&[push(0, b"in")]);
        s.send(b"x").tick(10).drain();
        s.engine.keepalive();
        s.at(20).drain();
        let (flags, ts) = match command {
            Command::Wins => (6, 20),
            _ => (4, 10),
        };
        // A wrong guess ends nothing.
        s.input(&[seg(command, 0).frg(CLOSE_MARK | flags).ts(ts + 1)]);
        assert_eq!(s.engine.fault(), None);
        s.input(&[seg(command, 0).frg(CLOSE_MARK | flags).ts(ts)]);
        assert!(!s.engine.is_proven());
        assert_eq!(s.engine.fault(), Some(Fault::TwoAcceptingSides));
    }
}

/// protocol.md 11.1: 64 wrong ACKs of a challenge, and none proves anything; the session goes on.
#[test]
fn guessing_at_a_challenge_is_bounded() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]).tick(10).drain();
    s.engine.ask_for_validation();
    s.at(100).sends(&["PUSH 4294967295 ts=100 una=1 wnd=127"]);
    // In one datagram they are one guess, and the right one behind them is none.
    s.input(&[ack(u32::MAX, 99), ack(u32::MAX, 98), ack(u32::MAX, 100)]);
    for guess in 1..64 {
        assert!(!s.engine.is_proven(), "{guess}");
        s.input(&[ack(u32::MAX, 1_000 + guess)]);
    }
    s.input(&[ack(u32::MAX, 100)]);
    assert_eq!((s.engine.is_proven(), s.engine.fault()), (false, None));
    // Data still can.
    s.send(b"x").tick(200).drain();
    s.input(&[ack(0, 200)]);
    assert!(s.engine.is_proven());
}

/// protocol.md 11.1: 64 wrong echoes, and no echo proves anything; the session goes on.
#[test]
fn guessing_echoes_is_bounded() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]).tick(10).drain();
    s.engine.keepalive();
    s.at(100).sends(&["WASK 0 ts=100 una=1 wnd=127"]);
    for guess in 0..64 {
        s.input(&[seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(1_000 + guess)]);
    }
    s.input(&[seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(100)]);
    assert_eq!((s.engine.is_proven(), s.engine.fault()), (false, None));

    // In one datagram they are one guess.
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]).tick(10).drain();
    s.engine.keepalive();
    s.at(100).drain();
    let echo = |ts| seg(Command::Wins, 0).frg(CLOSE_MARK | 2).ts(ts);
    s.input(
        &(0..64)
            .map(|guess| echo(100 - guess.min(1)))
            .collect::<Vec<_>>()[1..],
    );
    s.input(&[echo(99), echo(100)]);
    assert!(!s.engine.is_proven());
    s.input(&[echo(100)]);
    assert!(s.engine.is_proven());
}

/// protocol.md 11.1: the two transmissions may lie further apart than wire time reaches.
#[test]
fn a_retransmission_after_a_month_can_be_acknowledged() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    let month = 30 * 86_400_000;
    s.tick(month).drain();
    s.at(month + 30).input(&[ack(0, month as u32).una(1)]);
    assert_eq!(s.engine.wait_snd(), 0);
}

/// protocol.md 11.1: the offset moves what a forger would have to guess.
#[test]
fn time_stamps_are_offset() {
    let options = EngineOptions {
        ts_offset: 1_000_000,
        ..Default::default()
    };
    let mut s = Script::with(&fast(), options);
    s.send(b"x").tick(10).sends(&["PUSH 0 ts=1000010 len=1"]);
    s.at(30).input(&[ack(0, 10)]);
    assert_eq!(s.engine.wait_snd(), 1);
    s.input(&[ack(0, 1_000_010).una(1)]);
    assert_eq!(s.engine.classic_state().rx_srtt, 20);
}
