//! The whole matrix as one test. A peer that is not installed is skipped, unless the
//! environment has `KCP_INTEROP=require`.

use std::process::Command;

#[test]
fn every_peer_in_every_role_mode_and_link() {
    let status = Command::new(env!("CARGO_BIN_EXE_peers"))
        .status()
        .expect("the matrix starts");
    assert!(
        status.success(),
        "the matrix ended with {status}; see its table above"
    );
}

#[test]
fn bad_arguments_are_refused() {
    let output = Command::new(env!("CARGO_BIN_EXE_peers"))
        .args(["--only", "nobody"])
        .output()
        .expect("the matrix starts");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no peer nobody"));
}
