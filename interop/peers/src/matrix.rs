//! The matrix: every peer, role, mode and path.

use std::fmt::Write as _;
use std::time::Instant;

use crate::cell::{Cell, Path};
use crate::child::Launch;
use crate::peer::{PEERS, Peer};
use crate::program::settings::{Mode, Role};

/// What to run.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Only these peers; all when empty.
    pub(crate) only: Vec<Peer>,
    /// Who plays our side.
    pub(crate) ours: Peer,
    /// Only this role of the peer.
    pub(crate) role: Option<Role>,
    /// Only this mode.
    pub(crate) mode: Option<Mode>,
    /// Only this path.
    pub(crate) path: Option<Path>,
    /// How often to run every cell.
    pub(crate) repeat: u32,
    /// Seed of the first cell.
    pub(crate) seed: u32,
    /// A peer that is missing is a failure.
    pub(crate) require: bool,
}

#[derive(Default)]
struct Totals {
    ok: usize,
    failed: usize,
    skipped: usize,
    not_applicable: usize,
}

/// Runs the cells one after the other, prints a row for each, and returns whether all went well.
pub(crate) async fn run(options: &Options) -> bool {
    let started = Instant::now();
    let mut totals = Totals::default();
    let mut failures = String::new();
    println!(
        "{:<16} {:<7} {:<8} {:<6} {:<8} {:>8} {:>8}  remark",
        "peer", "is", "mode", "link", "result", "4+4 MiB", "close"
    );
    let launches = Launches::find(options);
    for repetition in 0..options.repeat {
        for (index, cell) in cells(options).enumerate() {
            let cell = Cell {
                seed: options.seed + 1000 * repetition + index as u32,
                ..cell
            };
            totals.row(&cell, &launches, &mut failures).await;
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:\n{failures}");
    }
    let Totals {
        ok,
        failed,
        skipped,
        not_applicable,
    } = totals;
    println!(
        "{ok} ok, {failed} failed, {skipped} skipped, {not_applicable} n/a, {} s",
        started.elapsed().as_secs()
    );
    if skipped > 0 && options.require {
        println!("KCP_INTEROP=require: a skipped cell is a failure");
    }
    failed == 0 && (skipped == 0 || !options.require)
}

/// How to start each program, looked up once.
struct Launches {
    ours: Result<Launch, String>,
    peers: Vec<(Peer, Result<Launch, String>)>,
}

impl Launches {
    fn find(options: &Options) -> Self {
        let peers = PEERS
            .into_iter()
            .map(|peer| (peer, peer.launch()))
            .collect();
        Self {
            ours: options.ours.launch(),
            peers,
        }
    }

    fn of(&self, cell: &Cell) -> Result<(&Launch, &Launch), &String> {
        let peer = self.peers.iter().find(|(peer, _)| *peer == cell.peer);
        let (_, peer) = peer.expect("cells are made of the listed peers");
        Ok((self.ours.as_ref()?, peer.as_ref()?))
    }
}

impl Totals {
    async fn row(&mut self, cell: &Cell, launches: &Launches, failures: &mut String) {
        if let Some(reason) = cell.peer.not_applicable(cell.role) {
            self.not_applicable += 1;
            println!("{cell} n/a: {reason}");
            return;
        }
        let (ours, peer) = match launches.of(cell) {
            Ok(both) => both,
            Err(reason) => {
                self.skipped += 1;
                println!("{cell} skipped: {reason}");
                return;
            }
        };
        match cell.run(ours, peer).await {
            Ok(passed) => {
                self.ok += 1;
                println!(
                    "{cell} {:<8} {:>6.2} s {:>6.2} s  {}",
                    "ok",
                    passed.transfer.as_secs_f64(),
                    passed.close.as_secs_f64(),
                    cell.peer.remark(cell.mode)
                );
            }
            Err(failure) => {
                self.failed += 1;
                let what = failure.to_string();
                println!(
                    "{cell} FAILED   {}",
                    what.lines().next().unwrap_or_default()
                );
                // Writing to a String cannot fail.
                let _ = writeln!(
                    failures,
                    "  {cell} seed {}: {} ({})",
                    cell.seed,
                    what,
                    cell.peer.version()
                );
            }
        }
    }
}

fn cells(options: &Options) -> impl Iterator<Item = Cell> {
    let mut cells = Vec::new();
    for peer in PEERS {
        if !options.only.is_empty() && !options.only.contains(&peer) {
            continue;
        }
        for role in [Role::Server, Role::Client] {
            for mode in [Mode::Message, Mode::Stream] {
                for path in [Path::Clean, Path::Lossy] {
                    let wanted = options.role.is_none_or(|only| only == role)
                        && options.mode.is_none_or(|only| only == mode)
                        && options.path.is_none_or(|only| only == path);
                    if wanted {
                        cells.push(Cell {
                            ours: options.ours,
                            peer,
                            role,
                            mode,
                            path,
                            seed: 0,
                        });
                    }
                }
            }
        }
    }
    cells.into_iter()
}
