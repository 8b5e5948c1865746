//! The segment on the wire: a 24-byte little-endian header and its payload (`docs/protocol.md` 2).

use core::fmt;

use crate::error::InputError;
use crate::seq::{Conv, Sn, WireTs};

/// Bytes of a segment header (`ikcp.c: IKCP_OVERHEAD`).
pub const IKCP_OVERHEAD: usize = 24;

/// Where each field of the header lies.
mod field {
    use core::ops::Range;

    pub(super) const CONV: Range<usize> = 0..4;
    pub(super) const CMD: usize = 4;
    pub(super) const FRG: usize = 5;
    pub(super) const WND: Range<usize> = 6..8;
    pub(super) const TS: Range<usize> = 8..12;
    pub(super) const SN: Range<usize> = 12..16;
    pub(super) const UNA: Range<usize> = 16..20;
    pub(super) const LEN: Range<usize> = 20..24;
}

/// What a segment asks of its receiver (`docs/protocol.md` 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Command {
    /// Carries data.
    Push = 81,
    /// Acknowledges one sequence number.
    Ack = 82,
    /// Asks for the receiver's window.
    Wask = 83,
    /// Tells the sender's window.
    Wins = 84,
    /// Ends the sender's byte stream. Only for peers that showed the mark (`docs/protocol.md` 12.2).
    Fin = 85,
    /// The session does not exist here. Only for peers that showed the mark (`docs/protocol.md` 12.4).
    Rst = 86,
}

impl Command {
    /// The command with this wire value.
    pub const fn from_wire(value: u8) -> Option<Self> {
        match value {
            81 => Some(Self::Push),
            82 => Some(Self::Ack),
            83 => Some(Self::Wask),
            84 => Some(Self::Wins),
            85 => Some(Self::Fin),
            86 => Some(Self::Rst),
            _ => None,
        }
    }

    /// The wire value.
    pub const fn to_wire(self) -> u8 {
        self as u8
    }
}

/// `frg` of every ACK, WASK and WINS that we send: "I understand FIN and RST".
///
/// Stock peers ignore `frg` there. The high nibble is the mark, bit 0 the promise; bit 1 belongs to
/// answers (`docs/protocol.md` 11.1), bit 2 to the side that accepted the session (12.1); bit 3 is
/// reserved and sent as 0.
pub const CLOSE_MARK: u8 = 0xA1;

/// Set in `frg` of a WINS whose `ts` is that of the WASK it answers (`docs/protocol.md` 11.1).
pub(crate) const ECHO_MARK: u8 = 0x02;

/// Set in marks of the side that accepted the session (`docs/protocol.md` 12.1).
pub(crate) const ACCEPTING_MARK: u8 = 0x04;

const MARK_MASK: u8 = 0xF1;

/// The 24 bytes in front of every segment, as they stand on the wire.
///
/// ```
/// use kcp_engine::{Command, Conv, KcpHeader, Sn, WireTs, IKCP_OVERHEAD};
///
/// let header = KcpHeader {
///     conv: Conv::new(0x11223344),
///     cmd: Command::Push.to_wire(),
///     frg: 0,
///     wnd: 128,
///     ts: WireTs::new(7),
///     sn: Sn::new(1),
///     una: Sn::new(0),
///     len: 5,
/// };
/// let mut bytes = [0; IKCP_OVERHEAD];
/// header.emit(&mut bytes);
/// assert_eq!(KcpHeader::parse(&bytes), Some(header));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KcpHeader {
    /// Conversation id.
    pub conv: Conv,
    /// Command byte; see [`Command`].
    pub cmd: u8,
    /// PUSH: how many fragments of the same message follow. Others: the mark, or 0.
    pub frg: u8,
    /// Free slots in the sender's receive queue, in segments.
    pub wnd: u16,
    /// PUSH: the sender's clock. ACK: the clock of the PUSH that it acknowledges.
    pub ts: WireTs,
    /// PUSH and FIN: sequence number. ACK: the sequence number acknowledged.
    pub sn: Sn,
    /// Everything before this has arrived at the sender.
    pub una: Sn,
    /// Payload bytes that follow.
    pub len: u32,
}

