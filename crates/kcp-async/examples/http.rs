//! HTTP/1 over KCP: hyper serves and asks over a `KcpStream`, which is a stream like any other.

use std::convert::Infallible;
use std::error::Error;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use kcp_async::{KcpConfig, KcpListener, KcpStream};

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("{} over KCP\n", request.uri());
    Ok(Response::new(Full::from(text)))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // A stream of bytes, so small writes may share segments.
    let config = KcpConfig::turbo_mode().stream_mode(true);
    let listener = KcpListener::bind("127.0.0.1:0", config.clone()).await?;
    let addr = listener.local_addr();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(async move {
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service_fn(hello));
                if let Err(error) = serving.await {
                    eprintln!("{peer}: {error}");
                }
            });
        }
    });

    let stream = KcpStream::connect(addr, config).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    for path in ["/first", "/second"] {
        let request = Request::get(path)
            .header("host", "kcp.example")
            .body(Full::<Bytes>::default())?;
        sender.ready().await?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body().collect().await?.to_bytes();
        print!("{status} {}", String::from_utf8_lossy(&body));
    }
    drop(sender);
    connection.await??;
    Ok(())
}
