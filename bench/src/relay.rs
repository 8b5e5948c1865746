//! The bad link in a process of its own: 25 +- 5 ms each way, loss as the task says.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread;
use std::time::Duration;

use kcp_netem::{Jitter, LinkConfig, Loss, Probability, Relay};

use crate::control::{answer_marks, tell};
use crate::measure::Reading;
use crate::protocol::{Event, Order};

/// The delay each way and how far it wanders.
const DELAY: Duration = Duration::from_millis(25);
const JITTER: Duration = Duration::from_millis(5);

/// Relays until the parent ends it.
///
/// # Errors
/// What the system says about the sockets, and a loss that is no percentage.
pub(crate) fn relay(order: &Order) -> io::Result<()> {
    let target = order.target.ok_or_else(|| io::Error::other("no server"))?;
    let loss = Probability::new(order.task.loss / 100.0).map_err(io::Error::other)?;
    let link = LinkConfig::new()
        .delay(DELAY)
        .jitter(Jitter::Ordered(JITTER))
        .loss(Loss::Bernoulli(loss));
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let relay = Relay::bind(any, target, link, link, order.task.seed)?;
    let address = relay.local_addr();
    answer_marks(move || {
        let stats = relay.stats();
        Reading {
            wire_up: stats.up.offered_bytes as f64,
            wire_down: stats.down.offered_bytes as f64,
            ..Reading::take()
        }
    });
    tell(&Event::Listening { address });
    loop {
        thread::park();
    }
}
