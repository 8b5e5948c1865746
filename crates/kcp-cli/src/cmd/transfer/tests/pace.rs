//! Peers that stall.

use std::time::Duration;

use super::super::link::LinkError;
use super::super::session::Side;
use super::{Scratch, against, blind_file, kind, offer, pull};
use crate::copy::{Frame, Reason, Role};
use crate::error::Kind;

/// A peer that never reads, and offers until what it is answered fills the stream: the next answer waited for room,
/// without end. The other answers, offers and ends of files are sent in the same way.
#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_nothing_is_given_up() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        for _ in 0..60_000 {
            peer.send(offer("/", 1)).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_secs(60)).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Lost);
    let text = report.result().unwrap_err().to_string();
    assert!(text.contains("nothing new for 30 s"), "{text}");
}

/// The clock stands still but for what `advance` does, and for waits while nothing else can happen.
#[tokio::test(start_paused = true)]
async fn a_peer_that_stalls_is_given_up() {
    // No greeting at all; a nonce that is never repeated.
    for half in [false, true] {
        let scratch = Scratch::new();
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            if half {
                peer.hello(Role::Sender).await;
            }
            assert!(matches!(peer.inbound.next().await, Err(LinkError::Eof)));
        })
        .await;
        assert_eq!(kind(&report), Kind::Absent);
    }
    // Nothing after the greeting, or an offer that is never complete.
    for part in [false, true] {
        let scratch = Scratch::new();
        let start = tokio::time::Instant::now();
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            peer.greet_as_sender().await;
            let mut bytes = Vec::new();
            if part {
                blind_file("name", b"x")[0].encode(&mut bytes);
            }
            // A byte every 8 s: all of it would take longer.
            let trickle = async {
                for byte in bytes {
                    peer.outbound.write_raw(&[byte]).await;
                    tokio::time::sleep(Duration::from_secs(8)).await;
                }
                std::future::pending::<()>().await;
            };
            let told = tokio::select! {
                told = peer.inbound.next() => told,
                () = trickle => unreachable!(),
            };
            let Ok(Frame::Abort { reason, .. }) = told else {
                panic!("{told:?}")
            };
            let after = start.elapsed().as_secs();
            assert_eq!((reason, after), (Reason::Stalled, 30));
        })
        .await;
        assert_eq!(kind(&report), Kind::Lost);
        assert!(scratch.names().is_empty());
    }
}
