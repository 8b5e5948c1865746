//! A peer program: one KCP implementation behind commands on stdin and events on stdout.
//!
//! The Rust peers share this shell; the Go, Python and Node programs next to this crate
//! speak the same lines. The protocol is in the crate's README.

pub(crate) mod c_core;
pub(crate) mod content;
pub(crate) mod engine;
pub(crate) mod exchange;
pub(crate) mod kcp_tokio_peer;
pub(crate) mod ours;
pub(crate) mod pump;
pub(crate) mod settings;
pub(crate) mod tokio_kcp_peer;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, LocalSet, spawn_local};

use exchange::{Exchange, Side};
use settings::{Mode, Role, Settings};

/// One implementation of KCP.
pub(crate) trait Kind: Sized + 'static {
    /// What accepts sessions.
    type Listener;
    /// One session.
    type Pipe: Pipe;

    /// Binds a server to a free loopback port.
    fn bind(settings: &Settings) -> impl Future<Output = io::Result<(Self::Listener, SocketAddr)>>;

    /// Waits for the next session.
    fn accept(
        listener: &mut Self::Listener,
        mode: Mode,
    ) -> impl Future<Output = io::Result<Self::Pipe>>;

    /// Opens a session.
    fn connect(
        mode: Mode,
        server: SocketAddr,
        conv: u32,
    ) -> impl Future<Output = io::Result<Self::Pipe>>;

    /// Sessions that the implementation itself holds, when it says so.
    fn live(_listener: &Self::Listener) -> Option<usize> {
        None
    }

    /// A line of numbers for a failed cell.
    fn listener_stats(_listener: &Self::Listener) -> String {
        String::new()
    }
}

/// One session, as the exchange uses it.
pub(crate) trait Pipe: 'static {
    /// Sends one message, or appends to the stream.
    fn send(&mut self, data: &[u8]) -> impl Future<Output = io::Result<()>>;

    /// Receives one message, or some bytes of the stream. Empty at its end.
    fn recv(&mut self) -> impl Future<Output = io::Result<Vec<u8>>>;

    /// Waits until the peer has shown that it sees what we send, before anything was sent to it. Only ours asks.
    fn validated(&mut self) -> impl Future<Output = io::Result<()>> {
        async { Ok(()) }
    }

    /// Closes the session as a user of the implementation would.
    fn close(self) -> impl Future<Output = io::Result<()>>;

    /// A line of numbers for a failed cell.
    fn stats(&self) -> impl Future<Output = String> {
        async { String::new() }
    }
}

/// Runs a peer program until stdin ends or says `quit`.
pub(crate) async fn run<K: Kind>(settings: Settings) -> io::Result<()> {
    // The exchanges stay on this thread: kcp-tokio's stream cannot be shared between threads,
    // so its `send` cannot be spawned elsewhere.
    LocalSet::new().run_until(commands::<K>(settings)).await
}

async fn commands<K: Kind>(settings: Settings) -> io::Result<()> {
    let mut listener = None;
    if settings.role == Role::Server {
        let (bound, address) = K::bind(&settings).await?;
        event(format_args!("listening {address}"));
        listener = Some(bound);
    }
    let mut program = Program {
        exchange: Rc::new(Exchange::new(&settings)),
        sessions: Vec::new(),
        created: 0,
    };
    let mut commands = BufReader::new(tokio::io::stdin()).lines();
    loop {
        tokio::select! {
            accepted = accept::<K>(&mut listener, settings.mode) => {
                let pipe = accepted?;
                let number = program.add(pipe, Side::Server);
                event(format_args!("accepted {number}"));
            }
            line = commands.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let words: Vec<&str> = line.split_whitespace().collect();
                match words.as_slice() {
                    ["connect", address, conv, bytes] => {
                        let (server, conv, bytes) = (parse(address)?, parse(conv)?, parse(bytes)?);
                        let pipe = K::connect(settings.mode, server, conv).await?;
                        program.add(pipe, Side::Client { bytes });
                    }
                    ["close"] => program.end(End::Close).await,
                    ["drop"] => program.end(End::Drop).await,
                    ["sessions"] => {
                        let live = listener.as_ref().and_then(K::live).unwrap_or(program.sessions.len());
                        event(format_args!("sessions {} {live}", program.created));
                    }
                    ["stats"] => {
                        let of_listener = listener.as_ref().map(K::listener_stats).unwrap_or_default();
                        event(format_args!("stats {of_listener} {}", program.stats().await));
                    }
                    ["quit"] => return Ok(()),
                    _ => event(format_args!("failed 0 unknown command: {line}")),
                }
            }
        }
    }
}

