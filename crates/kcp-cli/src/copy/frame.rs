//! One frame: a kind byte, a 32-bit length, a body. All integers little-endian.

use super::name::is_deceptive;

/// The version this build speaks. Version 1 had no nonces, so its receiver took files from an
/// address that never answered. The first fields of Hello and Welcome are the same in every version.
pub(crate) const VERSION: u16 = 2;
/// The most file bytes one Data frame carries.
pub(crate) const MAX_DATA: usize = 64 * 1024;
/// Kind and length.
pub(crate) const HEADER: usize = 5;

/// A BLAKE3 hash of a whole file.
pub(crate) type Hash = [u8; 32];

/// Random bytes that the peer has to repeat. Only a peer that receives what is sent to its address
/// can repeat them.
pub(crate) type Nonce = [u8; 16];

/// What the connecting side wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// It has files to give.
    Sender,
    /// It wants the files the listener offers.
    Receiver,
}

/// Why a file was declined or a session aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The user pressed Ctrl-C.
    Interrupted,
    /// A file of that name is already there.
    Exists,
    /// The name could reach outside the directory or confuse a terminal.
    UnsafeName,
    /// The file is larger than the receiver takes.
    TooLarge,
    /// Reading or writing a file failed.
    Local,
    /// The other side broke the protocol.
    Protocol,
    /// Both sides want to send, or both want to receive.
    Role,
    /// Too many sessions, from this address or in all.
    Busy,
    /// The transfer was slower than the minimum.
    Stalled,
    /// More files than the receiver takes in one session.
    TooMany,
    /// A reason a later version added.
    Other(u8),
}

/// The receiver's word on one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The hash is right and the file stands under its name, synced to disk.
    Stored,
    /// What arrived is not what was sent; nothing was kept.
    Mismatch,
    /// The hash is right but the file could not be given its name.
    NotStored,
}

/// One message of the copy protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    Hello {
        version: u16,
        role: Role,
        nonce: Nonce,
    },
    /// `echo` is the nonce of Hello, `nonce` the listener's own.
    Welcome {
        version: u16,
        echo: Nonce,
        nonce: Nonce,
    },
    /// The nonce of Welcome: proves that its sender receives at its address.
    Confirm {
        echo: Nonce,
    },
    /// The session waits for its turn; sent by the listener, again every few seconds.
    Wait,
    /// The name is as it came: whoever stores it must make a `FileName` of it first.
    Offer {
        name: String,
        size: u64,
    },
    Accept,
    Decline {
        reason: Reason,
        text: String,
    },
    Data {
        offset: u64,
        bytes: Vec<u8>,
    },
    End {
        size: u64,
        hash: Hash,
    },
    Verdict {
        outcome: Outcome,
        hash: Hash,
        text: String,
    },
    Bye,
    Abort {
        reason: Reason,
        text: String,
    },
}

/// Why bytes are not a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// The kind byte is none of ours: most likely the peer is not a `kcp` copy at all.
    UnknownKind(u8),
    /// The length exceeds what this kind may have.
    TooLong { kind: u8, length: u32, limit: usize },
    /// The body does not parse.
    Malformed(&'static str),
}

impl std::fmt::Display for FrameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::UnknownKind(kind) => write!(f, "{kind:#04x} is no frame of the copy protocol"),
            Self::TooLong {
                kind,
                length,
                limit,
            } => {
                write!(
                    f,
                    "a frame of kind {kind} with {length} bytes, the limit is {limit}"
                )
            }
            Self::Malformed(what) => write!(f, "a malformed {what} frame"),
        }
    }
}

