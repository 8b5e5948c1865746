//! One run of C's test program.

use oracle::{Datagrams, Subject};

use crate::link::{Carried, Link};

/// How the endpoints are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Driver {
    /// As the program does: an update each millisecond, before anything else happens in it.
    EachMillisecond,
    /// The program's loop as our engine wants it: an update at its deadline; datagrams leave at the
    /// end of a turn, when what has come has been read and answered.
    Turns,
    /// As in kcp-async: datagrams leave after the arrivals of a moment, and again after each write of
    /// the application that is woken to read them. ACKs alone wait for its answer, or until it has read
    /// everything.
    EachWrite,
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Round trips of the answers, ms, in order.
    pub(crate) rtts: Vec<u32>,
    /// From the first millisecond to the last answer, ms.
    pub(crate) total: u32,
    /// What left the asking side, and the answering one.
    pub(crate) carried: [Carried; 2],
}

impl Outcome {
    /// Sum of the round trips, ms: they are equally many in each run.
    pub(crate) fn sum(&self) -> u64 {
        self.rtts.iter().map(|&rtt| u64::from(rtt)).sum()
    }

    pub(crate) fn max(&self) -> u32 {
        self.rtts.iter().copied().max().unwrap_or_default()
    }
}

/// `test.cpp: test()`: the first end sends its index and the time every 20 ms, the second sends back
/// what it gets, until 1,001 answers are there. They come in order, or this panics.
pub(crate) fn run<S: Subject>(ends: [S; 2], driver: Driver, seed: u64) -> Outcome {
    let mut world = World {
        ends,
        wakes: [Some(0); 2],
        driver,
        links: [0, 1].map(|direction| Link::new(seed, direction)),
        now: 0,
        output: Datagrams::new(),
    };
    let mut rtts = Vec::with_capacity(ANSWERS);
    let mut buffer = [0; 10];
    let mut next_message = PAUSE;
    let mut index = 0_u32;
    while rtts.len() < ANSWERS {
        world.now += 1;
        assert!(world.now < PATIENCE, "seed {seed}: no end in sight");
        world.wake();
        // Whether there is anything to do for an end behind its wake-up.
        let mut touched = [false; 2];
        while world.now >= next_message {
            next_message += PAUSE;
            let message = [index.to_le_bytes(), world.now.to_le_bytes()].concat();
            index += 1;
            world.send(0, &message);
            touched[0] = true;
        }
        for end in [1, 0] {
            touched[end] |= world.arrivals(end);
        }
        while touched[1]
            && let Ok(len) = usize::try_from(world.ends[1].recv(&mut buffer))
        {
            world.send(1, &buffer[..len]);
        }
        while touched[0] && world.ends[0].recv(&mut buffer) == 8 {
            let field = |at: usize| {
                let bytes = buffer[at..at + 4].try_into().expect("four bytes");
                u32::from_le_bytes(bytes)
            };
            assert_eq!(field(0) as usize, rtts.len(), "seed {seed}");
            rtts.push(world.now - field(4));
        }
        for end in (0..2).filter(|&end| touched[end] && driver != Driver::EachMillisecond) {
            world.ends[end].release_acks();
            world.serve(end);
        }
    }
    // The program reads all that has come before it looks at the count.
    rtts.truncate(ANSWERS);
    Outcome {
        rtts,
        total: world.now,
        carried: world.links.map(|link| link.carried()),
    }
}

struct World<S> {
    ends: [S; 2],
    /// When each end wants its next update, microseconds.
    wakes: [Option<u64>; 2],
    driver: Driver,
    /// Each from the end of its index to the other.
    links: [Link; 2],
    /// Milliseconds.
    now: u32,
    output: Datagrams,
}

impl<S: Subject> World<S> {
    const fn now_us(&self) -> u64 {
        self.now as u64 * 1_000
    }

    /// Updates the ends whose time has come.
    fn wake(&mut self) {
        let now_us = self.now_us();
        for end in 0..2 {
            if self.driver == Driver::EachMillisecond {
                self.ends[end].update(now_us);
                self.transmit(end);
            } else if self.wakes[end].is_some_and(|wake| wake <= now_us) {
                self.serve(end);
            }
        }
    }

    fn send(&mut self, end: usize, message: &[u8]) {
        assert_eq!(self.ends[end].send(message), 8);
        if self.driver == Driver::EachWrite {
            self.serve(end);
        }
    }

    /// Whether something has come.
    fn arrivals(&mut self, end: usize) -> bool {
        let now_us = self.now_us();
        let mut any = false;
        while let Some(datagram) = self.links[1 - end].receive(self.now) {
            assert_eq!(self.ends[end].input(now_us, &datagram), 0);
            any = true;
        }
        if any && self.driver == Driver::EachWrite {
            if self.ends[end].peek_size() >= 0 {
                self.ends[end].hold_acks();
            }
            self.serve(end);
        }
        any
    }

    /// Lets an engine do what it wants to do now.
    fn serve(&mut self, end: usize) {
        let now_us = self.now_us();
        let ours = &mut self.ends[end];
        let deadline = ours.deadline().expect("an engine that names deadlines");
        if deadline.is_some_and(|deadline| deadline <= now_us) {
            ours.update(now_us);
        }
        self.transmit(end);
        self.wakes[end] = self.ends[end].deadline().flatten();
    }

    fn transmit(&mut self, end: usize) {
        self.ends[end].drain(self.now_us(), &mut self.output);
        for datagram in self.output.iter() {
            self.links[end].send(self.now, datagram);
        }
        self.output.clear();
    }
}

/// Between two messages, and before the first, ms.
const PAUSE: u32 = 20;

/// `if (next > 1000) break`.
const ANSWERS: usize = 1_001;

/// Ten times as long as the slowest run takes, ms.
const PATIENCE: u32 = 600_000;
