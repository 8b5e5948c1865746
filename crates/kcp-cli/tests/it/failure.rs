//! Peers that are absent, die, refuse or speak something else; Ctrl-C; wrong usage.

use std::net::UdpSocket;
use std::time::Duration;

use kcp_netem::{Bitrate, LinkConfig, Queue, Relay};

use crate::support::{Running, Scratch, kcp, listen, names, start};

/// A transfer that takes long enough to be disturbed: through a slow link, with a small window so
/// that little is under way at a time.
struct Slow {
    scratch: Scratch,
    into: String,
    receiver: Running,
    sender: Running,
    _relay: Relay,
}

impl Slow {
    /// Returns once data is flowing.
    fn start() -> Self {
        Self::with("32", "1s", 8)
    }

    fn with(segments: &str, patience: &str, mbit: u32) -> Self {
        let scratch = Scratch::new();
        let (file, _) = scratch.file("file", 20_000_000);
        let into = scratch.directory("into");
        let quick = ["--dead-peer-timeout", patience];
        let (receiver, address) =
            listen(&[&["recv", "--once", "--into", &into][..], &quick].concat());
        let link = LinkConfig::new()
            .delay(Duration::from_millis(5))
            .bottleneck(Bitrate::mbit(mbit), Queue::Time(Duration::from_millis(100)));
        let any_port = "127.0.0.1:0".parse().unwrap();
        let relay = Relay::bind(any_port, address.parse().unwrap(), link, link, 1).unwrap();
        let through = relay.local_addr().to_string();
        let args = [
            "send",
            &file,
            &through,
            "--sndwnd",
            segments,
            "--dead-peer-timeout",
            patience,
        ];
        let sender = start(&args);
        receiver.wait_for_stderr("file: ");
        Self {
            scratch,
            into,
            receiver,
            sender,
            _relay: relay,
        }
    }
}

#[test]
fn a_killed_receiver_leaves_no_file_under_its_name() {
    let mut slow = Slow::start();
    slow.receiver.kill();
    let sender = slow.sender.finish().expect_code(4);
    assert!(sender.stderr.contains("lost "), "{sender:?}");
    assert!(!names(&slow.into).contains(&"file".to_owned()));
    drop(slow.scratch);
}

#[test]
fn a_receiver_notices_a_killed_sender() {
    let mut slow = Slow::start();
    slow.sender.kill();
    slow.receiver.wait_for_stderr("lost ");
    assert!(names(&slow.into).is_empty());
    drop(slow.scratch);
}

#[cfg(unix)]
#[test]
fn temporary_files_of_a_killed_receiver_go_at_the_next_start_and_those_of_a_running_one_stay() {
    let mut slow = Slow::start();
    let temporary = names(&slow.into);
    assert_eq!(temporary.len(), 1);
    let (_second, _) = listen(&["recv", "--into", &slow.into]);
    assert_eq!(names(&slow.into), temporary);
    slow.receiver.kill();
    assert_eq!(names(&slow.into), temporary);
    let (third, _) = listen(&["recv", "--into", &slow.into]);
    third.wait_for_stderr("removed 1 temporary files");
    assert!(names(&slow.into).is_empty());
    drop(slow.scratch);
}

#[cfg(unix)]
#[test]
fn an_interrupted_receiver_cleans_up_and_tells_the_sender() {
    let slow = Slow::start();
    slow.receiver.interrupt();
    slow.receiver.finish().expect_code(130);
    // Told, not timed out: that would be code 4.
    let sender = slow.sender.finish().expect_code(5);
    assert!(sender.stderr.contains("interrupted"), "{sender:?}");
    assert!(names(&slow.into).is_empty());
    drop(slow.scratch);
}

#[cfg(unix)]
#[test]
fn an_interrupted_sender_tells_the_receiver() {
    let slow = Slow::start();
    slow.sender.interrupt();
    slow.sender.finish().expect_code(130);
    slow.receiver.wait_for_stderr("interrupted");
    assert!(names(&slow.into).is_empty());
    drop(slow.scratch);
}

