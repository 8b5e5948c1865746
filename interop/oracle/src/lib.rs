//! Byte-exactness of [`kcp_engine`] against the C core of KCP.
//!
//! [`CKcp`] is a thin safe wrapper over the C core.

mod ckcp;
mod datagrams;
mod visible;

pub use ckcp::{CKcp, InFlight};
pub use datagrams::Datagrams;
pub use visible::Visible;
