//! Makes scripts: an event loop over links, applications and clocks, in virtual time.
//!
//! The generator looks at the world that carries its steps out (how much is queued, what
//! is in transit), but a step says everything needed to carry it out again.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::{
    Coverage, Damage, Difference, Field, Op, Script, Side, Step, Subject, World,
    profile::{self, App, Clock, Link, Profile, Reader, Sizes},
    rng::Rng,
    wire,
};

/// The steps of one seed, made while they are carried out.
#[derive(Debug)]
pub struct Generator {
    rng: Rng,
    profile: Profile,
    /// Earliest first.
    arrivals: BinaryHeap<Reverse<Arrival>>,
    /// Arrivals scheduled so far.
    order: u64,
    next_update: [u64; 2],
    next_act: [u64; 2],
    /// How many acts in a row of each side came to nothing.
    idle: [u32; 2],
    /// Until when the reader of a side does not read.
    stalled_until: [u64; 2],
    /// Until when the link towards a side is dark.
    dark_until: [u64; 2],
    /// Latest arrival scheduled on a link that keeps the order.
    last_arrival: [u64; 2],
    /// The first datagram number of each direction without a fate.
    next_id: [u64; 2],
    /// What is to be lost before anything else happens.
    lost: Vec<(usize, u64)>,
    /// Steps to take before the next event.
    queued: Vec<Step>,
}

/// A datagram's arrival to come. Ordered by time, then by when it was scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    time: u64,
    order: u64,
    towards: usize,
    id: u64,
    /// Whether another copy follows.
    again: bool,
}

/// The outcome of one seed.
#[derive(Debug)]
pub struct Run<S> {
    /// Everything that was done.
    pub script: Script,
    /// The world at the end.
    pub world: World<S>,
    /// The first difference, found by the last step of the script.
    pub difference: Option<Difference>,
}

/// Runs the script of `seed` until it ends or something differs.
pub fn run_seed<S: Subject>(seed: u64) -> Run<S> {
    let mut generator = Generator::new(seed);
    let setup = generator.profile.setup.clone();
    let mut world = World::new(&setup);
    let mut script = Script {
        setup,
        steps: Vec::new(),
    };
    let (mut emitted, mut busy_at) = (0, 0);
    let end_us = script.setup.start_us + LONGEST_SCRIPT_US;
    while world.coverage().steps < generator.profile.steps && world.now_us() < end_us {
        let Coverage {
            steps, datagrams, ..
        } = *world.coverage();
        if datagrams > emitted {
            (emitted, busy_at) = (datagrams, steps);
        } else if steps > busy_at + QUIET_STEPS {
            // Jammed by damage, or nothing to say: another seed is worth more.
            break;
        }
        let step = generator.next(&world);
        let outcome = world.step(&step);
        script.steps.push(step);
        if let Err(difference) = outcome {
            return Run {
                script,
                world,
                difference: Some(difference),
            };
        }
        generator.observe(&world);
    }
    Run {
        script,
        world,
        difference: None,
    }
}

