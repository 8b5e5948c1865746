//! `demo`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use kcp_netem::{Jitter, LinkConfig, Loss, Probability, Queue};

use super::OutputArgs;
use super::values::{self, Rate};
use crate::cmd::demo;
use crate::error::{Failure, Kind};
use crate::preset::Preset;

/// See what each preset does on a bad link: bulk throughput and latency, in about a minute.
///
/// One process: a listener and clients on loopback UDP, with a relay between them that delays and
/// loses datagrams. Each preset carries bulk data against the clock and then 60 messages a second
/// that are echoed. What arrives is compared with what was sent; a difference ends in exit code 6.
/// Round trips count from the time a message was due, and unanswered ones with their age at the end.
#[derive(Args, Debug)]
pub(super) struct DemoArgs {
    /// Only this preset; may be repeated
    #[arg(long, value_name = "NAME", value_parser = values::preset)]
    preset: Vec<Preset>,
    /// How long bulk and echo take, each, for each preset; a bare number is seconds
    #[arg(long, value_name = "TIME", value_parser = values::seconds, default_value = "5s")]
    seconds: Duration,
    /// Send this file in the bulk phase instead of seeded noise
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// Send all of the file, however long it takes
    #[arg(long, requires = "file")]
    full: bool,
    /// Messages a second in the echo phase
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000), default_value = "60")]
    rate: u32,
    /// Bytes of one message in the echo phase
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(16..=65_536), default_value = "64")]
    message_size: u32,

    /// One-way delay; a bare number is milliseconds
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds, default_value = "30ms", help_heading = "Link, each way")]
    delay: Duration,
    /// The delay wanders by plus or minus this much
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds, default_value = "10ms", help_heading = "Link, each way")]
    jitter: Duration,
    /// Share of datagrams lost, in percent
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, default_value = "5", help_heading = "Link, each way")]
    loss: Probability,
    /// Rate of the link in bits per second (units k, M, G), or off
    #[arg(long = "link-rate", value_name = "RATE", value_parser = values::bitrate, default_value = "100M", help_heading = "Link, each way")]
    link_rate: Rate,
    /// How long a datagram may wait before the link; later ones are dropped
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds, default_value = "100ms", help_heading = "Link, each way")]
    queue: Duration,
    /// Share of datagrams held back so that later ones overtake them, in percent
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, default_value = "0", help_heading = "Link, each way")]
    reorder: Probability,
    /// Share of datagrams delivered twice, in percent
    #[arg(long, value_name = "PERCENT", value_parser = values::percent, default_value = "0", help_heading = "Link, each way")]
    duplicate: Probability,
    /// Seed of the losses and of the noise
    #[arg(
        long,
        value_name = "N",
        default_value_t = 1,
        help_heading = "Link, each way"
    )]
    seed: u64,
    #[command(flatten)]
    output: OutputArgs,
}

impl DemoArgs {
    pub(super) fn into_options(self) -> Result<demo::Options, Failure> {
        if self.seconds < SHORTEST_PHASE {
            let text = format!("--seconds must be at least {SHORTEST_PHASE:?}");
            return Err(Failure::new(Kind::Usage, text));
        }
        let mut link = LinkConfig::new()
            .delay(self.delay)
            .jitter(Jitter::Ordered(self.jitter))
            .loss(Loss::Bernoulli(self.loss))
            // Held back by as much as makes a good part of a round trip's datagrams overtake it.
            .reorder(self.reorder, self.delay / 4)
            .duplicate(self.duplicate);
        if let Some(rate) = self.link_rate.0 {
            link = link.bottleneck(rate, Queue::Time(self.queue));
        }
        Ok(demo::Options {
            presets: if self.preset.is_empty() {
                Preset::ALL.to_vec()
            } else {
                self.preset
            },
            phase: self.seconds,
            file: self.file,
            full: self.full,
            messages_per_second: self.rate,
            message_size: self.message_size as usize,
            link,
            seed: self.seed,
            output: self.output.into_output(),
        })
    }
}

/// Shorter than a few round trips of the link shows nothing.
const SHORTEST_PHASE: Duration = Duration::from_millis(200);
