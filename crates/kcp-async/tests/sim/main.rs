//! The simulated world: the whole async layer, many endpoints at a time, on bad networks in paused
//! time. Everything is a function of the seed.
//!
//! `KCP_SIM_SEEDS` sets how many seeds run (1,000), `KCP_SIM_FIRST` the first of them (0),
//! `KCP_SIM_MINUTES` a limit in real time. `KCP_SIM_SEED` runs that one, and says what it is.
//! `scripts/sim.sh` is the long form.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plan::Plan;
use report::{Report, Seed};

mod events;
mod flow;
mod ledger;
mod links;
mod net;
mod plan;
mod random;
mod regressions;
mod report;
mod stock;
mod world;

thread_local! {
    /// What panicked in the world that this thread runs: tokio keeps a panic to its task.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

fn run(seed: u64) -> Result<Seed, String> {
    let plan = Plan::draw(seed);
    PANICS.with_borrow_mut(|panics| *panics = Some(Vec::new()));
    let result = panic::catch_unwind(AssertUnwindSafe(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(world::run(plan))
    }));
    let panics = PANICS.with_borrow_mut(Option::take).unwrap_or_default();
    match result {
        Ok(seed) if panics.is_empty() => Ok(seed),
        _ => Err(panics.join("\n")),
    }
}

/// Panics of worlds are collected; others are printed as ever.
fn collect_panics() {
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let collected = PANICS.with_borrow_mut(|panics| {
            panics
                .as_mut()
                .map(|list| list.push(info.to_string()))
                .is_some()
        });
        if !collected {
            before(info);
        }
    }));
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.replace('_', "").parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is not a number: {value}")))
}

#[test]
fn worlds() {
    collect_panics();
    if let Some(seed) = number("KCP_SIM_SEED") {
        eprint!("{}", Plan::draw(seed));
        match run(seed) {
            Ok(seed) => eprintln!("{seed:#?}"),
            Err(failure) => panic!("seed {seed} failed: {failure}"),
        }
        return;
    }
    let first = number("KCP_SIM_FIRST").unwrap_or(0);
    let end = first + number("KCP_SIM_SEEDS").unwrap_or(1_000);
    let limit = number("KCP_SIM_MINUTES").map(|minutes| Duration::from_secs(minutes * 60));
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let report = Mutex::new(Report::default());
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while limit.is_none_or(|limit| began.elapsed() < limit) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failures.lock().unwrap().len() >= FAILURES_SHOWN {
                        return;
                    }
                    match run(seed) {
                        Ok(done) => report.lock().unwrap().add(&done),
                        Err(failure) => failures.lock().unwrap().push((seed, failure)),
                    }
                }
            });
        }
    });
    let report = report.into_inner().unwrap();
    eprintln!("{report}");
    eprintln!(
        "{} seeds from {first} on in {:.1} s on {threads} threads",
        report.seeds(),
        began.elapsed().as_secs_f64()
    );
    let failures = failures.into_inner().unwrap();
    for (seed, failure) in &failures {
        eprintln!("\nseed {seed}: {failure}");
        eprintln!("KCP_SIM_SEED={seed} cargo test -p kcp-async --test sim -- --nocapture");
    }
    assert!(failures.is_empty(), "{} seeds failed", failures.len());
}

/// What the simulation found, each a defect of the crate at the time.
#[test]
fn worlds_that_failed_once() {
    collect_panics();
    for seed in [
        1_298, 1_970, 2_420, 2_558, 2_658, 11_093, 17_215, 1_038_532, 1_044_476,
    ] {
        if let Err(failure) = run(seed) {
            panic!("seed {seed} failed again: {failure}");
        }
    }
}

/// Enough to see whether they have something in common.
const FAILURES_SHOWN: usize = 10;