/// Prints one line on stdout, whole.
pub(crate) fn event(line: std::fmt::Arguments<'_>) {
    use io::Write;
    let mut out = io::stdout().lock();
    // A runner that is gone reads no events: there is nobody left to tell.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn accept<K: Kind>(listener: &mut Option<K::Listener>, mode: Mode) -> io::Result<K::Pipe> {
    match listener {
        Some(listener) => K::accept(listener, mode).await,
        None => std::future::pending().await,
    }
}

/// The sessions of a program.
struct Program {
    exchange: Rc<Exchange>,
    sessions: Vec<Session>,
    created: usize,
}

/// How a session ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    /// By [`Pipe::close`].
    Close,
    /// The value is dropped, as in a program that forgot to close.
    Drop,
}

struct Session {
    end: oneshot::Sender<End>,
    stats: mpsc::Sender<oneshot::Sender<String>>,
    task: JoinHandle<()>,
}

impl Program {
    /// Starts the exchange of a new session and returns its number.
    fn add<P: Pipe>(&mut self, pipe: P, side: Side) -> usize {
        self.created += 1;
        let number = self.created;
        let (end, ended) = oneshot::channel();
        let (stats, asked) = mpsc::channel(1);
        let exchange = self.exchange.clone();
        let task = spawn_local(drive(pipe, exchange, side, number, ended, asked));
        self.sessions.push(Session { end, stats, task });
        number
    }

    /// Ends every session and waits until that is done.
    async fn end(&mut self, how: End) {
        for session in self.sessions.drain(..) {
            // A session whose task has ended has nothing left to close.
            let _ = session.end.send(how);
            if let Err(error) = session.task.await {
                event(format_args!("failed 0 {error}"));
            }
        }
        event(format_args!("closed"));
    }

    async fn stats(&self) -> String {
        let mut all = String::new();
        for session in &self.sessions {
            let (reply, answer) = oneshot::channel();
            if session.stats.send(reply).await.is_ok() {
                all += &answer.await.unwrap_or_default();
            }
        }
        all
    }
}

/// One session from its exchange to its close.
async fn drive<P: Pipe>(
    mut pipe: P,
    exchange: Rc<Exchange>,
    side: Side,
    number: usize,
    mut ended: oneshot::Receiver<End>,
    mut asked: mpsc::Receiver<oneshot::Sender<String>>,
) {
    let mut running = true;
    let how = loop {
        // Statistics are asked for when a cell has failed: the exchange is given up then.
        tokio::select! {
            result = exchange.run(&mut pipe, side), if running => {
                running = false;
                match result {
                    Ok(()) => event(format_args!("ok {number}")),
                    Err(error) => event(format_args!("failed {number} {error}")),
                }
            }
            // A program that ends drops its sessions.
            how = &mut ended => break how.unwrap_or(End::Drop),
            Some(reply) = asked.recv() => {
                running = false;
                // The asker may have given up.
                let _ = reply.send(pipe.stats().await);
            }
        }
    };
    if how == End::Close
        && let Err(error) = pipe.close().await
    {
        event(format_args!("failed {number} close: {error}"));
    }
}

fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(word: &str) -> io::Result<T> {
    word.parse()
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, format!("{word}: {error}")))
}
