//! KCP for tokio: reliable, ordered streams and messages over UDP, at low latency on lossy links.
//!
//! For people who want a stream that feels like `tokio::net::TcpStream` and repairs losses faster
//! than TCP, at the price of bandwidth: 10 to 20 % at 5 % loss, about 45 % with
//! [`KcpConfig::gaming`]. It speaks plain KCP: C `ikcp`, kcp-go
//! without encryption, `tokio_kcp` and others understand it. It neither encrypts nor knows its
//! peer.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use kcp_async::{KcpConfig, KcpListener, KcpStream};
//! use tokio::io::{AsyncReadExt, AsyncWriteExt};
//!
//! let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::turbo_mode()).await?;
//! let addr = listener.local_addr();
//! let server = tokio::spawn(async move {
//!     let (mut stream, _peer) = listener.accept().await?;
//!     let mut request = Vec::new();
//!     stream.read_to_end(&mut request).await?;
//!     stream.write_all(&request).await?;
//!     stream.shutdown().await
//! });
//!
//! let mut client = KcpStream::connect(addr, KcpConfig::turbo_mode()).await?;
//! client.write_all(b"hello").await?;
//! client.shutdown().await?;
//! let mut answer = Vec::new();
//! client.read_to_end(&mut answer).await?;
//! assert_eq!(answer, b"hello");
//! server.await??;
//! # Ok(())
//! # }
//! ```
//!
//! # How it works
//! Each UDP socket has one driver task. It receives in batches, routes by peer address and
//! conversation id, and keeps one timer for all sessions; an idle session is a few KiB of memory
//! and nothing else. A writer sends its own data, without a detour by the driver. The protocol
//! itself is [`KcpEngine`], a value without clock, lock or socket, in the crate `kcp-engine`.
//!
//! # Features
//! | feature | default | what |
//! |---|---|---|
//! | `tracing` | no | events for the life of sessions and for what is dropped and why |

mod accept_queue;
mod address;
mod clock;
mod config;
mod deadlines;
mod driver;
mod endpoint;
mod error;
mod eviction;
mod gate;
mod keyed_hash;
mod lingering;
mod listener;
mod log;
mod mutex;
mod namesake;
mod openings;
mod padding;
mod prefix_budget;
mod router;
mod send_share;
mod session;
mod shared;
mod socket;
mod stats;
mod stream;
mod time_wait;
mod token_bucket;
mod trains;
mod transmit;
mod wakers;

pub use config::EndpointConfig;
pub use endpoint::KcpEndpoint;
pub use error::{BufferError, ConnectionError, KcpError, ProtocolError, TimeoutError};
pub use listener::{Incoming, KcpListener};
pub use socket::{DatagramSocket, RecvMeta, SendQueue, SocketBuffers, SocketError, Transmit};
pub use stats::{EndpointStats, StreamStats};
pub use stream::{KcpStream, OwnedReadHalf, OwnedWriteHalf, ReadHalf, ReuniteError, WriteHalf};

#[doc(no_inline)]
pub use kcp_engine::{
    BufferPool, ConfigError, Conv, EngineStats, FlushPolicy, IKCP_DEADLINK, IKCP_MTU_DEF,
    IKCP_OVERHEAD, IKCP_RTO_DEF, IKCP_WND_RCV, IKCP_WND_SND, KcpConfig, KcpEngine, KcpHeader,
    KcpSegment, NoDelay,
};

/// The README's examples, so that they compile.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
