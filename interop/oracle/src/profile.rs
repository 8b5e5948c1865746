//! What kind of script a seed makes: settings, link, application, clock.

use crate::{
    rng::Rng,
    script::{Settings, Setup},
};

/// Everything a script draws once.
#[derive(Clone, Debug)]
pub(crate) struct Profile {
    pub(crate) setup: Setup,
    /// Links towards A and towards B.
    pub(crate) links: [Link; 2],
    pub(crate) apps: [App; 2],
    pub(crate) clocks: [Clock; 2],
    /// Chance that a step changes a setting, asks for a flush or for a sign of life, in ten thousand.
    pub(crate) reconfigure: u32,
    /// Whether only windows change.
    pub(crate) windows_only: bool,
    /// Steps that end the script.
    pub(crate) steps: u64,
    /// Chance of a forged datagram per step, in ten thousand.
    pub(crate) forge: u32,
    /// Chance that a step is held (Immediate), in ten thousand.
    pub(crate) hold: u32,
    /// Whether times fall between milliseconds.
    pub(crate) fine_time: bool,
}

/// One direction of the link. Chances are per datagram, in ten thousand.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) delay_us: u64,
    pub(crate) jitter_us: u64,
    /// Arrivals fall on multiples of this, microseconds: several come at once.
    pub(crate) beat_us: u64,
    /// Whether datagrams keep their order.
    pub(crate) in_order: bool,
    pub(crate) loss: u32,
    pub(crate) duplicate: u32,
    pub(crate) damage: u32,
    pub(crate) join: u32,
    /// Chance that the window in an arriving datagram is replaced by a small one.
    pub(crate) squeeze: u32,
    /// Loses datagrams that hold a PUSH whose sn is a multiple of `.0`, with chance `.1`.
    pub(crate) targeted: Option<(u32, u32)>,
    /// Chance that the link goes dark, per datagram, and for how long.
    pub(crate) outage: (u32, u64),
}

/// What the application of one side does.
#[derive(Clone, Debug)]
pub(crate) struct App {
    /// Longest pause between two acts, microseconds.
    pub(crate) pause_us: u64,
    /// Queued and flying segments up to which it goes on sending.
    pub(crate) fill: u32,
    pub(crate) sizes: Sizes,
    /// Chance that an act is a send, in ten thousand; else it reads.
    pub(crate) send: u32,
    /// Chance that a send is a byte-stream write.
    pub(crate) write: u32,
    pub(crate) reader: Reader,
}

/// How long messages are.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Sizes {
    /// A few bytes.
    Tiny,
    /// Around a multiple of the mss.
    Edges,
    /// Up to a few segments.
    Mixed,
    /// Up to the longest message, and beyond.
    Huge,
}

/// How the application reads.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reader {
    /// Everything, after each arrival.
    Eager,
    /// One message at a time, at its own moments.
    Slow,
    /// Not at all for long times, in microseconds, then everything.
    Stalling(u64),
    /// A few messages, about once in so many microseconds.
    Sipping(u64),
}

/// When update is called.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Clock {
    /// Once per interval.
    Interval,
    /// Every millisecond, or a little more.
    Eager,
    /// Up to this many intervals late or early.
    Irregular(u64),
    /// When C's check says so.
    Check,
    /// When our engine says so; C's check if it does not say.
    Deadline,
    /// In jumps of up to this many microseconds.
    Leaps(u64),
}

/// What a script is about. The rare branches have scripts of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theme {
    /// Anything.
    Any,
    /// Long times between steps: resync, deep back-off, dead links.
    Leaps,
    /// A sender that never stops and a reader that sips: closed windows, probes, fast recover.
    Sipping,
    /// A link without delay: round trips of 0 ms.
    Instant,
    /// Messages around the limit of fragments.
    Fragments,
    /// A peer whose advertised window jumps about: congestion window growth that is cut.
    Squeezed,
    /// A full window on a very lossy link: both ways of retransmission in one flush.
    Storm,
}

