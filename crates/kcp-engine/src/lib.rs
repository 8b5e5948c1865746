//! The KCP protocol as a value: time and bytes in, datagrams and one deadline out.
//!
//! KCP is a reliable, ordered transport over UDP that trades some bandwidth for lower latency on
//! lossy links. This crate is the protocol alone: no socket, no clock, no lock, no callback, no
//! `std`. It is for engines, FFI and microcontrollers that bring their own; with tokio, use
//! `kcp-async`, which is built on it.
//!
//! The rules it follows, numbered, are in `docs/protocol.md`; in its default modes it sends what C
//! `ikcp` sends, byte for byte, and is held to that by running both.
//!
//! # The run loop
//!
//! ```
//! use kcp_engine::{Conv, EngineOptions, Instant, KcpConfig, KcpEngine};
//!
//! let config = KcpConfig::turbo_mode();
//! let mut client = KcpEngine::new(Conv::new(7), &config, EngineOptions::default())?;
//! let mut server = KcpEngine::new(Conv::new(7), &config, EngineOptions::default())?;
//!
//! client.send(b"hello").unwrap();
//! let mut now = Instant::ZERO;
//! let mut wire = Vec::new();
//! let mut message = [0; 64];
//! let len = loop {
//!     // Drain one side's datagrams into the other; a program would use a socket here.
//!     while let Some(train) = client.poll_transmit(now, &mut wire, 1) {
//!         let _ = server.input(now, &wire[..train.len]);
//!         wire.clear();
//!     }
//!     if let Ok(len) = server.recv(&mut message) {
//!         break len;
//!     }
//!     // Nothing to do before the deadline: wait for it, or for a datagram.
//!     now = client.poll_timeout().expect("something is in flight");
//!     client.handle_timeout(now);
//! };
//! assert_eq!(&message[..len], b"hello");
//! # Ok::<(), kcp_engine::ConfigError>(())
//! ```

#![no_std]
#![warn(
    clippy::std_instead_of_core,
    clippy::alloc_instead_of_core,
    clippy::unwrap_used
)]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may fail"))]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod buffer;
mod capacity;
mod config;
mod congestion;
mod engine;
mod error;
mod fast_resend;
mod guesses;
mod in_flight;
mod liveness;
mod memory;
mod pacing;
mod payload;
mod probe;
mod proof;
mod ready;
mod recv;
mod restart;
mod rtt;
mod segment;
mod send_queue;
mod seq;
mod stats;
mod time;
mod timers;
mod una_credit;

pub use buffer::{BufferPool, POOL_CLASS_BYTES, POOL_CLASS_IDLE, PoolStats};
pub use config::{
    FlushPolicy, IKCP_DEADLINK, IKCP_FASTACK_LIMIT, IKCP_MTU_DEF, IKCP_WND_RCV, IKCP_WND_SND,
    KcpConfig, NoDelay, Validation,
};
pub use congestion::{IKCP_THRESH_INIT, IKCP_THRESH_MIN};
pub use engine::{EngineOptions, FinState, HeadStall, KcpEngine, Role, Transmit};
pub use error::{ConfigError, Fault, InputError, RecvError, SendError};
pub use memory::ReceiveMemory;
pub use probe::{IKCP_PROBE_INIT, IKCP_PROBE_LIMIT};
pub use rtt::{IKCP_RTO_DEF, IKCP_RTO_MAX, IKCP_RTO_MIN, IKCP_RTO_NDL};
pub use segment::{CLOSE_MARK, Command, IKCP_OVERHEAD, KcpHeader, KcpSegment, Segments, segments};
pub use seq::{Conv, Sn, WireTs};
pub use stats::{ClassicState, EngineStats};
pub use time::Instant;
