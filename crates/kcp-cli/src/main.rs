//! `kcp`: a demo of the protocol on a bad link, file copy, and ping over KCP.

mod args;
mod cmd;
mod copy;
#[cfg(test)]
mod corpus;
mod error;
mod latency;
mod net;
mod preset;
mod progress;
mod report;
mod signal;

use std::process::ExitCode;
use std::time::Duration;

use error::{Failure, Kind};

fn main() -> ExitCode {
    let failure = match args::parse() {
        Ok(command) => match run(command) {
            Ok(()) => return ExitCode::SUCCESS,
            Err(failure) => failure,
        },
        Err(failure) => failure,
    };
    report::note(&format!("kcp: {failure}"));
    ExitCode::from(failure.kind().exit_code())
}

fn run(command: cmd::Command) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Kind::Local, format!("cannot start: {error}")))?;
    let result = runtime.block_on(cmd::run(command));
    // A thread may hang in a read from a pipe; it must not keep the process.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}
