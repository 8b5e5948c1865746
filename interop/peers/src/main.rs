//! The real-peer matrix.
//!
//! Without arguments runs every cell and prints a table: our library against six other
//! implementations of KCP, each as server and as client, in message and in stream mode,
//! over a clean and over a bad link. `--help` lists the flags; the README of this crate
//! describes the programs behind the cells.

mod cell;
mod child;
mod matrix;
mod peer;
mod program;

use std::process::ExitCode;

use matrix::Options;
use peer::Peer;
use program::c_core::CCore;
use program::engine::Engine;
use program::pump::Pumped;
use program::settings::{Mode, Role, Settings};

const HELP: &str = "\
peers: KCP-Rust against other implementations of KCP, over loopback UDP

  peers [--only PEER]... [--role server|client] [--mode message|stream] [--link clean|lossy]
        [--repeat N] [--seed N] [--ours PEER]
  peers program PEER FLAGS   one side of a cell, driven over stdin (see the README)

  --only PEER   only this peer; may be repeated
                c-core tokio_kcp tokio_kcp-conv0 kcp-tokio kcp-go python-kcp node-kcp
  --role ROLE   only with the peer in this role
  --repeat N    every cell N times, each time with other content and losses (default 1)
  --seed N      of the first cell (default 1)
  --ours PEER   another implementation in our place, to check the peers themselves, or
                `engine`: ours without kcp-async, under the pump of the C core

Exit codes: 0 no cell failed; 1 a cell failed, or, with KCP_INTEROP=require in the
environment, a peer was missing; 2 bad arguments.
";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("peers: {error}");
            return ExitCode::FAILURE;
        }
    };
    if words.first().is_some_and(|word| word == "program") {
        let result = program(&runtime, &words[1..]);
        // A blocked read of stdin must not hold up the end.
        runtime.shutdown_background();
        return match result {
            Ok(()) => ExitCode::SUCCESS,
            Err(problem) => {
                eprintln!("{problem}");
                ExitCode::FAILURE
            }
        };
    }
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    match options(&words) {
        Ok(options) if runtime.block_on(matrix::run(&options)) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("peers: {problem}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

fn options(words: &[String]) -> Result<Options, String> {
    let mut options = Options {
        only: Vec::new(),
        ours: Peer::Ours,
        role: None,
        mode: None,
        path: None,
        repeat: 1,
        seed: 1,
        require: std::env::var_os("KCP_INTEROP").is_some_and(|value| value == "require"),
    };
    for pair in words.chunks(2) {
        let [flag, value] = pair else {
            return Err(format!("{} needs a value", pair[0]));
        };
        let peer = || Peer::named(value).ok_or_else(|| format!("no peer {value}"));
        let number = || {
            value
                .parse::<u32>()
                .map_err(|error| format!("{flag} {value}: {error}"))
        };
        match (flag.as_str(), value.as_str()) {
            ("--only", _) => options.only.push(peer()?),
            ("--ours", _) => options.ours = peer()?,
            ("--role", "server") => options.role = Some(Role::Server),
            ("--role", "client") => options.role = Some(Role::Client),
            ("--mode", "message") => options.mode = Some(Mode::Message),
            ("--mode", "stream") => options.mode = Some(Mode::Stream),
            ("--link", "clean") => options.path = Some(cell::Path::Clean),
            ("--link", "lossy") => options.path = Some(cell::Path::Lossy),
            ("--repeat", _) => options.repeat = number()?,
            ("--seed", _) => options.seed = number()?,
            _ => return Err(format!("unknown flag {flag} {value}")),
        }
    }
    Ok(options)
}

fn program(runtime: &tokio::runtime::Runtime, words: &[String]) -> Result<(), String> {
    let [name, flags @ ..] = words else {
        return Err("which program?".to_owned());
    };
    let settings = Settings::parse(flags)?;
    let result = match Peer::named(name) {
        Some(Peer::Ours) => runtime.block_on(program::run::<program::ours::Ours>(settings)),
        Some(Peer::CCore) => runtime.block_on(program::run::<Pumped<CCore>>(settings)),
        Some(Peer::Engine) => runtime.block_on(program::run::<Pumped<Engine>>(settings)),
        Some(Peer::TokioKcp | Peer::TokioKcpZero) => {
            runtime.block_on(program::run::<program::tokio_kcp_peer::TokioKcp>(settings))
        }
        Some(Peer::KcpTokio) => {
            runtime.block_on(program::run::<program::kcp_tokio_peer::KcpTokio>(settings))
        }
        _ => return Err(format!("{name} is not a program of this crate")),
    };
    result.map_err(|error| error.to_string())
}
