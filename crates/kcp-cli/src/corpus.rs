//! Replays the fuzzer's corpus of the copy protocol, and random inputs beside it.

use std::fs;
use std::path::Path;

use proptest::prelude::*;

use crate::copy;

#[path = "../../../fuzz/src/bytes.rs"]
#[expect(
    unreachable_pub,
    reason = "shared with the fuzzers, which reach all of it"
)]
#[allow(dead_code, reason = "other targets draw what this one does not")]
mod bytes;
#[path = "../../../fuzz/src/framing.rs"]
#[expect(
    unreachable_pub,
    reason = "shared with the fuzzers, which reach all of it"
)]
mod framing;

#[test]
fn framing_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/framing");
    let mut files: Vec<_> = fs::read_dir(&corpus)
        .unwrap_or_else(|error| panic!("{}: {error}", corpus.display()))
        .map(|entry| entry.expect("the folder can be listed").path())
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty", corpus.display());
    for file in files {
        println!("{}", file.display());
        framing::framing(&fs::read(&file).expect("the file can be read"));
    }
}

proptest! {
    #[test]
    fn framing_random(data in prop::collection::vec(any::<u8>(), 0..600)) {
        framing::framing(&data);
    }
}
