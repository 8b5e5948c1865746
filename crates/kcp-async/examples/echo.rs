//! An echo server and a client, as streams of bytes.
//!
//! ```text
//! cargo run -p kcp-async --example echo                          both in one process
//! cargo run -p kcp-async --example echo -- server 127.0.0.1:4000
//! cargo run -p kcp-async --example echo -- client 127.0.0.1:4000
//! ```

use std::error::Error;

use kcp_async::{KcpConfig, KcpListener, KcpStream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => {
            let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::turbo_mode()).await?;
            let addr = listener.local_addr().to_string();
            tokio::select! {
                result = serve(listener) => result,
                result = talk(&addr) => result,
            }
        }
        ["server", addr] => serve(KcpListener::bind(addr, KcpConfig::turbo_mode()).await?).await,
        ["client", addr] => talk(addr).await,
        _ => Err("usage: echo [server ADDR | client ADDR]".into()),
    }
}

async fn serve(listener: KcpListener) -> Result<(), Box<dyn Error>> {
    println!("listening on {}", listener.local_addr());
    loop {
        let (stream, peer) = listener.accept().await?;
        println!("{peer} conv {} accepted", stream.conv());
        tokio::spawn(async move {
            let (mut read, mut write) = stream.into_split();
            let outcome = tokio::io::copy(&mut read, &mut write).await;
            // A peer of this crate gets an end of stream; to a stock one this only waits until
            // everything is acknowledged.
            let closed = write.shutdown().await;
            println!("{peer} echoed {outcome:?}, closed {closed:?}");
        });
    }
}

async fn talk(addr: &str) -> Result<(), Box<dyn Error>> {
    let mut stream = KcpStream::connect(addr, KcpConfig::turbo_mode()).await?;
    stream.write_all(b"hello over KCP").await?;
    stream.shutdown().await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    println!("{answer:?} after {:?}", stream.stats().engine.smoothed_rtt);
    Ok(())
}
