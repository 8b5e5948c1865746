//! Small models of what threads share, run under a scheduler that tries many interleavings.
//!
//! The crate's own types use `std`'s lock and atomics, and `shuttle` can only interleave its own;
//! so `wakers.rs` is the production file, and the rest (`shared.rs` `call_driver` and `take_dirty`,
//! `driver.rs` `serve_dirty`, `transmit.rs` `drain` and `send_inline`, the engine's `buffer.rs`)
//! is written down again, step by step with the same locks held, and must change with them. All
//! atomics count as sequentially consistent here.
//!
//! A task that nobody wakes is a deadlock, which the scheduler reports. Each model is also run with
//! one step spoilt: a model that cannot fail proves nothing.

#![allow(clippy::unwrap_used, missing_docs, reason = "a test may fail")]

mod pool;
mod session;
#[expect(dead_code, reason = "the models use a part of it")]
#[path = "../../src/wakers.rs"]
mod wakers;

/// Interleavings of each model in `cargo test`; `KCP_MODEL_ROUNDS` sets another number.
fn rounds() -> usize {
    std::env::var("KCP_MODEL_ROUNDS").map_or(3_000, |text| text.parse().unwrap())
}

/// Runs a model under uniformly random schedules and under such with few, well placed switches.
fn explore(model: impl Fn() + Send + Sync + Copy + 'static) {
    shuttle::check_random(model, rounds());
    shuttle::check_pct(model, rounds(), 3);
}