impl Profile {
    /// The profile of a seed's generator.
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        let theme = match rng.below(20) {
            0..=8 => Theme::Any,
            9..=10 => Theme::Leaps,
            11..=12 => Theme::Sipping,
            13 => Theme::Instant,
            14 => Theme::Fragments,
            15..=16 => Theme::Squeezed,
            _ => Theme::Storm,
        };
        let ends = [settings(rng), settings(rng)];
        let interval_us = u64::from(ends[0].interval.max(ends[1].interval)) * 1_000;
        let leaps = theme == Theme::Leaps;
        let mut this = Self {
            setup: Setup {
                conv: rng.next_u32(),
                start_us: 0,
                first_sn: first_sn(rng),
                ends,
            },
            links: [Link::draw(rng, leaps), Link::draw(rng, leaps)],
            apps: [
                App::draw(rng, interval_us, leaps),
                App::draw(rng, interval_us, leaps),
            ],
            clocks: [Clock::draw(rng, leaps), Clock::draw(rng, leaps)],
            forge: rng.pick(&[0, 0, 0, 0, 20, 300]),
            hold: rng.pick(&[0, 2_000, 6_000]),
            reconfigure: rng.pick(&[0, 0, 0, 50, 300]),
            windows_only: false,
            steps: rng.pick(&[100, 150, 200, 250, 300, 300, 600, 1_500]),
            fine_time: rng.chance(3_000),
        };
        // At least one side keeps the link busy.
        let busy = rng.below(2) as usize;
        this.apps[busy].fill = this.apps[busy].fill.max(40);
        let mut near = [5, 50, 300, 1_000];
        match theme {
            Theme::Sipping => {
                this.sip(rng, busy);
                near = [1_000, 10_000, 100_000, 400_000];
            }
            Theme::Leaps => near = [1_000, 10_000, 30_000, 100_000],
            Theme::Instant => {
                for link in &mut this.links {
                    (link.delay_us, link.jitter_us, link.beat_us) = (0, 0, 1);
                }
            }
            Theme::Fragments => {
                let small = rng.between_u32(50, 80);
                this.setup.ends[busy].mtu = small;
                this.apps[busy].sizes = Sizes::Huge;
                this.apps[busy].send = 9_000;
                this.apps[busy].write = 0;
                this.setup.ends[busy].stream = rng.chance(6_000);
            }
            Theme::Squeezed => {
                this.calm(busy);
                this.links[busy].squeeze = 8_000;
                for link in &mut this.links {
                    link.delay_us = rng.between(0, 10_000);
                    link.loss = 800;
                }
                for end in &mut this.setup.ends {
                    end.interval = rng.between_u32(5, 30);
                    end.immediate = true;
                    end.mtu = rng.between_u32(50, 110);
                }
                this.clocks = [Clock::Interval; 2];
                this.apps[busy].pause_us = 5_000;
                this.steps = 600;
            }
            Theme::Storm => {
                this.calm(busy);
                for link in &mut this.links {
                    link.loss = rng.pick(&[1_000, 2_500, 4_000]);
                }
                for end in &mut this.setup.ends {
                    end.interval = rng.between_u32(10, 40);
                    end.mtu = rng.between_u32(50, 200);
                }
                let sender = &mut this.setup.ends[busy];
                sender.resend = rng.pick(&[1, 1, 2]);
                sender.send_window = 128;
                sender.no_window = true;
                this.apps[busy].sizes = Sizes::Edges;
                this.apps[busy].pause_us = 5_000;
                this.clocks = [Clock::Irregular(2), Clock::Interval];
                this.steps = rng.pick(&[300, 600, 900]);
                this.apps[busy].send = 9_000;
            }
            Theme::Any => {}
        }
        // Most scripts start just below an edge of 32 bits, near enough to cross it.
        let before_edge = rng.between(1, rng.clone().pick(&near));
        let start_ms = match rng.below(9) {
            0 => rng.between(0, 100_000),
            1..=4 => (1 << 31) - before_edge,
            _ => (1 << 32) - before_edge,
        };
        let fine = if this.fine_time { rng.below(1_000) } else { 0 };
        this.setup.start_us = start_ms * 1_000 + fine;
        this
    }

    /// Side `busy` has much to say, and the link has no other vices than its own theme's.
    fn calm(&mut self, busy: usize) {
        self.apps[busy].fill = self.apps[busy].fill.max(200);
        self.apps[busy].send = 6_000;
        self.apps[1 - busy].reader = Reader::Eager;
        for link in &mut self.links {
            (link.loss, link.damage, link.targeted) = (0, 0, None);
        }
        self.forge = 0;
    }

    /// Side `busy` sends small messages without end, many to a datagram, and the other reads a
    /// few of them now and then.
    fn sip(&mut self, rng: &mut Rng, busy: usize) {
        let reader = 1 - busy;
        let sender = &mut self.setup.ends[busy];
        sender.mtu = rng.between_u32(400, 1_500);
        sender.stream = false;
        sender.send_window = rng.pick(&[128, 256, 1_024]);
        sender.no_window |= rng.chance(7_000);
        let pause_us = u64::from(sender.interval) * 100;
        self.setup.ends[reader].receive_window = 128;
        let period_us = rng.pick(&[
            20_000,
            200_000,
            9_000_000,
            60_000_000,
            400_000_000,
            400_000_000,
        ]);
        self.apps[busy] = App {
            pause_us,
            fill: 150,
            sizes: Sizes::Tiny,
            send: 9_500,
            write: 0,
            reader: Reader::Eager,
        };
        self.apps[reader].reader = Reader::Sipping(period_us);
        self.apps[reader].send = rng.pick(&[0, 500]);
        for link in &mut self.links {
            link.loss = link.loss.min(1_000);
            link.targeted = None;
            link.outage = (0, 0);
        }
        if period_us >= 9_000_000 {
            self.clocks = [Clock::Leaps(period_us.min(50_000_000)); 2];
        }
        self.forge = 0;
        // A window that grows while segments wait behind a full queue.
        self.reconfigure = rng.pick(&[0, 200]);
        self.windows_only = true;
        self.steps = rng.pick(&[600, 800, 1_500]);
    }
}

