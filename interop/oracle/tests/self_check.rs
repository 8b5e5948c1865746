//! The harness against itself: C in the place of the engine shows no difference, and a
//! small defect in it is found, shrunk and explained.

use oracle::{CSubject, Failure, HonestC, Report, Script, replay, run_seed, shrink};

#[test]
fn c_equals_c() {
    for seed in 0..200 {
        let run = run_seed::<HonestC>(seed);
        assert!(
            run.difference.is_none(),
            "seed {seed}: {}",
            run.difference.unwrap()
        );
    }
}

#[test]
fn a_seed_makes_the_same_script_each_time_and_the_script_replays() {
    let one = run_seed::<HonestC>(7);
    let again = run_seed::<HonestC>(7);
    assert_eq!(one.script, again.script);
    assert_eq!(one.world.coverage(), again.world.coverage());
    let text = one.script.to_string();
    let read: Script = text.parse().unwrap();
    assert_eq!(read, one.script);
    assert!(replay::<HonestC>(&read).is_none());
}

/// Looks for the planted defect, shrinks it, and returns the shrunk script.
fn finds<const DEFECT: u8>(most_seeds: u64, most_steps: usize) {
    let (seed, run) = (0..most_seeds)
        .map(|seed| (seed, run_seed::<CSubject<DEFECT>>(seed)))
        .find(|(_, run)| run.difference.is_some())
        .expect("the defect shows");
    let failure = replay::<CSubject<DEFECT>>(&run.script).expect("the script fails again");
    assert_eq!(failure.at + 1, run.script.steps.len());
    let small = shrink::<CSubject<DEFECT>>(&run.script);
    let again: Failure = replay::<CSubject<DEFECT>>(&small).expect("the shrunk script fails");
    assert_eq!(again.difference.kind(), failure.difference.kind());
    assert!(
        replay::<HonestC>(&small).is_none(),
        "the script is not at fault"
    );
    let report = Report {
        seed,
        script: &run.script,
        failure: &failure,
        shrunk: Some((&small, &again)),
    };
    let text = report.to_string();
    assert!(text.contains(&format!("--replay {seed}")), "{text}");
    assert!(small.steps.len() <= most_steps, "{text}");
}

#[test]
fn a_late_fast_resend_is_found() {
    finds::<1>(50, 20);
}

#[test]
fn a_narrow_window_is_found() {
    finds::<2>(5, 10);
}

#[test]
fn a_stale_clock_is_found() {
    finds::<3>(10, 10);
}

#[test]
fn a_long_tick_is_found() {
    finds::<4>(10, 10);
}
