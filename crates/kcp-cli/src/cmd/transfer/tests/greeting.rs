//! Greeting and address validation.

use super::super::session::Side;
use super::{NONCE, Scratch, against, blind_file, hello, kind, pull, push};
use crate::copy::{Frame, Reason, Role, VERSION};
use crate::error::Kind;

#[tokio::test]
async fn another_version_is_told_so() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.send(Frame::Hello {
            version: 1,
            role: Role::Sender,
            nonce: [0; 16],
        })
        .await;
        let text = peer.expect_abort(Reason::Protocol).await;
        assert!(
            text.contains("version 2") && text.contains("version 1"),
            "{text}"
        );
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
}

/// What one spoofed datagram can hold: no answer reaches its sender.
#[tokio::test]
async fn a_file_without_our_nonce_is_not_taken() {
    for confirm in [None, Some([0; 16]), Some(NONCE)] {
        let scratch = Scratch::new();
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            let mut frames = vec![hello(Role::Sender)];
            frames.extend(confirm.map(|echo| Frame::Confirm { echo }));
            frames.extend(blind_file("planted", b"x"));
            frames.push(Frame::Bye);
            peer.send_all(&frames).await;
            let text = peer.expect_abort(Reason::Protocol).await;
            assert!(text.contains("before our Welcome"), "{text}");
        })
        .await;
        assert!(!report.validated);
        assert_eq!(kind(&report), Kind::Protocol);
        assert!(scratch.names().is_empty());
    }
}

/// A blind sender that leaves time for each answer.
#[tokio::test]
async fn a_wrong_nonce_or_none_ends_the_session() {
    let echo = |nonce| Frame::Confirm { echo: nonce };
    for next in [
        echo([0; 16]),
        echo(NONCE),
        Frame::Bye,
        blind_file("planted", b"x").remove(0),
        hello(Role::Sender),
    ] {
        let scratch = Scratch::new();
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            peer.hello(Role::Sender).await;
            peer.send(next).await;
            peer.expect_abort(Reason::Protocol).await;
        })
        .await;
        assert!(!report.validated);
        assert!(scratch.names().is_empty());
    }
}

#[tokio::test]
async fn a_server_offers_nothing_before_its_nonce_comes_back() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, push(&scratch), |mut peer| async move {
        let frames = [hello(Role::Receiver), Frame::Accept, Frame::Bye];
        peer.send_all(&frames).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert!(!report.validated);
    let report = against(Side::Listening, push(&scratch), |mut peer| async move {
        let nonce = peer.hello(Role::Receiver).await;
        peer.send_all(&[Frame::Confirm { echo: nonce }, Frame::Accept])
            .await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert!(report.validated);
    assert_eq!(kind(&report), Kind::Protocol);
}

#[tokio::test]
async fn a_client_takes_no_answer_without_its_nonce() {
    let scratch = Scratch::new();
    let report = against(Side::Connecting, pull(&scratch.0), |mut peer| async move {
        let welcome = Frame::Welcome {
            version: VERSION,
            echo: [0; 16],
            nonce: NONCE,
        };
        let mut frames = vec![welcome];
        frames.extend(blind_file("planted", b"x"));
        peer.send_all(&frames).await;
        assert!(matches!(peer.next().await, Frame::Hello { .. }));
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
    assert!(scratch.names().is_empty());
}
