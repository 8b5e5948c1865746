//! Many clients on one server socket, each with a session of its own.
//!
//! ```text
//! cargo run --release -p kcp-async --example many -- 1000
//! ```

use std::error::Error;
use std::time::{Duration, Instant};

use kcp_async::{EndpointConfig, KcpConfig, KcpEndpoint, KcpListener};
use tokio::task::JoinSet;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let clients: usize = std::env::args().nth(1).map_or(Ok(200), |arg| arg.parse())?;

    // Both sides are this crate, so the clients may share one port. Towards any other server each
    // would need a socket of its own: `KcpStream::connect`.
    let config = EndpointConfig::new(KcpConfig::turbo_mode())
        .accept_backlog(clients)
        .per_source_limit(clients)
        .allow_shared_remote(true);
    let listener = KcpListener::bind("127.0.0.1:0", &config).await?;
    let server = listener.local_addr();
    let endpoint = KcpEndpoint::bind("127.0.0.1:0", &config).await?;

    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut message = [0; 1_024];
                while let Ok(length @ 1..) = stream.recv(&mut message).await {
                    if stream.send(&message[..length]).await.is_err() {
                        return;
                    }
                }
            });
        }
    });

    let mut tasks = JoinSet::new();
    for n in 0..clients {
        let stream = endpoint.connect(server).await?;
        tasks.spawn(async move {
            let mut slowest = Duration::ZERO;
            for round in 0..5_u32 {
                let start = Instant::now();
                stream
                    .send(format!("client {n} round {round}").as_bytes())
                    .await?;
                let answer = stream.recv_message().await?;
                assert_eq!(answer, format!("client {n} round {round}").as_bytes());
                slowest = slowest.max(start.elapsed());
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            Ok::<_, kcp_async::KcpError>(slowest)
        });
    }
    let mut slowest = Duration::ZERO;
    while let Some(result) = tasks.join_next().await {
        slowest = slowest.max(result??);
    }
    println!("{clients} clients, 5 round trips each, the slowest took {slowest:?}");
    println!("{:#?}", endpoint.stats());
    Ok(())
}
