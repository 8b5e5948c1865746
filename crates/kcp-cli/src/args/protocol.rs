//! Every knob of the protocol and of the endpoint as a flag.

use std::time::Duration;

use clap::{Args, ValueEnum};
use kcp_async::{ConfigError, EndpointConfig, FlushPolicy, KcpConfig, NoDelay};

use super::values::{self, Limit};
use crate::error::{Failure, Kind};
use crate::net::Transport;
use crate::preset::Preset;

/// Flags that start from a preset and change single settings. What is not given stays as the
/// preset has it. Both sides choose for themselves, except that `--stream` and `--message`
/// should agree.
#[derive(Args, Debug)]
#[command(next_help_heading = "Protocol")]
pub(super) struct ProtocolArgs {
    /// The settings to start from: normal, fast_mode, turbo_mode, gaming or file_transfer
    /// [default: file_transfer for copies, turbo_mode for ping and echo]
    #[arg(long, value_name = "NAME", value_parser = values::preset)]
    preset: Option<Preset>,
    /// Largest datagram, KCP headers included, in bytes
    #[arg(long, value_name = "BYTES")]
    mtu: Option<usize>,
    /// Send window, in segments
    #[arg(long, value_name = "SEGMENTS")]
    sndwnd: Option<u32>,
    /// Receive window, in segments
    #[arg(long, value_name = "SEGMENTS")]
    rcvwnd: Option<u32>,
    /// How long small writes and acknowledgements may wait to share a datagram; a bare
    /// number is milliseconds
    #[arg(long, value_name = "TIME", value_parser = values::milliseconds)]
    interval: Option<Duration>,
    /// Retransmission timer: 0 doubles and has a floor of 100 ms, 1 grows by half and has a
    /// floor of 30 ms, 2 grows by half of its first value only
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u8).range(0..=2))]
    nodelay: Option<u8>,
    /// Resend after that many acknowledgements of later segments; 0 is never
    #[arg(long, value_name = "ACKS")]
    resend: Option<u32>,
    /// How often one segment may be resent that way; 0 is without limit
    #[arg(long, value_name = "TIMES")]
    resend_limit: Option<u32>,
    /// 1 switches the congestion window off, 0 on
    #[arg(long, value_name = "0|1", value_parser = clap::value_parser!(u8).range(0..=1))]
    nc: Option<u8>,
    /// Bytes without message boundaries
    #[arg(long, conflicts_with = "message")]
    stream: bool,
    /// Every write is a message
    #[arg(long)]
    message: bool,
    /// When data leaves: only at every interval, or at once
    #[arg(long, value_name = "WHEN")]
    flush: Option<FlushArg>,
    /// Fixed conversation id of the connecting side, for peers that expect a certain one
    /// [default: random]
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u32).range(1..))]
    conv: Option<u32>,

    /// How long an absent peer is waited for; a bare number is seconds
    #[arg(long, value_name = "TIME", value_parser = values::seconds, default_value = "10s", help_heading = "Times and sockets")]
    connect_timeout: Duration,
    /// How long data may wait for a silent peer before it counts as lost, or off
    #[arg(long, value_name = "TIME", value_parser = values::seconds_or_off, default_value = "30s", help_heading = "Times and sockets")]
    dead_peer_timeout: Limit,
    /// How long nothing at all may be heard, or off
    #[arg(long, value_name = "TIME", value_parser = values::seconds_or_off, default_value = "10m", help_heading = "Times and sockets")]
    idle_timeout: Limit,
    /// Ask a silent peer for a sign of life after this long, or off
    /// [default: 1s for copies, 5s for ping and echo]
    #[arg(
        long,
        value_name = "TIME",
        value_parser = values::seconds_or_off,
        help_heading = "Times and sockets"
    )]
    keepalive: Option<Limit>,
    /// How long a close waits for the peer to acknowledge everything
    #[arg(long, value_name = "TIME", value_parser = values::seconds, default_value = "5s", help_heading = "Times and sockets")]
    linger: Duration,
    /// Socket buffers to ask the system for; 0 leaves its default
    #[arg(long, value_name = "BYTES", value_parser = values::bytes, default_value = "4M", help_heading = "Times and sockets")]
    sockbuf: u64,
    /// Bytes queued and in flight at which writers wait for a quarter of them to leave [default: two send windows]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes, help_heading = "Times and sockets")]
    sndqueue: Option<u64>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FlushArg {
    Interval,
    Immediate,
}