/// The first sequence number: mostly just below an edge of 32 bits.
fn first_sn(rng: &mut Rng) -> u32 {
    let before_edge = rng.pick(&[1, 2, 6, 20, 100]);
    match rng.below(9) {
        0 => 0,
        1 => rng.next_u32(),
        2..=4 => (1_u32 << 31) - before_edge,
        _ => before_edge.wrapping_neg(),
    }
}

/// Draws the settings of one endpoint.
fn settings(rng: &mut Rng) -> Settings {
    let (send_window, receive_window) = windows(rng);
    Settings {
        nodelay: rng.between_u32(0, 2) as u8,
        interval: interval(rng),
        resend: rng.pick(&[0, 1, 1, 2, 2, 2, 3, 5, 8, 255]),
        fast_limit: rng.pick(&[5, 5, 5, 5, 2, 1, 0]),
        no_window: rng.chance(6_000),
        send_window,
        receive_window,
        mtu: mtu(rng),
        stream: rng.chance(3_500),
        immediate: rng.chance(5_000),
        dead_link: rng.pick(&[20, 10, 4, 3, 2, 2]),
        // An edge of 32 bits stays one under the first two.
        ts_offset: rng.pick(&[0, 0, 0, 0, 1 << 31, 1 << 31, rng.clone().next_u32()]),
    }
}

/// A tick, ms.
pub(crate) fn interval(rng: &mut Rng) -> u32 {
    match rng.below(8) {
        0 => rng.between_u32(1, 9),
        1..=4 => rng.between_u32(10, 40),
        5 | 6 => rng.between_u32(40, 300),
        _ => rng.between_u32(300, 5_000),
    }
}

