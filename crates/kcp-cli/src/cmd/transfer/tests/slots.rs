//! Sessions that wait for a slot.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::super::admission::{Admission, Place, Slot, Ticket};
use super::super::prepare;
use super::super::report::SessionReport;
use super::super::session::{Job, Side};
use super::{Peer, Scratch, against, against_in, blind_file, kind, offer, pull, push};
use crate::copy::{Frame, Reason, Role};
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

#[tokio::test]
async fn a_listener_may_not_have_us_wait_without_end() {
    for role in [Role::Sender, Role::Receiver] {
        let scratch = Scratch::new();
        let job = match role {
            Role::Sender => push(&scratch),
            Role::Receiver => pull(&scratch.0),
        };
        let report = against(Side::Connecting, job, |mut peer| async move {
            peer.be_greeted().await;
            peer.send_all(&vec![Frame::Wait; 1_000]).await;
            if role == Role::Sender {
                assert_eq!(peer.next().await, offer("file", 7));
            }
            peer.expect_abort(Reason::Protocol).await;
        })
        .await;
        assert_eq!(kind(&report), Kind::Protocol);
    }
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

/// Offers that are declined, or declines, every 25 s, cost next to nothing: 1.6 kB/s from eight hosts held all slots, for
/// weeks. Who waits for a slot gets it after `stall`; without anyone who waits such a session goes on.
#[tokio::test(start_paused = true)]
async fn a_slot_that_others_wait_for_is_not_held_for_nothing() {
    for pulls in [true, false] {
        let scratch = Scratch::new();
        let job = match pulls {
            true => pull(&scratch.0),
            false => many(&scratch, 100),
        };
        let admission = Admission::new();
        let mut others = Vec::new();
        for n in 0..63 {
            let host = Place::new(&admission, IpAddr::from([198, 51, 100, n / 8]));
            let ticket = host.enter().unwrap();
            others.push((ticket.slot().await, ticket));
        }
        let start = tokio::time::Instant::now();
        let late = Place::new(&admission, IpAddr::from([198, 51, 100, 99]));
        let waiter = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_secs(500)).await;
            let ticket = late.enter().unwrap();
            ticket.slot().await;
            start.elapsed()
        });
        let place = Some(place(&admission));
        let report = against_in(place, Side::Listening, job, |mut peer| async move {
            let role = match pulls {
                true => Role::Sender,
                false => Role::Receiver,
            };
            peer.greet(role).await;
            let text = String::new();
            let reason = Reason::TooMany;
            loop {
                tokio::time::sleep(Duration::from_secs(25)).await;
                peer.send(match pulls {
                    true => offer("/", 1),
                    false => Frame::Decline {
                        reason,
                        text: text.clone(),
                    },
                })
                .await;
                match peer.next().await {
                    Frame::Abort { reason, .. } => break assert_eq!(reason, Reason::Stalled),
                    Frame::Decline { .. } | Frame::Offer { .. } => {}
                    other => panic!("{other:?}"),
                }
            }
        })
        .await;
        assert_eq!(kind(&report), Kind::Lost);
        // It had spent its time by then, and is asked every second.
        let got = waiter.await.unwrap().as_secs();
        assert!((500..=501).contains(&got), "{got}");
    }
}

/// As many new files.
fn many(scratch: &Scratch, files: usize) -> Job {
    let paths = (0..files).map(|n| scratch.0.join(n.to_string()));
    let paths: Vec<_> = paths
        .inspect(|path| std::fs::write(path, "content").unwrap())
        .collect();
    Job::Push(prepare(&paths).unwrap())
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
