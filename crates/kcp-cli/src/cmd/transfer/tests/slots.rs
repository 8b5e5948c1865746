//! Sessions that wait for a slot.

use std::sync::Arc;

use super::super::admission::{Admission, Place, Slot, Ticket};
use super::super::report::SessionReport;
use super::super::session::Side;
use super::{Peer, Scratch, against, against_in, blind_file, kind, offer, pull, push};
use crate::copy::{Frame, Reason};
use crate::error::Kind;

/// Idle sessions of one host leave slots for another, and those that wait are told.
#[tokio::test]
async fn a_session_without_a_slot_waits_and_is_told() {
    let scratch = Scratch::new();
    let admission = Admission::new();
    let (_others, mut slots) = full(&admission).await;
    let report = in_line(&admission, &scratch, |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.next().await, Frame::Wait);
        slots.pop();
        assert_eq!(peer.offer("file", 7).await, Frame::Accept);
        peer.send_all(&blind_file("file", b"content")[1..]).await;
        assert!(matches!(peer.next().await, Frame::Verdict { .. }));
        peer.send(Frame::Bye).await;
        drop(slots);
    })
    .await;
    report.result().unwrap();
    assert_eq!(scratch.names(), ["file"]);
}

/// A receiver without a slot says so as soon as it knows its peer, so before the offer or after it. One of eight
/// honest senders was told that it breaks the protocol.
#[tokio::test]
async fn a_sender_may_be_told_to_wait_before_it_offers() {
    let scratch = Scratch::new();
    let report = against(Side::Connecting, push(&scratch), |mut peer| async move {
        peer.be_greeted_and(&[Frame::Wait, Frame::Wait]).await;
        assert_eq!(peer.next().await, offer("file", 7));
        peer.send(Frame::Wait).await;
        let text = String::new();
        let reason = Reason::TooMany;
        peer.send(Frame::Decline { reason, text }).await;
        assert_eq!(peer.next().await, Frame::Bye);
    })
    .await;
    assert_eq!(kind(&report), Kind::Refused);
}

/// Only the side that has the slots sends Wait: a sender that repeated it kept its slot without a file, for ever.
#[tokio::test]
async fn a_peer_with_a_slot_may_not_have_us_wait() {
    let scratch = Scratch::new();
    let admission = Admission::new();
    let report = in_line(&admission, &scratch, |mut peer| async move {
        peer.greet_as_sender().await;
        peer.send(Frame::Wait).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
}

#[tokio::test]
async fn a_session_that_waits_cannot_fill_memory() {
    let scratch = Scratch::new();
    let admission = Admission::new();
    let _full = full(&admission).await;
    let report = in_line(&admission, &scratch, |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.next().await, Frame::Wait);
        peer.send_all(&blind_file("file", &[0; 10_000])).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
    let mut busy = Vec::new();
    busy.extend(std::iter::from_fn(|| place(&admission).enter()));
    let report = in_line(&admission, &scratch, |mut peer| async move {
        peer.greet_as_sender().await;
        peer.expect_abort(Reason::Busy).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Refused);
    assert!(scratch.names().is_empty());
}

/// A place in the line, always for the same host.
fn place(admission: &Arc<Admission>) -> Place {
    Place::new(admission, "192.0.2.1".parse().unwrap())
}

/// As many sessions as a host has slots, and their slots.
async fn full(admission: &Arc<Admission>) -> (Vec<Ticket>, Vec<Slot>) {
    let others: Vec<_> = (0..8).map(|_| place(admission).enter().unwrap()).collect();
    let mut slots = Vec::new();
    for ticket in &others {
        slots.push(ticket.slot().await);
    }
    (others, slots)
}

/// A receiving session of the same host against `script`.
async fn in_line<F>(
    admission: &Arc<Admission>,
    scratch: &Scratch,
    script: impl FnOnce(Peer) -> F,
) -> SessionReport
where
    F: Future<Output = ()>,
{
    let place = Some(place(admission));
    against_in(place, Side::Listening, pull(&scratch.0), script).await
}
