//! A seeded emulator of bad network links.
//!
//! For tests and demonstrations of anything that speaks over datagrams. The core is sans-IO: time and datagrams go in,
//! datagrams and one deadline come out. The same seed and the same calls give the same result on every machine.
//!
//! - [`Link`] is one direction of one path, configured by a [`LinkConfig`].
//! - [`Network`] is many addresses with a link per ordered pair, for running a whole system in virtual time.
//! - `Relay` (feature `relay`, on by default) puts two links between real UDP sockets.
//!
//! ```
//! use std::time::Duration;
//! use kcp_netem::{Link, LinkConfig, Loss, Probability, Time};
//!
//! let config = LinkConfig::new()
//!     .delay(Duration::from_millis(30))
//!     .loss(Loss::Bernoulli(Probability::percent(5)));
//! let mut link = Link::new(config, 7);
//! for i in 0..100u8 {
//!     link.push(Time::ZERO, vec![i]);
//! }
//! let mut arrived = 0;
//! while let Some(now) = link.next_deadline() {
//!     while let Some(_datagram) = link.poll(now) {
//!         arrived += 1;
//!     }
//! }
//! assert_eq!(arrived + link.stats().dropped_loss, 100);
//! ```
//!
//! # What happens to a datagram, in order
//!
//! 1. It gets the next index of its link. Every random decision is a function of (seed, index, purpose), only the
//!    wandering delay of [`Jitter::Ordered`] is one of (seed, time); and the loss model advances once per index. So
//!    which datagrams are lost does not depend on any other impairment, on sizes or on time.
//! 2. Partition: dropped when the link is down now. What is already under way still arrives.
//! 3. MTU hole: dropped when longer than the limit.
//! 4. Memory: dropped when the link holds too much already (an emulator's limit, not a network's).
//! 5. Bottleneck: waits for the wire, or is dropped because the queue is full.
//! 6. Loss, behind the bottleneck: a lost datagram has used its share of the rate.
//! 7. Corruption of one bit, delay, jitter, reordering, duplication.
//!
//! Unless the jitter is [`Jitter::Free`] or the datagram was picked for reordering, datagrams leave in the order in
//! which they entered, also when the configuration changes in between.
//!
//! Sizes are those of the datagram's payload: IP and UDP headers are not counted.

mod channel;
mod config;
mod link;
mod loss;
mod network;
mod presets;
#[cfg(feature = "relay")]
mod relay;
mod rng;
mod schedule;
mod stats;
mod time;
mod units;

pub use config::{Bottleneck, Jitter, LinkConfig, Queue};
pub use link::{Datagram, Link};
pub use loss::{GilbertElliott, Loss};
pub use network::{Delivery, Network};
#[cfg(feature = "relay")]
pub use relay::{Relay, RelayOptions, RelayStats};
pub use stats::LinkStats;
pub use time::Time;
pub use units::{Bitrate, OutOfRange, Probability};
