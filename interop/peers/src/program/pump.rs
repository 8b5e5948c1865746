//! A pump of our own: drives a bare protocol core over UDP.

use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc as blocking;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::settings::{Mode, Settings, WINDOW};
use super::{Kind, Pipe};

/// Datagrams taken before the sessions are updated again.
const RECEIVE_BATCH: usize = 64;
/// How long a closing session waits for acknowledgements.
const LINGER: Duration = Duration::from_millis(300);
/// The longest wait for a datagram: bounds how late a write of the exchange is noticed.
const LONGEST_WAIT: Duration = Duration::from_millis(1);

/// A protocol core without a socket or a clock.
pub(crate) trait Core: Sized + 'static {
    /// A session with the settings of the matrix.
    fn new(conv: u32, mode: Mode) -> Self;

    /// Queues one message, or appends to the stream. Segments waiting are checked before.
    fn send(&mut self, data: &[u8]);

    /// Hands in a datagram.
    fn input(&mut self, now: Duration, datagram: &[u8]);

    /// Runs the timers and hands every datagram to send to `output`.
    fn update(&mut self, now: Duration, output: impl FnMut(&[u8]));

    /// Takes the next message, or some bytes of the stream.
    fn recv(&mut self) -> Option<Vec<u8>>;

    /// Segments queued or in flight.
    fn waiting(&self) -> usize;

    /// A line of numbers for a failed cell.
    fn stats(&self) -> String;
}

/// A kind of program made of a core and this pump.
#[derive(Debug)]
pub(crate) struct Pumped<C>(PhantomData<C>);

/// New sessions of a listening pump.
#[derive(Debug)]
pub(crate) struct Listener {
    accepted: mpsc::UnboundedReceiver<PumpPipe>,
    _pump: Stop,
}

/// A session, seen from the exchange.
#[derive(Debug)]
pub(crate) struct PumpPipe {
    outgoing: mpsc::Sender<Vec<u8>>,
    incoming: mpsc::UnboundedReceiver<Vec<u8>>,
    close: Option<oneshot::Sender<oneshot::Sender<()>>>,
    ask: mpsc::UnboundedSender<oneshot::Sender<String>>,
    /// A client's pump belongs to its session.
    _pump: Option<Stop>,
}

/// Ends the pump's thread when dropped.
#[derive(Debug)]
struct Stop(Option<blocking::Sender<()>>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.take();
    }
}

impl<C: Core> Kind for Pumped<C> {
    type Listener = Listener;
    type Pipe = PumpPipe;

    async fn bind(settings: &Settings) -> io::Result<(Listener, SocketAddr)> {
        let socket = bind()?;
        let address = socket.local_addr()?;
        let (accept, accepted) = mpsc::unbounded_channel();
        let pump = Pump::<C>::spawn(socket, settings.mode, Some(accept), None);
        Ok((
            Listener {
                accepted,
                _pump: pump,
            },
            address,
        ))
    }

    async fn accept(listener: &mut Listener, _mode: Mode) -> io::Result<PumpPipe> {
        listener
            .accepted
            .recv()
            .await
            .ok_or_else(|| io::Error::other("the pump has ended"))
    }

    async fn connect(mode: Mode, server: SocketAddr, conv: u32) -> io::Result<PumpPipe> {
        let (opening, mut pipe) = Opening::new(conv, server);
        pipe._pump = Some(Pump::<C>::spawn(bind()?, mode, None, Some(opening)));
        Ok(pipe)
    }
}

impl Pipe for PumpPipe {
    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        self.outgoing
            .send(data.to_vec())
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        Ok(self.incoming.recv().await.unwrap_or_default())
    }

    async fn close(mut self) -> io::Result<()> {
        let (reply, done) = oneshot::channel();
        if let Some(close) = self.close.take()
            && close.send(reply).is_ok()
        {
            // An error means that the pump ended, and the session with it.
            let _ = done.await;
        }
        Ok(())
    }

    async fn stats(&self) -> String {
        let (reply, answer) = oneshot::channel();
        match self.ask.send(reply) {
            Ok(()) => answer.await.unwrap_or_default(),
            Err(_) => "the pump has ended".to_owned(),
        }
    }
}

/// One socket and its sessions, on a thread of its own: the C core cannot move between
/// threads, and its users drive it with such a loop as well.
struct Pump<C> {
    socket: UdpSocket,
    mode: Mode,
    accept: Option<mpsc::UnboundedSender<PumpPipe>>,
    sessions: HashMap<SocketAddr, Session<C>>,
    started: Instant,
}

/// A session that is not yet on the pump's thread.
struct Opening {
    conv: u32,
    remote: SocketAddr,
    channels: Channels,
}

struct Channels {
    outgoing: mpsc::Receiver<Vec<u8>>,
    incoming: mpsc::UnboundedSender<Vec<u8>>,
    closed: oneshot::Receiver<oneshot::Sender<()>>,
    asked: mpsc::UnboundedReceiver<oneshot::Sender<String>>,
}

