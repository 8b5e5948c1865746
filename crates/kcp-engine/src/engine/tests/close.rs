//! protocol.md 12: mark, FIN, RST, silence and ghosts.

use super::*;
use crate::{CLOSE_MARK, Fault, FinState, FlushPolicy, RecvError, SendError};

fn marked(command: Command, sn: u32) -> Seg {
    seg(command, sn).frg(CLOSE_MARK)
}

/// protocol.md 12.1: ACK, WASK and WINS carry the mark, PUSH does not; C's manners have none.
#[test]
fn answers_are_marked() {
    for (mut s, mark, answer) in [
        (Script::strict(&plain()), CLOSE_MARK, CLOSE_MARK | 2),
        (Script::as_c(&plain()), 0, 0),
    ] {
        s.input(&[push(0, b"in"), seg(Command::Wask, 0)]);
        s.engine.keepalive();
        s.send(b"x").tick(10);
        let mut bytes = Vec::new();
        let _ = s.engine.poll_transmit(s.now, &mut bytes, 1).unwrap();
        let frgs: Vec<_> = segments(&bytes)
            .map(|segment| segment.unwrap().header.frg)
            .collect();
        assert_eq!(frgs, [mark, mark, answer, 0]);
    }
}

/// protocol.md 12.2: behind the last byte a FIN leaves in a datagram of its own, is retransmitted
/// and acknowledged like data.
#[test]
fn fin_follows_the_data() {
    let mut s = Script::strict(&plain());
    s.send(b"x").tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.at(20).input(&[marked(Command::Ack, 0).ts(10).una(1)]);
    assert!(s.engine.peer_knows_close());
    s.send(b"bye");
    s.engine.finish();
    assert_eq!(s.engine.send(b"more"), Err(SendError::Finished));
    assert_eq!(s.engine.write(b"more"), Err(SendError::Finished));
    s.sends(&["PUSH 1 ts=20 len=3", "FIN 2 ts=20"]);
    let at = s.deadline().unwrap();
    s.tick(at);
    assert_eq!(s.drain().len(), 2);
    s.at(at + 10)
        .input(&[marked(Command::Ack, 1).ts(20).una(2)]);
    assert!(!s.engine.fin_state().acknowledged);
    s.input(&[marked(Command::Ack, 2).ts(20).una(3)]);
    assert!(s.engine.fin_state().acknowledged);
    assert_eq!(s.deadline(), None);
}

/// protocol.md 12.2: the reader sees the end after the last byte, in order, and for good.
#[test]
fn fin_is_delivered_in_order() {
    let mut s = Script::strict(&plain());
    s.input(&[seg(Command::Fin, 2).ts(5)])
        .input(&[push(0, b"a")]);
    assert_eq!(s.recv(), Ok(b"a".to_vec()));
    assert_eq!(s.recv(), Err(RecvError::Empty));
    assert!(!s.engine.fin_state().received);
    s.input(&[push(1, b"b")]);
    assert!(s.engine.fin_state().received);
    let mut buffer = [0; 9];
    assert_eq!(s.engine.read(&mut buffer), Ok(1));
    for _ in 0..2 {
        assert!(s.engine.has_readable());
        assert_eq!(s.engine.read(&mut buffer), Err(RecvError::Finished));
        assert_eq!(s.recv(), Err(RecvError::Finished));
    }
    s.tick(10)
        .sends(&["ACK 2 ts=5 una=3 | ACK 0 una=3 | ACK 1 una=3"]);
}

/// protocol.md 12.2: a FIN in the middle of a message ends the stream; the torso is not delivered as
/// a message, and nothing hangs.
#[test]
fn a_fin_inside_a_message_ends_it() {
    for frg in [1, 5] {
        let mut s = Script::strict(&plain());
        s.input(&[push(0, b"abc").frg(frg), seg(Command::Fin, 1)]);
        assert_eq!(s.engine.peek_size(), None);
        assert_eq!(s.recv(), Err(RecvError::Finished));
        let mut buffer = [0; 9];
        assert_eq!(s.engine.read(&mut buffer), Ok(3));
        assert_eq!(s.engine.read(&mut buffer), Err(RecvError::Finished));
    }
}

