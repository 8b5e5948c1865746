//! `kcp send FILE... HOST:PORT`.

use std::path::PathBuf;

use super::Output;
use super::transfer::{self, Context, Job, Pace, Side};
use crate::error::Failure;
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// What `send` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) files: Vec<PathBuf>,
    pub(crate) peer: String,
    pub(crate) transport: Transport,
    pub(crate) output: Output,
}

/// Sends the files in order. Fails with the first file that did not get through, after trying all.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    // Before the peer is bothered: a typing error should not cost it a session.
    let job = Job::Push(transfer::prepare(&options.files)?);
    let stream = net::connect(&options.peer, &options.transport).await?;
    // A receiver may take its time, and has it counted at its own side.
    let pace = Pace { stall: None };
    let context = Context::new(
        options.peer,
        &options.transport,
        pace,
        &options.output,
        interrupt,
    );
    let report = transfer::session(stream, Side::Connecting, &job, &context).await;
    report.show(&options.output);
    report.into_result()
}
