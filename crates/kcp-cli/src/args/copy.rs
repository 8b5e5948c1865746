//! `send`, `recv` and `serve`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::protocol::{COPY, ProtocolArgs};
use super::values::{self, Limit};
use super::{DEFAULT_LISTEN, OutputArgs};
use crate::cmd::recv::Source;
use crate::cmd::transfer::{Pace, PullOptions};
use crate::cmd::{recv, send, serve};
use crate::error::{Failure, Kind};

/// Send files to a `kcp recv`.
///
/// The receiver checks a hash of every file and answers with its verdict: success here means
/// that the file stands under its name, synced to disk, at the other end.
#[derive(Args, Debug)]
pub(super) struct SendArgs {
    /// Regular files; their names without directories are what the receiver sees
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where `kcp recv` listens
    #[arg(required = true, value_name = "HOST:PORT", value_parser = values::peer)]
    peer: String,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

/// Receive files, from whoever sends them or from a `kcp serve`.
///
/// Without HOST:PORT it listens and takes what `kcp send` sends, from several senders at a time,
/// until Ctrl-C, or with --once until the first sender has finished of whom a file was stored. With HOST:PORT it fetches
/// the files that `kcp serve` offers there.
///
/// A file appears under its name only when it has arrived whole and its hash is right. Until
/// then it is a hidden temporary file in the same directory, removed on every kind of failure; those
/// of a receiver that was killed are removed at the next start. Names with path separators, control,
/// invisible or direction-changing characters or special meaning are refused.
///
/// Nothing is written before the sender has repeated a random number that was sent to its address
/// (within 10 s), so no file comes from a forged address. 64 sessions run at a time, 8 of one address
/// (IPv6: of one /56, 16 of a /48, 32 of a /32); later ones wait their turn. While a file is under
/// way it ends when nothing new comes for --stall-timeout, or less than 1 KiB/s over a minute: a link
/// of 64 kbit/s, one that is black for some seconds, and a sender paused for less than that all pass.
/// While others wait for its slot, a session also ends that brings next to nothing.
#[derive(Args, Debug)]
pub(super) struct RecvArgs {
    /// Fetch from this `kcp serve` instead of listening
    #[arg(value_name = "HOST:PORT", value_parser = values::peer, conflicts_with_all = ["listen", "once"])]
    peer: Option<String>,
    /// The address to listen on; port 0 takes any free one, and a line on standard output says which
    #[arg(long, short, value_name = "ADDR:PORT", value_parser = values::listen, default_value = DEFAULT_LISTEN)]
    listen: String,
    /// The directory that files go to; it must exist
    #[arg(long, short = 'd', value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// Replace files of the same name
    #[arg(long, short)]
    force: bool,
    /// Exit after the first session in which a file was stored, with its result as exit code
    #[arg(long)]
    once: bool,
    /// Take names that begin with a dot or a dash, such as .profile and -rf
    #[arg(long)]
    allow_hidden: bool,
    /// Take at most this many files in one session
    #[arg(long, value_name = "N", default_value = "1000")]
    max_files: u64,
    /// Take at most this many bytes in one session (units K, M, G, T)
    /// [default: the free space of the directory less 5 %]
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    max_bytes: Option<u64>,
    /// Refuse files larger than this (units K, M, G, T)
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    max_size: Option<u64>,
    /// End a session in which nothing new comes for this long, or less than 1 KiB/s over a minute,
    /// or off
    #[arg(long, value_name = "TIME", value_parser = values::seconds_or_off, default_value = "30s")]
    stall_timeout: Limit,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

/// Offer files that `kcp recv HOST:PORT` fetches.
///
/// Every client gets every file, until Ctrl-C, or with --once until the first client has finished
/// that stored a file. Clients are validated, wait their turn and are dropped when they stall, as
/// with `kcp recv`.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Regular files; their names without directories are what clients see
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The address to listen on; port 0 takes any free one, and a line on standard output says which
    #[arg(long, short, value_name = "ADDR:PORT", value_parser = values::listen, default_value = DEFAULT_LISTEN)]
    listen: String,
    /// Exit after the first session in which the client stored a file, with its result as exit code
    #[arg(long)]
    once: bool,
    /// End a session in which nothing new comes for this long, or less than 1 KiB/s over a minute,
    /// or off
    #[arg(long, value_name = "TIME", value_parser = values::seconds_or_off, default_value = "30s")]
    stall_timeout: Limit,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

impl SendArgs {
    pub(super) fn into_options(self) -> Result<send::Options, Failure> {
        Ok(send::Options {
            files: self.files,
            peer: self.peer,
            transport: self.protocol.into_transport(COPY)?,
            output: self.output.into_output(),
        })
    }
}

impl RecvArgs {
    pub(super) fn into_options(self) -> Result<recv::Options, Failure> {
        let source = match self.peer {
            Some(peer) => Source::Fetch { peer },
            None => Source::Listen {
                address: self.listen,
                once: self.once,
            },
        };
        Ok(recv::Options {
            source,
            pull: PullOptions {
                into: self.into,
                force: self.force,
                max_size: self.max_size,
                max_files: self.max_files,
                max_bytes: self.max_bytes,
                allow_hidden: self.allow_hidden,
                reserve: 0,
            },
            pace: pace(self.stall_timeout)?,
            transport: self.protocol.into_transport(COPY)?,
            output: self.output.into_output(),
        })
    }
}

impl ServeArgs {
    pub(super) fn into_options(self) -> Result<serve::Options, Failure> {
        Ok(serve::Options {
            files: self.files,
            address: self.listen,
            once: self.once,
            pace: pace(self.stall_timeout)?,
            transport: self.protocol.into_transport(COPY)?,
            output: self.output.into_output(),
        })
    }
}

fn pace(stall: Limit) -> Result<Pace, Failure> {
    match stall.0 {
        Some(time) if time < SHORTEST_STALL => {
            let text = format!("--stall-timeout must be at least {SHORTEST_STALL:?}, or off");
            Err(Failure::new(Kind::Usage, text))
        }
        stall => Ok(Pace { stall }),
    }
}

/// Shorter ones end sessions for a retransmission.
const SHORTEST_STALL: Duration = Duration::from_secs(1);
