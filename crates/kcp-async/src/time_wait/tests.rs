use kcp_engine::{CLOSE_MARK, Command};

use super::shares::SHARE;
use super::*;

fn peer(prefix: u16, port: u16) -> Key {
    let [a, b] = prefix.to_be_bytes();
    (SocketAddr::from(([10, a, b, 1], port)), Conv::new(1))
}

fn key(port: u16) -> Key {
    peer(0, port)
}

const fn at(seconds: u64) -> Instant {
    at_ms(seconds * 1_000)
}

const fn at_ms(ms: u64) -> Instant {
    Instant::from_micros(ms * 1_000)
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

const ORDERLY: Ending = Ending {
    farewell: Farewell::Orderly(Sn::new(3)),
    rto: ms(200),
    una_shown: true,
    marked: false,
    validated: true,
    tells: false,
    brief: false,
    since: None,
    source: None,
};

const GIVEN_UP: Ending = Ending {
    farewell: Farewell::GivenUp,
    tells: true,
    ..ORDERLY
};

fn with_rto(ending: Ending, rto: Duration) -> Ending {
    Ending { rto, ..ending }
}

fn has(wait: &TimeWait, key: Key) -> bool {
    wait.contains(key.0, key.1)
}

fn segment(command: Command, sn: u32, una: u32, payload: &[u8]) -> Vec<u8> {
    let header = KcpHeader {
        conv: Conv::new(1),
        cmd: command.to_wire(),
        frg: 0,
        wnd: 128,
        ts: WireTs::new(77),
        sn: Sn::new(sn),
        una: Sn::new(una),
        len: payload.len() as u32,
    };
    [header.to_bytes().as_slice(), payload].concat()
}

fn wins(una: u32, frg: u8, ts: u32) -> Vec<u8> {
    let mut bytes = segment(Command::Wins, 0, una, b"");
    bytes[5] = frg;
    bytes[8..12].copy_from_slice(&ts.to_le_bytes());
    bytes
}

fn opener() -> Vec<u8> {
    segment(Command::Push, 0, 0, b"new")
}

/// protocol.md 12.3
#[test]
fn lasts_four_rto_between_ten_and_thirty_seconds() {
    let mut wait = TimeWait::default();
    for (port, rto, seconds) in [(1, 200, 10), (2, 5_000, 20), (3, 60_000, 30)] {
        wait.insert(at(0), key(port), with_rto(ORDERLY, ms(rto)));
        assert!(has(&wait, key(port)));
        wait.expire(at_ms(seconds * 1_000 - 1));
        assert!(has(&wait, key(port)), "{rto} ms");
        wait.expire(at(seconds));
        assert!(!has(&wait, key(port)), "{rto} ms");
    }
    assert_eq!((wait.len(), wait.next()), (0, None));
}

#[test]
fn a_brief_record_lasts_four_rto_but_at_most_ten_seconds() {
    let mut wait = TimeWait::default();
    for (rto, lasts) in [(200, 800), (60_000, 10_000)] {
        let brief = Ending {
            brief: true,
            tells: false,
            ..with_rto(GIVEN_UP, ms(rto))
        };
        wait.insert(at(0), key(1), brief);
        assert_eq!(wait.next(), Some(at_ms(lasts)));
    }
}

#[test]
fn the_same_conversation_again_replaces_its_record() {
    let mut wait = TimeWait::default();
    wait.insert(at(0), key(1), GIVEN_UP);
    wait.insert(at(5), key(1), ORDERLY);
    assert_eq!(wait.len(), 1);
    assert_eq!(wait.next(), Some(at(15)), "no notice is left");
    wait.expire(at(14));
    assert_eq!(wait.len(), 1);
}

/// protocol.md 12.3: the table is bounded; the prefix with the most records makes room.
#[test]
fn a_full_table_takes_from_the_most_populous_prefix() {
    let mut wait = TimeWait::default();
    for prefix in 0..4 {
        for port in 0..SHARE as u16 {
            wait.insert(at(0), peer(prefix, port), ORDERLY);
        }
    }
    assert_eq!((wait.len(), wait.evicted()), (LIMIT, 0));
    for port in 0..10 {
        wait.insert(at(1), peer(100, port), ORDERLY);
    }
    assert_eq!((wait.len(), wait.evicted()), (LIMIT, 10));
    assert!((0..10).all(|port| has(&wait, peer(100, port))));
}

/// protocol.md 12.3: peers of one prefix have a quarter of the table, whatever RTO they pretend.
#[test]
fn one_prefix_has_a_share() {
    let mut wait = TimeWait::default();
    wait.insert(at(0), peer(7, 1), ORDERLY);
    for port in 0..8_600 {
        wait.insert(at(0), key(port), with_rto(ORDERLY, Duration::from_secs(60)));
    }
    assert_eq!(wait.len(), SHARE + 1);
    assert_eq!(wait.evicted(), 8_600 - SHARE as u64);
    assert!(has(&wait, peer(7, 1)));
}

/// protocol.md 12.3: at the last a record makes room whose peer is being told.
#[test]
fn a_share_of_sessions_that_were_just_given_up_is_bounded_too() {
    let mut wait = TimeWait::default();
    for port in 0..3_000 {
        wait.insert(at(0), key(port), GIVEN_UP);
    }
    assert_eq!(wait.len(), SHARE);
    assert!(has(&wait, key(2_999)));
}

/// protocol.md 12.3
#[test]
fn given_up_records_go_first_but_not_within_three_rto() {
    let mut wait = TimeWait::default();
    let rto = Duration::from_secs(1);
    wait.insert(at(0), key(1), with_rto(GIVEN_UP, rto));
    for port in 2..=SHARE as u16 {
        wait.insert(at(0), key(port), with_rto(ORDERLY, rto));
    }
    wait.insert(at_ms(2_999), key(20_000), ORDERLY);
    assert!(has(&wait, key(1)), "its peer is being told");
    assert!(!has(&wait, key(2)));
    wait.insert(at(3), key(20_001), ORDERLY);
    assert!(!has(&wait, key(1)));
    assert!(has(&wait, key(3)));
}

/// protocol.md 12.4: three times, one RTO apart.
#[test]
fn a_peer_is_told_three_times() {
    let mut wait = TimeWait::default();
    wait.insert(at(0), key(1), GIVEN_UP);
    let mut told = Vec::new();
    while let Some(next) = wait.next() {
        while let Some(notice) = wait.next_notice(next) {
            assert_eq!(notice.header.command(), Some(Command::Rst));
            assert_eq!((notice.peer, notice.header.conv), key(1));
            told.push(next.as_millis());
        }
        wait.expire(next);
    }
    assert_eq!(told, [0, 200, 400]);
}

/// protocol.md 12.3: a new conversation under the same name is asked for, and makes the record go
/// only if it answers that it has received nothing.
#[test]
fn the_record_goes_when_the_peer_begins_again() {
    let receive = |wait: &mut TimeWait, ms, bytes: &[u8]| {
        wait.receive(at_ms(ms), key(1), bytes, || Some(4_711))
            .unwrap()
    };
    let marked = |ending| Ending {
        marked: true,
        ..ending
    };
    for ending in [ORDERLY, GIVEN_UP, marked(ORDERLY), marked(GIVEN_UP)] {
        for (una, frg, ts, reopens) in [
            (0, 0, 0, !ending.marked),
            (0, CLOSE_MARK, 4_711, !ending.marked),
            (0, CLOSE_MARK | 2, 4_711, true),
            (0, CLOSE_MARK | 2, 4_712, false),
            (1, 0, 0, false),
            (1, CLOSE_MARK | 2, 4_711, false),
        ] {
            let mut wait = TimeWait::default();
            wait.insert(at(0), key(1), ending);
            let answer = wins(una, frg, ts);
            assert_eq!(receive(&mut wait, 0, &answer), Answer::Silence, "unasked");
            let Answer::Question(wask) = receive(&mut wait, 10, &opener()) else {
                panic!("no question");
            };
            assert_eq!((wask.una, wask.ts.get(), wask.wnd), (Sn::ZERO, 4_711, 128));
            assert!(wask.is_marked());
            assert_eq!(
                receive(&mut wait, 209, &opener()),
                Answer::Silence,
                "one per RTO"
            );
            let expected = match reopens {
                true => Answer::Reopen,
                false => Answer::Silence,
            };
            assert_eq!(
                receive(&mut wait, 300, &answer),
                expected,
                "{una} {frg} {ts}"
            );
            assert_eq!(has(&wait, key(1)), !reopens);
        }
    }
}

/// protocol.md 12.3: a datagram has one guess at the time stamp of our question, a record 64.
#[test]
fn guessing_at_the_question_is_bounded() {
    let reopened_after = |wrong: u32, datagram: &[u8]| {
        let mut wait = TimeWait::default();
        wait.insert(at(0), key(1), ORDERLY);
        let mut receive = |bytes: &[u8]| wait.receive(at(0), key(1), bytes, || Some(4_711));
        assert!(matches!(receive(&opener()), Some(Answer::Question(_))));
        for guess in 0..wrong {
            let many = wins(0, CLOSE_MARK | 2, 5_000 + guess).repeat(100);
            assert_eq!(receive(&many), Some(Answer::Silence));
        }
        receive(datagram) == Some(Answer::Reopen)
    };
    let right = wins(0, CLOSE_MARK | 2, 4_711);
    let behind_a_wrong_one = [wins(0, CLOSE_MARK | 2, 1), right.clone()].concat();
    assert!(!reopened_after(0, &behind_a_wrong_one));
    assert!(reopened_after(63, &right));
    assert!(!reopened_after(64, &right));
    // The count does not start again.
    assert!(!reopened_after(300, &right));
}

/// protocol.md 12.3: where the finished conversation's una was 0 too, the answer would tell nothing.
#[test]
fn a_peer_that_never_received_anything_is_refused_in_silence() {
    let mut wait = TimeWait::default();
    let ending = Ending {
        una_shown: false,
        ..ORDERLY
    };
    wait.insert(at(0), key(1), ending);
    for bytes in [opener(), wins(0, 0, 0)] {
        let answer = wait.receive(at(0), key(1), &bytes, || Some(1));
        assert_eq!(answer, Some(Answer::Silence));
    }
}

/// protocol.md 12.3: what the peer repeats is acknowledged again; what may be of a new conversation is
/// not.
#[test]
fn only_what_is_old_is_acknowledged() {
    for (una_shown, command, sn, una, acknowledged) in [
        (true, Command::Push, 0, 1, true),
        (true, Command::Push, 2, 1, true),
        (true, Command::Push, 3, 1, false),
        (true, Command::Push, 2, 0, false),
        (true, Command::Fin, 2, 1, true),
        (true, Command::Fin, 2, 0, false),
        (false, Command::Push, 2, 0, true),
        (false, Command::Push, 1, 0, false),
        (false, Command::Push, 0, 0, false),
    ] {
        let mut wait = TimeWait::default();
        let ending = Ending {
            una_shown,
            ..ORDERLY
        };
        wait.insert(at(0), key(1), ending);
        let payload: &[u8] = match command {
            Command::Push => b"x",
            _ => b"",
        };
        let bytes = segment(command, sn, una, payload);
        let answer = wait.receive(at(0), key(1), &bytes, || None).unwrap();
        let case = format!("{una_shown} {command:?} {sn} {una}");
        match answer {
            Answer::Acknowledge(ack) => {
                assert!(acknowledged, "{case}");
                assert_eq!((ack.sn.get(), ack.una.get(), ack.ts.get()), (sn, 3, 77));
            }
            other => assert!(!acknowledged, "{case}: {other:?}"),
        }
    }
}

/// After a first segment nothing with una 0 is taken for a repetition.
#[test]
fn a_begun_conversation_is_not_acknowledged() {
    let mut wait = TimeWait::default();
    let ending = Ending {
        una_shown: false,
        ..ORDERLY
    };
    wait.insert(at(0), key(1), ending);
    for bytes in [opener(), segment(Command::Push, 2, 0, b"x")] {
        let answer = wait.receive(at(0), key(1), &bytes, || None);
        assert_eq!(answer, Some(Answer::Silence));
    }
}

/// protocol.md 12.4: a marked WASK for what was given up gets RST, without end only within a rate.
#[test]
fn questions_about_what_was_given_up_get_resets() {
    let mut wask = segment(Command::Wask, 0, 5, b"");
    wask[5] = CLOSE_MARK;
    let mut wait = TimeWait::default();
    wait.insert(at(0), key(1), GIVEN_UP);
    let unvalidated = Ending {
        validated: false,
        ..GIVEN_UP
    };
    wait.insert(at(0), key(2), unvalidated);
    wait.insert(at(0), key(3), ORDERLY);
    let alias = (key(4).0, Conv::new(0));
    wait.insert(at(0), alias, GIVEN_UP);
    let mut ask = |port, ms| wait.receive(at_ms(ms), key(port), &wask, || None).unwrap();
    let Answer::Reset(reset) = ask(1, 0) else {
        panic!("no RST");
    };
    assert_eq!((reset.ts.get(), reset.sn.get()), (77, u32::MAX));
    assert_eq!(ask(1, 49), Answer::Silence);
    assert!(matches!(ask(1, 50), Answer::Reset(_)));
    assert!(matches!(ask(2, 0), Answer::BoundedReset(_)));
    assert_eq!(ask(3, 0), Answer::Silence);
    // Nor under conv 0, validated or not.
    let mut under_0 = wask.clone();
    under_0[..4].fill(0);
    let answer = wait.receive(at(0), alias, &under_0, || None);
    assert_eq!(answer, Some(Answer::Silence));
    // Nor in answer to RST.
    let rst = gate::reset(Conv::new(1), WireTs::new(1)).to_bytes();
    let both = [wask.as_slice(), &rst].concat();
    for bytes in [rst.as_slice(), &both] {
        let answer = wait.receive(at(1), key(1), bytes, || None);
        assert_eq!(answer, Some(Answer::Silence));
    }
}

/// protocol.md 12.3: records of unvalidated peers make room for each other only.
#[test]
fn unvalidated_peers_push_out_no_record_of_others() {
    let unvalidated = Ending {
        validated: false,
        tells: false,
        ..GIVEN_UP
    };
    let mut wait = TimeWait::default();
    let honest = [(peer(0, 1), ORDERLY), (peer(60_000, 1), GIVEN_UP)];
    for (key, ending) in honest {
        wait.insert(at(0), key, ending);
    }
    for prefix in 1..20_000 {
        wait.insert(at(5), peer(prefix, 1), unvalidated);
    }
    for port in 0..2_000 {
        wait.insert(at(5), peer(30_000, port), unvalidated);
    }
    assert!(honest.iter().all(|(key, _)| has(&wait, *key)));
    assert_eq!(wait.len(), 2 + UNVALIDATED_LIMIT);
    assert_eq!(wait.evicted(), 21_999 - UNVALIDATED_LIMIT as u64);
    let left = (1..20_000).filter(|&prefix| has(&wait, peer(prefix, 1)));
    assert!(left.eq(18_978..20_000), "the oldest first");
}

#[test]
fn a_record_of_an_unvalidated_peer_begins_with_its_last_data() {
    let since = |seconds| Ending {
        validated: false,
        tells: false,
        since: Some(at(seconds)),
        ..GIVEN_UP
    };
    let mut wait = TimeWait::default();
    wait.insert(at(20), key(1), since(15));
    assert_eq!(wait.next(), Some(at(25)));
    assert!(!wait.contains_validated(key(1).0, key(1).1));
    wait.insert(at(20), key(2), since(10));
    assert!(!has(&wait, key(2)), "late copies are over");
    wait.insert(at(20), key(1), since(9));
    assert_eq!((wait.len(), wait.next()), (0, None));
}
