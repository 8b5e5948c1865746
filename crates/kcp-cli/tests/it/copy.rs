//! Copies that work, and files that are refused.

use std::fs;
use std::time::Duration;

use kcp_netem::{Bitrate, Jitter, LinkConfig, Loss, Probability, Queue, Relay};

#[cfg(unix)]
use crate::support::listen_with_file_limit;
use crate::support::{Scratch, kcp, listen, names};

/// The last word of the line about `name`: the hash.
#[track_caller]
fn hash_of<'a>(output: &'a str, name: &str) -> &'a str {
    let line = output
        .lines()
        .find(|line| line.contains(&format!(" {name} ")));
    line.and_then(|line| line.rsplit(' ').next()).expect(output)
}

#[test]
fn files_arrive_whole_and_with_equal_hashes() {
    let scratch = Scratch::new();
    let (big, big_content) = scratch.file("big.bin", 5_000_003);
    let (empty, _) = scratch.file("empty", 0);
    let (small, small_content) = scratch.file("one byte.txt", 1);
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);

    let sender = kcp(&["send", &big, &empty, &small, &address]).expect_code(0);
    let receiver = receiver.finish().expect_code(0);

    assert_eq!(names(&into), ["big.bin", "empty", "one byte.txt"]);
    assert!(fs::read(format!("{into}/big.bin")).unwrap() == big_content);
    assert_eq!(
        fs::read(format!("{into}/one byte.txt")).unwrap(),
        small_content
    );
    assert_eq!(
        hash_of(&sender.stdout, "big.bin"),
        hash_of(&receiver.stdout, "big.bin")
    );
    assert_eq!(hash_of(&sender.stdout, "big.bin").len(), 64);
    // Said once, by the listener.
    assert_eq!(
        receiver
            .stderr
            .matches("plain KCP does not encrypt")
            .count(),
        1
    );
    assert!(!sender.stderr.contains("encrypt"));
}

#[test]
fn a_copy_crosses_a_bad_link() {
    let scratch = Scratch::new();
    let (file, content) = scratch.file("file", 2_000_000);
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let link = LinkConfig::new()
        .delay(Duration::from_millis(10))
        .jitter(Jitter::Free(Duration::from_millis(3)))
        .loss(Loss::Bernoulli(Probability::percent(5)))
        .duplicate(Probability::percent(1))
        .bottleneck(Bitrate::mbit(100), Queue::Time(Duration::from_millis(100)));
    let any_port = "127.0.0.1:0".parse().unwrap();
    let relay = Relay::bind(any_port, address.parse().unwrap(), link, link, 3).unwrap();

    kcp(&["send", &file, &relay.local_addr().to_string()]).expect_code(0);
    receiver.finish().expect_code(0);
    assert!(fs::read(format!("{into}/file")).unwrap() == content);
    assert!(relay.stats().up.dropped_loss > 0);
}

#[test]
fn a_listening_receiver_takes_one_sender_after_the_other() {
    let scratch = Scratch::new();
    let into = scratch.directory("into");
    let (_receiver, address) = listen(&["recv", "--into", &into]);
    for name in ["first", "second"] {
        let (file, _) = scratch.file(name, 1000);
        kcp(&["send", &file, &address]).expect_code(0);
    }
    assert_eq!(names(&into), ["first", "second"]);
}

#[test]
fn message_mode_and_every_preset_carry_a_copy() {
    let scratch = Scratch::new();
    let (file, content) = scratch.file("file", 100_000);
    for preset in [
        "normal",
        "fast_mode",
        "turbo_mode",
        "gaming",
        "file_transfer",
    ] {
        let into = scratch.directory(preset);
        let (receiver, address) = listen(&[
            "recv",
            "--once",
            "--into",
            &into,
            "--preset",
            preset,
            "--message",
        ]);
        kcp(&["send", &file, &address, "--preset", preset, "--message"]).expect_code(0);
        receiver.finish().expect_code(0);
        assert!(
            fs::read(format!("{into}/file")).unwrap() == content,
            "{preset}"
        );
    }
}

#[test]
fn served_files_are_fetched() {
    let scratch = Scratch::new();
    let (a, content) = scratch.file("a", 300_000);
    let (b, _) = scratch.file("b", 10);
    let into = scratch.directory("into");
    let (server, address) = listen(&["serve", &a, &b, "--once"]);
    kcp(&["recv", &address, "--into", &into]).expect_code(0);
    server.finish().expect_code(0);
    assert_eq!(names(&into), ["a", "b"]);
    assert!(fs::read(format!("{into}/a")).unwrap() == content);
}

