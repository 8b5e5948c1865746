//! Sessions against a scripted peer that does not play fair.

mod files;
mod greeting;
mod limits;
mod pace;
mod slots;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;

use super::admission::Place;
use super::link::{Inbound, Outbound};
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
        self.greet(Role::Sender).await;
    }

    async fn greet(&mut self, role: Role) {
        let nonce = self.hello(role).await;
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
        self.be_greeted_and(&[]).await;
    }

    /// And sends these frames before the answer is confirmed.
    async fn be_greeted_and(&mut self, frames: &[Frame]) {
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
        self.send_all(&[&[welcome], frames].concat()).await;
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
        self.send(offer(name, size)).await;
        self.next().await
    }

    async fn expect_decline(&mut self, name: &str, size: u64, reason: Reason) {
        match self.offer(name, size).await {
            Frame::Decline { reason: theirs, .. } => assert_eq!(theirs, reason, "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn expect_verdict(&mut self, outcome: Outcome) {
        match self.next().await {
            Frame::Verdict {
                outcome: theirs, ..
            } => assert_eq!(theirs, outcome),
            other => panic!("{other:?}"),
        }
    }
}

fn hello(role: Role) -> Frame {
    Frame::Hello {
        version: VERSION,
        role,
        nonce: NONCE,
    }
}

fn offer(name: &str, size: u64) -> Frame {
    Frame::Offer {
        name: name.into(),
        size,
    }
}

/// Data from the start of a file.
fn data(bytes: &[u8]) -> Frame {
    Frame::Data {
        offset: 0,
        bytes: bytes.to_vec(),
    }
}

/// The end of a file that holds `content`.
fn end(content: &[u8]) -> Frame {
    Frame::End {
        size: content.len() as u64,
        hash: *blake3::hash(content).as_bytes(),
    }
}

/// A file as frames, without waiting for any answer.
fn blind_file(name: &str, content: &[u8]) -> Vec<Frame> {
    let size = content.len() as u64;
    vec![offer(name, size), data(content), end(content)]
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

/// Sends a new file of the directory, `file`, with 7 bytes.
fn push(scratch: &Scratch) -> Job {
    let path = scratch.0.join("file");
    fs::write(&path, "content").unwrap();
    Job::Push(prepare(&[path]).unwrap())
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
