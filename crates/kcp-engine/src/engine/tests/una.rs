//! protocol.md 11.1.2: what the peer may acknowledge by `una` alone.

use super::*;

/// A validated session with so much to send, 32 segments at a time.
fn busy(segments: u32) -> Script {
    let mut s = Script::strict(&fast());
    s.send(b"first").tick(10).drain();
    s.at(20).input(&[ack(0, 10)]);
    assert!(s.engine.is_proven());
    for _ in 0..segments {
        s.send(b"x");
    }
    s
}

/// Sends what the window allows at `ms`, and returns how far.
fn send_window(s: &mut Script, ms: u64) -> u32 {
    s.tick(ms).drain();
    s.engine.classic_state().snd_nxt
}

fn una_of(s: &Script) -> u32 {
    s.engine.classic_state().snd_una
}

/// A peer that has left its address, or whoever knows the conversation, predicts every una: 24 bytes freed a window, for
/// ever.
#[test]
fn una_without_acks_frees_a_window() {
    for command in [Command::Wask, Command::Wins] {
        let mut s = busy(1_000);
        for second in 1..60 {
            let una = send_window(&mut s, 1_000 * second);
            s.input(&[seg(command, 0).una(una)]);
        }
        assert_eq!(una_of(&s), 1 + 128);
        assert!(s.engine.stats().ignored_invalid_una > 0);
    }
}

/// The peer's ACKs are lost, seven of eight: the una of those that arrive frees all the same.
#[test]
fn an_eighth_of_the_acks_vouches_for_una() {
    let mut s = busy(3_200);
    for second in 1..=100 {
        let ms = 1_000 * second;
        let nxt = send_window(&mut s, ms);
        let acks: Vec<Seg> = (nxt - 4..nxt)
            .map(|sn| ack(sn, ms as u32).una(nxt))
            .collect();
        s.at(ms + 5).input(&acks);
        assert_eq!(una_of(&s), nxt);
    }
    assert_eq!(una_of(&s), 3_201);
    assert_eq!(s.engine.stats().ignored_invalid_una, 0);
}

/// An ACK vouches once, however often it is repeated, and a wrong one costs more than a right one earns.
#[test]
fn guessed_and_repeated_acks_vouch_for_nothing() {
    for wrong in [false, true] {
        let mut s = busy(10_000);
        let mut last = ack(0, 10);
        for second in 1..300 {
            let ms = 1_000 * second;
            let nxt = send_window(&mut s, ms);
            if wrong {
                s.input(&[ack(nxt - 1, 7)]);
                last = ack(nxt - 2, ms as u32);
            }
            for _ in 0..100 {
                s.input(core::slice::from_ref(&last));
            }
            s.input(&[seg(Command::Wask, 0).una(nxt)]);
        }
        // Each right ACK frees its own segment, and may vouch for eight.
        let most = if wrong { 128 + 9 * 300 } else { 129 };
        assert!(una_of(&s) <= most, "{} of {most}", una_of(&s));
    }
}

/// Once una is believed in part only, the ACKs of what is sent again bring it back.
#[test]
fn acks_restore_una() {
    let mut s = busy(1_000);
    let mut nxt = 0;
    for second in 1..20 {
        nxt = send_window(&mut s, 1_000 * second);
        s.input(&[seg(Command::Wask, 0).una(nxt)]);
    }
    assert_eq!(una_of(&s), 129);
    let mut ms = 20_000;
    while una_of(&s) < 1_001 && ms < 60_000 {
        ms += 10;
        s.tick(ms).drain();
        let oldest = una_of(&s);
        nxt = s.engine.classic_state().snd_nxt;
        let again: Vec<Seg> = (oldest..nxt)
            .map(|sn| ack(sn, ms as u32).una(nxt))
            .collect();
        s.input(&again);
    }
    assert_eq!((una_of(&s), nxt), (1_001, 1_001));
    assert!(ms < 40_000, "{ms}");
}
