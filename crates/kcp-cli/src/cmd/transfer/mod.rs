//! What `send`, `recv` and `serve` share: one session of the copy protocol over a stream.

mod link;
mod listen;
mod pull;
mod push;
mod report;
mod session;
mod source;
mod store;

pub(crate) use listen::listen;
pub(crate) use pull::PullOptions;
pub(crate) use push::prepare;
pub(crate) use session::{Context, Job, Side, session};
pub(crate) use store::remove_temporary_files;

#[cfg(test)]
mod tests;