/// protocol.md 12.1: a FIN out of the window shows nothing.
#[test]
fn a_fin_beyond_the_window_is_no_mark() {
    let mut s = Script::strict(&plain());
    s.input(&[seg(Command::Fin, 500)]);
    assert!(!s.engine.peer_knows_close());
    s.input(&[seg(Command::Fin, 3)]);
    assert!(s.engine.peer_knows_close());
}

/// protocol.md 12.2: a FIN that arrives again is acknowledged again: the first ACK may be lost.
#[test]
fn a_repeated_fin_is_acknowledged_again() {
    let mut s = Script::strict(&plain());
    s.input(&[seg(Command::Fin, 0).ts(5)]);
    s.tick(10).sends(&["ACK 0 ts=5 una=1"]);
    s.at(215).input(&[seg(Command::Fin, 0).ts(205)]);
    s.tick(220).sends(&["ACK 0 ts=205 una=1"]);
}

/// protocol.md 12.2: half-close: the other direction goes on.
#[test]
fn data_flows_after_the_peer_s_fin() {
    let mut s = Script::strict(&plain());
    s.input(&[seg(Command::Fin, 0)]);
    s.send(b"still here").tick(10);
    s.sends(&["ACK 0 una=1 | PUSH 0 ts=10 una=1 len=10"]);
}

/// protocol.md 12.7: a peer without the mark gets no FIN; once drained there is nothing to do.
#[test]
fn stock_peers_get_no_fin() {
    let mut s = Script::strict(&plain());
    s.send(b"x").tick(10).drain();
    s.engine.finish();
    s.silent();
    s.at(20)
        .input(&[ack(0, 10).una(1), seg(Command::Wins, 0).una(1)]);
    s.tick(20).silent();
    assert!(s.engine.is_drained());
    assert_eq!(s.engine.fin_state(), FinState::default());
    assert_eq!(s.deadline(), None);
}

/// protocol.md 12.2: a peer that had no occasion to show the mark is asked, and gets its FIN.
#[test]
fn an_unknown_peer_is_asked_first() {
    let mut s = Script::strict(&plain());
    s.input(&[push(0, b"in")]).tick(10).drain();
    s.engine.finish();
    s.sends(&["WASK 0 ts=10 una=1 wnd=127"]);
    s.at(30).input(&[marked(Command::Wins, 0)]);
    s.sends(&["FIN 0 ts=30 una=1 wnd=127"]);
}

/// A session that never spoke has nobody to tell.
#[test]
fn finishing_before_speaking_is_silent() {
    let mut s = Script::strict(&plain());
    s.engine.finish();
    s.silent();
    assert!(s.engine.is_drained());
    assert_eq!(s.deadline(), None);
}

/// protocol.md 12.3: who has nothing more to send asks for no room.
#[test]
fn a_window_that_closes_behind_both_fins_is_not_probed() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(20).input(&[marked(Command::Ack, 0).ts(10).una(1)]);
    s.engine.finish();
    s.sends(&["FIN 1 ts=20"]);
    s.at(30).input(&[seg(Command::Fin, 0).una(1)]).drain();
    s.at(40)
        .input(&[marked(Command::Ack, 1).ts(20).una(2).wnd(0)]);
    s.tick(50).drain();
    assert_eq!(s.deadline(), None);
    s.tick(10_000).silent();
}

/// protocol.md 12.4: from the second time-out in a row the datagram begins with a WASK.
#[test]
fn a_silent_peer_is_asked() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(15).input(&[seg(Command::Wins, 0)]);
    s.tick(210).sends(&["PUSH 0 ts=210 len=1"]);
    s.tick(510).sends(&["WASK 0 ts=510 | PUSH 0 ts=510 len=1"]);
    // Hearing anything ends it.
    s.at(600).input(&[seg(Command::Wins, 0)]);
    s.tick(960).sends(&["PUSH 0 ts=960 len=1"]);
}

/// protocol.md 12.2, 12.4: a question that overtakes the first data, or is not lost with it, finds
/// no session, and the answer would be RST.
#[test]
fn an_unheard_peer_is_not_asked() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).sends(&["PUSH 0 ts=10 len=1"]);
    s.engine.finish();
    s.silent();
    s.tick(210).sends(&["PUSH 0 ts=210 len=1"]);
    s.tick(510).sends(&["PUSH 0 ts=510 len=1"]);
}

