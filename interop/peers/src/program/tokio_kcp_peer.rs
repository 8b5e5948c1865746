//! `tokio_kcp`.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio_kcp::{KcpConfig, KcpListener, KcpNoDelayConfig, KcpStream};

use super::settings::{INTERVAL, MTU, Mode, RESEND, Settings, WINDOW};
use super::{Kind, Pipe};

/// Longer than any message.
const BUFFER: usize = 256 << 10;

/// `tokio_kcp` 0.9.8.
#[derive(Debug)]
pub(crate) struct TokioKcp;

/// A `tokio_kcp` stream.
#[derive(Debug)]
pub(crate) struct Stream {
    stream: KcpStream,
    mode: Mode,
    buffer: Vec<u8>,
}

impl Kind for TokioKcp {
    type Listener = KcpListener;
    type Pipe = Stream;

    async fn bind(settings: &Settings) -> io::Result<(KcpListener, SocketAddr)> {
        let socket = socket()?;
        let address = socket.local_addr()?;
        let listener = KcpListener::from_socket(config(settings.mode), socket)
            .await
            .map_err(io::Error::other)?;
        Ok((listener, address))
    }

    async fn accept(listener: &mut KcpListener, mode: Mode) -> io::Result<Stream> {
        let (stream, _) = listener.accept().await.map_err(io::Error::other)?;
        Ok(Stream::new(stream, mode))
    }

    /// With conv 0 the server chooses the conv.
    async fn connect(mode: Mode, server: SocketAddr, conv: u32) -> io::Result<Stream> {
        let stream = KcpStream::connect_with_socket_conv(&config(mode), conv, socket()?, server)
            .await
            .map_err(io::Error::other)?;
        Ok(Stream::new(stream, mode))
    }
}

impl Stream {
    fn new(stream: KcpStream, mode: Mode) -> Self {
        Self {
            stream,
            mode,
            buffer: vec![0; BUFFER],
        }
    }
}

impl Pipe for Stream {
    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        if self.mode == Mode::Stream {
            return self.stream.write_all(data).await;
        }
        let sent = self.stream.send(data).await.map_err(io::Error::other)?;
        if sent == data.len() {
            Ok(())
        } else {
            Err(io::Error::other(format!(
                "sent {sent} of a message of {} bytes",
                data.len()
            )))
        }
    }

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        let length = match self.mode {
            Mode::Message => self
                .stream
                .recv(&mut self.buffer)
                .await
                .map_err(io::Error::other)?,
            Mode::Stream => self.stream.read(&mut self.buffer).await?,
        };
        Ok(self.buffer[..length].to_vec())
    }

    /// Drop is all there is: `shutdown` does nothing.
    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

fn config(mode: Mode) -> KcpConfig {
    KcpConfig {
        mtu: MTU as usize,
        nodelay: KcpNoDelayConfig {
            nodelay: true,
            interval: INTERVAL.as_millis() as i32,
            resend: RESEND as i32,
            nc: true,
        },
        wnd_size: (WINDOW as u16, WINDOW as u16),
        stream: mode == Mode::Stream,
        ..KcpConfig::default()
    }
}

fn socket() -> io::Result<UdpSocket> {
    let socket = super::settings::socket()?;
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket.into())
}
