//! What a link does to datagrams.

use std::{fmt, time::Duration};

use crate::{
    loss::Loss,
    units::{Bitrate, Probability},
};

/// The configuration of one direction of one path. A plain value: change it with the chained setters.
///
/// [`LinkConfig::new`] is a perfect link; the presets ([`lan`](Self::lan), [`wifi`](Self::wifi),
/// [`mobile`](Self::mobile), [`satellite`](Self::satellite), [`demo`](Self::demo)) list their numbers. For an
/// asymmetric path give the two directions different configurations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkConfig {
    pub(crate) delay: Duration,
    pub(crate) jitter: Jitter,
    pub(crate) loss: Loss,
    pub(crate) reorder: Probability,
    pub(crate) reorder_delay: Duration,
    pub(crate) duplicate: Probability,
    pub(crate) corrupt: Probability,
    pub(crate) bottleneck: Option<Bottleneck>,
    pub(crate) mtu_hole: Option<usize>,
    pub(crate) memory_limit: usize,
}

impl LinkConfig {
    /// A perfect link: no delay, no loss, any rate, at most 64 MiB held.
    pub const fn new() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Jitter::None,
            loss: Loss::None,
            reorder: Probability::NEVER,
            reorder_delay: Duration::ZERO,
            duplicate: Probability::NEVER,
            corrupt: Probability::NEVER,
            bottleneck: None,
            mtu_hole: None,
            memory_limit: DEFAULT_MEMORY_LIMIT,
        }
    }

    /// The one-way delay behind the bottleneck, in whole microseconds. Default 0.
    pub const fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// How the delay varies. Default [`Jitter::None`]. The sum never becomes negative.
    pub const fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// Which datagrams are lost. Default [`Loss::None`].
    pub const fn loss(mut self, loss: Loss) -> Self {
        self.loss = loss;
        self
    }

    /// Holds a datagram back by `extra_delay` with this probability, so that later ones overtake it. Default never.
    pub const fn reorder(mut self, probability: Probability, extra_delay: Duration) -> Self {
        self.reorder = probability;
        self.reorder_delay = extra_delay;
        self
    }

    /// Delivers a datagram twice with this probability. Default never.
    ///
    /// The copy is made behind the bottleneck. It follows the original at once, or, under [`Jitter::Free`], after a
    /// delay of its own.
    pub const fn duplicate(mut self, probability: Probability) -> Self {
        self.duplicate = probability;
        self
    }

    /// Flips one bit of a datagram with this probability. Default never. An empty datagram stays as it is.
    ///
    /// Real UDP has a checksum that finds a single wrong bit: this is for what happens when something between the
    /// checksums breaks.
    pub const fn corrupt(mut self, probability: Probability) -> Self {
        self.corrupt = probability;
        self
    }

    /// Sends one datagram after the other at `rate`, with a drop-tail queue before it. Default: any rate.
    pub const fn bottleneck(mut self, rate: Bitrate, queue: Queue) -> Self {
        self.bottleneck = Some(Bottleneck { rate, queue });
        self
    }

    /// Removes the bottleneck.
    pub const fn no_bottleneck(mut self) -> Self {
        self.bottleneck = None;
        self
    }

    /// Drops every datagram longer than `bytes` without a word, as a path with a smaller MTU and no ICMP does.
    /// `None` (default): no limit.
    pub const fn mtu_hole(mut self, bytes: Option<usize>) -> Self {
        self.mtu_hole = bytes;
        self
    }

    /// How many bytes the link may hold, 64 bytes of overhead per datagram included. Default 64 MiB. Beyond it
    /// datagrams are dropped and counted in [`LinkStats::dropped_memory`](crate::LinkStats::dropped_memory).
    pub const fn memory_limit(mut self, bytes: usize) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// The one-way delay.
    pub const fn one_way_delay(&self) -> Duration {
        self.delay
    }

    /// How the delay varies.
    pub const fn jitter_model(&self) -> Jitter {
        self.jitter
    }

    /// Which datagrams are lost.
    pub const fn loss_model(&self) -> Loss {
        self.loss
    }

    /// The rate limit and its queue, if there is one.
    pub const fn rate_limit(&self) -> Option<Bottleneck> {
        self.bottleneck
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self::new()
    }
}

/// The impairments in one line for people: `30 ms +- 10 ms, 5 % loss, 100 Mbit/s`.
impl fmt::Display for LinkConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.delay)?;
        match self.jitter {
            Jitter::None => {}
            Jitter::Ordered(range) => write!(f, " +- {range:?}")?,
            Jitter::Free(range) => write!(f, " +- {range:?} unordered")?,
        }
        match self.loss {
            Loss::None => {}
            Loss::Bernoulli(probability) => write!(f, ", {probability} loss")?,
            Loss::GilbertElliott(model) => write!(f, ", {} loss in bursts", model.average())?,
        }
        for (probability, what) in [
            (self.reorder, "reordered"),
            (self.duplicate, "duplicated"),
            (self.corrupt, "corrupted"),
        ] {
            if probability > Probability::NEVER {
                write!(f, ", {probability} {what}")?;
            }
        }
        if let Some(bottleneck) = self.bottleneck {
            write!(f, ", {}", bottleneck.rate)?;
        }
        if let Some(bytes) = self.mtu_hole {
            write!(f, ", nothing above {bytes} bytes")?;
        }
        Ok(())
    }
}

/// How the delay varies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Jitter {
    /// It does not.
    #[default]
    None,
    /// It wanders within plus or minus this much and never reorders, as a queue somewhere on the path makes it.
    ///
    /// The offset is a straight line between random points (uniform in the range) that lie four times the range
    /// apart in time: neighbours see nearly the same delay, and the mean is the configured delay.
    Ordered(Duration),
    /// Each datagram is delayed by its own random amount within plus or minus this much, uniformly: datagrams that
    /// enter closer together than that overtake each other.
    Free(Duration),
}

/// A rate limit with a drop-tail queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bottleneck {
    /// Bits per second, of datagram payload.
    pub rate: Bitrate,
    /// How much may wait.
    pub queue: Queue,
}

/// How much may wait before a bottleneck. A datagram that finds the wire idle always passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Queue {
    /// A datagram is dropped when it would bring the bytes not yet sent (the one being sent included) above this.
    Bytes(usize),
    /// A datagram is dropped when it would wait longer than this before its first bit is sent.
    Time(Duration),
}

/// Enough for a second at 500 Mbit/s; keeps a runaway sender from eating the machine.
const DEFAULT_MEMORY_LIMIT: usize = 64 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_does() {
        assert_eq!(LinkConfig::new().to_string(), "0ns");
        assert_eq!(
            LinkConfig::demo().to_string(),
            "30ms +- 10ms, 5 % loss, 100 Mbit/s"
        );
        let odd = LinkConfig::new()
            .duplicate(Probability::percent(1))
            .mtu_hole(Some(1200));
        assert_eq!(
            odd.to_string(),
            "0ns, 1 % duplicated, nothing above 1200 bytes"
        );
    }
}
