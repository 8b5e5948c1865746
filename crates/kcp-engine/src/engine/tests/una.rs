//! protocol.md 11.1.2: what the peer may acknowledge by `una` alone.

use alloc::vec;

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

/// A peer that has left its address, or anyone who knows the conversation id, predicts every una: 24 bytes freed a window, for
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

/// kcp-go leaves out the ACKs that its una covers, but for the last of a flush. So does a peer of whose ACKs most are lost.
#[test]
fn one_ack_in_a_datagram_vouches_for_its_una() {
    let mut s = busy(3_200);
    for second in 1..=100 {
        let ms = 1_000 * second;
        let nxt = send_window(&mut s, ms);
        s.at(ms + 5).input(&[ack(nxt - 1, ms as u32).una(nxt)]);
        assert_eq!(una_of(&s), nxt);
    }
    assert_eq!(una_of(&s), 3_201);
    assert_eq!(s.engine.stats().ignored_invalid_una, 0);
}

/// The same, and whole windows whose ACKs are lost, as many as one.
#[test]
fn a_window_of_lost_acks_costs_nothing() {
    let mut s = busy(3_200);
    for second in 1..=100 {
        let ms = 1_000 * second;
        let nxt = send_window(&mut s, ms);
        let parts = match second % 4 {
            0 => vec![ack(nxt - 1, ms as u32).una(nxt)],
            _ => vec![seg(Command::Wins, 0).una(nxt)],
        };
        s.at(ms + 5).input(&parts);
        assert_eq!(una_of(&s), nxt);
    }
    assert_eq!(s.engine.stats().ignored_invalid_una, 0);
}

/// An ACK vouches once, however often it is repeated, and not while more wrong ones came than right ones.
#[test]
fn guessed_and_repeated_acks_vouch_for_nothing() {
    for wrong in [0, 1, 3] {
        let mut s = busy(10_000);
        let mut last = ack(0, 10);
        for second in 1..300 {
            let ms = 1_000 * second;
            let nxt = send_window(&mut s, ms);
            for n in 0..wrong {
                s.input(&[ack(nxt - 1, 7 + n)]);
            }
            if wrong > 0 {
                last = ack(nxt - 2, ms as u32);
            }
            for _ in 0..100 {
                s.input(core::slice::from_ref(&last));
            }
            s.input(&[seg(Command::Wask, 0).una(nxt)]);
        }
        // A right ACK frees its own segment.
        let most = if wrong > 0 { 129 + 300 } else { 129 };
        assert!(una_of(&s) <= most, "{wrong}: {} of {most}", una_of(&s));
    }
}

/// Any time stamp between two transmissions may be an honest ACK's, and frees its segment; but it can be predicted to
/// within hundreds of milliseconds. Before, 1.4 kB/s of them kept 1.2 MB/s going to an unused address.
#[test]
fn an_ack_between_two_transmissions_vouches_for_nothing() {
    let mut s = busy(10_000);
    for second in 1..300 {
        let ms = 1_000 * second;
        let nxt = send_window(&mut s, ms);
        s.tick(ms + 500).drain();
        let between = ms as u32 + 250;
        s.at(ms + 600).input(&[ack(nxt - 1, between).una(nxt)]);
    }
    assert!(una_of(&s) <= 129 + 300, "{}", una_of(&s));
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