/// protocol.md 12.4: a RST counts only if it echoes a WASK of ours and has the number for it.
#[test]
fn only_an_answer_resets() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(15).input(&[seg(Command::Wins, 0)]);
    s.tick(210).drain();
    s.tick(510).drain();
    for (sn, ts) in [(u32::MAX, 210), (0, 510), (u32::MAX, 0)] {
        s.at(520).input(&[seg(Command::Rst, sn).ts(ts)]);
    }
    assert_eq!(
        (s.engine.fault(), s.engine.stats().ignored_invalid_reset),
        (None, 3)
    );
    s.input(&[seg(Command::Rst, u32::MAX).ts(510)]);
    assert_eq!(s.engine.fault(), Some(Fault::Reset));
}

/// protocol.md 12.4: a RST that answers nothing is asked about, at most once per RTO. The answer may
/// end the session; no answer means nothing.
#[test]
fn an_unanswered_reset_is_asked_about() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(15).input(&[ack(0, 10).una(1)]);
    let unasked = seg(Command::Rst, u32::MAX);
    s.at(100).input(&[unasked.clone(), unasked.clone()]);
    s.sends(&["WASK 0 ts=100"]);
    assert_eq!(s.engine.silent_since(), None, "nothing is owed");
    let rto = s.engine.rto().as_millis() as u64;
    s.at(100 + rto - 1).input(core::slice::from_ref(&unasked));
    s.silent();
    s.at(100 + rto).input(core::slice::from_ref(&unasked));
    s.sends(&[&format!("WASK 0 ts={}", 100 + rto)]);
    assert_eq!(s.engine.stats().reset_questions, 2);
    assert_eq!(s.engine.fault(), None);
    s.input(&[unasked.ts(100)]);
    assert_eq!(s.engine.fault(), Some(Fault::Reset));
}

/// protocol.md 12.4: before address validation one question in all.
#[test]
fn an_unvalidated_peer_is_asked_about_a_reset_once() {
    let mut s = Script::accepted(&fast());
    s.input(&[push(0, b"in")]).tick(10).drain();
    let rst = seg(Command::Rst, u32::MAX);
    s.at(100).input(core::slice::from_ref(&rst));
    s.sends(&["WASK 0 ts=100 una=1 wnd=127"]);
    s.at(900).input(&[rst]).silent();
}

/// protocol.md 12.4: a WASK may come from the record of an earlier session (12.3), which has nothing to
/// be asked for.
#[test]
fn a_peer_that_only_asked_is_not_asked() {
    let mut s = Script::strict(&fast());
    s.send(b"x").tick(10).drain();
    s.at(15).input(&[seg(Command::Wask, 0)]);
    s.tick(20).drain();
    assert!(!s.engine.is_session_heard());
    for _ in 0..4 {
        let at = s.deadline().unwrap();
        s.tick(at);
        assert!(s.drain().iter().all(|line| line.starts_with("PUSH")));
    }
}

/// protocol.md 12.5: the peer owes an answer from the first transmission, or since it last spoke.
#[test]
fn silence_is_measured() {
    let mut s = Script::strict(&plain());
    assert_eq!(s.engine.silent_since(), None);
    s.send(b"x").tick(10).drain();
    assert_eq!(s.engine.silent_since(), Some(Instant::from_millis(10)));
    s.tick(300).drain();
    assert_eq!(s.engine.silent_since(), Some(Instant::from_millis(10)));
    s.at(400).input(&[seg(Command::Wins, 0)]);
    assert_eq!(s.engine.silent_since(), Some(Instant::from_millis(400)));
    s.at(500).input(&[ack(0, 10).una(1)]);
    assert_eq!(s.engine.silent_since(), None);
    s.engine.keepalive();
    s.at(600).sends(&["WASK 0 ts=600"]);
    assert_eq!(s.engine.silent_since(), Some(Instant::from_millis(600)));
    s.at(650).input(&[seg(Command::Wins, 0).una(1)]);
    assert_eq!(s.engine.silent_since(), None);
}