/// The Abort would take longer than a user waits: the receiver learns by its next probe.
#[cfg(unix)]
#[test]
fn an_interrupted_sender_with_much_queued_ends_the_session_too() {
    // Its 1.4 MB in the queue are 5.6 s of this link.
    let slow = Slow::with("1024", "60s", 2);
    slow.sender.interrupt();
    slow.receiver.wait_for_stderr("reset");
    slow.sender.finish().expect_code(130);
    assert!(names(&slow.into).is_empty());
    drop(slow.scratch);
}

#[cfg(unix)]
#[test]
fn a_listener_without_work_ends_well_on_an_interrupt() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (receiver, _) = listen(&["recv", "--into", &into]);
    receiver.interrupt();
    receiver.finish().expect_code(0);
}

#[test]
fn an_absent_peer_is_named() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 10);
    let into = scratch.directory("into");
    // Bound, so that nobody else gets the port, and silent.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    for args in [
        vec!["send", &file, &address],
        vec!["recv", &address, "--into", &into],
        vec!["ping", &address, "-c", "1", "-W", "300ms"],
    ] {
        let mut args = args;
        args.extend(["--connect-timeout", "300ms"]);
        let run = kcp(&args).expect_code(3);
        assert!(run.stderr.contains(&address), "{run:?}");
    }
    assert!(names(&into).is_empty());
}

/// The peer's host says that nothing listens: each command tells so.
#[cfg(target_os = "linux")]
#[test]
fn a_port_where_nothing_listens_is_a_refused_connection() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (file, _) = scratch.file("file", 1_000_000);
    let free = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    for args in [
        vec!["send", &file, &address],
        vec!["recv", &address, "--into", &into],
        vec!["ping", &address, "-c", "1", "-W", "2s"],
    ] {
        let mut args = args;
        args.extend(["--connect-timeout", "1s"]);
        let run = kcp(&args).expect_code(3);
        assert!(run.stderr.contains("connection refused"), "{run:?}");
    }
}

#[test]
fn an_address_that_is_none_is_wrong_usage() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 10);
    for bad in [
        "nonsense",
        "127.0.0.1",
        "127.0.0.1:99999",
        "256.0.0.1:1",
        "::1:1",
    ] {
        kcp(&["recv", "--listen", bad]).expect_code(2);
        kcp(&["serve", &file, "--listen", bad]).expect_code(2);
        kcp(&["echo", "--listen", bad]).expect_code(2);
        kcp(&["send", &file, bad]).expect_code(2);
        kcp(&["recv", bad]).expect_code(2);
        kcp(&["ping", bad]).expect_code(2);
    }
}

#[test]
fn a_port_in_use_is_an_address_error() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let run = kcp(&["echo", "--listen", &address]).expect_code(7);
    assert!(run.stderr.contains(&address), "{run:?}");
}

#[test]
fn two_senders_or_two_receivers_do_not_fit() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 10);
    let (_server, address) = listen(&["serve", &file]);
    let run = kcp(&["send", &file, &address]).expect_code(5);
    assert!(run.stderr.contains("kcp recv"), "{run:?}");
}

#[test]
fn a_peer_that_speaks_something_else_is_told_apart() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 10);
    let (_echo, address) = listen(&["echo"]);
    let run = kcp(&["send", &file, &address]).expect_code(8);
    assert!(run.stderr.contains("copy protocol"), "{run:?}");
}

#[test]
fn wrong_usage_and_bad_settings_have_their_code() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 10);
    kcp(&["send", &file]).expect_code(2);
    let run = kcp(&["echo", "--mtu", "10"]).expect_code(2);
    assert!(run.stderr.contains("--mtu"), "{run:?}");
    kcp(&["send", &file, &file, "127.0.0.1:9"]).expect_code(2);
}

#[test]
fn a_missing_file_is_a_local_error_before_the_peer_is_asked() {
    let run = kcp(&["send", "no such file", "127.0.0.1:9"]).expect_code(1);
    assert!(run.stderr.contains("no such file"), "{run:?}");
    kcp(&["recv", "--into", "no such directory"]).expect_code(1);
}

#[test]
fn help_documents_the_exit_codes() {
    for args in [
        vec!["--help"],
        vec!["demo", "--help"],
        vec!["send", "--help"],
    ] {
        let run = kcp(&args).expect_code(0);
        assert!(run.stdout.contains("Exit codes:"), "{args:?}");
    }
}
