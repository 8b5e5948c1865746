//! The flags of a peer program.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

/// `nodelay(1, 10, 2, 1)`: the interval.
pub(crate) const INTERVAL: Duration = Duration::from_millis(10);
/// `nodelay(1, 10, 2, 1)`: skips before a fast resend.
pub(crate) const RESEND: u32 = 2;
/// Send and receive window, in segments.
pub(crate) const WINDOW: u32 = 256;
/// Largest datagram, in bytes.
pub(crate) const MTU: u32 = 1400;
/// Asked of the kernel; it may grant less.
pub(crate) const SOCKET_BUFFER: usize = 4 << 20;

/// Which side of the session a program is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Accepts sessions.
    Server,
    /// Opens sessions.
    Client,
}

/// Message or stream mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// What is sent as one message arrives as one message.
    Message,
    /// Bytes without boundaries.
    Stream,
}

impl Mode {
    /// The word on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::Stream => "stream",
        }
    }
}

/// What a program was asked to do.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Server or client.
    pub(crate) role: Role,
    /// Message or stream mode.
    pub(crate) mode: Mode,
    /// Sizes of the pieces sent, in turn.
    pub(crate) send: Vec<usize>,
    /// Sizes of the pieces received, in turn.
    pub(crate) expect: Vec<usize>,
    /// Seed of the client's content; the server's has the next one.
    pub(crate) seed: u32,
    /// The largest exchange, in bytes.
    pub(crate) bytes: usize,
}

impl Settings {
    /// Reads `--flag value` pairs.
    pub(crate) fn parse(words: &[String]) -> Result<Self, String> {
        let mut settings = Self {
            role: Role::Server,
            mode: Mode::Message,
            send: vec![1376],
            expect: vec![1376],
            seed: 1,
            bytes: 4 << 20,
        };
        for pair in words.chunks(2) {
            let [flag, value] = pair else {
                return Err(format!("{} needs a value", pair[0]));
            };
            match (flag.as_str(), value.as_str()) {
                ("--role", "server") => settings.role = Role::Server,
                ("--role", "client") => settings.role = Role::Client,
                ("--mode", "message") => settings.mode = Mode::Message,
                ("--mode", "stream") => settings.mode = Mode::Stream,
                ("--send", list) => settings.send = sizes(list)?,
                ("--expect", list) => settings.expect = sizes(list)?,
                ("--seed", n) => settings.seed = number(n)?,
                ("--bytes", n) => settings.bytes = number(n)?,
                // For programs whose server has one fixed conversation id.
                ("--conv", _) => {}
                _ => return Err(format!("unknown flag {flag} {value}")),
            }
        }
        Ok(settings)
    }
}

fn sizes(list: &str) -> Result<Vec<usize>, String> {
    let sizes = list
        .split(',')
        .map(number)
        .collect::<Result<Vec<usize>, _>>()?;
    if sizes.contains(&0) {
        Err(format!("a size of 0 in {list}"))
    } else {
        Ok(sizes)
    }
}

fn number<T: std::str::FromStr<Err: std::fmt::Display>>(word: &str) -> Result<T, String> {
    word.parse().map_err(|error| format!("{word}: {error}"))
}

/// A loopback UDP socket with room for a window of datagrams.
pub(crate) fn socket() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // A smaller buffer loses datagrams, which is slower, not wrong.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket)
}
