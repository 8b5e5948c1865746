//! `kcp-tokio`.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use kcp_tokio::config::NodeDelayConfig;
use kcp_tokio::{KcpConfig, KcpListener, KcpStream, Transport, UdpTransport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;

use super::settings::{INTERVAL, MTU, Mode, RESEND, Settings, WINDOW};
use super::{Kind, Pipe};

/// Bytes asked for in one read of a stream.
const BUFFER: usize = 64 << 10;

/// `kcp-tokio` 0.7.0.
#[derive(Debug)]
pub(crate) struct KcpTokio;

/// A `kcp-tokio` stream.
pub(crate) struct Stream {
    stream: KcpStream,
    mode: Mode,
}

impl Kind for KcpTokio {
    type Listener = KcpListener;
    type Pipe = Stream;

    async fn bind(settings: &Settings) -> io::Result<(KcpListener, SocketAddr)> {
        let transport = transport()?;
        let address = transport.local_addr()?;
        let listener = KcpListener::with_transport(transport, config(settings.mode))
            .await
            .map_err(io::Error::other)?;
        Ok((listener, address))
    }

    async fn accept(listener: &mut KcpListener, mode: Mode) -> io::Result<Stream> {
        let (stream, _) = listener.accept().await.map_err(io::Error::other)?;
        Ok(Stream { stream, mode })
    }

    async fn connect(mode: Mode, server: SocketAddr, conv: u32) -> io::Result<Stream> {
        let stream = KcpStream::new_with_conv(transport()?, server, conv, config(mode))
            .await
            .map_err(io::Error::other)?;
        Ok(Stream { stream, mode })
    }
}

impl Pipe for Stream {
    async fn send(&mut self, data: &[u8]) -> io::Result<()> {
        match self.mode {
            Mode::Message => self.stream.send(data).await.map_err(io::Error::other),
            Mode::Stream => self.stream.write_all(data).await,
        }
    }

    async fn recv(&mut self) -> io::Result<Vec<u8>> {
        if self.mode == Mode::Message {
            let message = self.stream.recv().await.map_err(io::Error::other)?;
            return Ok(message.map(|bytes| bytes.to_vec()).unwrap_or_default());
        }
        let mut buffer = vec![0; BUFFER];
        let length = self.stream.read(&mut buffer).await?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// `close` would first wait for acknowledgements that a peer which has gone no longer
    /// sends; drop does that in the background.
    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

/// Without keepalive its actor wakes up every second, with it every 30 s: what arrived while
/// the reader was busy waits that long once the sender has nothing more to send.
fn config(mode: Mode) -> KcpConfig {
    KcpConfig::new()
        .nodelay_config(NodeDelayConfig::custom(
            true,
            INTERVAL.as_millis() as u32,
            RESEND,
            true,
        ))
        .window_size(WINDOW, WINDOW)
        .mtu(MTU)
        .stream_mode(mode == Mode::Stream)
        .keep_alive(None)
}

fn transport() -> io::Result<Arc<UdpTransport>> {
    let socket = super::settings::socket()?;
    socket.set_nonblocking(true)?;
    Ok(Arc::new(UdpTransport::new(UdpSocket::from_std(
        socket.into(),
    )?)))
}