impl KcpHeader {
    /// Reads the first 24 bytes; `None` when there are fewer.
    ///
    /// Nothing is checked: command and length may be nonsense. [`segments`] checks them.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; IKCP_OVERHEAD] = bytes.get(..IKCP_OVERHEAD)?.try_into().ok()?;
        Some(Self {
            conv: Conv::new(le_u32(bytes, field::CONV.start)),
            cmd: bytes[field::CMD],
            frg: bytes[field::FRG],
            wnd: u16::from_le_bytes([bytes[field::WND.start], bytes[field::WND.start + 1]]),
            ts: WireTs::new(le_u32(bytes, field::TS.start)),
            sn: Sn::new(le_u32(bytes, field::SN.start)),
            una: Sn::new(le_u32(bytes, field::UNA.start)),
            len: le_u32(bytes, field::LEN.start),
        })
    }

    /// Writes the header.
    pub fn emit(&self, bytes: &mut [u8; IKCP_OVERHEAD]) {
        bytes[field::CONV].copy_from_slice(&self.conv.get().to_le_bytes());
        bytes[field::CMD] = self.cmd;
        bytes[field::FRG] = self.frg;
        bytes[field::WND].copy_from_slice(&self.wnd.to_le_bytes());
        bytes[field::TS].copy_from_slice(&self.ts.get().to_le_bytes());
        bytes[field::SN].copy_from_slice(&self.sn.get().to_le_bytes());
        bytes[field::UNA].copy_from_slice(&self.una.get().to_le_bytes());
        bytes[field::LEN].copy_from_slice(&self.len.to_le_bytes());
    }

    /// The header as bytes.
    pub fn to_bytes(&self) -> [u8; IKCP_OVERHEAD] {
        let mut bytes = [0; IKCP_OVERHEAD];
        self.emit(&mut bytes);
        bytes
    }

    /// The command, if it is one we know.
    pub const fn command(&self) -> Option<Command> {
        Command::from_wire(self.cmd)
    }

    /// Whether this segment shows that its sender understands FIN and RST (`docs/protocol.md` 12.1).
    pub const fn is_marked(&self) -> bool {
        match self.command() {
            Some(Command::Ack | Command::Wask | Command::Wins) => {
                self.frg & MARK_MASK == CLOSE_MARK
            }
            Some(Command::Fin | Command::Rst) => true,
            _ => false,
        }
    }
}

impl KcpHeader {
    /// Whether this is a marked WINS whose `ts` is that of the WASK it answers (`docs/protocol.md` 11.1).
    pub fn is_echo(&self) -> bool {
        self.is_marked() && self.command() == Some(Command::Wins) && self.frg & ECHO_MARK != 0
    }

    /// Whether this is a marked ACK, WASK or WINS of a side that accepted the session.
    pub(crate) const fn is_of_accepting_side(&self) -> bool {
        let carries_it = matches!(
            self.command(),
            Some(Command::Ack | Command::Wask | Command::Wins)
        );
        carries_it && self.is_marked() && self.frg & ACCEPTING_MARK != 0
    }
}

fn le_u32(bytes: &[u8; IKCP_OVERHEAD], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// A header and the payload it announces, borrowed from a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KcpSegment<'a> {
    /// The header.
    pub header: KcpHeader,
    /// Its payload: exactly `header.len` bytes.
    pub payload: &'a [u8],
}

impl fmt::Debug for KcpSegment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The header says how long the payload is; its bytes do not belong in a log.
        f.debug_struct("KcpSegment")
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

/// Walks the segments of a datagram (`docs/protocol.md` 2.4).
///
/// Ends where fewer than 24 bytes remain, or after the first error. It does not look at `conv`.
pub const fn segments(datagram: &[u8]) -> Segments<'_> {
    Segments { rest: datagram }
}

/// Iterator of [`segments`].
#[derive(Clone)]
pub struct Segments<'a> {
    rest: &'a [u8],
}

impl fmt::Debug for Segments<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Segments")
            .field("remaining_bytes", &self.rest.len())
            .finish()
    }
}

