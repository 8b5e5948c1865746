//! Sessions against a scripted peer that does not play fair.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;

use super::admission::{Admission, Place};
use super::link::{Inbound, LinkError, Outbound};
use super::report::SessionReport;
use super::session::{Context, Job, Side, converse};
use super::throttle::Throttle;
use super::{Pace, PullOptions, prepare};
use crate::cmd::Output;
use crate::copy::{Frame, Nonce, Outcome, Reason, Role, VERSION};
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
        let nonce = self.hello(Role::Sender).await;
        self.send(Frame::Confirm { echo: nonce }).await;
    }

    /// The first half of a greeting; returns the nonce to repeat.
    async fn hello(&mut self, role: Role) -> Nonce {
        self.send(hello(role)).await;
        let welcome = self.next().await;
        let Frame::Welcome {
            version: VERSION,
            echo: NONCE,
            nonce,
        } = welcome
        else {
            panic!("{welcome:?}")
        };
        nonce
    }

    /// The greeting of a listener.
    async fn be_greeted(&mut self) {
        let hello = self.next().await;
        let Frame::Hello {
            version: VERSION,
            nonce,
            ..
        } = hello
        else {
            panic!("{hello:?}")
        };
        let welcome = Frame::Welcome {
            version: VERSION,
            echo: nonce,
            nonce: NONCE,
        };
        self.send(welcome).await;
        assert_eq!(self.next().await, Frame::Confirm { echo: NONCE });
    }

    /// Several frames in one write.
    async fn send_all(&mut self, frames: &[Frame]) {
        frames.iter().for_each(|frame| self.outbound.queue(frame));
        let _ = self.outbound.flush().await;
    }

    async fn expect_abort(&mut self, reason: Reason) -> String {
        match self.next().await {
            Frame::Abort {
                reason: theirs,
                text,
            } if theirs == reason => text,
            other => panic!("{other:?}"),
        }
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

fn hello(role: Role) -> Frame {
    Frame::Hello {
        version: VERSION,
        role,
        nonce: NONCE,
    }
}

/// A file as frames, without waiting for any answer.
fn blind_file(name: &str, content: &[u8]) -> Vec<Frame> {
    let size = content.len() as u64;
    let offer = Frame::Offer {
        name: name.into(),
        size,
    };
    let data = Frame::Data {
        offset: 0,
        bytes: content.to_vec(),
    };
    let hash = *blake3::hash(content).as_bytes();
    vec![offer, data, Frame::End { size, hash }]
}

/// The peer's nonce.
const NONCE: Nonce = [7; 16];

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
    against_in(None, side, job, script).await
}

