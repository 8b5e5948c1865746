//! Long runs of the oracle, and replays.

use std::{
    env, fs,
    process::ExitCode,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use oracle::{Coverage, Ours, Report, Script, replay, run_seed, shrink};

const USAGE: &str = "\
oracle: the C core of KCP beside our engine, step by step

  --steps N         steps to carry out (default 1000000)
  --seed S          first seed (default 0); seeds follow each other
  --threads N       threads (default: all)
  --minutes N       stop after that time even if steps are left
  --replay S        run one seed, and shrink it if it fails
  --script FILE     replay a script
  --no-shrink       do not shrink a failure

Exits with 0 if nothing differed, 1 if something did, 2 on a usage error.";

/// What the command line asks for.
struct Plan {
    steps: u64,
    seed: u64,
    threads: usize,
    limit: Option<Duration>,
    replay: Option<u64>,
    script: Option<String>,
    shrink: bool,
}

fn main() -> ExitCode {
    match read_plan() {
        Ok(Some(plan)) => run(&plan),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}

fn read_plan() -> Result<Option<Plan>, String> {
    let mut plan = Plan {
        steps: 1_000_000,
        seed: 0,
        threads: thread::available_parallelism().map_or(1, usize::from),
        limit: None,
        replay: None,
        script: None,
        shrink: true,
    };
    let mut words = env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
        let number = |text: String| {
            text.replace('_', "")
                .parse::<u64>()
                .map_err(|_| format!("not a number: {text}"))
        };
        match word.as_str() {
            "--steps" => plan.steps = number(value()?)?,
            "--seed" => plan.seed = number(value()?)?,
            "--threads" => plan.threads = number(value()?)?.max(1) as usize,
            "--minutes" => plan.limit = Some(Duration::from_secs(60 * number(value()?)?)),
            "--replay" => plan.replay = Some(number(value()?)?),
            "--script" => plan.script = Some(value()?),
            "--no-shrink" => plan.shrink = false,
            "--help" | "-h" => return Ok(None),
            _ => return Err(format!("unknown option {word}")),
        }
    }
    Ok(Some(plan))
}

fn run(plan: &Plan) -> ExitCode {
    let failed = if let Some(path) = &plan.script {
        match fs::read_to_string(path)
            .map_err(|error| error.to_string())
            .and_then(|text| text.parse::<Script>().map_err(|error| error.to_string()))
        {
            Ok(script) => fails(plan, 0, &script),
            Err(message) => {
                eprintln!("{path}: {message}");
                return ExitCode::from(2);
            }
        }
    } else if let Some(seed) = plan.replay {
        let run = run_seed::<Ours>(seed);
        println!("{}", run.world.coverage());
        fails(plan, seed, &run.script)
    } else {
        long_run(plan)
    };
    if failed {
        ExitCode::from(1)
    } else {
        ExitCode::SUCCESS
    }
}

/// Replays a script and reports how it fails.
fn fails(plan: &Plan, seed: u64, script: &Script) -> bool {
    let Some(failure) = replay::<Ours>(script) else {
        println!("no difference in {} steps", script.steps.len());
        return false;
    };
    let small = plan.shrink.then(|| shrink::<Ours>(script));
    let shrunk = small
        .as_ref()
        .and_then(|small| Some((small, replay::<Ours>(small)?)));
    let shrunk = shrunk.as_ref().map(|(small, failure)| (*small, failure));
    println!(
        "{}",
        Report {
            seed,
            script,
            failure: &failure,
            shrunk
        }
    );
    true
}

fn long_run(plan: &Plan) -> bool {
    let start = Instant::now();
    let next_seed = AtomicU64::new(plan.seed);
    let steps = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let total = Mutex::new(Coverage::default());
    let failing = Mutex::new(None);
    thread::scope(|scope| {
        for _ in 0..plan.threads {
            scope.spawn(|| {
                let mut mine = Coverage::default();
                while !stop.load(Ordering::Relaxed)
                    && steps.load(Ordering::Relaxed) < plan.steps
                    && plan.limit.is_none_or(|limit| start.elapsed() < limit)
                {
                    let seed = next_seed.fetch_add(1, Ordering::Relaxed);
                    let run = run_seed::<Ours>(seed);
                    steps.fetch_add(run.world.coverage().steps, Ordering::Relaxed);
                    mine.add(run.world.coverage());
                    if run.difference.is_some() {
                        stop.store(true, Ordering::Relaxed);
                        *failing.lock().expect("no panic holds it") = Some((seed, run.script));
                    }
                }
                total.lock().expect("no panic holds it").add(&mine);
            });
        }
    });
    println!("{}", total.into_inner().expect("no thread panicked"));
    println!("seeds {} to {}", plan.seed, next_seed.into_inner() - 1);
    println!("{:.1} s", start.elapsed().as_secs_f64());
    match failing.into_inner().expect("no thread panicked") {
        Some((seed, script)) => fails(plan, seed, &script),
        None => false,
    }
}
