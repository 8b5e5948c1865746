//! One small `Copy` error per operation. The async layer folds them into its `KcpError`.

use core::fmt;

/// Why [`KcpEngine::input`](crate::KcpEngine::input) stopped reading a datagram.
///
/// Segments before the bad one stay applied (`docs/protocol.md` 2.4). The counters have already
/// seen it; a caller may ignore this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputError {
    /// Fewer than 24 bytes (C: -1).
    TooShort,
    /// A segment for another conversation (C: -1).
    WrongConv,
    /// A payload longer than what is left of the datagram (C: -2).
    BadLength,
    /// A command that does not exist (C: -3).
    UnknownCommand,
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooShort => "datagram is shorter than one segment header",
            Self::WrongConv => "segment belongs to another conversation",
            Self::BadLength => "segment length exceeds the datagram",
            Self::UnknownCommand => "segment has an unknown command",
        })
    }
}

impl core::error::Error for InputError {}

/// Why a message or a write was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The message needs more fragments than the peer is known to be able to hold
    /// (`docs/protocol.md` 3.3).
    TooLarge {
        /// Bytes offered.
        size: usize,
        /// The largest message that would be taken now, in bytes.
        max: usize,
    },
    /// Empty messages are not sent: kcp-go blocks on them for ever (`docs/protocol.md` 3.4).
    Empty,
    /// [`KcpEngine::finish`](crate::KcpEngine::finish) was called before.
    Finished,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge { size, max } => {
                write!(
                    f,
                    "message of {size} bytes is larger than the {max} the peer can hold"
                )
            }
            Self::Empty => f.write_str("an empty message cannot be sent"),
            Self::Finished => f.write_str("the sending side has been finished"),
        }
    }
}

impl core::error::Error for SendError {}

/// Why nothing was received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecvError {
    /// Nothing has arrived (C: -1).
    Empty,
    /// Only a part of the next message has arrived (C: -2).
    Incomplete,
    /// The next message does not fit; it stays (C: -3).
    BufferTooSmall {
        /// Its size in bytes.
        needed: usize,
    },
    /// The peer's FIN has been reached: nothing more will come.
    Finished,
}

impl fmt::Display for RecvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("no data has arrived"),
            Self::Incomplete => f.write_str("the next message has not arrived whole"),
            Self::BufferTooSmall { needed } => {
                write!(f, "the next message needs a buffer of {needed} bytes")
            }
            Self::Finished => f.write_str("the peer has finished sending"),
        }
    }
}

impl core::error::Error for RecvError {}

/// A setting outside its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// Name of the setting.
    pub field: &'static str,
    /// What was asked for, in the unit of the range.
    pub value: u64,
    /// What is allowed, with its unit.
    pub range: &'static str,
}

impl ConfigError {
    /// An error for a setting of a layer above the engine.
    pub const fn new(field: &'static str, value: u64, range: &'static str) -> Self {
        Self {
            field,
            value,
            range,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} = {} is out of range: {}",
            self.field, self.value, self.range
        )
    }
}

impl core::error::Error for ConfigError {}

/// What ended a session from the peer's side (`docs/protocol.md` 12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The peer said that it has no such session (a RST that echoes one of our WASKs).
    Reset,
    /// The peer answers keepalives with acknowledgements older than what it had acknowledged
    /// before: it restarted, and a stock ghost session is talking.
    Ghost,
    /// 64 acknowledgements of transmissions that never were, before one valid one.
    ForgedAcks,
    /// More of a message than it may have, and a part of it is still missing.
    MessageTooLong,
    /// An unvalidated peer left a message incomplete, or a gap open, for too long; or what was acknowledged and let
    /// go for that is missed after the peer was validated.
    Incomplete,
    /// The peer accepted this session, and so did we: forged datagrams opened it on both sides
    /// (`docs/protocol.md` 12.1).
    TwoAcceptingSides,
}
