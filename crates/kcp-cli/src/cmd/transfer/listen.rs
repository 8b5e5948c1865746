//! Listening for sessions, several at a time.

use std::sync::Arc;

use tokio::task::JoinSet;

use super::report::SessionReport;
use super::session::{Context, Job, Side, session};
use crate::cmd::Output;
use crate::error::{Failure, Kind};
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// Listens and does the job with whoever connects: until a signal, or with `once` until the first
/// session of somebody who speaks the protocol, with its result. A signal while nothing is under
/// way is the normal end of a listener and a success; with `once` it means that nobody came.
pub(crate) async fn listen(
    address: &str,
    once: bool,
    job: Job,
    transport: &Transport,
    output: &Output,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let listener = net::listen(address, transport, &output.console, output.json).await?;
    let job = Arc::new(job);
    let mut sessions: JoinSet<SessionReport> = JoinSet::new();
    let limit = if once { 1 } else { MAX_SESSIONS };
    loop {
        tokio::select! {
            accepted = listener.accept(), if sessions.len() < limit => {
                let (mut stream, peer) = accepted
                    .map_err(|error| Failure::new(Kind::Address, format!("the listener failed: {error}")))?;
                let context = Context::new(peer.to_string(), transport, output, interrupt);
                let job = job.clone();
                sessions.spawn(async move {
                    session(&mut stream, Side::Listening, &job, &context).await
                });
            }
            Some(ended) = sessions.join_next() => {
                let Ok(report) = ended else { continue };
                tell(&report, output);
                if once && report.greeted {
                    return report.into_result();
                }
            }
            () = interrupt.raised() => break,
        }
    }
    // The sessions have seen the signal, too, and tell their peers.
    let mut result = match once {
        true => Err(Failure::interrupted()),
        false => Ok(()),
    };
    while let Some(ended) = sessions.join_next().await {
        if let Ok(report) = ended {
            tell(&report, output);
            if report.failure.is_some() {
                result = Err(Failure::interrupted());
            }
        }
    }
    result
}

/// Says what became of a session; its files have been told already.
fn tell(report: &SessionReport, output: &Output) {
    report.show(output);
    if let (false, Some(failure)) = (output.json, &report.failure) {
        output
            .console
            .warn(&format!("kcp: session with {}: {failure}", report.peer));
    }
}

/// More copies than this at a time only slow each other down.
const MAX_SESSIONS: usize = 64;