/// A send and a receive window, segments.
pub(crate) fn windows(rng: &mut Rng) -> (u32, u32) {
    let send = rng.pick(&[1, 2, 4, 16, 32, 32, 64, 64, 128, 256, 1_024, 65_535]);
    (send, rng.pick(&[128, 128, 128, 129, 256, 1_024, 65_535]))
}

/// A datagram size, bytes; mostly small, so that numbers move fast.
pub(crate) fn mtu(rng: &mut Rng) -> u32 {
    match rng.below(24) {
        0 => 50,
        1..=11 => rng.between_u32(50, 110),
        12..=18 => rng.between_u32(100, 600),
        19..=22 => rng.pick(&[576, 1_200, 1_400, 1_400, 1_500]),
        _ => rng.pick(&[4_000, 9_000, 65_507]),
    }
}

impl Link {
    fn draw(rng: &mut Rng, leaps: bool) -> Self {
        let delay_ms = match rng.below(6) {
            0 => 0,
            1 | 2 => rng.between(0, 10),
            3 | 4 => rng.between(5, 60),
            _ => rng.between(50, 400),
        };
        let scale = if leaps { 20 } else { 1 };
        let delay_us = delay_ms * 1_000 * scale;
        let jitter_ms = rng.pick(&[0, 1, 5, 20, 20 + delay_ms, 100]);
        Self {
            delay_us,
            jitter_us: jitter_ms * 1_000 * scale,
            beat_us: rng.pick(&[1, 1, 1, 5_000, 30_000]),
            in_order: rng.chance(2_500),
            loss: rng.pick(&[0, 0, 100, 500, 1_000, 2_000, 4_000]),
            duplicate: rng.pick(&[0, 0, 100, 1_000]),
            damage: rng.pick(&[0, 0, 0, 50, 500, 2_500]),
            join: rng.pick(&[0, 0, 300, 2_000]),
            squeeze: 0,
            targeted: match rng.below(4) {
                0 => Some((rng.between_u32(3, 40), rng.pick(&[8_000, 9_500]))),
                _ => None,
            },
            outage: rng.pick(&[(0, 0), (0, 0), (20, 3_000_000), (5, 40_000_000)]),
        }
    }
}

impl App {
    fn draw(rng: &mut Rng, interval_us: u64, leaps: bool) -> Self {
        let pause_us = match rng.below(4) {
            0 => 1_000,
            1 => interval_us / 4 + 1,
            2 => interval_us,
            _ => 20_000,
        };
        Self {
            pause_us: if leaps { pause_us * 20 } else { pause_us },
            fill: rng.pick(&[0, 3, 10, 40, 200, 400]),
            sizes: match rng.below(10) {
                0..=2 => Sizes::Tiny,
                3..=5 => Sizes::Edges,
                6..=8 => Sizes::Mixed,
                _ => Sizes::Huge,
            },
            send: rng.pick(&[500, 3_000, 6_000, 9_000]),
            write: rng.pick(&[0, 0, 3_000, 10_000]),
            reader: match rng.below(4) {
                0 if leaps || rng.chance(4_000) => {
                    Reader::Stalling(rng.pick(&[2, 30, 200, 900]) * 1_000_000)
                }
                0 => Reader::Slow,
                _ => Reader::Eager,
            },
        }
    }
}

impl Clock {
    /// Draws a clock; `leaps` when the script is about long times.
    pub(crate) fn draw(rng: &mut Rng, leaps: bool) -> Self {
        if leaps {
            return Self::Leaps(rng.pick(&[3_000_000, 5_000_000, 9_000_000, 40_000_000]));
        }
        match rng.below(8) {
            0..=2 => Self::Interval,
            3 => Self::Eager,
            4 => Self::Irregular(rng.between(1, 3)),
            5 => Self::Check,
            6 => Self::Deadline,
            _ => Self::Leaps(rng.pick(&[300_000, 2_000_000, 15_000_000])),
        }
    }
}
