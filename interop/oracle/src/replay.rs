//! Replaying scripts, and making a failing one small.

use std::panic;

use crate::{Damage, Difference, InFlight, Op, Script, Step, Subject, World};

/// How a script failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// The step that showed it, from 0.
    pub at: usize,
    /// What differed.
    pub difference: Difference,
    /// What C had in flight at that endpoint before the step.
    pub in_flight: Vec<InFlight>,
    /// The datagram that arrived there last.
    pub arrived: Vec<u8>,
}

/// Carries out a script; the first difference, if there is one.
pub fn replay<S: Subject>(script: &Script) -> Option<Failure> {
    let mut world = World::<S>::new(&script.setup);
    let (at, difference) = script
        .steps
        .iter()
        .enumerate()
        .find_map(|(at, step)| Some((at, world.step(step).err()?)))?;
    let arrived = world.last_arrival().to_vec();
    let side = script.steps[at].side;
    let mut world = World::<S>::new(&script.setup);
    for step in &script.steps[..at] {
        // The same steps went well a moment ago.
        let _ = world.step(step);
    }
    let mut in_flight = Vec::new();
    world
        .core(side)
        .for_each_in_flight(|segment| in_flight.push(segment));
    Some(Failure {
        at,
        difference,
        in_flight,
        arrived,
    })
}

/// Steps that one call of [`shrink`] may carry out.
const SHRINK_STEPS: u64 = 30_000_000;

/// Removes and simplifies steps as long as the script fails in the same way. Returns the
/// script unchanged if it does not fail.
pub fn shrink<S: Subject>(script: &Script) -> Script {
    let Some(failure) = replay::<S>(script) else {
        return script.clone();
    };
    let mut shrinker = Shrinker {
        kind: failure.difference.kind(),
        script: script.clone(),
        left: SHRINK_STEPS,
    };
    shrinker.script.steps.truncate(failure.at + 1);
    // A script that panics does so in thousands of replays; the first one has been printed.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    loop {
        let before = shrinker.script.clone();
        shrinker.drop_chunks::<S>();
        shrinker.simplify_steps::<S>();
        if shrinker.script == before || shrinker.left == 0 {
            break;
        }
    }
    panic::set_hook(hook);
    shrinker.script
}

/// A script on its way down.
struct Shrinker {
    kind: &'static str,
    script: Script,
    /// Steps that may still be carried out.
    left: u64,
}

impl Shrinker {
    /// Takes `steps` over if they still fail.
    fn accept<S: Subject>(&mut self, steps: Vec<Step>) -> bool {
        let cost = steps.len() as u64;
        if cost == 0 || self.left < cost {
            self.left = if cost == 0 { self.left } else { 0 };
            return false;
        }
        self.left -= cost;
        let mut candidate = Script {
            setup: self.script.setup.clone(),
            steps,
        };
        match replay::<S>(&candidate) {
            Some(failure) if failure.difference.kind() == self.kind => {
                candidate.steps.truncate(failure.at + 1);
                self.script = candidate;
                true
            }
            _ => false,
        }
    }

    /// Removes runs of steps, long ones first. Their time goes to the step behind them, or
    /// is dropped where that fails too.
    fn drop_chunks<S: Subject>(&mut self) {
        let mut size = self.script.steps.len() / 2;
        while size > 0 {
            let mut from = 0;
            while from + size < self.script.steps.len() {
                let steps = &self.script.steps;
                let time: u64 = steps[from..from + size]
                    .iter()
                    .map(|step| step.after_us)
                    .sum();
                let mut without = [&steps[..from], &steps[from + size..]].concat();
                let hurried = without.clone();
                without[from].after_us += time;
                if !self.accept::<S>(without) && !self.accept::<S>(hurried) {
                    from += size;
                }
            }
            size /= 2;
        }
    }

    /// Makes single steps plainer.
    fn simplify_steps<S: Subject>(&mut self) {
        let mut at = 0;
        while at < self.script.steps.len() {
            for simpler in simpler(&self.script.steps[at]) {
                let mut steps = self.script.steps.clone();
                steps[at] = simpler;
                self.accept::<S>(steps);
                if at >= self.script.steps.len() {
                    return;
                }
            }
            at += 1;
        }
    }
}

/// Plainer forms of a step.
fn simpler(step: &Step) -> Vec<Step> {
    let mut all = Vec::new();
    if step.hold {
        all.push(Step {
            hold: false,
            ..step.clone()
        });
    }
    if step.after_us > 0 {
        all.push(Step {
            after_us: 0,
            ..step.clone()
        });
        all.push(Step {
            after_us: step.after_us / 2_000 * 1_000,
            ..step.clone()
        });
    }
    let mut op = |op| all.push(Step { op, ..step.clone() });
    match step.op {
        Op::Send(len) if len > 1 => {
            op(Op::Send(1));
            op(Op::Send(len / 2));
        }
        Op::Write(len) if len > 1 => {
            op(Op::Send(1));
            op(Op::Write(len / 2));
        }
        Op::Deliver { pick, keep, damage } => {
            if damage != Damage::None {
                op(Op::Deliver {
                    pick,
                    keep,
                    damage: Damage::None,
                });
            }
            if keep {
                op(Op::Deliver {
                    pick,
                    keep: false,
                    damage,
                });
            }
            if pick > 0 {
                op(Op::Deliver {
                    pick: 0,
                    keep,
                    damage,
                });
            }
        }
        _ => {}
    }
    all.retain(|simpler| simpler != step);
    all
}
