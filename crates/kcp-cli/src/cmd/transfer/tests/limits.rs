//! Names, sizes and numbers of files that are declined.

use super::super::PullOptions;
use super::super::session::{Job, Side};
use super::{Scratch, against, blind_file, end, kind, options, pull};
use crate::copy::{Frame, Outcome, Reason};
use crate::error::Kind;

#[tokio::test]
async fn hostile_names_are_declined_and_the_session_goes_on() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        for name in ["../up", "/etc/passwd", "a\\b", "..", "", "nul", "a\x1b[2J"] {
            peer.expect_decline(name, 1, Reason::UnsafeName).await;
        }
        assert_eq!(peer.offer("good", 0).await, Frame::Accept);
        peer.send(end(b"")).await;
        peer.expect_verdict(Outcome::Stored).await;
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Refused);
    assert_eq!(scratch.names(), ["good"]);
}

#[tokio::test]
async fn hidden_names_need_leave() {
    let names = [
        ".zshenv",
        ".bash_profile",
        "-rf",
        "--help",
        "authorized_keys",
    ];
    for (allow_hidden, stored) in [(false, 1), (true, names.len())] {
        let scratch = Scratch::new();
        let job = Job::Pull(PullOptions {
            allow_hidden,
            ..options(&scratch.0)
        });
        against(Side::Listening, job, |mut peer| async move {
            peer.greet_as_sender().await;
            for name in names {
                if peer.offer(name, 0).await == Frame::Accept {
                    peer.send(end(b"")).await;
                    assert!(matches!(peer.next().await, Frame::Verdict { .. }));
                }
            }
            for name in [
                ".kcp-part-1-1",
                "a\u{200b}",
                "\u{feff}a",
                "a\u{ad}",
                "..",
                ".",
            ] {
                let answer = peer.offer(name, 0).await;
                assert!(matches!(answer, Frame::Decline { .. }), "{name:?}");
            }
            peer.send(Frame::Bye).await;
        })
        .await;
        assert_eq!(scratch.names().len(), stored);
    }
}

#[tokio::test]
async fn files_beyond_a_limit_are_declined_at_the_offer() {
    let scratch = Scratch::new();
    let job = Job::Pull(PullOptions {
        max_files: 2,
        max_bytes: Some(10),
        ..options(&scratch.0)
    });
    against(Side::Listening, job, |mut peer| async move {
        peer.greet_as_sender().await;
        peer.expect_decline("huge", 1 << 60, Reason::TooLarge).await;
        peer.expect_decline("large", 11, Reason::TooLarge).await;
        for name in ["a", "b"] {
            assert_eq!(peer.offer(name, 5).await, Frame::Accept);
            peer.send_all(&blind_file(name, b"12345")[1..]).await;
            assert!(matches!(peer.next().await, Frame::Verdict { .. }));
            let due = if name == "a" {
                Reason::TooLarge
            } else {
                Reason::TooMany
            };
            peer.expect_decline("too much", 6, due).await;
        }
        peer.expect_decline("c", 0, Reason::TooMany).await;
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(scratch.names().len(), 2);
}

#[cfg(unix)]
#[tokio::test]
async fn an_offer_beyond_the_free_space_is_declined() {
    let scratch = Scratch::new();
    let mut limits = options(&scratch.0);
    limits.prepare().unwrap();
    assert!(limits.reserve > 0);
    let report = against(Side::Listening, Job::Pull(limits), |mut peer| async move {
        peer.greet_as_sender().await;
        peer.expect_decline("huge", 1 << 60, Reason::TooLarge).await;
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Refused);
}

#[tokio::test]
async fn declined_offers_are_counted() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        let name = "\u{202e}".repeat(341);
        for _ in 0..20_000 {
            assert!(matches!(peer.offer(&name, 1).await, Frame::Decline { .. }));
        }
        peer.send(Frame::Bye).await;
    })
    .await;
    let failure = report.result().unwrap_err();
    assert_eq!(failure.message(), "20000 of 20000 files were not received");
    assert_eq!(report.files.completed(), 0);
    let listed = format!("{:?}", report.files).len();
    assert!(listed < 20_000, "{listed} bytes");
}
