//! Our engine beside the C core, step by step: the quick form of the oracle.

use std::{fs, path::Path};

use oracle::{Coverage, Ours, Report, Script, replay, run_seed, shrink};

/// Steps of the quick form.
const STEPS: u64 = 2_000_000;

/// Branches that need several rare things at once, and how often they are taken at least.
const RARE: [(&str, u64); 6] = [
    // A clock exactly half the number space away: left out of the comparison.
    ("skipped", 0),
    // Only a forged ACK is older than the first transmission of an earlier segment.
    ("conserve_first", 300),
    ("send_partial", 100),
    ("cwnd_clamped", 100),
    ("cwnd_both", 300),
    ("probe_longest", 500),
];

/// Every other branch.
const COMMON: u64 = 1_000;

#[track_caller]
fn fail(seed: u64, script: &Script) -> ! {
    let failure = replay::<Ours>(script).expect("the script fails again");
    let small = shrink::<Ours>(script);
    let again = replay::<Ours>(&small).expect("the shrunk script fails");
    let shrunk = Some((&small, &again));
    panic!(
        "{}",
        Report {
            seed,
            script,
            failure: &failure,
            shrunk
        }
    );
}

/// protocol.md 14: whatever is not in that table is as C does it, byte for byte.
#[test]
fn our_engine_does_what_c_does() {
    let mut total = Coverage::default();
    for seed in 0.. {
        let run = run_seed::<Ours>(seed);
        if run.difference.is_some() {
            fail(seed, &run.script);
        }
        total.add(run.world.coverage());
        if total.steps >= STEPS {
            break;
        }
    }
    println!("{total}");
    for (name, count) in total.counters() {
        let least = RARE
            .iter()
            .find(|rare| rare.0 == name)
            .map_or(COMMON, |rare| rare.1);
        assert!(
            count >= least,
            "{name} was taken {count} times, not {least}:\n{total}"
        );
    }
}

/// Shrunk scripts of differences that were found once. Each failed before its fix.
#[test]
fn old_differences_stay_mended() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut replayed = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let script: Script = fs::read_to_string(&path).unwrap().parse().unwrap();
        if let Some(failure) = replay::<Ours>(&script) {
            panic!(
                "{} differs at step {}\n{failure}",
                path.display(),
                failure.at
            );
        }
        replayed += 1;
    }
    assert!(replayed >= 3, "{replayed}");
}
