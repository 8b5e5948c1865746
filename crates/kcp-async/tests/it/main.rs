//! The layer as a whole: over loopback UDP, and over a simulated network in virtual time.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may fail")]

mod api;
mod backlog;
mod close;
mod descriptors;
mod gate;
mod lifetime;
mod local_address;
mod loopback;
mod meet;
mod mtu;
mod net;
mod refusal;
mod reopen;
mod restart;
mod scripted;
mod send_share;
mod slow_close;
mod socket;
mod transfer;
mod unroutable;
mod unvalidated;
