//! What a datagram that belongs to no session may ask for (`docs/protocol.md` 12.4, 13.2). Pure.
//!
//! KCP has no handshake, so any datagram could ask for a session. Only one that can be the start
//! of a conversation gets one: it carries one of the first 128 segments, and its sender has not
//! yet heard anything from us.

use kcp_engine::{CLOSE_MARK, Command, Conv, KcpHeader, Sn, WireTs, segments};

/// What a stranger's datagram is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// It can be the start of a conversation.
    pub(crate) opens: bool,
    /// It carries sn 0, so the conversation starts here and now.
    pub(crate) has_first: bool,
    /// PUSH segments in it.
    pub(crate) pushes: u32,
    /// `ts` of a marked WASK that asks for a session that it believes exists.
    pub(crate) asked_at: Option<WireTs>,
}

/// Reads a datagram of an unknown (address, conv). One malformed segment condemns all of it.
pub(crate) fn judge(datagram: &[u8]) -> Verdict {
    let mut verdict = Verdict::default();
    let mut has_early_push = false;
    let mut fresh = true;
    let mut resets = false;
    let mut conv = None;
    for segment in segments(datagram) {
        let Ok(segment) = segment else {
            return Verdict::default();
        };
        let header = segment.header;
        // The engine stops at a foreign segment: what is behind it would not be there.
        if *conv.get_or_insert(header.conv) != header.conv {
            return Verdict::default();
        }
        fresh &= header.una == Sn::ZERO;
        match header.command() {
            Some(Command::Push) => {
                verdict.pushes += 1;
                has_early_push |= header.sn.get() < EARLY_SEGMENTS;
                verdict.has_first |= header.sn == Sn::ZERO;
            }
            Some(Command::Wask) if header.is_marked() => verdict.asked_at = Some(header.ts),
            Some(Command::Rst) => resets = true,
            _ => {}
        }
    }
    // Ours asks only a peer that it has heard: it has a session elsewhere.
    verdict.opens = has_early_push && fresh && !resets && verdict.asked_at.is_none();
    verdict.has_first &= verdict.opens;
    if resets {
        verdict.asked_at = None;
    }
    verdict
}

/// Whether a datagram is what a client sends until it knows its conversation id (`docs/protocol.md`
/// 13.3): first data, and nothing that says what it has heard.
pub(crate) fn is_first_flight(datagram: &[u8]) -> bool {
    judge(datagram).opens
        && segments(datagram).all(|segment| {
            segment.is_ok_and(|segment| {
                let header = segment.header;
                header.command() == Some(Command::Push) && header.sn.get() < EARLY_SEGMENTS
            })
        })
}

/// The answer to a marked WASK for a session that does not exist: one segment, no larger than the
/// question, that echoes the question's clock as proof that it was heard.
pub(crate) fn reset(conv: Conv, asked_at: WireTs) -> KcpHeader {
    KcpHeader {
        conv,
        cmd: Command::Rst.to_wire(),
        frg: CLOSE_MARK,
        wnd: 0,
        ts: asked_at,
        // kcp-go and tokio_kcp replace a live session on sn 0.
        sn: Sn::new(u32::MAX),
        una: Sn::ZERO,
        len: 0,
    }
}

/// Makes every segment of a datagram speak of `conv`, for a peer that does not know its own yet.
pub(crate) fn rename(datagram: &mut [u8], conv: Conv) {
    let ends: Vec<usize> = segments(datagram)
        .map_while(Result::ok)
        .scan(0, |at, segment| {
            let start = *at;
            *at += kcp_engine::IKCP_OVERHEAD + segment.payload.len();
            Some(start)
        })
        .collect();
    for start in ends {
        datagram[start..start + 4].copy_from_slice(&conv.get().to_le_bytes());
    }
}

