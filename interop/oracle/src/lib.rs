//! The oracle: the C core of KCP beside our engine.
//!
//! [`CKcp`] is a thin safe wrapper over `ikcp.c` 1.x, the only unsafe code of the project.
//! A [`World`] has two endpoints, each of them C and [`kcp_engine::KcpEngine`] side by side
//! under [`Validation::AsC`](kcp_engine::Validation::AsC), and a bad link between them. A step
//! is one call of send, write, recv, peek, input, update or a setter. After every step both
//! sides must have returned the same code, delivered the same bytes, emitted the same
//! datagrams, and show the same state ([`Visible`]). Only then does one copy of the datagrams
//! go on the link.
//!
//! # Flushes
//!
//! Under `FlushPolicy::Interval` both sides flush at ticks. Under `Immediate` our engine
//! decides (`docs/protocol.md` 7.6): the world asks it whether a flush is due and calls
//! `ikcp_flush` at exactly that moment. That no such moment is missed is checked against C's
//! state. C's `current` is set to now before each input
//! and each such flush, because our engine's clock is never stale.
//!
//! # Scripts
//!
//! [`run_seed`] makes and carries out the script of a seed: settings, start numbers just below
//! 2^31 or 2^32, applications, clocks and links drawn from it. A [`Script`] is self-contained;
//! it has a text form, replays without its seed ([`replay`]) and can be made small ([`shrink`]).
//! [`Coverage`] counts, from C's side, how often each branch was taken.
//!
//! Beyond C's answers the world holds [`KcpEngine::poll_timeout`](kcp_engine::KcpEngine::poll_timeout)
//! against C: C sends nothing before the moment that our engine names, and right after an
//! update that moment is in the future.
//!
//! # What is left out
//!
//! - An ACK whose ts lies half the number space from the receiver's clock: C's signed
//!   comparison turns round between two segments in flight (`docs/protocol.md` 14).
//! - Clocks that go back, and distances of 2^31 ms, where C's clocks wrap and ours do not.
//!
//! C's signed RTT arithmetic overflows on forged times. The workspace compiles it with
//! `-fwrapv` (`interop/.cargo/config.toml`), so run cargo from within `interop/`.
//!
//! # Use
//!
//! ```text
//! cargo test -p oracle                                   # 2,000,000 steps and the branch counts
//! cargo run --release -p oracle -- --steps 100_000_000   # a long run
//! cargo run --release -p oracle -- --replay SEED         # one seed, shrunk if it fails
//! cargo run --release -p oracle -- --script FILE         # a script
//! ```

mod ckcp;
mod coverage;
mod datagrams;
mod generate;
mod ours;
mod profile;
mod replay;
mod report;
mod rng;
mod script;
mod subject;
mod visible;
mod wire;
mod world;

pub use ckcp::{CKcp, InFlight, allocations, count_allocations};
pub use coverage::Coverage;
pub use datagrams::Datagrams;
pub use generate::{Generator, Run, run_seed};
pub use ours::Ours;
pub use replay::{Failure, replay, shrink};
pub use report::Report;
pub use rng::{Rng, mix};
pub use script::{Damage, Field, Op, Script, ScriptError, Settings, Setup, Side, Step};
pub use subject::{CSubject, Defect, HonestC, Subject};
pub use visible::Visible;
pub use world::{Difference, InTransit, World};
