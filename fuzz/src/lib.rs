//! The bodies of the fuzz targets, as plain functions of bytes.
//!
//! They live here so that `cargo check` sees them; the main workspace includes the same files to
//! replay the committed corpora in `cargo test`.
#![allow(missing_docs, reason = "each file says what its target checks")]

pub mod bytes;
pub mod engine;
pub mod header;
pub mod pair;
