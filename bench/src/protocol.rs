//! What the parent and its children tell each other: the task on the command line, then a JSON line at a time.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::measure::Reading;

/// Figures by name.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Peer {
    /// kcp-async.
    Ours,
    /// kcp-async whose drivers poll for 50 us before they sleep. Ping-pong, unless asked for.
    OursPolling,
    /// kcp-async as another build of this program has it: `--other` says which.
    Other,
    /// Raw UDP with GSO and GRO: what the kernel can do. Bulk only.
    RawGso,
    /// Raw UDP, a datagram a system call. Bulk only.
    RawSingle,
    /// tokio's TCP, with TCP_NODELAY.
    Tcp,
    /// quinn 0.11: encrypts.
    Quinn,
    /// tokio_kcp 0.9.8.
    #[value(name = "tokio_kcp")]
    #[serde(rename = "tokio_kcp")]
    TokioKcp,
    /// kcp-tokio 0.7.0.
    KcpTokio,
    /// kcp-rs 0.2.6: a handshake of its own.
    KcpRs,
    /// kcp-io 0.0.7: the C core. In a build of this program of its own: `--kcp-io` says which.
    KcpIo,
}

impl Peer {
    /// The name on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::OursPolling => "ours-polling",
            Self::Other => "other",
            Self::RawGso => "raw-gso",
            Self::RawSingle => "raw-single",
            Self::Tcp => "tcp",
            Self::Quinn => "quinn",
            Self::TokioKcp => "tokio_kcp",
            Self::KcpTokio => "kcp-tokio",
            Self::KcpRs => "kcp-rs",
            Self::KcpIo => "kcp-io",
        }
    }

    /// Whether it is datagrams without a protocol, which know the bulk workload only.
    pub(crate) fn is_raw(self) -> bool {
        matches!(self, Self::RawGso | Self::RawSingle)
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Workload {
    /// As many bytes as go in the time, one way, one connection.
    Bulk,
    /// A message and its echo, again and again.
    PingPong,
    /// Many sessions: idle, then an echo a second each.
    Sessions,
    /// Bulk through the relay.
    LossyBulk,
    /// 60 messages a second through the relay, sent on schedule and echoed.
    LossyMessages,
    /// Several connections in bulk at a time.
    Parallel,
    /// Ping-pong beside bulk, on a connection each.
    Loaded,
}

impl Workload {
    /// The name on the command line and in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bulk => "bulk",
            Self::PingPong => "ping-pong",
            Self::Sessions => "sessions",
            Self::LossyBulk => "lossy-bulk",
            Self::LossyMessages => "lossy-messages",
            Self::Parallel => "parallel",
            Self::Loaded => "loaded",
        }
    }

    /// Whether the relay is between the two sides.
    pub(crate) fn is_lossy(self) -> bool {
        matches!(self, Self::LossyBulk | Self::LossyMessages)
    }
}

/// The tokio runtime of both sides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Runtime {
    /// Multi-threaded with two workers.
    Multi,
    /// One thread.
    Current,
}

/// One row without its peer: everything that is equal for all.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) workload: Workload,
    pub(crate) runtime: Runtime,
    /// Send and receive window in segments; quinn and raw rows take the same number of bytes.
    pub(crate) window: u32,
    /// Socket buffers to ask for, in bytes; 0 leaves the system's.
    pub(crate) buffers: usize,
    /// KCP: 0, 1 or 2.
    pub(crate) nodelay: u8,
    /// KCP: the tick in ms.
    pub(crate) interval: u32,
    /// How long the workload sends, in seconds.
    pub(crate) seconds: f64,
    /// Bytes of a message where there are messages.
    pub(crate) message: usize,
    /// How many connections, or sessions; the sessions workload stops at each.
    pub(crate) sessions: Vec<usize>,
    /// Loss each way of the relay, in percent.
    pub(crate) loss: f64,
    /// Seed of the relay's decisions.
    pub(crate) seed: u64,
}

/// What a child is told on its command line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) peer: Peer,
    pub(crate) task: Task,
    /// Where to connect to, or to forward to.
    pub(crate) target: Option<SocketAddr>,
}

/// A line from a child.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Event {
    /// A server or relay is ready.
    Listening { address: SocketAddr },
    /// A client has come to a moment at which everybody reads; the others answer [`Command::Mark`] with it.
    Mark { label: String, reading: Reading },
    /// The client's figures, at the end.
    Result { metrics: Metrics },
    /// It went wrong.
    Failed { message: String },
}

/// A line from the parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Command {
    /// Read and answer.
    Mark,
    /// The others have read: go on.
    Go,
}
