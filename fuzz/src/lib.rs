//! The bodies of the fuzz targets, as plain functions of bytes.
//!
//! They live here so that `cargo check` sees them; the main workspace includes the same files to
//! replay the committed corpora in `cargo test`.
#![allow(missing_docs, reason = "each file says what its target checks")]

pub mod bytes;
pub mod endpoint;
pub mod engine;
pub mod framing;
pub mod header;
pub mod pair;
pub mod switch;

/// The command has no library; this part of it needs none.
#[path = "../../crates/kcp-cli/src/copy/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the command uses all of it")]
mod copy;