struct Session<C> {
    core: C,
    remote: SocketAddr,
    channels: Channels,
    /// Asked to close: whom to tell, and when at the latest.
    closing: Option<(oneshot::Sender<()>, Duration)>,
}

impl<C: Core> Pump<C> {
    fn spawn(
        socket: UdpSocket,
        mode: Mode,
        accept: Option<mpsc::UnboundedSender<PumpPipe>>,
        first: Option<Opening>,
    ) -> Stop {
        let (stop, stopped) = blocking::channel();
        std::thread::spawn(move || {
            let mut pump = Self {
                socket,
                mode,
                accept,
                sessions: HashMap::new(),
                started: Instant::now(),
            };
            if let Some(opening) = first {
                pump.open(opening);
            }
            while stopped.try_recv() != Err(blocking::TryRecvError::Disconnected) {
                if let Err(error) = pump.turn() {
                    eprintln!("the pump ends: {error}");
                    return;
                }
            }
        });
        Stop(Some(stop))
    }

    fn turn(&mut self) -> io::Result<()> {
        let mut datagram = [0; 2048];
        for _ in 0..RECEIVE_BATCH {
            match self.socket.recv_from(&mut datagram) {
                Ok((length, from)) => self.input(&datagram[..length], from),
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => break,
                    // An answer to something sent earlier; says nothing about this socket.
                    io::ErrorKind::ConnectionRefused => {}
                    _ => return Err(error),
                },
            }
        }
        let now = self.started.elapsed();
        for session in self.sessions.values_mut() {
            session.turn(now, &self.socket);
        }
        self.sessions.retain(|_, session| session.is_open(now));
        Ok(())
    }

    fn open(&mut self, opening: Opening) {
        let Opening {
            conv,
            remote,
            channels,
        } = opening;
        let core = C::new(conv, self.mode);
        self.sessions.insert(
            remote,
            Session {
                core,
                remote,
                channels,
                closing: None,
            },
        );
    }

    fn input(&mut self, datagram: &[u8], from: SocketAddr) {
        // As the usual C server does: one session for each address, its conv from the
        // first datagram, whatever that is.
        if let Some(accept) = self.accept.clone()
            && !self.sessions.contains_key(&from)
            && datagram.len() >= 24
        {
            let conv = u32::from_le_bytes([datagram[0], datagram[1], datagram[2], datagram[3]]);
            let (opening, pipe) = Opening::new(conv, from);
            self.open(opening);
            // Without a listener the program is ending.
            let _ = accept.send(pipe);
        }
        if let Some(session) = self.sessions.get_mut(&from) {
            session.core.input(self.started.elapsed(), datagram);
        }
    }
}

impl Opening {
    fn new(conv: u32, remote: SocketAddr) -> (Self, PumpPipe) {
        let (outgoing, to_send) = mpsc::channel(1);
        let (received, incoming) = mpsc::unbounded_channel();
        let (close, closed) = oneshot::channel();
        let (ask, asked) = mpsc::unbounded_channel();
        let channels = Channels {
            outgoing: to_send,
            incoming: received,
            closed,
            asked,
        };
        let pipe = PumpPipe {
            outgoing,
            incoming,
            close: Some(close),
            ask,
            _pump: None,
        };
        (
            Self {
                conv,
                remote,
                channels,
            },
            pipe,
        )
    }
}

impl<C: Core> Session<C> {
    fn turn(&mut self, now: Duration, socket: &UdpSocket) {
        // A core queues without bound: hold back at two windows.
        while self.core.waiting() < 2 * WINDOW as usize {
            let Ok(data) = self.channels.outgoing.try_recv() else {
                break;
            };
            self.core.send(&data);
        }
        let remote = self.remote;
        self.core.update(now, |datagram| {
            // What the socket refuses is lost, as it would be on the way.
            let _ = socket.send_to(datagram, remote);
        });
        while let Some(data) = self.core.recv() {
            // A closing exchange reads no more.
            let _ = self.channels.incoming.send(data);
        }
        if let Ok(reply) = self.channels.asked.try_recv() {
            // The asker may have given up.
            let _ = reply.send(self.core.stats());
        }
    }

    /// A session asked to close goes once everything is acknowledged, or after a while.
    fn is_open(&mut self, now: Duration) -> bool {
        match self.channels.closed.try_recv() {
            Ok(reply) => self.closing = Some((reply, now + LINGER)),
            Err(oneshot::error::TryRecvError::Closed) if self.closing.is_none() => return false,
            Err(_) => {}
        }
        let done = |(_, latest): &mut (_, Duration)| self.core.waiting() == 0 || now >= *latest;
        match self.closing.take_if(done) {
            Some((reply, _)) => {
                // The asker may be gone.
                let _ = reply.send(());
                false
            }
            None => true,
        }
    }
}

fn bind() -> io::Result<UdpSocket> {
    let socket = UdpSocket::from(super::settings::socket()?);
    socket.set_read_timeout(Some(LONGEST_WAIT))?;
    Ok(socket)
}
