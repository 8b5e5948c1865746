//! What can go wrong, in the words of an application.
//!
//! Bad bytes from the network are never in here: they are counted in the stats and dropped.

use std::error::Error;
use std::{fmt, io};

use kcp_engine::{ConfigError, RecvError, SendError};

/// Everything that a call of this crate can fail with.
///
/// Converts into [`io::Error`] with a fitting [`io::ErrorKind`]; the `KcpError` stays reachable
/// through [`io::Error::get_ref`].
#[derive(Debug)]
#[non_exhaustive]
pub enum KcpError {
    /// The socket or the name lookup failed.
    Io(io::Error),
    /// The peer broke the protocol so badly that the session was given up.
    Protocol(ProtocolError),
    /// The session is over.
    Connection(ConnectionError),
    /// A setting is out of its range.
    Config(ConfigError),
    /// A message or a buffer has the wrong size. The session is unharmed.
    Buffer(BufferError),
    /// Something did not happen in its time.
    Timeout(TimeoutError),
}

/// Why a session ended. Also what [`KcpStream::close_reason`](crate::KcpStream::close_reason) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The peer has no such session: it restarted, or gave the session up.
    Reset,
    /// The peer's host said that nothing listens there (ICMP), and nothing answered within 1.5 s
    /// after that, or within the connect timeout if it is shorter.
    Refused,
    /// Nothing answered the first data within the connect timeout.
    ConnectTimeout,
    /// Data waited for the peer and nothing was heard for the dead-peer timeout.
    PeerDead,
    /// The oldest data was sent again and again for the dead-peer timeout and never acknowledged, although the peer was
    /// heard and its window was open. Mostly a path that drops datagrams of that size: a smaller
    /// [`mtu`](crate::KcpConfig::mtu) helps.
    Undeliverable,
    /// The socket refused datagrams for their size (EMSGSIZE) until another timeout ended the session: the
    /// [`mtu`](crate::KcpConfig::mtu) is larger than what it sends.
    DatagramTooLarge,
    /// The system took nothing that was to be sent to the peer: it has no route, or does not allow it. A session that
    /// connects ends after 1.5 s of that, any other by the timeout that applies.
    Unreachable(io::ErrorKind),
    /// Nothing was heard for the idle timeout.
    Idle,
    /// The peer of an accepted session never validated its address: what was written, or a writer, has
    /// waited for that for the unproven timeout without new data from it. The same if it sent nothing
    /// new for that time before `accept` returned the session.
    Unproven,
    /// The peer opened a new session from the same address (kcp-go's restart rule).
    Replaced,
    /// The peer was not heard for the linger time of a close, and had not acknowledged everything.
    LingerExpired,
    /// The peer was heard, but acknowledged nothing more for the close stall timeout of a close.
    CloseStalled,
    /// The endpoint, or the part of it that one network may use, was full, and this session made
    /// room for a new one: its peer was silent for more than a second, and longest of its class
    /// (see [`max_sessions`](crate::EndpointConfig::max_sessions)).
    Evicted,
    /// Both sides finished, or the local side finished and left.
    Closed,
    /// [`KcpStream::abort`](crate::KcpStream::abort) was called.
    Aborted,
    /// The endpoint was closed, or its runtime shut down.
    EndpointClosed,
    /// The endpoint's socket failed for good.
    Socket(io::ErrorKind),
    /// The peer broke the protocol.
    Protocol(ProtocolError),
}

/// How the peer broke the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtocolError {
    /// It acknowledged 64 transmissions that never were, before a single true one.
    ForgedAcks,
    /// It sent more of a message than [`KcpConfig::incomplete_message_limit`] allows, without its end.
    ///
    /// [`KcpConfig::incomplete_message_limit`]: crate::KcpConfig::incomplete_message_limit
    MessageTooLong,
    /// It left a message incomplete or a gap open for a minute without validating its address. If it does so later,
    /// the session still ends: a part of what it sent was acknowledged and let go.
    Incomplete,
    /// It accepted the session too: forged datagrams in the name of each opened it on both sides.
    TwoAcceptingSides,
}

/// A message or a buffer of the wrong size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BufferError {
    /// The message needs more fragments than the peer can hold.
    MessageTooLarge {
        /// Bytes offered.
        size: usize,
        /// The largest message that would be taken now.
        max: usize,
    },
    /// Empty messages are not sent: stock peers block on them for ever.
    EmptyMessage,
    /// The message does not fit into the buffer given to `recv`; it is still there.
    TooSmall {
        /// Bytes the message needs.
        needed: usize,
    },
}

/// What did not happen in its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TimeoutError {
    /// No answer to the first data within the connect timeout.
    Connect,
    /// The peer had not acknowledged everything when nothing was heard of it for the linger time of a
    /// shutdown.
    Linger,
    /// The peer was heard, but acknowledged nothing more for the close stall timeout.
    CloseStall,
}

impl fmt::Display for KcpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "socket: {error}"),
            Self::Protocol(error) => error.fmt(f),
            Self::Connection(error) => error.fmt(f),
            Self::Config(error) => write!(f, "configuration: {error}"),
            Self::Buffer(error) => error.fmt(f),
            Self::Timeout(error) => error.fmt(f),
        }
    }
}