impl Generator {
    /// The generator of `seed`.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let profile = Profile::draw(&mut rng);
        let start = profile.setup.start_us;
        let mut this = Self {
            rng,
            profile,
            arrivals: BinaryHeap::new(),
            order: 0,
            next_update: [start; 2],
            next_act: [start; 2],
            idle: [0; 2],
            stalled_until: [0; 2],
            dark_until: [0; 2],
            last_arrival: [0; 2],
            next_id: [0; 2],
            lost: Vec::new(),
            queued: Vec::new(),
        };
        for index in [0, 1] {
            if this.rng.chance(8_000) {
                let step = this.step_at(Side::BOTH[index], 0, Op::Update);
                this.queued.push(step);
            } else {
                this.next_update[index] += this.rng.below(300_000);
            }
        }
        this
    }

    /// What happens next.
    pub fn next<S: Subject>(&mut self, world: &World<S>) -> Step {
        if let Some((towards, id)) = self.lost.pop()
            && let Some(pick) = place(world, towards, id)
        {
            return self.step_at(Side::BOTH[towards], 0, Op::Lose { pick });
        }
        if let Some(step) = self.queued.pop() {
            return step;
        }
        if self.rng.chance(self.profile.forge) {
            let side = self.rng.pick(&Side::BOTH);
            let bytes = self.forged(world, side);
            return self.step_at(side, 0, Op::Inject(bytes));
        }
        if self.rng.chance(self.profile.reconfigure) {
            return self.reconfigure(world);
        }
        loop {
            if let Some(step) = self.event(world) {
                return step;
            }
        }
    }

    /// Decides about the datagrams that the last step put on the link.
    pub fn observe<S: Subject>(&mut self, world: &World<S>) {
        for towards in [0, 1] {
            let transit = world.transit(Side::BOTH[towards]);
            let known = self.next_id[towards];
            let new = transit
                .iter()
                .rev()
                .take_while(|datagram| datagram.id >= known)
                .count();
            for datagram in &transit[transit.len() - new..] {
                self.fate(world.now_us(), towards, datagram.id, &datagram.bytes);
                self.next_id[towards] = datagram.id + 1;
            }
        }
    }

    /// Carries out the earliest event; `None` when it came to nothing.
    fn event<S: Subject>(&mut self, world: &World<S>) -> Option<Step> {
        let now = world.now_us();
        let arrival = self.arrivals.peek().map_or(u64::MAX, |next| next.0.time);
        let index = self.rng.below(2) as usize;
        let other = 1 - index;
        let events = [
            (arrival, 0, 0),
            (self.next_update[index], 1, index),
            (self.next_update[other], 1, other),
            (self.next_act[index], 2, index),
            (self.next_act[other], 2, other),
        ];
        let &(time, kind, index) = events.iter().min_by_key(|event| event.0)?;
        let after = time.saturating_sub(now);
        match kind {
            0 => {
                let Arrival {
                    towards, id, again, ..
                } = self.arrivals.pop()?.0;
                let pick = place(world, towards, id)?;
                Some(self.arrive(world, towards, after, pick, again))
            }
            1 => Some(self.update(world, index, time, after)),
            _ => {
                let step = self.act(world, index, time, after);
                self.idle[index] = if step.is_some() {
                    0
                } else {
                    self.idle[index] + 1
                };
                step
            }
        }
    }

    fn arrive<S: Subject>(
        &mut self,
        world: &World<S>,
        towards: usize,
        after: u64,
        pick: u32,
        keep: bool,
    ) -> Step {
        let side = Side::BOTH[towards];
        let link = &self.profile.links[towards];
        let Link {
            damage,
            join,
            squeeze,
            ..
        } = *link;
        let damage = if self.rng.chance(damage) {
            self.damage()
        } else if self.rng.chance(squeeze) {
            let value = self.rng.between_u32(2, 5);
            Damage::Patch {
                segment: u32::MAX,
                field: Field::Wnd,
                value,
            }
        } else if self.rng.chance(join) {
            Damage::Join
        } else {
            Damage::None
        };
        if matches!(self.profile.apps[towards].reader, Reader::Eager) {
            self.next_act[towards] = self.next_act[towards].min(world.now_us() + after);
        }
        self.step_at(side, after, Op::Deliver { pick, keep, damage })
    }

    fn update<S: Subject>(
        &mut self,
        world: &World<S>,
        index: usize,
        time: u64,
        after: u64,
    ) -> Step {
        let side = Side::BOTH[index];
        let settings = world.settings(side);
        let interval_us = u64::from(settings.interval) * 1_000;
        let core = world.core(side);
        let ms = ((time / 1_000) as u32).wrapping_add(settings.ts_offset);
        let check = u64::from(core.check(ms).wrapping_sub(ms)) * 1_000;
        let wait = match self.profile.clocks[index] {
            Clock::Interval => interval_us,
            Clock::Eager => self.rng.between(1_000, 2_500),
            Clock::Irregular(most) => self.rng.below(most * interval_us + 1),
            Clock::Check => check.max(1_000),
            Clock::Deadline => match world.deadline(side) {
                Some(Some(deadline)) => {
                    deadline.saturating_sub(time).clamp(1_000, LONGEST_PAUSE_US)
                }
                // Asleep: look again at about the time of the next act.
                Some(None) => self.profile.apps[index].pause_us.max(10_000),
                None => check.max(1_000),
            },
            Clock::Leaps(most) => self.rng.below(most + 1),
        };
        // A millisecond early or late now and then.
        let wait = match self.rng.below(40) {
            0 => wait.saturating_sub(1_000),
            1 => wait + 1_000,
            2 => 0,
            _ => wait,
        };
        self.next_update[index] = self.settle(time + wait);
        if self.rng.chance(50) && !matches!(self.profile.clocks[index], Clock::Leaps(_)) {
            self.profile.clocks[index] = Clock::draw(&mut self.rng, false);
        }
        self.step_at(side, after, Op::Update)
    }

    fn act<S: Subject>(
        &mut self,
        world: &World<S>,
        index: usize,
        time: u64,
        after: u64,
    ) -> Option<Step> {
        let side = Side::BOTH[index];
        let App {
            pause_us,
            fill,
            sizes,
            send,
            write,
            reader,
        } = self.profile.apps[index].clone();
        let pause = self.rng.between(100, pause_us.max(200)) << self.idle[index].min(12);
        let pause = pause.min(LONGEST_PAUSE_US.max(pause_us));
        self.next_act[index] = self.settle(time + pause);
        let core = world.core(side);
        let state = core.visible();
        let readable = core.peek_size();
        if readable >= 0 && matches!(reader, Reader::Eager) && !self.rng.chance(1_000) {
            // Come back at once for the next message.
            self.next_act[index] = time;
            return Some(self.read(side, after, readable));
        }
        if let Reader::Stalling(most) = reader
            && self.stalled_until[index] <= time
        {
            if readable < 0 && self.rng.chance(500) {
                self.stalled_until[index] = time + self.rng.below(most + 1);
            } else if readable >= 0 {
                self.next_act[index] = time;
                return Some(self.read(side, after, readable));
            }
        }
        if let Reader::Sipping(period) = reader
            && readable >= 0
            && self.stalled_until[index] <= time
        {
            if self.rng.chance(5_000) {
                self.stalled_until[index] = time + self.rng.below(2 * period);
            }
            self.next_act[index] = time;
            return Some(self.read(side, after, readable));
        }
        if self.rng.chance(send) {
            let queued = state.nsnd_buf + state.nsnd_que;
            if queued > i64::from(fill) {
                return None;
            }
            let write = self.rng.chance(write);
            let stream = self.profile.setup.ends[index].stream;
            let len = self.size(sizes, core.mss(), write || stream);
            let op = if write { Op::Write(len) } else { Op::Send(len) };
            return Some(self.step_at(side, after, op));
        }
        let curious = match (readable, state.nrcv_que) {
            (0.., _) => 10_000,
            (_, 1..) => 1_500,
            _ => 120,
        };
        if self.stalled_until[index] > time || !self.rng.chance(curious) {
            return None;
        }
        Some(self.read(side, after, readable))
    }

    /// A new setting, of those that may change, or a wish of the application.
    fn reconfigure<S: Subject>(&mut self, world: &World<S>) -> Step {
        let side = self.rng.pick(&Side::BOTH);
        let rng = &mut self.rng;
        let op = match rng.below(6) {
            0 | 1 if !self.profile.windows_only => {
                // Often below, but above a third: C's buffer allows no more.
                let mtu = world.settings(side).mtu;
                let lower = rng.between_u32((mtu / 3).max(50), mtu);
                Op::Mtu(if rng.chance(7_000) {
                    lower
                } else {
                    profile::mtu(rng)
                })
            }
            0..=2 => {
                let (send, receive) = profile::windows(rng);
                Op::Windows(send, receive)
            }
            3 => Op::Flush,
            4 => Op::Ask,
            _ => Op::Interval(profile::interval(rng)),
        };
        self.step_at(side, 0, op)
    }

    /// A receive or a peek, mostly with room for what is there.
    fn read(&mut self, side: Side, after: u64, readable: i32) -> Step {
        let size = u32::try_from(readable).unwrap_or(64);
        let room = match self.rng.below(40) {
            0 => 0,
            1 => size.saturating_sub(1),
            2 => self.rng.between_u32(0, 100),
            3..=6 => size + self.rng.between_u32(0, 100),
            _ => size,
        };
        let peek = self.rng.chance(700);
        let op = if peek {
            Op::Peek(room.max(1))
        } else {
            Op::Recv(room)
        };
        self.step_at(side, after, op)
    }

    /// The length of a message.
    fn size(&mut self, sizes: Sizes, mss: u32, unlimited: bool) -> u32 {
        match sizes {
            Sizes::Tiny => self.rng.between_u32(0, 12),
            Sizes::Edges => {
                let edge = mss * self.rng.between_u32(1, 4);
                edge + self.rng.between_u32(0, 2) - 1
            }
            Sizes::Mixed => self.rng.between_u32(1, 5 * mss.min(2_000)),
            Sizes::Huge if mss < 200 => match self.rng.below(8) {
                0 => 127 * mss + self.rng.between_u32(0, 1),
                1 => 128 * mss,
                2..=3 if unlimited => 200 * mss,
                2 => 128 * mss,
                3 => self.rng.between_u32(1, mss),
                4 => self.rng.between_u32(1, 127 * mss),
                _ => self.rng.between_u32(1, 6 * mss),
            },
            Sizes::Huge => match self.rng.below(40) {
                0 => 128 * mss,
                _ => self.rng.between_u32(1, 3 * mss),
            },
        }
    }

    /// Decides what the link does to a datagram.
    fn fate(&mut self, now: u64, towards: usize, id: u64, bytes: &[u8]) {
        let link: Link = self.profile.links[towards].clone();
        let rng = &mut self.rng;
        if rng.chance(link.outage.0) {
            self.dark_until[towards] = now + rng.below(link.outage.1 + 1);
        }
        let aimed = link.targeted.is_some_and(|(every, chance)| {
            let hit = wire::headers(bytes)
                .any(|header| header.cmd == wire::PUSH && header.sn.is_multiple_of(every));
            hit && rng.chance(chance)
        });
        if aimed || self.dark_until[towards] > now || rng.chance(link.loss) {
            self.lost.push((towards, id));
            return;
        }
        let mut time = now + link.delay_us + rng.below(link.jitter_us + 1);
        time = time.next_multiple_of(link.beat_us);
        if link.in_order {
            time = time.max(self.last_arrival[towards]);
            self.last_arrival[towards] = time;
        }
        let again = rng.chance(link.duplicate);
        let later = rng.below(link.jitter_us + 200_000);
        let time = self.settle(time);
        self.schedule(time, towards, id, again);
        if again {
            let time = self.settle(time + later);
            self.schedule(time, towards, id, false);
        }
    }

    fn schedule(&mut self, time: u64, towards: usize, id: u64, again: bool) {
        self.order += 1;
        let order = self.order;
        self.arrivals.push(Reverse(Arrival {
            time,
            order,
            towards,
            id,
            again,
        }));
    }

    /// What a bad link does to a datagram that it delivers.
    fn damage(&mut self) -> Damage {
        let rng = &mut self.rng;
        match rng.below(10) {
            0..=2 => Damage::Flip(rng.next_u32()),
            3 if rng.chance(5_000) => Damage::Cut(rng.between_u32(0, wire::HEADER as u32 - 1)),
            3 => Damage::Cut(rng.next_u32()),
            4 => Damage::Pad(rng.between_u32(1, 60)),
            _ => {
                let field = rng.pick(&Field::ALL);
                let value = match (field, rng.below(3)) {
                    (Field::Cmd, _) => rng.between_u32(80, 87),
                    (Field::Wnd, 0) => 0,
                    (Field::Wnd, 1) => rng.between_u32(1, 8),
                    (Field::Len, 0) => u32::MAX - rng.between_u32(0, 30),
                    (_, 0) => rng.next_u32(),
                    _ => rng.between_u32(0, 200),
                };
                Damage::Patch {
                    segment: rng.next_u32(),
                    field,
                    value,
                }
            }
        }
    }

    /// A datagram that the peer never sent, with numbers near those of the receiver.
    fn forged<S: Subject>(&mut self, world: &World<S>, side: Side) -> Vec<u8> {
        let settings = world.settings(side);
        let (window, offset) = (settings.receive_window, settings.ts_offset);
        let state = world.core(side).visible();
        let clock = ((world.now_us() / 1_000) as u32).wrapping_add(offset);
        let conv = self.profile.setup.conv;
        let rng = &mut self.rng;
        let mut bytes = Vec::new();
        for _ in 0..rng.between(1, 4) {
            let near = |rng: &mut Rng, base: i64, spread: u32| {
                (base as u32)
                    .wrapping_add(rng.between_u32(0, 2 * spread))
                    .wrapping_sub(spread)
            };
            let flying = (state.snd_nxt - state.snd_una) as u32 & 0xffff;
            let len = rng.pick(&[0, 0, 1, 30]);
            let at = bytes.len();
            bytes.resize(at + wire::HEADER + len as usize, 0x77);
            let ts = match rng.below(4) {
                0 => rng.next_u32(),
                1 => clock.wrapping_add(1 << 30),
                _ => near(rng, clock.into(), 300),
            };
            let sn = match rng.below(5) {
                0 => near(rng, state.snd_una, 3),
                1 => near(rng, state.snd_nxt, 3),
                2 => (state.snd_una as u32).wrapping_add(rng.between_u32(0, flying)),
                3 => near(rng, state.rcv_nxt, 4),
                _ => near(rng, state.rcv_nxt, 3).wrapping_add(window),
            };
            let una = match rng.below(12) {
                0 => near(rng, state.snd_nxt, 2),
                1 => rng.next_u32(),
                _ => near(rng, state.snd_una - 1, 1),
            };
            let fields = [
                (
                    Field::Conv,
                    if rng.chance(300) {
                        rng.next_u32()
                    } else {
                        conv
                    },
                ),
                (
                    Field::Cmd,
                    rng.pick(&[81, 81, 82, 82, 82, 83, 84, 85, 86, 80]),
                ),
                (Field::Frg, rng.pick(&[0, 0, 0, 1, 2, 127, 255])),
                (Field::Wnd, rng.pick(&[0, 0, 1, 100, 128, 65_535])),
                (Field::Ts, ts),
                (Field::Sn, sn),
                (Field::Una, una),
                (Field::Len, if rng.chance(300) { len + 1 } else { len }),
            ];
            for (field, value) in fields {
                wire::patch(&mut bytes, at, field, value);
            }
        }
        bytes
    }

    /// A step, held back now and then under Immediate.
    fn step_at(&mut self, side: Side, after_us: u64, op: Op) -> Step {
        let immediate = self.profile.setup.ends[side.index()].immediate;
        let holdable = !matches!(op, Op::Update | Op::Lose { .. });
        let hold = immediate && holdable && self.rng.chance(self.profile.hold);
        Step {
            after_us,
            side,
            op,
            hold,
        }
    }

    /// Puts a time on a whole millisecond, unless the script has fine time.
    const fn settle(&self, time: u64) -> u64 {
        if self.profile.fine_time {
            time
        } else {
            time / 1_000 * 1_000
        }
    }
}

/// Where a datagram is among those in transit.
fn place<S: Subject>(world: &World<S>, towards: usize, id: u64) -> Option<u32> {
    let transit = world.transit(Side::BOTH[towards]);
    let at = transit
        .binary_search_by_key(&id, |datagram| datagram.id)
        .ok()?;
    u32::try_from(at).ok()
}

/// The generator's longest wait for an application or a deadline.
const LONGEST_PAUSE_US: u64 = 60_000_000;

/// Virtual time after which a script ends: C compares clocks modulo 2^32 ms, so distances must
/// stay below 2^31 ms, and our engine's do not wrap (protocol.md 9.4, 11.8).
const LONGEST_SCRIPT_US: u64 = 1_000_000_000_000;

/// Steps without a datagram after which a script ends early.
const QUIET_STEPS: u64 = 220;
