//! Files and their hashes, and frames out of order.

use std::fs;

use super::super::link::LinkError;
use super::super::session::Side;
use super::{Scratch, against, blind_file, data, end, kind, offer, pull, push};
use crate::copy::{Frame, Outcome, Reason};
use crate::error::Kind;

#[tokio::test]
async fn a_wrong_hash_is_a_mismatch_and_nothing_is_kept() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 3).await, Frame::Accept);
        peer.send(data(&[1, 2, 3])).await;
        peer.send(Frame::End {
            size: 3,
            hash: [0; 32],
        })
        .await;
        let verdict = peer.next().await;
        let Frame::Verdict { outcome, hash, .. } = verdict else {
            panic!("{verdict:?}")
        };
        assert_eq!(outcome, Outcome::Mismatch);
        assert_eq!(hash, *blake3::hash(&[1, 2, 3]).as_bytes());
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Mismatch);
    assert!(scratch.names().is_empty());
}

#[tokio::test]
async fn more_data_than_announced_ends_the_session() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 3).await, Frame::Accept);
        peer.send(data(&[0; 4])).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
    assert!(scratch.names().is_empty());
}

#[tokio::test]
async fn a_name_that_gets_taken_meanwhile_is_not_replaced() {
    let scratch = Scratch::new();
    let target = scratch.0.join("file");
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 0).await, Frame::Accept);
        fs::write(&target, "mine").unwrap();
        peer.send(end(b"")).await;
        peer.expect_verdict(Outcome::NotStored).await;
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Local);
    assert_eq!(scratch.names(), ["file"]);
    assert_eq!(fs::read_to_string(scratch.0.join("file")).unwrap(), "mine");
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 100).await, Frame::Accept);
        peer.send(data(&[0; 10])).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Lost);
    assert!(scratch.names().is_empty());
}

#[tokio::test]
async fn a_sender_believes_only_an_equal_hash() {
    let scratch = Scratch::new();
    let job = push(&scratch);
    let report = against(Side::Connecting, job, |mut peer| async move {
        peer.be_greeted().await;
        assert_eq!(peer.next().await, offer("file", 7));
        peer.send(Frame::Accept).await;
        assert_eq!(peer.next().await, data(b"content"));
        assert_eq!(peer.next().await, end(b"content"));
        let outcome = Outcome::Stored;
        peer.send(Frame::Verdict {
            outcome,
            hash: [0; 32],
            text: String::new(),
        })
        .await;
        assert_eq!(peer.next().await, Frame::Bye);
        assert!(matches!(peer.inbound.next().await, Err(LinkError::Eof)));
    })
    .await;
    assert_eq!(kind(&report), Kind::Mismatch);
}

#[tokio::test]
async fn a_receiver_that_answers_out_of_order_is_told_so() {
    let scratch = Scratch::new();
    let job = push(&scratch);
    let report = against(Side::Connecting, job, |mut peer| async move {
        peer.be_greeted().await;
        peer.next().await;
        peer.send(Frame::Bye).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
}

#[tokio::test]
async fn frames_that_came_before_their_cause_end_the_session_and_write_nothing() {
    let file = blind_file("early", b"content");
    for frames in [
        &file[..2],                               // data before Accept
        &[&file[..], &[Frame::Bye]].concat()[..], // all of it
        &[file[0].clone(), Frame::Bye][..],       // an end before the decision
        &[file[0].clone(), file[0].clone()][..],  // two offers
    ] {
        let scratch = Scratch::new();
        let frames = frames.to_vec();
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            peer.greet_as_sender().await;
            peer.send_all(&frames).await;
            peer.expect_abort(Reason::Protocol).await;
        })
        .await;
        assert_eq!(kind(&report), Kind::Protocol);
        assert!(scratch.names().is_empty());
    }
    for last in [Frame::Bye, file[0].clone()] {
        let scratch = Scratch::new();
        let mut frames = file[1..].to_vec();
        frames.push(last);
        let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
            peer.greet_as_sender().await;
            assert_eq!(peer.offer("early", 7).await, Frame::Accept);
            peer.send_all(&frames).await;
            peer.expect_abort(Reason::Protocol).await;
        })
        .await;
        assert_eq!(kind(&report), Kind::Protocol);
        assert!(scratch.names().is_empty(), "Bye before the verdict");
    }
}
