//! `send`, `recv` and `serve`.

use std::path::PathBuf;

use clap::Args;

use super::protocol::{COPY, ProtocolArgs};
use super::values;
use super::{DEFAULT_LISTEN, OutputArgs};
use crate::cmd::recv::Source;
use crate::cmd::transfer::PullOptions;
use crate::cmd::{recv, send, serve};
use crate::error::Failure;

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
/// until Ctrl-C, or with --once until the first sender has finished. With HOST:PORT it fetches
/// the files that `kcp serve` offers there.
///
/// A file appears under its name only when it has arrived whole and its hash is right. Until
/// then it is a hidden temporary file in the same directory, removed on every kind of failure.
/// Names with path separators, control characters or special meaning are refused.
#[derive(Args, Debug)]
pub(super) struct RecvArgs {
    /// Fetch from this `kcp serve` instead of listening
    #[arg(value_name = "HOST:PORT", value_parser = values::peer, conflicts_with_all = ["listen", "once"])]
    peer: Option<String>,
    /// The address to listen on; port 0 takes any free one, and a line on standard output says which
    #[arg(long, short, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,
    /// The directory that files go to; it must exist
    #[arg(long, short = 'd', value_name = "DIR", default_value = ".")]
    into: PathBuf,
    /// Replace files of the same name
    #[arg(long, short)]
    force: bool,
    /// Exit after one session, with its result as exit code
    #[arg(long)]
    once: bool,
    /// Refuse files larger than this (units K, M, G, T)
    #[arg(long, value_name = "BYTES", value_parser = values::bytes)]
    max_size: Option<u64>,
    #[command(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    protocol: ProtocolArgs,
}

/// Offer files that `kcp recv HOST:PORT` fetches.
///
/// Every client gets every file, until Ctrl-C, or with --once until the first client has finished.
#[derive(Args, Debug)]
pub(super) struct ServeArgs {
    /// Regular files; their names without directories are what clients see
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The address to listen on; port 0 takes any free one, and a line on standard output says which
    #[arg(long, short, value_name = "ADDR:PORT", default_value = DEFAULT_LISTEN)]
    listen: String,
    /// Exit after one session, with its result as exit code
    #[arg(long)]
    once: bool,
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
            },
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
            transport: self.protocol.into_transport(COPY)?,
            output: self.output.into_output(),
        })
    }
}