/// A first flight is at most this long: C takes a peer's window to be 128 until it has spoken.
const EARLY_SEGMENTS: u32 = kcp_engine::IKCP_WND_RCV;

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(command: Command, frg: u8, sn: u32, una: u32, payload: &[u8]) -> Vec<u8> {
        let header = KcpHeader {
            conv: Conv::new(7),
            cmd: command.to_wire(),
            frg,
            wnd: 128,
            ts: WireTs::new(99),
            sn: Sn::new(sn),
            una: Sn::new(una),
            len: payload.len() as u32,
        };
        [header.to_bytes().as_slice(), payload].concat()
    }

    fn push(sn: u32, una: u32) -> Vec<u8> {
        segment(Command::Push, 0, sn, una, b"x")
    }

    /// protocol.md 13.2
    #[test]
    fn only_the_start_of_a_conversation_opens_one() {
        assert!(judge(&push(0, 0)).has_first);
        assert!(judge(&push(127, 0)).opens);
        assert!(!judge(&push(127, 0)).has_first);
        assert!(!judge(&push(128, 0)).opens);
        assert!(!judge(&push(0, 1)).opens, "the sender has heard somebody");
        let mixed = [push(0, 0), push(1, 5)].concat();
        assert!(!judge(&mixed).opens, "every segment must be fresh");
        assert!(!judge(&segment(Command::Ack, 0, 0, 0, b"")).opens);
        assert!(!judge(&segment(Command::Wask, 0, 0, 0, b"")).opens);
        assert!(!judge(&[]).opens);
        assert!(!judge(&push(0, 0)[..24]).opens, "its payload is missing");
        let asks = segment(Command::Wask, CLOSE_MARK, 0, 0, b"");
        let verdict = judge(&[asks, push(0, 0)].concat());
        assert!(!verdict.opens, "it has a session elsewhere");
        assert_eq!(verdict.asked_at, Some(WireTs::new(99)));
        let mut foreign = push(0, 0);
        foreign[0] += 1;
        let hidden = [segment(Command::Wask, 0, 0, 0, b""), foreign].concat();
        assert!(!judge(&hidden).opens, "sn 0 is of another conversation");
    }

    /// protocol.md 12.4
    #[test]
    fn only_a_marked_question_is_answered() {
        let wask = |frg| segment(Command::Wask, frg, 0, 9, b"");
        assert_eq!(judge(&wask(CLOSE_MARK)).asked_at, Some(WireTs::new(99)));
        assert_eq!(judge(&wask(0)).asked_at, None);
        for command in [Command::Ack, Command::Wins, Command::Fin, Command::Rst] {
            assert_eq!(
                judge(&segment(command, CLOSE_MARK, 3, 9, b"")).asked_at,
                None
            );
        }
        let with_reset = [
            wask(CLOSE_MARK),
            segment(Command::Rst, CLOSE_MARK, 3, 9, b""),
        ]
        .concat();
        assert_eq!(
            judge(&with_reset).asked_at,
            None,
            "never in answer to a RST"
        );
    }

    #[test]
    fn a_reset_is_one_header_that_echoes_the_question() {
        let bytes = reset(Conv::new(5), WireTs::new(0xdead_beef)).to_bytes();
        let header = KcpHeader::parse(&bytes).unwrap();
        assert_eq!(
            (header.cmd, header.frg, header.sn.get()),
            (86, 0xA1, u32::MAX)
        );
        assert_eq!(header.ts.get(), 0xdead_beef);
    }

    /// protocol.md 13.3
    #[test]
    fn a_first_flight_is_pushes_that_have_heard_nothing() {
        assert!(is_first_flight(&[push(0, 0), push(127, 0)].concat()));
        for other in [
            push(1, 1),
            push(128, 0),
            segment(Command::Ack, 0, 0, 0, b""),
            segment(Command::Wask, 0, 0, 0, b""),
            segment(Command::Wins, 0, 0, 0, b""),
            segment(Command::Fin, 0, 1, 0, b""),
        ] {
            assert!(!is_first_flight(&other));
            assert!(!is_first_flight(&[push(0, 0), other].concat()));
        }
    }

    #[test]
    fn renames_every_segment() {
        let mut datagram = [push(0, 0), push(1, 0)].concat();
        rename(&mut datagram, Conv::new(0x0102_0304));
        let convs: Vec<u32> = segments(&datagram)
            .map(|segment| segment.unwrap().header.conv.get())
            .collect();
        assert_eq!(convs, [0x0102_0304; 2]);
    }
}
