//! Questions on paths whose round trip is longer than the time between them: of their time stamps the last four are
//! remembered (`docs/protocol.md` 11.1, 12.4).

use kcp_async::{ConnectionError, KcpError};
use kcp_netem::LinkConfig;
use tokio::time::{Instant, timeout};

use crate::net::{CLIENT, Net, SERVER, StockPeer, addr, ms, pair_acquainted, secs, sleep};
use crate::wire::turbo;

/// A first answer that is longer than what an unvalidated peer may have waits for the validation. At 4.5 s and more it
/// never came.
#[tokio::test(start_paused = true)]
async fn a_far_stock_client_gets_its_long_first_answer() {
    for rtt in [1_000, 3_000, 4_500, 6_000] {
        let net = Net::new(LinkConfig::new().delay(ms(rtt / 2)), 1);
        let server = net.endpoint(SERVER, turbo());
        let answering = tokio::spawn(async move {
            let (stream, _) = server.accept().await.unwrap();
            stream.recv_message().await.unwrap();
            stream.send(&[1; 10_000]).await.unwrap();
            stream.recv_message().await.unwrap();
        });
        let mut client = StockPeer::new(net.raw(CLIENT), addr(SERVER), 9);
        client.engine.send(b"GET").unwrap();
        let start = Instant::now();
        let complete = client.live(secs(60), |engine| engine.peek_size() == Some(10_000));
        assert!(complete.await, "RTT {rtt} ms");
        // The request, the challenge, the answer: each with its way back.
        let took = start.elapsed();
        assert!(took < ms(4 * rtt + 1_000), "RTT {rtt} ms: {took:?}");
        client.engine.send(b"done").unwrap();
        client.live(ms(2 * rtt), |_| false).await;
        answering.await.unwrap();
    }
}

/// With keepalives closer than a quarter of the round trip the RST of a peer that gave up answered none of the last four
/// questions: 30 s.
#[tokio::test(start_paused = true)]
async fn frequent_keepalives_do_not_hide_a_reset() {
    for (keepalive, rtt) in [
        (1_000, 600),
        (100, 600),
        (100, 300),
        (200, 1_000),
        (100, 3_000),
    ] {
        let net = Net::new(LinkConfig::new().delay(ms(rtt / 2)), 1);
        let config = turbo().keepalive(Some(ms(keepalive)));
        let pair = pair_acquainted(&net, &config, &config).await;
        sleep(secs(90)).await;
        let start = Instant::now();
        pair.server.abort();
        let told = timeout(secs(700), pair.client.recv_message())
            .await
            .unwrap();
        assert!(
            matches!(told, Err(KcpError::Connection(ConnectionError::Reset))),
            "{told:?}"
        );
        // One question and its answer, and the time until the next question.
        let took = start.elapsed();
        assert!(
            took <= ms(3 * rtt + keepalive),
            "keepalive {keepalive}, RTT {rtt} ms: {took:?}"
        );
    }
}
