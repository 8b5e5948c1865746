//! KCP-Rust measured beside every peer, by one harness.
//!
//! A *row* is a workload with its settings and a peer. The parent (`run`) starts two processes for it, and a third
//! where a bad link is part of the row: this program itself as `role server`, `role client` and `role relay`. They
//! speak JSON lines over their standard streams (`protocol`). The client does the workload and says when it begins
//! and ends; at those moments each process reads its own CPU time and memory. A child that takes too long is killed
//! and fails its row only.
//!
//! | module | what |
//! |---|---|
//! | `args`, `plan` | the command line; which rows a workload has |
//! | `run`, `cell`, `child` | repetitions in alternating order; one row once; one child with its deadline |
//! | `report`, `compare` | medians and spread, JSON and Markdown; two runs side by side |
//! | `protocol`, `control`, `measure` | what the processes tell each other; the children's side of it; readings |
//! | `server`, `client` | the two sides of every workload; `client/` has a file per workload |
//! | `peers` | a file per peer: how it listens, connects and takes the common settings |
//! | `relay` | the bad link in a process of its own |
//! | `content` | what is sent, and checking every byte of it |
//!
//! The engines alone, without sockets, are measured by the package `engine` beside this one.

mod args;
mod cell;
mod child;
mod client;
mod compare;
mod content;
mod control;
mod measure;
mod peers;
mod plan;
mod protocol;
mod relay;
mod report;
mod run;
mod server;

pub use args::main;
