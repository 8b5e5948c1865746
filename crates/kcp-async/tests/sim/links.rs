//! Links of every kind, drawn at random.

use std::time::Duration;

use kcp_async::NoDelay;
use kcp_netem::{Bitrate, GilbertElliott, Jitter, LinkConfig, Loss, Probability, Queue};

use crate::net::CHECKSUM_BYTES;
use crate::plan::Class;
use crate::random::Random;

/// Both directions of a client's path. Asymmetric half of the time.
///
/// `backoff`: how fast the waits of the worse sender grow. Where they double, what is lost stays
/// below a fourth of the round trips, so that the mean wait is finite.
pub(crate) fn draw(
    random: &mut Random,
    class: Class,
    backoff: NoDelay,
    mtu: usize,
) -> (LinkConfig, LinkConfig) {
    let up = one(random, class, backoff, mtu);
    let down = match random.percent(50) {
        true => one(random, class, backoff, mtu),
        false => up,
    };
    (up, down)
}

fn one(random: &mut Random, class: Class, backoff: NoDelay, mtu: usize) -> LinkConfig {
    let delay = Duration::from_micros(random.size(100, 100_000));
    let doubles = backoff == NoDelay::Off;
    let link = LinkConfig::new().delay(delay);
    if class == Class::Outage {
        return link;
    }
    let mut link = link.jitter(match random.below(4) {
        0 => Jitter::Ordered(delay / 2),
        1 => Jitter::Free(delay / 2),
        _ => Jitter::None,
    });
    let most = match class {
        Class::Harsh if doubles => 12,
        Class::Harsh => 40,
        Class::Stock if doubles => 5,
        Class::Stock => 20,
        Class::Flipped => 10,
        _ => 5,
    };
    let loss = Probability::percent(random.range(0, most) as u32);
    link = link.loss(match random.below(4) {
        0 => Loss::None,
        // A burst is a number of datagrams. A lone segment waits longer and longer for its end.
        1 => Loss::GilbertElliott(GilbertElliott::bursts(
            loss,
            if doubles { 1.2 } else { 1.6 },
        )),
        _ => Loss::Bernoulli(loss),
    });
    if random.percent(40) {
        let share = Probability::percent(random.range(1, 30) as u32);
        link = link.reorder(share, random.millis(1, 80));
    }
    if random.percent(40) {
        link = link.duplicate(Probability::percent(random.range(1, 20) as u32));
    }
    if random.percent(40) {
        link = link.corrupt(Probability::percent(random.range(1, 3) as u32));
    }
    if random.percent(40) {
        let rate = Bitrate::kbit(random.size(300, 100_000) as u32);
        // A queue much smaller than the window loses all but the head of every burst of
        // retransmissions, and the waits of the rest grow together: classic recovery does not end.
        let queue = match backoff == NoDelay::Linear && random.percent(50) {
            true => Queue::Time(random.millis(20, 300)),
            false if backoff == NoDelay::Linear => {
                Queue::Bytes(random.size(6_000, 64_000) as usize)
            }
            false => Queue::Bytes(random.size(64_000, 200_000) as usize),
        };
        link = link.bottleneck(rate, queue);
    }
    if random.percent(20) {
        // Just wide enough for the client, but for the server only if it has no larger mtu; the
        // server's share is for the events.
        link = link.mtu_hole(Some(mtu.max(1_472) + CHECKSUM_BYTES));
    }
    link
}
