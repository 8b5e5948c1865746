//! What `send`, `recv` and `serve` share: one session of the copy protocol over a stream.

mod admission;
mod end;
mod greeting;
mod greetings;
mod leftover;
mod link;
mod listen;
mod pace;
mod pull;
mod push;
mod report;
mod session;
mod source;
mod space;
mod store;
mod throttle;

pub(crate) use listen::{Listening, listen};
pub(crate) use pace::Pace;
pub(crate) use pull::PullOptions;
pub(crate) use push::prepare;
pub(crate) use session::{Context, Job, Side, session};
pub(crate) use store::remove_temporary_files;
pub(crate) use throttle::Throttle;

#[cfg(test)]
mod tests;