/// [`against`], with a place in a listener's line.
async fn against_in<F>(
    place: Option<Place>,
    side: Side,
    job: Job,
    script: impl FnOnce(Peer) -> F,
) -> SessionReport
where
    F: Future<Output = ()>,
{
    let (_raise, raised) = watch::channel(false);
    let context = Context {
        peer: "peer".into(),
        answer_within: Duration::from_secs(5),
        pace: Pace {
            stall: Some(Duration::from_secs(30)),
        },
        lines: Arc::new(Throttle::new()),
        place,
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
    Job::Pull(options(into))
}

fn options(into: &Path) -> PullOptions {
    PullOptions {
        into: into.to_owned(),
        force: false,
        max_size: None,
        max_files: 1000,
        max_bytes: None,
        allow_hidden: false,
        reserve: 0,
    }
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
            version: 1,
            role: Role::Sender,
            nonce: [0; 16],
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
        assert!(
            text.contains("version 2") && text.contains("version 1"),
            "{text}"
        );
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
        peer.be_greeted().await;
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
        peer.be_greeted().await;
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
    let path = scratch.0.join("file");
    fs::write(&path, "content").unwrap();
    let job = || Job::Push(prepare(std::slice::from_ref(&path)).unwrap());
    let report = against(Side::Listening, job(), |mut peer| async move {
        let frames = [hello(Role::Receiver), Frame::Accept, Frame::Bye];
        peer.send_all(&frames).await;
        peer.expect_abort(Reason::Protocol).await;
    })
    .await;
    assert!(!report.validated);
    let report = against(Side::Listening, job(), |mut peer| async move {
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
                    let end = blind_file(name, b"").remove(2);
                    peer.send(end).await;
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
        let declined = |answer, due| match answer {
            Frame::Decline { reason, .. } => assert_eq!(reason, due),
            other => panic!("{other:?}"),
        };
        declined(peer.offer("huge", 1 << 60).await, Reason::TooLarge);
        declined(peer.offer("large", 11).await, Reason::TooLarge);
        for name in ["a", "b"] {
            assert_eq!(peer.offer(name, 5).await, Frame::Accept);
            peer.send_all(&blind_file(name, b"12345")[1..]).await;
            assert!(matches!(peer.next().await, Frame::Verdict { .. }));
            declined(
                peer.offer("too much", 6).await,
                if name == "a" {
                    Reason::TooLarge
                } else {
                    Reason::TooMany
                },
            );
        }
        declined(peer.offer("c", 0).await, Reason::TooMany);
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
        let answer = peer.offer("huge", 1 << 60).await;
        assert!(matches!(
            answer,
            Frame::Decline {
                reason: Reason::TooLarge,
                ..
            }
        ));
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

/// Idle sessions of one host leave slots for another, and those that wait are told.
#[tokio::test]
async fn a_session_without_a_slot_waits_and_is_told() {
    let scratch = Scratch::new();
    let admission = Admission::new();
    let place = || Place::new(&admission, "192.0.2.1".parse().unwrap());
    let others: Vec<_> = (0..8).map(|_| place().enter().unwrap()).collect();
    let mut slots = Vec::new();
    for ticket in &others {
        slots.push(ticket.slot().await);
    }
    let report = against_in(
        Some(place()),
        Side::Listening,
        pull(&scratch.0),
        |mut peer| async move {
            peer.greet_as_sender().await;
            assert_eq!(peer.next().await, Frame::Wait);
            slots.pop();
            assert_eq!(peer.offer("file", 7).await, Frame::Accept);
            peer.send_all(&blind_file("file", b"content")[1..]).await;
            assert!(matches!(peer.next().await, Frame::Verdict { .. }));
            peer.send(Frame::Bye).await;
            drop(slots);
        },
    )
    .await;
    report.result().unwrap();
    assert_eq!(scratch.names(), ["file"]);
}

#[tokio::test]
async fn a_session_that_waits_cannot_fill_memory() {
    let scratch = Scratch::new();
    let admission = Admission::new();
    let place = || Place::new(&admission, "192.0.2.1".parse().unwrap());
    let others: Vec<_> = (0..8).map(|_| place().enter().unwrap()).collect();
    let mut slots = Vec::new();
    for ticket in &others {
        slots.push(ticket.slot().await);
    }
    let report = against_in(
        Some(place()),
        Side::Listening,
        pull(&scratch.0),
        |mut peer| async move {
            peer.greet_as_sender().await;
            assert_eq!(peer.next().await, Frame::Wait);
            peer.send_all(&blind_file("file", &[0; 10_000])).await;
            peer.expect_abort(Reason::Protocol).await;
        },
    )
    .await;
    assert_eq!(kind(&report), Kind::Protocol);
    let mut busy = Vec::new();
    busy.extend(std::iter::from_fn(|| place().enter()));
    let report = against_in(
        Some(place()),
        Side::Listening,
        pull(&scratch.0),
        |mut peer| async move {
            peer.greet_as_sender().await;
            peer.expect_abort(Reason::Busy).await;
        },
    )
    .await;
    assert_eq!(kind(&report), Kind::Refused);
    assert!(scratch.names().is_empty());
}
