//! Replays the fuzzers' corpora, and random inputs beside them.

#![expect(
    unreachable_pub,
    reason = "the bodies are shared with the fuzzers, which reach them"
)]

#[path = "../../../../fuzz/src/bytes.rs"]
mod bytes;
#[path = "../../../../fuzz/src/engine.rs"]
mod engine;
#[path = "../../../../fuzz/src/header.rs"]
mod header;
#[path = "../../../../fuzz/src/pair.rs"]
mod pair;

use std::fs;
use std::path::Path;

use proptest::prelude::*;

/// Runs `body` on every file of a target's corpus.
fn replay(target: &str, body: fn(&[u8])) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/corpus")
        .join(target);
    let mut files: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        println!("{}", file.display());
        body(&fs::read(&file).expect("the file can be read"));
    }
}

#[test]
fn header_corpus() {
    replay("header", header::header);
}

#[test]
fn engine_corpus() {
    replay("engine", engine::engine);
}

#[test]
fn pair_corpus() {
    replay("pair", pair::pair);
}

fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), 0..600)
}

proptest! {
    #[test]
    fn header_random(data in any_bytes()) {
        header::header(&data);
    }

    #[test]
    fn engine_random(data in any_bytes()) {
        engine::engine(&data);
    }

    #[test]
    fn pair_random(data in any_bytes()) {
        pair::pair(&data);
    }
}
