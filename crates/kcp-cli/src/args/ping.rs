//! `ping` and `echo`.

use std::time::Duration;

use clap::Args;

use super::protocol::{ProtocolArgs, ROUND_TRIPS};
use super::values;
use super::{DEFAULT_LISTEN, OutputArgs};
use crate::cmd::{echo, ping};
use crate::error::{Failure, Kind};

/// Measure round trips over KCP to a `kcp echo`, or to any KCP server that echoes.
///
/// Like ping(8), but over a reliable protocol: nothing is lost, lost datagrams show as late
/// answers. Exits with 0 when anything was answered and with 3 when nothing was; Ctrl-C ends it
/// with the summary.
#[derive(Args, Debug)]
pub(super) struct PingArgs {
    /// Where `kcp echo` listens
    #[arg(value_name = "HOST:PORT", value_parser = values::peer)]
    peer: String,
    /// Stop after that many [default: go on until Ctrl-C]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Time between two; a bare number is seconds
    #[arg(long = "every", short = 'i', value_name = "TIME", value_parser = values::seconds, default_value = "1s")]
    every: Duration,
    /// Payload of each, in bytes, 8 to 65536
    #[arg(long, short, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(8..=65_536), default_value = "56")]
    size: u32,
    /// How long to wait for answers after the last; a bare number is seconds
    #[arg(long, short = 'W', value_name = "TIME", value_parser = values::seconds, default_value = "10s")]
    timeout: Duration,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

/// Send back what comes, for `kcp ping` and for trying other KCP clients.
#[derive(Args, Debug)]
pub(super) struct EchoArgs {
    /// The address to listen on; port 0 takes any free one, and a line on standard output says which
    #[arg(long, short, value_name = "ADDR:PORT", value_parser = values::listen, default_value = DEFAULT_LISTEN)]
    listen: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

impl PingArgs {
    pub(super) fn into_options(self) -> Result<ping::Options, Failure> {
        if self.every < SHORTEST_INTERVAL {
            let text = format!("--every must be at least {SHORTEST_INTERVAL:?}");
            return Err(Failure::new(Kind::Usage, text));
        }
        Ok(ping::Options {
            peer: self.peer,
            count: self.count,
            interval: self.every,
            size: self.size as usize,
            timeout: self.timeout,
            transport: self.protocol.into_transport(ROUND_TRIPS)?,
            output: self.output.into_output(),
        })
    }
}

impl EchoArgs {
    pub(super) fn into_options(self) -> Result<echo::Options, Failure> {
        Ok(echo::Options {
            address: self.listen,
            transport: self.protocol.into_transport(ROUND_TRIPS)?,
            output: self.output.into_output(),
        })
    }
}

/// Below it this is a load generator, which `kcp demo` is better at.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);