#[test]
fn an_existing_file_is_replaced_only_with_force() {
    let scratch = Scratch::new();
    let (file, content) = scratch.file("file", 1000);
    let (other, _) = scratch.file("other", 1000);
    let into = scratch.directory("into");
    fs::write(format!("{into}/file"), "mine").unwrap();

    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let sender = kcp(&["send", &file, &other, &address]).expect_code(5);
    let receiver = receiver.finish().expect_code(5);
    assert!(sender.stdout.contains("not sent: file"), "{sender:?}");
    assert!(receiver.stdout.contains("--force"), "{receiver:?}");
    assert_eq!(fs::read_to_string(format!("{into}/file")).unwrap(), "mine");
    assert_eq!(
        names(&into),
        ["file", "other"],
        "the other file goes through, nothing else stays"
    );

    let (receiver, address) = listen(&["recv", "--once", "--force", "--into", &into]);
    kcp(&["send", &file, &address]).expect_code(0);
    receiver.finish().expect_code(0);
    assert!(fs::read(format!("{into}/file")).unwrap() == content);
}

#[test]
fn a_file_beyond_the_limit_is_refused() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 2000);
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into, "--max-size", "1K"]);
    kcp(&["send", &file, &address]).expect_code(5);
    assert!(names(&into).is_empty());
    // `--once` counts a session in which a file was stored.
    let (file, _) = scratch.file("small", 20);
    kcp(&["send", &file, &address]).expect_code(0);
    receiver.finish().expect_code(0);
    assert_eq!(names(&into), ["small"]);
}

/// The system's limit on the size of a file is an error of that file's session: by default it ends the process.
#[cfg(unix)]
#[test]
fn a_file_beyond_the_systems_limit_ends_its_session_only() {
    let scratch = Scratch::new();
    let (small, _) = scratch.file("small", 20);
    let (large, _) = scratch.file("large", 300_000);
    let into = scratch.directory("into");
    let (receiver, address) = listen_with_file_limit(100, &["recv", "--into", &into]);
    let run = kcp(&["send", &large, &address]).expect_code(5);
    assert!(run.stderr.contains("cannot write large"), "{run:?}");
    kcp(&["send", &small, &address]).expect_code(0);
    assert_eq!(names(&into), ["small"]);
    drop(receiver);
}

#[test]
fn limits_of_a_session_are_told() {
    let scratch = Scratch::new();
    let (a, _) = scratch.file("a", 600);
    let (b, _) = scratch.file("b", 600);
    let (hidden, _) = scratch.file(".hidden", 10);
    let into = scratch.directory("into");
    let listening = ["recv", "--into", &into, "--force", "--max-bytes", "1K"];
    let (_receiver, address) = listen(&listening);
    let run = kcp(&["send", &a, &b, &hidden, &address]).expect_code(5);
    assert!(run.stdout.contains("1.00 KiB in a session"), "{run:?}");
    assert!(run.stdout.contains("--allow-hidden"), "{run:?}");
    let (_receiver, address) = listen(&["recv", "--into", &into, "--force", "--max-files", "1"]);
    let run = kcp(&["send", &a, &b, &address]).expect_code(5);
    assert!(run.stdout.contains("at most 1 files"), "{run:?}");
    assert_eq!(names(&into), ["a"]);
    let (_receiver, address) = listen(&["recv", "--into", &into, "--allow-hidden"]);
    kcp(&["send", &hidden, &address]).expect_code(0);
    assert_eq!(names(&into), [".hidden", "a"]);
}

#[test]
fn json_reports_each_session_in_a_line() {
    let scratch = Scratch::new();
    let (file, _) = scratch.file("file", 5000);
    let into = scratch.directory("into");
    let (receiver, address) = listen(&["recv", "--once", "--into", &into]);
    let sender = kcp(&["send", &file, &address, "--json"]).expect_code(0);
    receiver.finish().expect_code(0);
    let report: serde_json::Value = serde_json::from_str(sender.stdout.trim()).unwrap();
    assert_eq!(report["direction"], "sent");
    assert_eq!(report["files"][0]["bytes"], 5000);
    assert_eq!(report["files"][0]["error"], serde_json::Value::Null);
    assert_eq!(report["exit_code"], 0);
}
