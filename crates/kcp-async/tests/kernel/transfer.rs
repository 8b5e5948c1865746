//! One transfer between two endpoints in real time, for scenarios to repeat under their conditions.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpEndpoint, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;

use crate::harness::Namespace;

/// Which way the bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the side that connects.
    Up,
    /// To the side that connects, after a request of one byte.
    Down,
}

/// A server in a namespace, on a runtime of its own.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) addr: SocketAddr,
    pub(crate) endpoint: KcpEndpoint,
    runtime: Runtime,
}

/// What a server sends to whoever asks, and what it expects of the others.
pub(crate) fn content(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

impl Server {
    /// Serves transfers of `len` bytes each way. The first byte that a client sends says which.
    pub(crate) fn start(
        host: &Namespace,
        addr: &str,
        config: impl Into<EndpointConfig>,
        len: usize,
    ) -> Self {
        let (addr, config) = (addr.to_owned(), config.into());
        host.run(move || {
            let runtime = runtime();
            let entered = runtime.enter();
            let socket = UdpSocket::bind((addr.as_str(), 0)).unwrap();
            let addr = socket.local_addr().unwrap();
            let endpoint = KcpEndpoint::from_std(socket, config).unwrap();
            let accepting = endpoint.clone();
            runtime.spawn(async move {
                while let Ok((stream, _)) = accepting.accept().await {
                    tokio::spawn(serve(stream, len));
                }
            });
            drop(entered);
            Self {
                addr,
                endpoint,
                runtime,
            }
        })
    }

    pub(crate) fn stop(self) {
        self.runtime.shutdown_background();
    }
}

async fn serve(mut stream: KcpStream, len: usize) {
    let mut ask = [0];
    if stream.read_exact(&mut ask).await.is_err() {
        return;
    }
    match ask[0] {
        UP => {
            let mut received = vec![0; len];
            if stream.read_exact(&mut received).await.is_ok() && received == content(len) {
                let _ = stream.write_all(b"+").await;
            }
        }
        _ => {
            let _ = stream.write_all(&content(len)).await;
        }
    }
    let _ = stream.shutdown().await;
}

/// One transfer of `len` bytes over this stream; how long it took.
pub(crate) async fn transfer(
    stream: &mut KcpStream,
    way: Way,
    len: usize,
) -> std::io::Result<Duration> {
    let began = Instant::now();
    match way {
        Way::Up => {
            // In one write, so that the first datagram is full.
            let bytes = [&[UP][..], &content(len)].concat();
            stream.write_all(&bytes).await?;
            let mut answer = [0];
            stream.read_exact(&mut answer).await?;
            assert_eq!(&answer, b"+");
        }
        Way::Down => {
            stream.write_all(&[DOWN]).await?;
            let mut received = vec![0; len];
            stream.read_exact(&mut received).await?;
            assert!(received == content(len), "other bytes than were sent");
        }
    }
    Ok(began.elapsed())
}

/// Connects from a namespace and transfers, within `limit`; how long the transfer took.
pub(crate) fn copy(
    host: &Namespace,
    server: SocketAddr,
    config: impl Into<EndpointConfig>,
    way: Way,
    len: usize,
    limit: Duration,
) -> Duration {
    let config = config.into();
    host.block_on(move || async move {
        let copied = async {
            let mut stream = KcpStream::connect(server, config).await.unwrap();
            let took = transfer(&mut stream, way, len).await.unwrap();
            // The rest of the close is not what is measured.
            stream.abort();
            took
        };
        let within = tokio::time::timeout(limit, copied).await;
        within.unwrap_or_else(|_| panic!("{len} bytes {way:?} took more than {limit:?}"))
    })
}

const UP: u8 = b'u';
const DOWN: u8 = b'd';
