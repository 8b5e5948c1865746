//! A peer that validates at an address, leaves it, and goes on in its name from elsewhere (`docs/protocol.md` 11.1.2).

use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpConfig, KcpError};
use kcp_engine::{Command, Conv, KcpHeader, Sn, WireTs};
use kcp_netem::LinkConfig;
use tokio::time::Instant;

use crate::net::{CLIENT, Net, SERVER, addr, headers, ms, secs, segment, sleep};
use crate::wire::figure;

const CONV: u32 = 77;
const HEADERS: usize = 28;

fn segment_of(command: Command, ts: u32, sn: u32, una: u32) -> [u8; 24] {
    KcpHeader {
        conv: Conv::new(CONV),
        cmd: command.to_wire(),
        frg: 0,
        wnd: 128,
        ts: WireTs::new(ts),
        sn: Sn::new(sn),
        una: Sn::new(una),
        len: 0,
    }
    .to_bytes()
}

/// What the application of the server meets when it has sent for as long as it can.
async fn upload(server: kcp_async::KcpEndpoint) -> KcpError {
    let (stream, _) = server.accept().await.unwrap();
    loop {
        if let Err(error) = stream.send(&[7; 60_000]).await {
            return error;
        }
    }
}

/// With una moved on by what may be in flight, 52 bytes a second had 0.7 MB/s sent to the address that the peer had left,
/// without end; 7.8 kB/s had 27 MB/s. Nothing forged: 0.9 MB in all, for 30 s.
#[tokio::test(start_paused = true)]
async fn una_of_a_peer_that_left_frees_a_window() {
    let mut unforged = 0;
    for each in [None, Some(ms(1_000)), Some(ms(100)), Some(ms(7))] {
        let net = Net::new(LinkConfig::new().delay(ms(10)), 1);
        let server = net.endpoint(SERVER, EndpointConfig::from(KcpConfig::file_transfer()));
        let ended = tokio::spawn(upload(server));
        let una = download_for(&net, ms(300)).await;
        sleep(ms(1_000)).await;
        net.take_sent();
        let forged = forge_una(&net, una, each).await;
        let sent = net.take_sent();
        let reflected = sent.iter().filter(|sent| sent.from == addr(SERVER));
        let reflected: usize = reflected.map(|sent| sent.datagram.len() + HEADERS).sum();
        figure(
            &format!("una forged each {each:?} after the peer has left: {forged} bytes"),
            format!("{reflected} bytes in 60 s"),
            "no limit",
        );
        // What a dead peer is sent in 30 s, and the same again for the window that may be freed.
        match each {
            None => unforged = reflected,
            Some(_) => assert!(reflected <= 2 * unforged, "{each:?}: {reflected}"),
        }
        let error = ended.await.unwrap();
        let expected = [ConnectionError::PeerDead, ConnectionError::Undeliverable];
        assert!(
            matches!(error, KcpError::Connection(reason) if expected.contains(&reason)),
            "{error}"
        );
    }
}

/// A stock peer that asks for data and acknowledges it. Returns what it has got.
async fn download_for(net: &Net, time: Duration) -> u32 {
    let raw = net.raw(CLIENT);
    raw.send(addr(SERVER), &segment(CONV, Command::Push, 0, 0, b"GET"));
    let (mut una, end) = (0, Instant::now() + time);
    while Instant::now() < end {
        let Some(datagram) = raw.recv_within(ms(20)).await else {
            continue;
        };
        for header in headers(&datagram) {
            if header.command() == Some(Command::Push) {
                una += u32::from(header.sn.get() == una);
                let (ts, sn) = (header.ts.get(), header.sn.get());
                raw.send(addr(SERVER), &segment_of(Command::Ack, ts, sn, una));
            }
        }
    }
    una
}

/// For a minute. Returns the bytes that it took.
async fn forge_una(net: &Net, mut una: u32, each: Option<Duration>) -> usize {
    let spoof = net.spoof(CLIENT);
    let (mut forged, end) = (0, Instant::now() + secs(60));
    while Instant::now() < end {
        let Some(each) = each else {
            sleep(secs(1)).await;
            continue;
        };
        una += 128;
        spoof(addr(SERVER), &segment_of(Command::Wask, 0, 0, una));
        forged += 24 + HEADERS;
        sleep(each).await;
    }
    forged
}
