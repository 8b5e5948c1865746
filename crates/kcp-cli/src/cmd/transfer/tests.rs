//! Sessions against a scripted peer that does not play fair.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;

use super::link::{Inbound, LinkError, Outbound};
use super::report::SessionReport;
use super::session::{Context, Job, Side, converse};
use super::{PullOptions, prepare};
use crate::cmd::Output;
use crate::copy::{Frame, Outcome, Reason, Role, VERSION};
use crate::error::Kind;
use crate::progress::Console;
use crate::signal::Interrupt;

/// The other end of a session, frame by frame.
struct Peer {
    inbound: Inbound<ReadHalf<DuplexStream>>,
    outbound: Outbound<WriteHalf<DuplexStream>>,
}

impl Peer {
    async fn send(&mut self, frame: Frame) {
        // The session may have ended already: that is what the caller wants to see then.
        let _ = self.outbound.send(&frame).await;
    }

    async fn next(&mut self) -> Frame {
        match self.inbound.next().await {
            Ok(frame) => frame,
            Err(error) => panic!("no frame: {error:?}"),
        }
    }

    /// What a sender says before its first file.
    async fn greet_as_sender(&mut self) {
        self.send(Frame::Hello {
            version: VERSION,
            role: Role::Sender,
        })
        .await;
        assert_eq!(self.next().await, Frame::Welcome { version: VERSION });
    }

    async fn offer(&mut self, name: &str, size: u64) -> Frame {
        self.send(Frame::Offer {
            name: name.into(),
            size,
        })
        .await;
        self.next().await
    }
}

/// A directory that is removed when dropped.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("kcp-unit-{}-{number}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs a session on our side and `script` on the other.
async fn against<F>(side: Side, job: Job, script: impl FnOnce(Peer) -> F) -> SessionReport
where
    F: Future<Output = ()>,
{
    let (_raise, raised) = watch::channel(false);
    let context = Context {
        peer: "peer".into(),
        answer_within: Duration::from_secs(5),
        output: Output {
            json: true,
            quiet: true,
            console: Console::new(true),
        },
        interrupt: Interrupt::of(raised),
    };
    let (near, far) = duplex(1 << 20);
    let (reader, writer) = split(near);
    let (far_reader, far_writer) = split(far);
    let peer = Peer {
        inbound: Inbound::new(far_reader),
        outbound: Outbound::new(far_writer),
    };
    let ((report, _), ()) =
        tokio::join!(converse(reader, writer, side, &job, &context), script(peer));
    report
}

fn pull(into: &Path) -> Job {
    Job::Pull(PullOptions {
        into: into.to_owned(),
        force: false,
        max_size: None,
    })
}

fn kind(report: &SessionReport) -> Kind {
    report.result().expect_err("a failure").kind()
}

#[tokio::test]
async fn a_wrong_hash_is_a_mismatch_and_nothing_is_kept() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 3).await, Frame::Accept);
        peer.send(Frame::Data {
            offset: 0,
            bytes: vec![1, 2, 3],
        })
        .await;
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
async fn hostile_names_are_declined_and_the_session_goes_on() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        for name in ["../up", "/etc/passwd", "a\\b", "..", "", "nul", "a\x1b[2J"] {
            let answer = peer.offer(name, 1).await;
            assert!(
                matches!(
                    answer,
                    Frame::Decline {
                        reason: Reason::UnsafeName,
                        ..
                    }
                ),
                "{name}"
            );
        }
        assert_eq!(peer.offer("good", 0).await, Frame::Accept);
        peer.send(Frame::End {
            size: 0,
            hash: *blake3::hash(&[]).as_bytes(),
        })
        .await;
        assert!(matches!(
            peer.next().await,
            Frame::Verdict {
                outcome: Outcome::Stored,
                ..
            }
        ));
        peer.send(Frame::Bye).await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Refused);
    assert_eq!(scratch.names(), ["good"]);
}

#[tokio::test]
async fn more_data_than_announced_ends_the_session() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.greet_as_sender().await;
        assert_eq!(peer.offer("file", 3).await, Frame::Accept);
        peer.send(Frame::Data {
            offset: 0,
            bytes: vec![0; 4],
        })
        .await;
        assert!(matches!(
            peer.next().await,
            Frame::Abort {
                reason: Reason::Protocol,
                ..
            }
        ));
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
        peer.send(Frame::End {
            size: 0,
            hash: *blake3::hash(&[]).as_bytes(),
        })
        .await;
        assert!(matches!(
            peer.next().await,
            Frame::Verdict {
                outcome: Outcome::NotStored,
                ..
            }
        ));
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
        peer.send(Frame::Data {
            offset: 0,
            bytes: vec![0; 10],
        })
        .await;
    })
    .await;
    assert_eq!(kind(&report), Kind::Lost);
    assert!(scratch.names().is_empty());
}

#[tokio::test]
async fn another_version_is_told_so() {
    let scratch = Scratch::new();
    let report = against(Side::Listening, pull(&scratch.0), |mut peer| async move {
        peer.send(Frame::Hello {
            version: VERSION + 1,
            role: Role::Sender,
        })
        .await;
        let answer = peer.next().await;
        let Frame::Abort {
            reason: Reason::Protocol,
            text,
        } = answer
        else {
            panic!("{answer:?}")
        };
        assert!(text.contains("version"), "{text}");
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
}

#[tokio::test]
async fn a_sender_believes_only_an_equal_hash() {
    let scratch = Scratch::new();
    let path = scratch.0.join("file");
    fs::write(&path, "content").unwrap();
    let job = Job::Push(prepare(&[path]).unwrap());
    let report = against(Side::Connecting, job, |mut peer| async move {
        assert_eq!(
            peer.next().await,
            Frame::Hello {
                version: VERSION,
                role: Role::Sender
            }
        );
        peer.send(Frame::Welcome { version: VERSION }).await;
        assert_eq!(
            peer.next().await,
            Frame::Offer {
                name: "file".into(),
                size: 7
            }
        );
        peer.send(Frame::Accept).await;
        assert_eq!(
            peer.next().await,
            Frame::Data {
                offset: 0,
                bytes: b"content".to_vec()
            }
        );
        let end = peer.next().await;
        assert_eq!(
            end,
            Frame::End {
                size: 7,
                hash: *blake3::hash(b"content").as_bytes()
            }
        );
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
    let path = scratch.0.join("file");
    fs::write(&path, "content").unwrap();
    let job = Job::Push(prepare(&[path]).unwrap());
    let report = against(Side::Connecting, job, |mut peer| async move {
        peer.next().await;
        peer.send(Frame::Welcome { version: VERSION }).await;
        peer.next().await;
        peer.send(Frame::Bye).await;
        assert!(matches!(
            peer.next().await,
            Frame::Abort {
                reason: Reason::Protocol,
                ..
            }
        ));
    })
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
}
