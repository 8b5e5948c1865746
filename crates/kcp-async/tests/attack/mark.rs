//! Forged datagrams that say of a peer that it is ours, or that it is not (`docs/protocol.md` 12.1).

use kcp_engine::Command;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, marked, ms, pair, secs, segment, sleep};
use crate::wire::{echo, turbo};

/// A WASK with the mark had a FIN sent to a peer that does not know it: the close failed after 30 s, although
/// everything had arrived.
#[tokio::test(start_paused = true)]
async fn a_forged_mark_fails_no_close_to_a_stock_peer() {
    // Before the address is validated, and after.
    for forged_at in [0, 1_000] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
        client.engine.send(b"hello").unwrap();
        let serving = tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let request = stream.recv_message().await.unwrap();
            stream.send(&request).await.unwrap();
            sleep(ms(forged_at + 1_000)).await;
            stream.send(b"bye").await.unwrap();
            let start = Instant::now();
            stream.shutdown().await.unwrap();
            start.elapsed()
        });
        client.live(ms(forged_at), |_| false).await;
        net.spoof(CLIENT)(addr(SERVER), &marked(7, Command::Wask, 0, 0));
        let mut got = 0;
        let both = |engine: &mut kcp_engine::KcpEngine| {
            got += usize::from(engine.recv(&mut [0; 100]).is_ok());
            got == 2
        };
        assert!(client.live(secs(10), both).await);
        client.live(secs(10), |_| serving.is_finished()).await;
        let took = serving.await.unwrap();
        assert!(took < secs(1), "{took:?}");
    }
}

/// And the server asked for an echo that no stock peer gives when the client began again: 51 s instead of 1.5.
#[tokio::test(start_paused = true)]
async fn a_forged_mark_keeps_no_stock_client_from_coming_back() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    echo(&server);
    let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
    client.engine.send(b"hello").unwrap();
    let answered = |engine: &mut kcp_engine::KcpEngine| engine.has_readable();
    assert!(client.live(secs(3), answered).await);
    client.live(secs(2), |_| false).await;
    net.spoof(CLIENT)(addr(SERVER), &marked(7, Command::Wask, 0, 0));
    client.live(secs(1), |_| false).await;
    drop(client);
    let mut again = StockPeer::new(net.raw(CLIENT), addr(SERVER), 7);
    again.engine.send(b"again").unwrap();
    assert!(again.live(secs(3), answered).await);
}

/// A WASK without the mark made a peer of ours that only sends look like a stock one, whose beginning shows only
/// by its repetition: two copies of the first number ended the session, and its next message was lost.
#[tokio::test(start_paused = true)]
async fn a_forged_segment_without_the_mark_ends_no_session_of_ours() {
    let net = Net::clean();
    let pair = pair(&net, turbo()).await;
    let conv = pair.server.conv().get();
    for n in 0..5 {
        pair.client.send(&[n; 10]).await.unwrap();
        pair.server.recv_message().await.unwrap();
        sleep(secs(1)).await;
    }
    sleep(secs(25)).await;
    let spoof = net.spoof(CLIENT);
    for command in [Command::Wask, Command::Wins, Command::Ack] {
        spoof(addr(SERVER), &segment(conv, command, 0, 0, b""));
    }
    sleep(secs(1)).await;
    for _ in 0..3 {
        spoof(addr(SERVER), &segment(conv, Command::Push, 0, 0, b""));
        sleep(ms(5_500)).await;
    }
    assert_eq!(pair.server.close_reason(), None);
    pair.client.send(b"still here").await.unwrap();
    let message = timeout(secs(5), pair.server.recv_message()).await;
    assert_eq!(message.unwrap().unwrap(), b"still here");
}
