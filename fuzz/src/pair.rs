//! Two engines, any calls, any fate of the datagrams between them: what is read is a prefix of what
//! was written.

use std::collections::VecDeque;
use std::time::Duration;

use kcp_engine::{Fault, Instant, KcpEngine, RecvError, Role};

use super::bytes::Bytes;
use super::engine::{check, drain, draw_engine};

struct Side {
    engine: KcpEngine,
    written: usize,
    read: usize,
    /// The reader has seen the end.
    ended: bool,
    /// Datagrams on their way to this side.
    inbox: VecDeque<Vec<u8>>,
}

/// The byte at `position` of the stream that side `side` writes.
fn content(side: usize, position: usize) -> u8 {
    (position as u32).wrapping_mul(0x9e37_79b1).to_le_bytes()[3] ^ side as u8
}

/// Operations of one side after the other.
pub fn pair(data: &[u8]) {
    let mut bytes = Bytes(data);
    // One config, so that start numbers and rules agree.
    let shape = bytes.take(7).to_vec();
    let side = |role| Side {
        engine: draw_engine(&mut Bytes(&shape), role),
        written: 0,
        read: 0,
        ended: false,
        inbox: VecDeque::new(),
    };
    let mut sides = [side(Role::Connecting), side(Role::Accepted)];
    let mut now = Instant::from_millis(1_000);
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let op = bytes.u8();
        let side = usize::from(op & 1);
        match (op >> 1) % 9 {
            0 | 1 => {
                let len = usize::from(bytes.u16()) % 5_000;
                let start = sides[side].written;
                let piece: Vec<_> = (0..len).map(|i| content(side, start + i)).collect();
                let engine = &mut sides[side].engine;
                let taken = match op & 64 {
                    0 => engine.send(&piece),
                    _ => engine.write(&piece),
                };
                sides[side].written += taken.unwrap_or(0);
            }
            2 => read(&mut sides, side, usize::from(bytes.u16())),
            3 => {
                now += Duration::from_millis(u64::from(bytes.u8()) * 4);
                for side in &mut sides {
                    side.engine.handle_timeout(now);
                }
            }
            4 => {
                out.clear();
                let engine = &mut sides[side].engine;
                while let Some(train) = engine.poll_transmit(now, &mut out, 8) {
                    for datagram in out.chunks(train.segment_size) {
                        sides[1 - side].inbox.push_back(datagram.to_vec());
                    }
                    out.clear();
                }
            }
            5 | 6 => deliver(&mut sides[side], now, bytes.u8()),
            7 => drop(sides[side].inbox.pop_front()),
            _ => match bytes.u8() % 4 {
                0 => sides[side].engine.finish(),
                1 => sides[side].engine.keepalive(),
                2 => sides[side].engine.request_flush(),
                _ => drop(sides[side].engine.set_mtu(50 + usize::from(bytes.u8()) * 8)),
            },
        }
        for side in &sides {
            check(&side.engine);
        }
    }
    settle(sides, now);
}

fn read(sides: &mut [Side; 2], side: usize, len: usize) {
    let mut buffer = vec![0; len];
    match sides[side].engine.read(&mut buffer) {
        Ok(n) => {
            for &byte in &buffer[..n] {
                assert_eq!(byte, content(1 - side, sides[side].read));
                sides[side].read += 1;
            }
        }
        Err(RecvError::Finished) => sides[side].ended = true,
        Err(_) => {}
    }
}

/// One datagram arrives: which, and whether it stays for another time, is drawn.
fn deliver(side: &mut Side, now: Instant, choice: u8) {
    if side.inbox.is_empty() {
        return;
    }
    let index = usize::from(choice >> 1) % side.inbox.len();
    let datagram = match choice & 1 {
        0 => side.inbox.remove(index).expect("the index is in range"),
        _ => side.inbox[index].clone(),
    };
    let _ = side.engine.input(now, &datagram);
}

/// From here on the network is perfect: everything written arrives.
fn settle(mut sides: [Side; 2], mut now: Instant) {
    let mut out = Vec::new();
    let patience = now + Duration::from_secs(600);
    for round in 0.. {
        // What an unvalidated side let go after a minute is lost, and it says so (protocol.md 11.4). The layer above ends it
        // then: it would go on answering, and the other side sending.
        if sides
            .iter()
            .any(|side| side.engine.fault() == Some(Fault::Incomplete))
        {
            return;
        }
        assert!(
            round < 100_000,
            "no end in sight: {:?}",
            sides.map(|side| side.engine)
        );
        for side in 0..2 {
            while let Some(datagram) = sides[side].inbox.pop_front() {
                let _ = sides[side].engine.input(now, &datagram);
            }
            while sides[side].engine.has_readable() && !sides[side].ended {
                read(&mut sides, side, 65_536);
            }
            out.clear();
            while let Some(train) = sides[side].engine.poll_transmit(now, &mut out, 8) {
                for datagram in out.chunks(train.segment_size) {
                    sides[1 - side].inbox.push_back(datagram.to_vec());
                }
                out.clear();
            }
        }
        if sides.iter().any(|side| !side.inbox.is_empty()) {
            continue;
        }
        let deadlines = sides.each_mut().map(|side| side.engine.poll_timeout());
        let Some(next) = deadlines.into_iter().flatten().min() else {
            break;
        };
        if next > patience && !sides[1].engine.is_proven() {
            // Its few answers before the proof (protocol.md 11.3) were all lost. The layer above
            // would have ended it long ago.
            return;
        }
        now = now.max(next);
        for side in &mut sides {
            side.engine.handle_timeout(now);
        }
    }
    for side in 0..2 {
        drain(&mut sides[side].engine, now, &mut out);
        // An accepted side that never heard anything may not speak, and has nobody to speak to.
        let heard = sides[1 - side].engine.last_heard().is_some();
        if heard {
            assert_eq!(sides[side].read, sides[1 - side].written, "side {side}");
        }
    }
}
