//! One frame: a kind byte, a 32-bit length, a body. All integers little-endian.

/// The version this build speaks. Hello and Welcome keep their layout in every version.
pub(crate) const VERSION: u16 = 1;
/// The most file bytes one Data frame carries.
pub(crate) const MAX_DATA: usize = 64 * 1024;
/// Kind and length.
pub(crate) const HEADER: usize = 5;

/// A BLAKE3 hash of a whole file.
pub(crate) type Hash = [u8; 32];

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
    },
    Welcome {
        version: u16,
    },
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
            Self::Hello { version, role } => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&version.to_le_bytes());
                out.push(match role {
                    Role::Sender => 1,
                    Role::Receiver => 2,
                });
                kind::HELLO
            }
            Self::Welcome { version } => {
                out.extend_from_slice(MAGIC);
                out.extend_from_slice(&version.to_le_bytes());
                kind::WELCOME
            }
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
        kind::ACCEPT | kind::BYE => 0,
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
        kind::WELCOME => version(body)
            .map(|(version, _)| Frame::Welcome { version })
            .ok_or(FrameError::Malformed("Welcome")),
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

/// A peer's text made safe for a terminal: no control characters, no direction overrides.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if is_deceptive(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Characters that move a cursor or reorder what is displayed.
pub(super) fn is_deceptive(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn parse_hello(body: &[u8]) -> Option<Frame> {
    let (version, rest) = version(body)?;
    let role = match rest.first()? {
        1 => Role::Sender,
        2 => Role::Receiver,
        _ => return None,
    };
    Some(Frame::Hello { version, role })
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
pub(super) const MAX_NAME: usize = 1024;
/// The longest explanation in a Decline, Verdict or Abort.
const MAX_TEXT: usize = 512;
const MAGIC: &[u8; 4] = b"kcpF";

mod kind {
    pub(super) const HELLO: u8 = 0xf1;
    pub(super) const WELCOME: u8 = 0xf2;
    pub(super) const OFFER: u8 = 0xf3;
    pub(super) const ACCEPT: u8 = 0xf4;
    pub(super) const DECLINE: u8 = 0xf5;
    pub(super) const DATA: u8 = 0xf6;
    pub(super) const END: u8 = 0xf7;
    pub(super) const VERDICT: u8 = 0xf8;
    pub(super) const BYE: u8 = 0xf9;
    pub(super) const ABORT: u8 = 0xfa;
}
