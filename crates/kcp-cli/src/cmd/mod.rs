//! The commands. Each takes validated options and ends with success or one [`Failure`].

pub(crate) mod demo;
pub(crate) mod echo;
pub(crate) mod ping;
pub(crate) mod recv;
mod rounds;
pub(crate) mod send;
pub(crate) mod serve;
pub(crate) mod transfer;

use crate::error::Failure;
use crate::progress::Console;
use crate::signal::Interrupt;

/// What to do.
#[derive(Debug)]
pub(crate) enum Command {
    Demo(demo::Options),
    Send(send::Options),
    Recv(recv::Options),
    Serve(serve::Options),
    Ping(ping::Options),
    Echo(echo::Options),
}

/// How results are shown.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    pub(crate) json: bool,
    pub(crate) quiet: bool,
    pub(crate) console: Console,
}

/// Runs a command to its end, or until a signal. Needs a tokio runtime.
pub(crate) async fn run(command: Command) -> Result<(), Failure> {
    let interrupt = Interrupt::install(transfer::remove_temporary_files);
    match command {
        Command::Demo(options) => demo::run(options, &interrupt).await,
        Command::Send(options) => send::run(options, &interrupt).await,
        Command::Recv(options) => recv::run(options, &interrupt).await,
        Command::Serve(options) => serve::run(options, &interrupt).await,
        Command::Ping(options) => ping::run(options, &interrupt).await,
        Command::Echo(options) => echo::run(options, &interrupt).await,
    }
}
