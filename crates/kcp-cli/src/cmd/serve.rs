//! `kcp serve FILE...`: offers files that `kcp recv HOST:PORT` fetches.

use std::path::PathBuf;

use super::Output;
use super::transfer::{self, Job, Listening, Pace};
use crate::error::Failure;
use crate::net::Transport;
use crate::signal::Interrupt;

/// What `serve` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) address: String,
    pub(crate) once: bool,
    pub(crate) pace: Pace,
    pub(crate) transport: Transport,
    pub(crate) output: Output,
}

/// Gives every client every file.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let job = Job::Push(transfer::prepare(&options.files)?);
    let Options {
        address,
        once,
        pace,
        transport,
        output,
        ..
    } = options;
    let listening = Listening {
        address,
        once,
        job,
        pace,
    };
    transfer::listen(listening, &transport, &output, interrupt).await
}
