//! The hostile peer: what it can hold, spend, break and learn, one test per threat.
//!
//! Every bound comes from `docs/protocol.md`; every figure is printed beside kcp-go's. To see them:
//!
//! ```text
//! cargo test -p kcp-async --test attack -- --nocapture --test-threads 1 | grep FIGURE
//! ```
//!
//! All but `loopback` run in virtual time.

#[path = "../it/net.rs"]
#[allow(
    dead_code,
    reason = "shared with the other test binary; each uses a part"
)]
mod net;

mod account;
mod alias;
mod bounds;
mod departed;
mod doubt;
mod evict;
mod far;
mod flood;
mod forge;
mod ghost;
mod hold;
mod hosts;
mod lockout;
mod loopback;
mod mark;
mod mirror;
mod records;
mod reflect;
mod replay;
mod reset;
mod starve;
mod upload;
mod wire;
mod young;
