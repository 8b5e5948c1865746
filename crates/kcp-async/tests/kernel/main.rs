//! Scenarios that need a real kernel: interfaces with a small mtu, routers, ICMP, several addresses.
//!
//! Each test makes network namespaces of its own (`harness.rs`), so it needs root and the programs
//! `ip` and `unshare`. Without them it prints why and passes; with `KCP_KERNEL_TESTS=require` in the
//! environment it fails instead.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test may fail")]

mod harness;
mod icmp;
mod moves;
mod mtu;
mod neighbours;
mod transfer;