/// protocol.md 12.6: four answers to questions over a second that forget what was acknowledged: a ghost.
#[test]
fn a_restarted_stock_server_is_found_out() {
    let mut s = Script::strict(&plain());
    s.send(b"x").send(b"y").tick(10).drain();
    s.at(40).input(&[ack(0, 10).una(1), ack(1, 10).una(2)]);
    let stale = seg(Command::Wins, 0);
    // An answer to nothing does not count, nor does one that is up to date.
    s.at(50).input(core::slice::from_ref(&stale));
    s.engine.keepalive();
    s.at(1_000).sends(&["WASK 0 ts=1000"]);
    assert!(!s.engine.is_peer_doubtful());
    for at in [1_030, 1_430, 1_830, 2_030] {
        s.at(at)
            .input(core::slice::from_ref(&stale))
            .input(core::slice::from_ref(&stale));
        assert_eq!(s.engine.fault(), None);
        assert!(s.engine.is_peer_doubtful());
        s.engine.keepalive();
        s.drain();
    }
    // The last question came a second after the first answer.
    s.at(2_060).input(&[stale]);
    assert_eq!(s.engine.fault(), Some(Fault::Ghost));
}

/// protocol.md 12.6: old answers count in a row only: one that is up to date acquits the peer.
#[test]
fn an_answer_that_is_up_to_date_starts_the_count_anew() {
    let mut s = Script::strict(&plain());
    s.send(b"x").tick(10).drain();
    s.at(40).input(&[ack(0, 10).una(1)]);
    for at in [1_000, 2_000, 3_000, 4_000, 5_000] {
        // The network has kept a WINS from before the ACK.
        s.engine.keepalive();
        s.at(at).drain();
        s.at(at + 30).input(&[seg(Command::Wins, 0)]);
        s.at(at + 40).input(&[seg(Command::Wins, 0).una(1)]);
    }
    assert_eq!(s.engine.fault(), None);
}

/// protocol.md 12.6: a peer whose reader sleeps has no room for the next segment in order, but
/// acknowledges those behind it. Its answers are old, and it is no ghost.
#[test]
fn a_full_peer_is_no_ghost() {
    let mut s = Script::strict(&plain());
    s.send(b"x").send(b"y").tick(10).drain();
    s.at(40)
        .input(&[ack(0, 10).una(0).wnd(0), ack(1, 10).una(0).wnd(0)]);
    assert!(s.engine.is_drained());
    for at in [1_000, 2_000, 3_000] {
        s.engine.keepalive();
        s.at(at).drain();
        s.at(at + 30).input(&[seg(Command::Wins, 0).una(0).wnd(0)]);
    }
    assert_eq!(s.engine.fault(), None);
}

/// protocol.md 12.1: the answer that validates tells what the peer is, and nothing that comes later: one forged WASK
/// with the mark made the close to a stock peer fail, one without it a peer of ours look like a stock one.
#[test]
fn the_answer_that_validates_settles_the_mark() {
    let immediate = fast().flush_policy(FlushPolicy::Immediate);
    for mark in [0, CLOSE_MARK] {
        let mut s = Script::accepted(&immediate);
        s.at(10).input(&[push(0, b"request")]);
        s.send(b"answer").drain();
        // Forged before it, and after.
        let forged = [0, CLOSE_MARK].map(|mark| seg(Command::Wask, 0).frg(mark));
        s.input(&forged).drain();
        s.at(20).input(&[ack(0, 10).una(1).frg(mark)]);
        s.input(&forged).drain();
        assert_eq!(s.engine.peer_knows_close(), mark != 0);
        assert_eq!(s.engine.peer_is_stock(), mark == 0);
        s.engine.finish();
        assert_eq!(s.engine.fin_state().sent, mark != 0);
    }
}

/// protocol.md 12.1: a FIN that a forged mark brought about is taken back, queued or sent, and everything that was
/// said is acknowledged without it.
#[test]
fn a_fin_to_a_stock_peer_is_taken_back() {
    for window in [1, 32] {
        // Queued behind the answer, or sent.
        let immediate = fast().flush_policy(FlushPolicy::Immediate);
        let mut s = Script::accepted(&immediate.window_size(window, 128));
        s.at(10).input(&[push(0, b"request")]);
        s.send(b"answer").drain();
        s.input(&[seg(Command::Wask, 0).frg(CLOSE_MARK)]);
        s.engine.finish();
        s.drain();
        assert!(s.engine.fin_state().sent && !s.engine.is_drained());
        s.at(20).input(&[ack(0, 10).una(1)]);
        assert!(s.engine.is_drained() && !s.engine.fin_state().sent);
        assert_eq!(s.engine.fault(), None);
        s.tick(5_000)
            .drain()
            .iter()
            .for_each(|line| assert!(!line.contains("FIN"), "{line}"));
    }
}
