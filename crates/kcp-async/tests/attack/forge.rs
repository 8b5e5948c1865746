//! Forgeries towards a session that exists (`docs/protocol.md` 11.1, 11.2, 12.4).
//!
//! The attacker sends from the address of either side. It does not read the traffic; where a test
//! says so it knows the conversation id, which it would have to guess one in four thousand million.

use kcp_engine::{Command, Conv, KcpHeader, Sn, WireTs};

use crate::net::{
    CLIENT, Net, Pair, SERVER, addr, marked, ms, pair_acquainted, secs, segment, sleep,
};
use crate::wire::{Guess, echo, figure, turbo};

/// Both sides still hear each other, at once.
async fn unharmed(pair: &Pair) {
    for n in 0..10_u8 {
        let start = tokio::time::Instant::now();
        pair.client.send(&[n; 50]).await.unwrap();
        assert_eq!(pair.server.recv_message().await.unwrap(), [n; 50]);
        pair.server.send(&[n; 60]).await.unwrap();
        assert_eq!(pair.client.recv_message().await.unwrap(), [n; 60]);
        assert_eq!(start.elapsed(), ms(20), "one round trip, nothing resent");
    }
}

async fn acquainted(net: &Net) -> Pair {
    pair_acquainted(net, &turbo(), &turbo()).await
}

fn header(conv: u32, command: Command, wnd: u16, ts: u32, sn: u32, una: u32) -> [u8; 24] {
    KcpHeader {
        conv: Conv::new(conv),
        cmd: command.to_wire(),
        frg: 0,
        wnd,
        ts: WireTs::new(ts),
        sn: Sn::new(sn),
        una: Sn::new(una),
        len: 0,
    }
    .to_bytes()
}

/// One spoofed datagram with a wrong conv and sn 0 kills a session of kcp-go. Here every command,
/// thousands of convs, both directions, opened sessions included: nothing.
#[tokio::test(start_paused = true)]
async fn a_wrong_conv_kills_nothing() {
    let net = Net::clean();
    let pair = acquainted(&net).await;
    let (to_server, to_client) = (net.spoof(CLIENT), net.spoof(SERVER));
    let commands = [
        Command::Push,
        Command::Ack,
        Command::Wask,
        Command::Wins,
        Command::Fin,
        Command::Rst,
    ];
    let mut guess = Guess::new(1);
    let mut sent = 0;
    for _ in 0..500 {
        let conv = guess.next();
        if conv == pair.client.conv().get() {
            continue;
        }
        for command in commands {
            for datagram in [
                segment(conv, command, 0, 0, b"x"),
                marked(conv, command, 0, 0),
            ] {
                to_server(addr(SERVER), &datagram);
                to_client(addr(CLIENT), &datagram);
                sent += 2;
            }
        }
        sleep(ms(1)).await;
    }
    unharmed(&pair).await;
    sleep(secs(11)).await;
    unharmed(&pair).await;
    assert_eq!(
        pair.server_endpoint.stats().sessions,
        1,
        "the forged are gone"
    );
    assert_eq!(pair.client.stats().engine.dropped_wrong_conv, 0);
    figure(
        "spoofed segments with wrong convs, sn 0: sessions killed",
        format!("0 of 1 by {sent} datagrams"),
        "1 of 1 by 1 datagram",
    );
}

