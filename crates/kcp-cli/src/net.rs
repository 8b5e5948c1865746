//! Opening KCP streams and listeners, with errors a user can act on.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use kcp_async::{ConnectionError, Conv, EndpointConfig, KcpError, KcpListener, KcpStream};
use serde::Serialize;

use crate::error::{Failure, Kind};
use crate::progress::Console;

/// Everything about the transport that flags decide.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    /// The endpoint's settings, protocol included, already validated.
    pub(crate) endpoint: EndpointConfig,
    /// What the settings started from.
    pub(crate) preset: &'static str,
    /// One write is one message, instead of a stream of bytes.
    pub(crate) message_mode: bool,
    /// How long a peer may be silent before it counts as absent.
    pub(crate) connect_timeout: Duration,
    /// A fixed conversation id, for peers that have one.
    pub(crate) conversation: Option<u32>,
}

#[derive(Serialize)]
struct Listening {
    event: &'static str,
    address: SocketAddr,
}

/// Opens a stream. Sends nothing: KCP has no handshake, so an absent peer shows only when
/// it fails to answer.
pub(crate) async fn connect(peer: &str, transport: &Transport) -> Result<KcpStream, Failure> {
    let endpoint = transport.endpoint.clone();
    let result = match transport.conversation {
        Some(conv) => KcpStream::connect_with_conv(peer, Conv::new(conv), endpoint).await,
        None => KcpStream::connect(peer, endpoint).await,
    };
    result.map_err(|error| opening(format_args!("cannot reach {peer}"), error))
}

/// Binds a listener, says where it listens and, once, what plain KCP does not do.
///
/// The line on standard output is for programs as much as for people: it holds the port
/// that was bound when the caller asked for port 0.
pub(crate) async fn listen(
    address: &str,
    transport: &Transport,
    console: &Console,
    json: bool,
) -> Result<KcpListener, Failure> {
    let listener = KcpListener::bind(address, transport.endpoint.clone())
        .await
        .map_err(|error| opening(format_args!("cannot listen on {address}"), error))?;
    let bound = listener.local_addr();
    if json {
        let listening = Listening {
            event: "listening",
            address: bound,
        };
        console.result(&serde_json::to_string(&listening).unwrap_or_default());
    } else {
        console.result(&format!("listening on {bound}"));
    }
    console.note(PLAIN_KCP);
    Ok(listener)
}

/// An error of a stream in use. `answered` tells an absent peer from a lost one.
pub(crate) fn stream_failure(
    peer: &dyn std::fmt::Display,
    answered: bool,
    error: &io::Error,
) -> Failure {
    if !answered && is_unreachable(error) {
        Failure::new(Kind::Address, format!("{peer}: {error}"))
    } else if answered {
        Failure::new(Kind::Lost, format!("lost {peer}: {error}"))
    } else {
        Failure::new(Kind::Absent, format!("no answer from {peer}: {error}"))
    }
}

/// Whether the system has no way to the peer.
fn is_unreachable(error: &io::Error) -> bool {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    matches!(
        cause,
        Some(KcpError::Connection(ConnectionError::Unreachable(_)))
    )
}

/// Nobody answered in time.
pub(crate) fn absent(peer: &dyn std::fmt::Display, waited: Duration) -> Failure {
    let seconds = waited.as_secs_f64();
    Failure::new(
        Kind::Absent,
        format!(
            "no answer from {peer} within {seconds} s: is anybody listening there, and speaking KCP?"
        ),
    )
}

fn opening(what: std::fmt::Arguments<'_>, error: KcpError) -> Failure {
    match error {
        KcpError::Config(error) => Failure::new(Kind::Usage, error.to_string()),
        error => Failure::new(Kind::Address, format!("{what}: {error}")),
    }
}

const PLAIN_KCP: &str = "note: plain KCP does not encrypt and does not know its peer: whoever \
reaches this port can use it, and whoever sees the traffic can read it";
