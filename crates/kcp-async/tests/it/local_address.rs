//! The local address that a session answers from until its peer is validated (`docs/protocol.md` 13.1).

use std::net::IpAddr;

use kcp_async::{EndpointConfig, KcpConfig};
use kcp_engine::Command;

use crate::net::{CLIENT, Net, SERVER, addr, marked, ms, segment, sleep};
use crate::scripted::{Scripted, SentFrom};

const CONV: u32 = 9;

fn turbo() -> EndpointConfig {
    KcpConfig::turbo_mode().into()
}

fn local(last: u8) -> Option<IpAddr> {
    Some([10, 0, 0, last].into())
}

fn all_from(sent: &[SentFrom], source: Option<IpAddr>) -> bool {
    !sent.is_empty() && sent.iter().all(|sent| sent.source == source)
}

/// A datagram to another address of the host that brings nothing new: the peer dropped all answers.
#[tokio::test(start_paused = true)]
async fn what_brings_no_new_data_moves_no_unvalidated_session() {
    for forged in [
        marked(CONV, Command::Wask, 0, 0),
        marked(CONV, Command::Wins, 0, 0),
        segment(CONV, Command::Wask, 0, 0, b""),
        segment(CONV, Command::Push, 0, 0, b"hello"),
        segment(CONV, Command::Push, u32::MAX, 0, b""),
        segment(CONV, Command::Ack, 0, 0, b""),
        segment(CONV, Command::Ack, u32::MAX, 0, b""),
    ] {
        let net = Net::clean();
        let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
        wire.script().local = local(77);
        let client = net.raw(CLIENT);
        client.send(addr(SERVER), &segment(CONV, Command::Push, 0, 0, b"hello"));
        let (accepted, _) = server.accept().await.unwrap();
        wire.script().local = local(78);
        wire.inject_datagram(CLIENT, &forged);
        sleep(ms(1)).await;
        wire.take_sent();
        accepted.send(b"answer").await.unwrap();
        assert!(all_from(&wire.take_sent(), local(77)), "{forged:?}");
        // New data does, although a forged datagram comes right behind it.
        wire.script().local = local(79);
        wire.inject_datagram(CLIENT, &segment(CONV, Command::Push, 1, 0, b"more"));
        sleep(ms(1)).await;
        wire.script().local = local(78);
        wire.inject_datagram(CLIENT, &forged);
        sleep(ms(1)).await;
        assert!(!accepted.stats().proven);
        wire.take_sent();
        accepted.send(b"answer").await.unwrap();
        assert!(all_from(&wire.take_sent(), local(79)), "{forged:?}");
    }
}

/// A later segment, forged and sooner than the first, to another address.
#[tokio::test(start_paused = true)]
async fn the_first_segment_decides_where_a_session_answers_from() {
    let net = Net::clean();
    let (server, wire) = Scripted::endpoint(&net, SERVER, turbo());
    wire.script().local = local(78);
    wire.inject_datagram(CLIENT, &segment(CONV, Command::Push, 5, 0, b"later"));
    sleep(ms(1)).await;
    wire.script().local = local(77);
    wire.inject_datagram(CLIENT, &segment(CONV, Command::Push, 0, 0, b"hello"));
    let (accepted, _) = server.accept().await.unwrap();
    accepted.send(b"answer").await.unwrap();
    assert!(all_from(&wire.take_sent(), local(77)));
}

/// The side that connects: what is forged before the server answers does not change the address it is known by.
#[tokio::test(start_paused = true)]
async fn a_connecting_session_takes_the_address_of_a_valid_answer() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let (client, wire) = Scripted::endpoint(&net, CLIENT, turbo());
    let stream = client.connect(SERVER).await.unwrap();
    stream.send(b"hello").await.unwrap();
    let conv = stream.conv().get();
    wire.script().local = local(78);
    wire.inject_datagram(SERVER, &marked(conv, Command::Wask, 0, 0));
    sleep(ms(1)).await;
    wire.take_sent();
    stream.send(b"more").await.unwrap();
    assert!(all_from(&wire.take_sent(), None));
    wire.script().local = local(77);
    let (accepted, _) = server.accept().await.unwrap();
    accepted.send(b"answer").await.unwrap();
    assert_eq!(stream.recv_message().await.unwrap(), b"answer");
    wire.take_sent();
    stream.send(b"thanks").await.unwrap();
    assert!(all_from(&wire.take_sent(), local(77)));
}