/// ACKs for data in flight with guessed time stamps free nothing, close no window, teach no RTT.
#[tokio::test(start_paused = true)]
async fn forged_acks_of_a_known_conv_do_nothing() {
    let net = Net::clean();
    let pair = acquainted(&net).await;
    let conv = pair.server.conv().get();
    let spoof = net.spoof(CLIENT);
    let before = pair.server.stats().engine;
    // Hold the data in flight: the client does not get it yet.
    net.cut(SERVER, CLIENT, true);
    for n in 0..20_u8 {
        pair.server.send(&[n; 500]).await.unwrap();
    }
    net.cut(SERVER, CLIENT, false);
    let in_flight = pair.server.stats().engine.in_flight_segments;
    assert_eq!(in_flight, 20);
    let mut guess = Guess::new(2);
    let mut sent = 0_u64;
    for _ in 0..100 {
        // sn 0 was the welcome; 1 to 20 are in flight.
        for sn in 1..=20 {
            let datagram = header(conv, Command::Ack, 0, guess.next(), sn, 21);
            spoof(addr(SERVER), &datagram);
            sent += 1;
        }
    }
    sleep(ms(15)).await;
    let after = pair.server.stats().engine;
    assert_eq!(after.in_flight_segments, 20, "nothing was freed");
    assert_eq!(after.ignored_invalid_ack - before.ignored_invalid_ack, sent);
    assert_eq!(
        (after.smoothed_rtt, after.rto, after.remote_window),
        (before.smoothed_rtt, before.rto, before.remote_window)
    );
    for n in 0..20_u8 {
        assert_eq!(pair.client.recv_message().await.unwrap(), [n; 500]);
    }
    sleep(secs(1)).await;
    unharmed(&pair).await;
    figure(
        "forged ACKs for data in flight, conv known: data freed, srtt, rto, window",
        format!("{sent} ACKs: 0 bytes, unchanged, unchanged, unchanged"),
        "1 ACK: all of it, srtt 50 s, rto 60 s, sender stopped (C)",
    );
}

/// una and wnd by segments that carry no proof. What a conv's knower can do is bounded in time: a
/// closed window is asked about after half a second.
#[tokio::test(start_paused = true)]
async fn impossible_una_is_ignored_and_a_forged_window_is_asked_about() {
    let net = Net::clean();
    let pair = acquainted(&net).await;
    let conv = pair.server.conv().get();
    let spoof = net.spoof(CLIENT);
    let before = pair.server.stats().engine;
    let mut guess = Guess::new(3);
    let mut impossible = 0;
    for _ in 0..1_000 {
        // The server has sent one segment; half of all numbers are after it.
        let una = guess.next();
        if (2..0x8000_0000).contains(&una) {
            spoof(addr(SERVER), &header(conv, Command::Wins, 0, 0, 0, una));
            impossible += 1;
        }
    }
    sleep(ms(20)).await;
    let after = pair.server.stats().engine;
    assert_eq!(
        after.ignored_invalid_una - before.ignored_invalid_una,
        impossible
    );
    assert_eq!(after.remote_window, before.remote_window);

    // A plausible una, and a window of nothing.
    spoof(addr(SERVER), &header(conv, Command::Wins, 0, 0, 0, 1));
    sleep(ms(20)).await;
    assert_eq!(pair.server.stats().engine.remote_window, 0);
    let start = tokio::time::Instant::now();
    pair.server.send(b"behind a closed window").await.unwrap();
    let message = pair.client.recv_message().await.unwrap();
    assert_eq!(message, b"behind a closed window");
    let stall = start.elapsed();
    // 7.3 and 11.5: a wait of 500 ms, then half as much again, to the next tick; there and back,
    // and the data's own way.
    assert!(stall <= ms(500 + 750 + 10 + 10 + 20 + 10), "{stall:?}");
    figure(
        "one forged WINS with wnd 0, conv known: the sender stops for",
        format!("{stall:?}"),
        "stops (C; its first probe after 7 s)",
    );
}

/// RSTs that answer no question of ours: none of a million, with all that is not secret right.
#[tokio::test(start_paused = true)]
async fn blind_resets_reset_nothing() {
    let net = Net::clean();
    let pair = acquainted(&net).await;
    let conv = pair.server.conv().get();
    let spoof = net.spoof(CLIENT);
    let mut guess = Guess::new(4);
    let mut sent = 0_u64;
    for _ in 0..250 {
        let mut datagram = Vec::new();
        for _ in 0..58 {
            let mut rst = header(conv, Command::Rst, 0, guess.next(), u32::MAX, 0);
            rst[5] = kcp_engine::CLOSE_MARK;
            datagram.extend_from_slice(&rst);
            sent += 1;
        }
        spoof(addr(SERVER), &datagram);
    }
    sleep(ms(100)).await;
    let ignored = pair.server.stats().engine.ignored_invalid_reset;
    assert_eq!(ignored, sent);
    unharmed(&pair).await;
    figure(
        "blind RSTs, conv known: sessions reset",
        format!("0 by {sent}"),
        "no RST exists",
    );
}

