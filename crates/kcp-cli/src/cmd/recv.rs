//! `kcp recv`: listens for `kcp send`, or fetches from `kcp serve`.

use super::Output;
use super::transfer::{self, Context, Job, PullOptions, Side};
use crate::error::Failure;
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// What `recv` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) source: Source,
    pub(crate) pull: PullOptions,
    pub(crate) transport: Transport,
    pub(crate) output: Output,
}

/// Where the files come from.
#[derive(Debug)]
pub(crate) enum Source {
    /// From whoever connects.
    Listen { address: String, once: bool },
    /// From a `kcp serve`.
    Fetch { peer: String },
}

/// Receives files.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    options.pull.check()?;
    let job = Job::Pull(options.pull);
    match options.source {
        Source::Listen { address, once } => {
            transfer::listen(
                &address,
                once,
                job,
                &options.transport,
                &options.output,
                interrupt,
            )
            .await
        }
        Source::Fetch { peer } => {
            let mut stream = net::connect(&peer, &options.transport).await?;
            let context = Context::new(peer, &options.transport, &options.output, interrupt);
            let report = transfer::session(&mut stream, Side::Connecting, &job, &context).await;
            report.show(&options.output);
            report.into_result()
        }
    }
}
