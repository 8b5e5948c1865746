//! The file-copy protocol: small frames over any ordered byte stream, sans-IO.
//!
//! ```text
//! connecting side                 listening side
//!   Hello{version, role, n1} ->
//!                            <-   Welcome{version, n1, n2}  (or Abort{reason})
//!   Confirm{n2}              ->
//!                            <-   Wait ...             (no slot yet)
//! sending side                    receiving side       (either may be the connecting one)
//!   Offer{name, size}        ->
//!                            <-   Accept               (or Decline{reason}: next file)
//!   Data{offset, bytes} ...  ->
//!   End{size, hash}          ->
//!                            <-   Verdict{outcome, hash}
//!   ... more files ...
//!   Bye                      ->
//! ```
//!
//! The nonces n1 and n2 are random. A peer that repeats ours receives at its address, so it is
//! validated; before that nothing is written, and no slot is taken. A frame that came before what it
//! answers was sent ends the session.
//!
//! Either side may send `Abort{reason, text}` at any time; nothing follows it. The receiver
//! computes the hash of what it wrote and answers with its own verdict, so "sent" in the
//! sender's report means "stored under its name at the other end".
//!
//! Every length is bounded before anything is allocated for it, and every rule about the
//! order of frames lives in [`Receiving`] and [`Sending`]: hostile bytes give an error,
//! never a panic.

mod decoder;
mod frame;
mod name;
mod receiving;
mod sending;

pub(crate) use decoder::Decoder;
pub(crate) use frame::{
    Frame, FrameError, HEADER, Hash, MAX_DATA, MAX_NAME, MAX_TEXT, Nonce, Outcome, Reason, Role,
    VERSION, printable,
};
pub(crate) use name::{FileName, TEMPORARY_PREFIX};
pub(crate) use receiving::{Received, Receiving};
pub(crate) use sending::{Answer, Sending};

/// What a peer did that the protocol does not allow. Ends the session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// A frame that may not come now.
    Unexpected {
        got: &'static str,
        expected: &'static str,
    },
    /// A version of this protocol that we do not speak.
    Version(u16),
    /// Both sides want to send, or both want to receive.
    SameRole,
    /// Data that does not continue the file, or goes beyond its announced size.
    Offset { got: u64, expected: u64 },
    /// A nonce that is not ours.
    Nonce(&'static str),
    /// Bytes that came before the answer that they can only follow.
    Early { before: &'static str },
    /// More files in one session than anybody has.
    TooManyFiles,
    /// Wait more often than any listener sends it.
    TooManyWaits,
    /// More or fewer bytes than the offer announced.
    Size { got: u64, announced: u64 },
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unexpected { got, expected } => write!(f, "got {got} where {expected} was due"),
            Self::Version(version) => {
                write!(
                    f,
                    "it speaks version {version} of the copy protocol, this is version {VERSION}: \
                     update the older kcp"
                )
            }
            Self::Nonce(frame) => write!(f, "a {frame} that does not repeat our nonce"),
            Self::Early { before } => write!(f, "it sent on before {before}"),
            Self::SameRole => write!(f, "both sides want the same direction"),
            Self::Offset { got, expected } => {
                write!(f, "data for offset {got} where {expected} was due")
            }
            Self::TooManyFiles => f.write_str("too many files in one session"),
            Self::TooManyWaits => f.write_str("it has us wait too often"),
            Self::Size { got, announced } => {
                write!(f, "{got} bytes where {announced} were announced")
            }
        }
    }
}
