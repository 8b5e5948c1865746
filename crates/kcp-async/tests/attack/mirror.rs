//! Datagrams that make listeners talk to each other, or one to itself (`docs/protocol.md` 12.1, 13.1).

use kcp_async::{EndpointConfig, KcpConfig};
use kcp_engine::Command;

use crate::net::{CLIENT, Net, SERVER, addr, bytes, pair_acquainted, secs, segment, sleep};
use crate::wire::{echo, figure, turbo};

fn request(len: usize) -> Vec<u8> {
    segment(9, Command::Push, 0, 0, &bytes(len))
}

fn configs() -> [EndpointConfig; 3] {
    [
        turbo(),
        KcpConfig::file_transfer().into(),
        KcpConfig::normal().into(),
    ]
}

/// One datagram to each of two echo servers, in the name of the other. Their answers were new data, and
/// validated both by true ACKs: 190,822 packets in 4 s, without end.
#[tokio::test(start_paused = true)]
async fn two_listeners_do_not_talk_to_each_other() {
    let mut most = 0;
    for config in configs() {
        for len in [1, 40, 76, 77, 300, 1_376] {
            let net = Net::clean();
            let (left, right) = (
                net.endpoint(SERVER, config.clone()),
                net.endpoint(CLIENT, config.clone()),
            );
            echo(&left);
            echo(&right);
            net.spoof(CLIENT)(addr(SERVER), &request(len));
            net.spoof(SERVER)(addr(CLIENT), &request(len));
            sleep(secs(30)).await;
            let sent = net.take_sent();
            most = most.max(sent.len());
            assert!(
                sent.len() <= 40,
                "{} datagrams after {len} bytes",
                sent.len()
            );
            assert_eq!((left.stats().sessions, right.stats().sessions), (0, 0));
        }
    }
    figure(
        "one forged first datagram to each of two echo servers, in the name of the other: datagrams of both",
        most,
        "no end",
    );
}

/// The same with other commands in the forged datagrams, and repeated.
#[tokio::test(start_paused = true)]
async fn forged_sessions_of_two_listeners_are_not_validated() {
    for command in [Command::Wask, Command::Wins, Command::Ack] {
        let net = Net::clean();
        let (left, right) = (net.endpoint(SERVER, turbo()), net.endpoint(CLIENT, turbo()));
        echo(&left);
        echo(&right);
        let datagram = [request(300), segment(9, command, 0, 0, b"")].concat();
        for _ in 0..20 {
            net.spoof(CLIENT)(addr(SERVER), &datagram);
            net.spoof(SERVER)(addr(CLIENT), &datagram);
            sleep(secs(1)).await;
        }
        sleep(secs(30)).await;
        let sent = net.take_sent().len();
        assert!(sent <= 20 * 40, "{sent} datagrams");
        assert_eq!((left.stats().sessions, right.stats().sessions), (0, 0));
    }
}

/// A datagram whose source is the endpoint's own address is dropped before any state.
#[tokio::test(start_paused = true)]
async fn an_endpoint_does_not_talk_to_itself() {
    for config in configs() {
        let net = Net::clean();
        let server = net.endpoint(SERVER, config);
        let delivered = echo(&server);
        for len in [1, 76, 300, 1_376] {
            net.spoof(SERVER)(addr(SERVER), &request(len));
        }
        sleep(secs(30)).await;
        assert_eq!(net.take_sent().len(), 0);
        assert_eq!(server.stats().dropped_source, 4);
        assert_eq!(delivered.load(std::sync::atomic::Ordering::Relaxed), 0);
    }
}

/// The accepting side shows it in the mark. Such a mark ends no validated session.
#[tokio::test(start_paused = true)]
async fn a_mark_of_the_accepting_side_ends_no_validated_session() {
    let net = Net::clean();
    let pair = pair_acquainted(&net, &turbo(), &turbo()).await;
    let conv = pair.server.conv().get();
    for command in [Command::Ack, Command::Wask, Command::Wins] {
        let mut forged = segment(conv, command, 0, 0, b"");
        forged[5] = 0xA5;
        net.spoof(CLIENT)(addr(SERVER), &forged);
        net.spoof(SERVER)(addr(CLIENT), &forged);
    }
    sleep(secs(1)).await;
    pair.client.send(b"still here").await.unwrap();
    assert_eq!(pair.server.recv_message().await.unwrap(), b"still here");
}
