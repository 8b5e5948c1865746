//! `kcp echo`: sends back what comes.

use std::net::SocketAddr;
use std::sync::Arc;

use kcp_async::KcpStream;
use tokio::task::JoinSet;

use super::transfer::Throttle;
use super::{Output, rounds};
use crate::error::{Failure, Kind};
use crate::net::{self, Transport};
use crate::signal::Interrupt;

/// What `echo` needs to know.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) address: String,
    pub(crate) transport: Transport,
    pub(crate) output: Output,
}

/// Serves until a signal.
pub(crate) async fn run(options: Options, interrupt: &Interrupt) -> Result<(), Failure> {
    let Options {
        address,
        transport,
        output,
    } = options;
    let listener = net::listen(&address, &transport, &output.console, output.json).await?;
    let mut sessions = JoinSet::new();
    let lines = Arc::new(Throttle::new());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, peer) = accepted
                    .map_err(|error| Failure::new(Kind::Address, format!("the listener failed: {error}")))?;
                let notes = Notes { lines: lines.clone(), output: output.clone() };
                sessions.spawn(serve(stream, peer, transport.message_mode, notes));
            }
            Some(_) = sessions.join_next() => {}
            () = interrupt.raised() => return Ok(()),
        }
    }
}

/// Lines about sessions: a few, and then counts, since any datagram can open one.
struct Notes {
    lines: Arc<Throttle>,
    output: Output,
}

impl Notes {
    fn note(&self, text: &str) {
        match self.lines.pass() {
            None => {}
            Some(0) => self.output.console.note(text),
            Some(held_back) => self
                .output
                .console
                .note(&format!("({held_back} lines left out) {text}")),
        }
    }
}

/// One client. In message mode every message goes back as one message, as clients that count on
/// boundaries expect; otherwise bytes go back as they come.
async fn serve(mut stream: KcpStream, peer: SocketAddr, message_mode: bool, notes: Notes) {
    notes.note(&format!("{peer}: session opened"));
    let end = if message_mode {
        echo_messages(&mut stream).await
    } else {
        let (reader, writer) = stream.split();
        rounds::echo_bytes(reader, writer).await
    };
    match end {
        Ok(()) => notes.note(&format!("{peer}: session closed")),
        Err(error) => notes.note(&format!("{peer}: session ended: {error}")),
    }
}

async fn echo_messages(stream: &mut KcpStream) -> std::io::Result<()> {
    loop {
        let message = stream.recv_message().await?;
        if message.is_empty() {
            let (_, writer) = stream.split();
            rounds::close(writer).await;
            return Ok(());
        }
        stream.send(&message).await?;
    }
}
