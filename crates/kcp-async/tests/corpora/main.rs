//! Replays the fuzzer's corpus of the endpoint, and random inputs beside it.

#![expect(
    unreachable_pub,
    reason = "the bodies are shared with the fuzzers, which reach them"
)]

#[path = "../../../../fuzz/src/bytes.rs"]
mod bytes;
#[path = "../../../../fuzz/src/endpoint.rs"]
mod endpoint;
#[path = "../../../../fuzz/src/switch.rs"]
mod switch;

use std::fs;
use std::path::Path;

#[test]
fn endpoint_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/endpoint");
    let mut files: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        println!("{}", file.display());
        endpoint::endpoint(&fs::read(&file).expect("the file can be read"));
    }
}

#[test]
fn endpoint_random() {
    for seed in 0..500_u64 {
        println!("seed {seed}");
        endpoint::endpoint(&random_bytes(seed));
    }
}

/// Up to 600 bytes; the same for the same seed (SplitMix64).
fn random_bytes(seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ z >> 31) as u8
    };
    let len = usize::from(next()) * 600 / 255;
    (0..len).map(|_| next()).collect()
}
