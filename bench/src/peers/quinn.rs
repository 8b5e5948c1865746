//! quinn 0.11: QUIC, encrypted, one bidirectional stream per connection.
//!
//! Its flow control gets as many bytes as KCP's window has, its datagrams are 1400 bytes, and each server makes a
//! certificate of its own that clients do not look at.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::join;

use super::{Acceptor, BoxStream, Connector, Pending, sockets};
use crate::content::SEGMENT;
use crate::protocol::Task;

/// The name in the certificate.
const NAME: &str = "localhost";

pub(super) fn bind(task: &Task) -> io::Result<Box<dyn Acceptor>> {
    let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).map_err(io::Error::other)?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let mut config = ServerConfig::with_single_cert(vec![made.cert.into()], key.into())
        .map_err(io::Error::other)?;
    config.transport_config(Arc::new(transport(task)));
    Ok(Box::new(endpoint(task, Some(config))?))
}

pub(super) fn connector(task: &Task) -> io::Result<Arc<dyn Connector>> {
    let provider = Arc::new(ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let quic = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(quic));
    config.transport_config(Arc::new(transport(task)));
    let mut endpoint = endpoint(task, None)?;
    endpoint.set_default_client_config(config);
    Ok(Arc::new(Client(endpoint)))
}

struct Client(Endpoint);

impl Acceptor for Endpoint {
    fn address(&self) -> io::Result<SocketAddr> {
        self.local_addr()
    }

    fn accept(&mut self) -> Pending<'_, BoxStream> {
        Box::pin(async {
            let incoming = Self::accept(self).await;
            let incoming = incoming.ok_or_else(|| io::Error::other("the endpoint is closed"))?;
            let (send, recv) = incoming.await?.accept_bi().await?;
            Ok(Box::new(join(recv, send)) as BoxStream)
        })
    }
}

impl Connector for Client {
    fn connect(&self, server: SocketAddr) -> Pending<'_, BoxStream> {
        Box::pin(async move {
            let connecting = self.0.connect(server, NAME).map_err(io::Error::other)?;
            let (send, recv) = connecting.await?.open_bi().await?;
            Ok(Box::new(join(recv, send)) as BoxStream)
        })
    }
}

fn endpoint(task: &Task, server: Option<ServerConfig>) -> io::Result<Endpoint> {
    let socket = sockets::udp(task)?;
    Endpoint::new(
        EndpointConfig::default(),
        server,
        socket,
        Arc::new(TokioRuntime),
    )
}

fn transport(task: &Task) -> TransportConfig {
    let bytes = task.window * SEGMENT as u32;
    let mut config = TransportConfig::default();
    config
        .receive_window(VarInt::from_u32(bytes))
        .stream_receive_window(VarInt::from_u32(bytes))
        .send_window(bytes.into())
        .initial_mtu(1_400)
        .mtu_discovery_config(None)
        .max_idle_timeout(None);
    config
}

/// Takes any certificate: this is a measurement, not a connection to anyone.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
