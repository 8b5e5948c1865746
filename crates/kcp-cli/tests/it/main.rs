//! End-to-end tests: they run the built `kcp` over loopback.
//!
//! Nothing here waits by the clock. A listener says where it listens, a transfer under way says so
//! with its progress lines, and everything else ends by itself.

mod attack;
mod copy;
mod demo;
mod failure;
mod ping;
mod support;