impl Frame {
    /// The frame's name, for messages about frames that may not come now.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "Hello",
            Self::Welcome { .. } => "Welcome",
            Self::Confirm { .. } => "Confirm",
            Self::Wait => "Wait",
            Self::Offer { .. } => "Offer",
            Self::Accept => "Accept",
            Self::Decline { .. } => "Decline",
            Self::Data { .. } => "Data",
            Self::End { .. } => "End",
            Self::Verdict { .. } => "Verdict",
            Self::Bye => "Bye",
            Self::Abort { .. } => "Abort",
        }
    }

    /// Appends the frame. Texts beyond [`MAX_TEXT`] are cut; a `Data` of more than
    /// [`MAX_DATA`] bytes or an `Offer` with an over-long name is a bug of the caller.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        let kind = match self {
            Self::Hello {
                version,
                role,
                nonce,
            } => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&version.to_le_bytes());
                out.push(match role {
                    Role::Sender => 1,
                    Role::Receiver => 2,
                });
                out.extend_from_slice(nonce);
                kind::HELLO
            }
            Self::Welcome {
                version,
                echo,
                nonce,
            } => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&version.to_le_bytes());
                out.extend_from_slice(echo);
                out.extend_from_slice(nonce);
                kind::WELCOME
            }
            Self::Confirm { echo } => {
                out.extend_from_slice(echo);
                kind::CONFIRM
            }
            Self::Wait => kind::WAIT,
            Self::Offer { name, size } => {
                debug_assert!(name.len() <= MAX_NAME);
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(name.as_bytes());
                kind::OFFER
            }
            Self::Accept => kind::ACCEPT,
            Self::Decline { reason, text } => {
                put_reason(out, *reason, text);
                kind::DECLINE
            }
            Self::Data { offset, bytes } => {
                debug_assert!(bytes.len() <= MAX_DATA);
                out.extend_from_slice(&offset.to_le_bytes());
                out.extend_from_slice(bytes);
                kind::DATA
            }
            Self::End { size, hash } => {
                out.extend_from_slice(&size.to_le_bytes());
                out.extend_from_slice(hash);
                kind::END
            }
            Self::Verdict {
                outcome,
                hash,
                text,
            } => {
                out.push(match outcome {
                    Outcome::Stored => 0,
                    Outcome::Mismatch => 1,
                    Outcome::NotStored => 2,
                });
                out.extend_from_slice(hash);
                out.extend_from_slice(cut(text).as_bytes());
                kind::VERDICT
            }
            Self::Bye => kind::BYE,
            Self::Abort { reason, text } => {
                put_reason(out, *reason, text);
                kind::ABORT
            }
        };
        let length = (out.len() - start - HEADER) as u32;
        out[start] = kind;
        out[start + 1..start + HEADER].copy_from_slice(&length.to_le_bytes());
    }
}

/// Checks a frame's first bytes and gives the length of its body, before any of it is kept.
pub(super) fn body_length(header: [u8; HEADER]) -> Result<usize, FrameError> {
    let kind = header[0];
    let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]);
    let limit = match kind {
        kind::HELLO | kind::WELCOME => 64, // room for what later versions add
        kind::OFFER => 8 + MAX_NAME,
        kind::CONFIRM => NONCE,
        kind::ACCEPT | kind::BYE | kind::WAIT => 0,
        kind::DECLINE | kind::ABORT => 1 + MAX_TEXT,
        kind::DATA => 8 + MAX_DATA,
        kind::END => 40,
        kind::VERDICT => 33 + MAX_TEXT,
        _ => return Err(FrameError::UnknownKind(kind)),
    };
    match usize::try_from(length) {
        Ok(length) if length <= limit => Ok(length),
        _ => Err(FrameError::TooLong {
            kind,
            length,
            limit,
        }),
    }
}

/// Parses a body whose kind and length [`body_length`] has passed.
pub(super) fn parse(kind: u8, body: &[u8]) -> Result<Frame, FrameError> {
    match kind {
        kind::HELLO => parse_hello(body).ok_or(FrameError::Malformed("Hello")),
        kind::WELCOME => parse_welcome(body).ok_or(FrameError::Malformed("Welcome")),
        kind::CONFIRM => match body.try_into() {
            Ok(echo) => Ok(Frame::Confirm { echo }),
            Err(_) => Err(FrameError::Malformed("Confirm")),
        },
        kind::WAIT => Ok(Frame::Wait),
        kind::OFFER => parse_offer(body).ok_or(FrameError::Malformed("Offer")),
        kind::ACCEPT => Ok(Frame::Accept),
        kind::DECLINE => reason(body)
            .map(|(reason, text)| Frame::Decline { reason, text })
            .ok_or(FrameError::Malformed("Decline")),
        kind::DATA => parse_data(body).ok_or(FrameError::Malformed("Data")),
        kind::END => parse_end(body).ok_or(FrameError::Malformed("End")),
        kind::VERDICT => parse_verdict(body).ok_or(FrameError::Malformed("Verdict")),
        kind::BYE => Ok(Frame::Bye),
        kind::ABORT => reason(body)
            .map(|(reason, text)| Frame::Abort { reason, text })
            .ok_or(FrameError::Malformed("Abort")),
        _ => Err(FrameError::UnknownKind(kind)),
    }
}

/// A peer's text made safe for a terminal: no control, invisible or direction-changing characters.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_deceptive(c) { '\u{fffd}' } else { c })
        .collect()
}

fn parse_hello(body: &[u8]) -> Option<Frame> {
    let (version, rest) = version(body)?;
    let (&role, rest) = rest.split_first()?;
    let role = match role {
        1 => Role::Sender,
        2 => Role::Receiver,
        _ => return None,
    };
    let (nonce, _) = nonce(version, rest)?;
    Some(Frame::Hello {
        version,
        role,
        nonce,
    })
}

fn parse_welcome(body: &[u8]) -> Option<Frame> {
    let (version, rest) = version(body)?;
    let (echo, rest) = nonce(version, rest)?;
    let (nonce, _) = nonce(version, rest)?;
    Some(Frame::Welcome {
        version,
        echo,
        nonce,
    })
}

