//! Message mode: what one side sends in one piece, the other receives in one piece.

use std::error::Error;

use kcp_async::{BufferError, KcpConfig, KcpError, KcpListener, KcpStream};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = KcpListener::bind("127.0.0.1:0", KcpConfig::gaming()).await?;
    let client = KcpStream::connect(listener.local_addr(), KcpConfig::gaming()).await?;

    // Small ones, and one of many datagrams.
    client.send(b"move 3 4").await?;
    client.send(b"fire").await?;
    client.send(&vec![42; 100_000]).await?;

    let (server, _peer) = listener.accept().await?;
    let mut buffer = [0; 64];
    for _ in 0..2 {
        let length = server.recv(&mut buffer).await?;
        println!("{}", String::from_utf8_lossy(&buffer[..length]));
    }

    // Too small a buffer loses nothing.
    match server.recv(&mut buffer).await {
        Err(KcpError::Buffer(BufferError::TooSmall { needed })) => println!("needs {needed} bytes"),
        other => return Err(format!("unexpected: {other:?}").into()),
    }
    println!(
        "then {} bytes in one message",
        server.recv_message().await?.len()
    );

    // What no peer could ever assemble is refused at once.
    let error = client
        .send(&vec![0; client.max_message_size() + 1])
        .await
        .unwrap_err();
    println!("refused: {error}");
    Ok(())
}