impl<'a> Iterator for Segments<'a> {
    type Item = Result<KcpSegment<'a>, InputError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        let header = KcpHeader::parse(self.rest)?;
        match split_payload(header, &self.rest[IKCP_OVERHEAD..]) {
            Ok((segment, rest)) => {
                self.rest = rest;
                Some(Ok(segment))
            }
            Err(error) => {
                self.rest = &[];
                Some(Err(error))
            }
        }
    }
}

/// Cuts the payload that `header` announces from `body`; the rest of the datagram comes second.
#[inline]
pub(crate) fn split_payload(
    header: KcpHeader,
    body: &[u8],
) -> Result<(KcpSegment<'_>, &[u8]), InputError> {
    // C also refuses a length with the top bit set; no datagram is long enough to hold one.
    let len = usize::try_from(header.len).unwrap_or(usize::MAX);
    let (payload, rest) = body.split_at_checked(len).ok_or(InputError::BadLength)?;
    if header.command().is_none() {
        return Err(InputError::UnknownCommand);
    }
    Ok((KcpSegment { header, payload }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn header(cmd: u8, len: u32) -> KcpHeader {
        KcpHeader {
            conv: Conv::new(0x0403_0201),
            cmd,
            frg: 5,
            wnd: 0x0706,
            ts: WireTs::new(0x0b0a_0908),
            sn: Sn::new(0x0f0e_0d0c),
            una: Sn::new(0x1312_1110),
            len,
        }
    }

    /// protocol.md 2.1: field offsets and byte order, spelled out.
    #[test]
    fn header_is_little_endian_in_c_order() {
        let bytes = header(82, 0x1716_1514).to_bytes();
        let expected: Vec<u8> = (1..=4)
            .chain([82, 5])
            .chain(6..=19)
            .chain([0x14, 0x15, 0x16, 0x17])
            .collect();
        assert_eq!(bytes.as_slice(), expected);
    }

    /// protocol.md 2.4: fewer than 24 bytes at the end are ignored, not an error.
    #[test]
    fn trailing_bytes_end_the_walk() {
        let mut datagram = header(81, 2).to_bytes().to_vec();
        datagram.extend_from_slice(b"hi");
        datagram.extend_from_slice(&[0; 23]);
        let mut walk = segments(&datagram);
        assert_eq!(walk.next().unwrap().unwrap().payload, b"hi");
        assert!(walk.next().is_none());
    }

    /// protocol.md 2.4: an impossible length is found before an unknown command, as in C.
    #[test]
    fn length_is_checked_before_command() {
        for (cmd, len, expected) in [
            (81, 1, InputError::BadLength),
            (99, 1, InputError::BadLength),
            (81, u32::MAX, InputError::BadLength),
            (99, 0, InputError::UnknownCommand),
        ] {
            let bytes = header(cmd, len).to_bytes();
            let mut walk = segments(&bytes);
            assert_eq!(walk.next(), Some(Err(expected)));
            assert_eq!(walk.next(), None);
        }
    }

    /// protocol.md 12.1: only ACK, WASK and WINS carry the mark in `frg`.
    #[test]
    fn mark_is_read_only_where_frg_is_free() {
        for (cmd, frg, marked) in [
            (82, 0xA1, true),
            (83, 0xAF, true),
            (84, 0xA1, true),
            (82, 0xA0, false),
            (82, 0x01, false),
            (81, 0xA1, false),
            (85, 0, true),
        ] {
            let header = KcpHeader {
                frg,
                ..header(cmd, 0)
            };
            assert_eq!(header.is_marked(), marked, "cmd {cmd} frg {frg:#x}");
        }
    }

    proptest! {
        #[test]
        fn parse_undoes_emit(bytes in prop::array::uniform24(any::<u8>())) {
            let header = KcpHeader::parse(&bytes).unwrap();
            prop_assert_eq!(header.to_bytes(), bytes);
        }

        #[test]
        fn walking_random_bytes_terminates(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(segments(&bytes).count() <= bytes.len() / IKCP_OVERHEAD + 1);
        }
    }
}