/// What applies where no flag says otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Defaults {
    preset: Preset,
    keepalive: Duration,
}

/// Copies probe early, so that a receiver soon learns of a sender that is gone.
pub(super) const COPY: Defaults = Defaults {
    preset: Preset::FileTransfer,
    keepalive: Duration::from_secs(1),
};
pub(super) const ROUND_TRIPS: Defaults = Defaults {
    preset: Preset::TurboMode,
    keepalive: Duration::from_secs(5),
};

impl ProtocolArgs {
    /// The transport these flags describe.
    pub(super) fn into_transport(self, defaults: Defaults) -> Result<Transport, Failure> {
        let preset = self.preset.unwrap_or(defaults.preset);
        let protocol = self.apply(preset.config());
        let message_mode = !protocol.is_stream_mode();
        let sockbuf = size("--sockbuf", self.sockbuf)?;
        let mut endpoint = EndpointConfig::new(protocol)
            .connect_timeout(Some(self.connect_timeout))
            .dead_peer_timeout(self.dead_peer_timeout.0)
            .idle_timeout(self.idle_timeout.0)
            .keepalive(
                self.keepalive
                    .map_or(Some(defaults.keepalive), |limit| limit.0),
            )
            .linger(self.linger)
            .send_buffer(sockbuf)
            .recv_buffer(sockbuf);
        if let Some(bytes) = self.sndqueue {
            endpoint = endpoint.send_queue_limit(Some(size("--sndqueue", bytes)?));
        }
        endpoint.validate().map_err(|error| setting(&error))?;
        Ok(Transport {
            endpoint,
            preset: preset.name(),
            message_mode,
            connect_timeout: self.connect_timeout,
            conversation: self.conv,
        })
    }

    fn apply(&self, mut protocol: KcpConfig) -> KcpConfig {
        if let Some(bytes) = self.mtu {
            protocol = protocol.mtu(bytes);
        }
        if let Some(segments) = self.sndwnd {
            protocol = protocol.send_window(segments);
        }
        if let Some(segments) = self.rcvwnd {
            protocol = protocol.receive_window(segments);
        }
        if let Some(interval) = self.interval {
            protocol = protocol.interval(interval);
        }
        if let Some(level) = self.nodelay {
            protocol = protocol.nodelay(match level {
                0 => NoDelay::Off,
                1 => NoDelay::Fast,
                _ => NoDelay::Linear,
            });
        }
        if let Some(acks) = self.resend {
            protocol = protocol.fast_resend(acks);
        }
        if let Some(times) = self.resend_limit {
            protocol = protocol.fast_resend_limit(times);
        }
        if let Some(off) = self.nc {
            protocol = protocol.congestion_window(off == 0);
        }
        if self.stream || self.message {
            protocol = protocol.stream_mode(self.stream);
        }
        match self.flush {
            Some(FlushArg::Interval) => protocol.flush_policy(FlushPolicy::Interval),
            Some(FlushArg::Immediate) => protocol.flush_policy(FlushPolicy::Immediate),
            None => protocol,
        }
    }
}

/// A setting out of its range, under the name of its flag.
fn setting(error: &ConfigError) -> Failure {
    let flag = match error.field {
        "mtu" => "--mtu",
        "send_window" => "--sndwnd",
        "receive_window" => "--rcvwnd",
        "interval" => "--interval",
        "fast_resend" => "--resend",
        "send_queue_limit" => "--sndqueue",
        "send_buffer" | "recv_buffer" => "--sockbuf",
        "connect_timeout" => "--connect-timeout",
        "dead_peer_timeout" => "--dead-peer-timeout",
        "idle_timeout" => "--idle-timeout",
        "keepalive" => "--keepalive",
        "linger" => "--linger",
        other => other,
    };
    let text = format!("{flag}: {} is out of range: {}", error.value, error.range);
    Failure::new(Kind::Usage, text)
}

fn size(flag: &str, bytes: u64) -> Result<usize, Failure> {
    usize::try_from(bytes)
        .map_err(|_| Failure::new(Kind::Usage, format!("{flag}: {bytes} bytes are too many")))
}