/// A nonce in front. Other versions may have none: they get as far as the answer that names the
/// versions.
fn nonce(version: u16, body: &[u8]) -> Option<(Nonce, &[u8])> {
    match body.split_first_chunk::<NONCE>() {
        Some((nonce, rest)) => Some((*nonce, rest)),
        None if version != VERSION => Some(([0; NONCE], &[])),
        None => None,
    }
}

fn parse_offer(body: &[u8]) -> Option<Frame> {
    let (size, name) = u64_le(body)?;
    let name = std::str::from_utf8(name).ok()?.to_owned();
    Some(Frame::Offer { name, size })
}

fn parse_data(body: &[u8]) -> Option<Frame> {
    let (offset, bytes) = u64_le(body)?;
    // An empty Data frame would cost a peer nothing and us a turn, for ever.
    (!bytes.is_empty()).then(|| Frame::Data {
        offset,
        bytes: bytes.to_vec(),
    })
}

fn parse_end(body: &[u8]) -> Option<Frame> {
    let (size, rest) = u64_le(body)?;
    Some(Frame::End {
        size,
        hash: rest.try_into().ok()?,
    })
}

fn parse_verdict(body: &[u8]) -> Option<Frame> {
    let (&outcome, rest) = body.split_first()?;
    let outcome = match outcome {
        0 => Outcome::Stored,
        1 => Outcome::Mismatch,
        2 => Outcome::NotStored,
        _ => return None,
    };
    let (hash, text) = rest.split_first_chunk::<32>()?;
    Some(Frame::Verdict {
        outcome,
        hash: *hash,
        text: text_of(text),
    })
}

fn version(body: &[u8]) -> Option<(u16, &[u8])> {
    let rest = body.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_first_chunk::<2>()?;
    Some((u16::from_le_bytes(*version), rest))
}

fn u64_le(body: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = body.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*number), rest))
}

fn reason(body: &[u8]) -> Option<(Reason, String)> {
    let (&code, text) = body.split_first()?;
    let reason = match code {
        1 => Reason::Interrupted,
        2 => Reason::Exists,
        3 => Reason::UnsafeName,
        4 => Reason::TooLarge,
        5 => Reason::Local,
        6 => Reason::Protocol,
        7 => Reason::Role,
        8 => Reason::Busy,
        9 => Reason::Stalled,
        10 => Reason::TooMany,
        other => Reason::Other(other),
    };
    Some((reason, text_of(text)))
}

fn put_reason(out: &mut Vec<u8>, reason: Reason, text: &str) {
    out.push(match reason {
        Reason::Interrupted => 1,
        Reason::Exists => 2,
        Reason::UnsafeName => 3,
        Reason::TooLarge => 4,
        Reason::Local => 5,
        Reason::Protocol => 6,
        Reason::Role => 7,
        Reason::Busy => 8,
        Reason::Stalled => 9,
        Reason::TooMany => 10,
        Reason::Other(code) => code,
    });
    out.extend_from_slice(cut(text).as_bytes());
}

/// Texts are for people: bytes that are not UTF-8 are replaced, not refused.
fn text_of(bytes: &[u8]) -> String {
    printable(&String::from_utf8_lossy(bytes))
}

fn cut(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Longer than any file name a file system takes, so a hostile one costs little.
pub(crate) const MAX_NAME: usize = 1024;
/// The longest explanation in a Decline, Verdict or Abort.
pub(crate) const MAX_TEXT: usize = 512;
/// Bytes of a [`Nonce`].
const NONCE: usize = size_of::<Nonce>();
const MAGIC: &[u8; 4] = b"kcpF";

pub(super) mod kind {
    pub(crate) const HELLO: u8 = 0xf1;
    pub(crate) const WELCOME: u8 = 0xf2;
    pub(crate) const OFFER: u8 = 0xf3;
    pub(crate) const ACCEPT: u8 = 0xf4;
    pub(crate) const DECLINE: u8 = 0xf5;
    pub(crate) const DATA: u8 = 0xf6;
    pub(crate) const END: u8 = 0xf7;
    pub(crate) const VERDICT: u8 = 0xf8;
    pub(crate) const BYE: u8 = 0xf9;
    pub(crate) const ABORT: u8 = 0xfa;
    pub(crate) const CONFIRM: u8 = 0xfb;
    pub(crate) const WAIT: u8 = 0xfc;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An older peer must get as far as the message that names both versions.
    #[test]
    fn a_greeting_of_version_1_is_still_read() {
        let hello = [MAGIC, &[1, 0, 1][..]].concat();
        let frame = Frame::Hello {
            version: 1,
            role: Role::Sender,
            nonce: [0; 16],
        };
        assert_eq!(parse(kind::HELLO, &hello), Ok(frame));
        let hello = [MAGIC, &[2, 0, 1][..]].concat();
        assert_eq!(
            parse(kind::HELLO, &hello),
            Err(FrameError::Malformed("Hello"))
        );
    }
}