impl Error for KcpError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Config(error) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "connection reset: the peer has no such session",
            Self::Refused => "connection refused: nothing listens at the peer's port",
            Self::ConnectTimeout => "the peer did not answer in time",
            Self::PeerDead => "the peer stopped answering",
            Self::Undeliverable => {
                "the peer answers, but the oldest data never gets through (try a smaller mtu)"
            }
            Self::DatagramTooLarge => {
                "the socket refuses datagrams of this size (use a smaller mtu)"
            }
            Self::Idle => "nothing was heard for the idle timeout",
            Self::Unproven => "the accepted peer never answered and sent nothing new",
            Self::Replaced => "the peer opened a new session from the same address",
            Self::LingerExpired => LINGER_EXPIRED,
            Self::CloseStalled => CLOSE_STALLED,
            Self::Evicted => "the peer was silent, and its session made room for a new one",
            Self::Closed => "the session is closed",
            Self::Aborted => "the session was aborted here",
            Self::EndpointClosed => "the endpoint is closed",
            Self::Unreachable(kind) => return write!(f, "nothing can be sent to the peer: {kind}"),
            Self::Socket(kind) => return write!(f, "the endpoint's socket failed: {kind}"),
            Self::Protocol(error) => return error.fmt(f),
        })
    }
}

impl Error for ConnectionError {}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForgedAcks => f.write_str("the peer acknowledged what was never sent"),
            Self::MessageTooLong => f.write_str("the peer sent a message without an end"),
            Self::Incomplete => f.write_str("the peer left a message or a gap open for too long"),
            Self::TwoAcceptingSides => {
                f.write_str("forged datagrams opened the session on both sides")
            }
        }
    }
}

impl Error for ProtocolError {}

impl fmt::Display for BufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MessageTooLarge { size, max } => {
                write!(
                    f,
                    "message of {size} bytes is larger than the {max} the peer can hold"
                )
            }
            Self::EmptyMessage => f.write_str("an empty message cannot be sent"),
            Self::TooSmall { needed } => {
                write!(f, "the next message needs a buffer of {needed} bytes")
            }
        }
    }
}

impl Error for BufferError {}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "the peer did not answer in time",
            Self::Linger => LINGER_EXPIRED,
            Self::CloseStall => CLOSE_STALLED,
        })
    }
}

impl Error for TimeoutError {}

const LINGER_EXPIRED: &str = "the peer had not acknowledged everything when the linger time ended";
const CLOSE_STALLED: &str = "the peer acknowledged nothing more in the time that a close may take";

impl KcpError {
    /// The [`io::ErrorKind`] that fits best; used by the conversion into [`io::Error`].
    pub fn io_kind(&self) -> io::ErrorKind {
        match self {
            Self::Io(error) => error.kind(),
            Self::Protocol(_) => io::ErrorKind::InvalidData,
            Self::Connection(error) => error.io_kind(),
            Self::Config(_) | Self::Buffer(_) => io::ErrorKind::InvalidInput,
            Self::Timeout(_) => io::ErrorKind::TimedOut,
        }
    }
}

impl ConnectionError {
    fn io_kind(self) -> io::ErrorKind {
        match self {
            Self::Reset | Self::Replaced => io::ErrorKind::ConnectionReset,
            Self::Refused => io::ErrorKind::ConnectionRefused,
            Self::ConnectTimeout
            | Self::PeerDead
            | Self::Idle
            | Self::Unproven
            | Self::LingerExpired
            | Self::CloseStalled
            | Self::Undeliverable => io::ErrorKind::TimedOut,
            Self::DatagramTooLarge => io::ErrorKind::InvalidInput,
            Self::Closed => io::ErrorKind::BrokenPipe,
            Self::Aborted | Self::EndpointClosed | Self::Evicted => {
                io::ErrorKind::ConnectionAborted
            }
            Self::Unreachable(kind) | Self::Socket(kind) => kind,
            Self::Protocol(_) => io::ErrorKind::InvalidData,
        }
    }
}

impl From<KcpError> for io::Error {
    fn from(error: KcpError) -> Self {
        match error {
            KcpError::Io(error) => error,
            error => Self::new(error.io_kind(), error),
        }
    }
}

impl From<io::Error> for KcpError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ConfigError> for KcpError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<ConnectionError> for KcpError {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ConnectTimeout => Self::Timeout(TimeoutError::Connect),
            ConnectionError::LingerExpired => Self::Timeout(TimeoutError::Linger),
            ConnectionError::CloseStalled => Self::Timeout(TimeoutError::CloseStall),
            ConnectionError::Protocol(error) => Self::Protocol(error),
            error => Self::Connection(error),
        }
    }
}

impl From<BufferError> for KcpError {
    fn from(error: BufferError) -> Self {
        Self::Buffer(error)
    }
}

impl From<TimeoutError> for KcpError {
    fn from(error: TimeoutError) -> Self {
        Self::Timeout(error)
    }
}

impl From<SendError> for KcpError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge { size, max } => {
                Self::Buffer(BufferError::MessageTooLarge { size, max })
            }
            SendError::Empty => Self::Buffer(BufferError::EmptyMessage),
            _ => Self::Connection(ConnectionError::Closed),
        }
    }
}

impl From<RecvError> for KcpError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::BufferTooSmall { needed } => Self::Buffer(BufferError::TooSmall { needed }),
            _ => Self::Connection(ConnectionError::Closed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_errors_keep_their_kind_and_the_cause() {
        let error = io::Error::from(KcpError::from(ConnectionError::Reset));
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        let inner = error.get_ref().and_then(|e| e.downcast_ref::<KcpError>());
        assert!(matches!(
            inner,
            Some(KcpError::Connection(ConnectionError::Reset))
        ));

        let denied = KcpError::from(io::Error::from(io::ErrorKind::AddrInUse));
        assert_eq!(io::Error::from(denied).kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn a_connect_timeout_is_a_timeout() {
        let error = KcpError::from(ConnectionError::ConnectTimeout);
        assert!(matches!(error, KcpError::Timeout(TimeoutError::Connect)));
        assert_eq!(error.io_kind(), io::ErrorKind::TimedOut);
    }
}
