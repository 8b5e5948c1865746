//! Named links. Each direction of a path gets one; the numbers are per direction.

use std::time::Duration;

use crate::{
    config::{Jitter, LinkConfig, Queue},
    loss::{GilbertElliott, Loss},
    units::{Bitrate, Probability},
};

impl LinkConfig {
    /// A clean local network: 0.2 ms +- 0.05 ms in order, no loss, 1 Gbit/s, queue 5 ms.
    pub const fn lan() -> Self {
        Self::new()
            .delay(Duration::from_micros(200))
            .jitter(Jitter::Ordered(Duration::from_micros(50)))
            .bottleneck(Bitrate::mbit(1000), Queue::Time(Duration::from_millis(5)))
    }

    /// A busy wireless network: 5 ms +- 3 ms in order, 1 % loss in bursts of 2, 50 Mbit/s, queue 50 ms.
    pub const fn wifi() -> Self {
        Self::new()
            .delay(Duration::from_millis(5))
            .jitter(Jitter::Ordered(Duration::from_millis(3)))
            .loss(Loss::GilbertElliott(GilbertElliott::bursts(
                Probability::percent(1),
                2.0,
            )))
            .bottleneck(Bitrate::mbit(50), Queue::Time(Duration::from_millis(50)))
    }

    /// A mobile network with weak signal: 45 ms +- 20 ms in order, 2 % loss in bursts of 4, 10 Mbit/s, queue 200 ms.
    pub const fn mobile() -> Self {
        Self::new()
            .delay(Duration::from_millis(45))
            .jitter(Jitter::Ordered(Duration::from_millis(20)))
            .loss(Loss::GilbertElliott(GilbertElliott::bursts(
                Probability::percent(2),
                4.0,
            )))
            .bottleneck(Bitrate::mbit(10), Queue::Time(Duration::from_millis(200)))
    }

    /// A geostationary satellite: 300 ms +- 5 ms in order, 0.5 % loss, 20 Mbit/s, queue 300 ms.
    pub const fn satellite() -> Self {
        Self::new()
            .delay(Duration::from_millis(300))
            .jitter(Jitter::Ordered(Duration::from_millis(5)))
            .loss(Loss::Bernoulli(Probability::ppm(5000)))
            .bottleneck(Bitrate::mbit(20), Queue::Time(Duration::from_millis(300)))
    }

    /// The link of the demonstration: 30 ms +- 10 ms in order, 5 % loss, 100 Mbit/s, queue 100 ms.
    pub const fn demo() -> Self {
        Self::new()
            .delay(Duration::from_millis(30))
            .jitter(Jitter::Ordered(Duration::from_millis(10)))
            .loss(Loss::Bernoulli(Probability::percent(5)))
            .bottleneck(Bitrate::mbit(100), Queue::Time(Duration::from_millis(100)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_are_what_their_documentation_says() {
        let text = |config: LinkConfig| {
            let queue = config.rate_limit().unwrap().queue;
            format!("{config}, queue {queue:?}")
        };
        assert_eq!(
            text(LinkConfig::lan()),
            "200µs +- 50µs, 1 Gbit/s, queue Time(5ms)"
        );
        assert_eq!(
            text(LinkConfig::wifi()),
            "5ms +- 3ms, 1 % loss in bursts, 50 Mbit/s, queue Time(50ms)"
        );
        assert_eq!(
            text(LinkConfig::mobile()),
            "45ms +- 20ms, 2 % loss in bursts, 10 Mbit/s, queue Time(200ms)"
        );
        assert_eq!(
            text(LinkConfig::satellite()),
            "300ms +- 5ms, 0.5 % loss, 20 Mbit/s, queue Time(300ms)"
        );
        assert_eq!(
            text(LinkConfig::demo()),
            "30ms +- 10ms, 5 % loss, 100 Mbit/s, queue Time(100ms)"
        );
    }
}
