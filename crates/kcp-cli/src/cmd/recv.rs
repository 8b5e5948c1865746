//! `kcp recv`: listens for `kcp send`, or fetches from `kcp serve`.

use super::Output;
use super::transfer::{self, Context, Job, Listening, Pace, PullOptions, Side};
use crate::error::Failure;
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// What `recv` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) source: Source,
    pub(crate) pull: PullOptions,
    pub(crate) pace: Pace,
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
pub(crate) async fn run(mut options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let removed = options.pull.prepare()?;
    Interrupt::survive_file_limit();
    let Options {
        source,
        pull,
        pace,
        transport,
        output,
    } = options;
    if removed > 0 {
        output.console.note(&format!(
            "removed {removed} temporary files of a receiver that was killed"
        ));
    }
    let job = Job::Pull(pull);
    match source {
        Source::Listen { address, once } => {
            let listening = Listening {
                address,
                once,
                job,
                pace,
            };
            transfer::listen(listening, &transport, &output, interrupt).await
        }
        Source::Fetch { peer } => {
            let stream = net::connect(&peer, &transport).await?;
            let context = Context::new(peer, &transport, pace, &output, interrupt);
            let report = transfer::session(stream, Side::Connecting, &job, &context).await;
            report.show(&output);
            report.into_result()
        }
    }
}