/// A blind FIN needs the conv and a number in the window. With a wrong conv it does nothing, and
/// outside the window it is not even acknowledged.
#[tokio::test(start_paused = true)]
async fn blind_fins_end_nothing() {
    let net = Net::clean();
    let pair = acquainted(&net).await;
    let conv = pair.server.conv().get();
    let spoof = net.spoof(CLIENT);
    let mut guess = Guess::new(5);
    let window = 1_024;
    let mut sent = 0;
    net.take_sent();
    for _ in 0..10_000 {
        let sn = guess.next();
        // Two numbers were used; a hit in the window behind them is the one in four million.
        let next = 2;
        let ahead = sn.wrapping_sub(next) as i32;
        if (-65_536..window).contains(&ahead) {
            continue;
        }
        spoof(addr(SERVER), &marked(conv, Command::Fin, sn, 0));
        spoof(
            addr(SERVER),
            &marked(conv.wrapping_add(1), Command::Fin, 2, 0),
        );
        sent += 2;
    }
    sleep(ms(100)).await;
    assert_eq!(net.take_sent().len(), 0, "not a word in answer");
    unharmed(&pair).await;
    figure(
        "blind FINs, conv or sn wrong: streams ended, answers",
        format!("0, 0 by {sent}"),
        "no FIN exists",
    );
}

/// Guessing time stamps towards a session that is not proven yet ends at the 64th guess: the
/// chance of a hit is 64 in 2^32.
#[tokio::test(start_paused = true)]
async fn guessing_a_proof_ends_at_the_64th() {
    let net = Net::clean();
    let server = net.endpoint(SERVER, turbo());
    let spoof = net.spoof("10.0.0.77:7");
    spoof(addr(SERVER), &segment(5, Command::Push, 0, 0, &[0; 100]));
    let (stream, _) = server.accept().await.unwrap();
    stream.send(&[1; 50]).await.unwrap();
    let mut guess = Guess::new(6);
    for _ in 0..63 {
        spoof(
            addr(SERVER),
            &header(5, Command::Ack, 128, guess.next(), 0, 0),
        );
        sleep(ms(1)).await;
    }
    sleep(ms(20)).await;
    assert_eq!(stream.close_reason(), None);
    assert!(!stream.stats().proven);
    spoof(
        addr(SERVER),
        &header(5, Command::Ack, 128, guess.next(), 0, 0),
    );
    sleep(ms(20)).await;
    let reason = stream.close_reason().unwrap();
    assert!(
        matches!(reason, kcp_async::ConnectionError::Protocol(_)),
        "{reason}"
    );
    figure(
        "guesses of a proof before the session ends",
        "64 (chance 1.5e-8)",
        "no such proof",
    );
}

/// The conv is known, and the client has not heard the server yet: an answer that arrives earlier would end it.
#[tokio::test(start_paused = true)]
async fn forged_acks_end_no_connecting_session() {
    for singly in [false, true] {
        let net = Net::clean();
        let server = net.endpoint(SERVER, turbo());
        echo(&server);
        let endpoint = net.endpoint(CLIENT, turbo());
        let client = endpoint.connect(SERVER).await.unwrap();
        client.send(b"hello").await.unwrap();
        let conv = client.conv().get();
        let acks = (0..64).map(|_| segment(conv, Command::Ack, 0, 0, b""));
        let datagrams: Vec<Vec<u8>> = match singly {
            true => acks.collect(),
            false => vec![acks.flatten().collect()],
        };
        let spoof = net.spoof(SERVER);
        for datagram in &datagrams {
            spoof(addr(CLIENT), datagram);
        }
        assert_eq!(client.recv_message().await.unwrap(), b"hello");
        assert_eq!(client.stats().engine.ignored_invalid_ack, 64);
    }
}
