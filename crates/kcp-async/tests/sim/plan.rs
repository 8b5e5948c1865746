//! What happens in a world, drawn from its seed before it begins.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use kcp_async::{EndpointConfig, FlushPolicy, KcpConfig, NoDelay};
use kcp_netem::LinkConfig;

use crate::links;
use crate::random::{Random, mix};

/// What a world is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Links as people have them.
    Mild,
    /// Links as nobody wants them: up to 40 % loss.
    Harsh,
    /// A clean link that is cut and joined again; progress must resume in time.
    Outage,
    /// A host falls silent for ever, and another comes up at its address.
    Vanish,
    /// A host gets another address.
    Moved,
    /// Hundreds or thousands of short sessions.
    Churn,
    /// Peers that speak plain C KCP.
    Stock,
    /// Headers arrive with flipped bits. Nothing is promised but that everything ends.
    Flipped,
}

pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) class: Class,
    pub(crate) server: EndpointConfig,
    pub(crate) clients: Vec<ClientPlan>,
    pub(crate) events: Vec<(Duration, Event)>,
    pub(crate) flip_one_in: u64,
}

pub(crate) struct ClientPlan {
    pub(crate) addr: SocketAddr,
    pub(crate) config: EndpointConfig,
    pub(crate) up: LinkConfig,
    pub(crate) down: LinkConfig,
    pub(crate) kind: Kind,
    pub(crate) flows: Vec<FlowPlan>,
    /// For the time after the host has vanished or moved.
    pub(crate) again: FlowPlan,
    /// Of the endpoint that comes up after it has vanished.
    pub(crate) config_again: EndpointConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    /// It begins, with this conversation id (0 asks for one).
    StockClient(u32),
    /// One of ours begins.
    StockServer,
}

/// What changes while the flows run. Hosts are numbers of clients.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// Nothing passes between the client and the server.
    Cut(usize, Duration),
    /// Datagrams above so many bytes disappear.
    Hole(usize, usize, Duration),
    /// The client's socket is full.
    Full(usize, Duration),
    /// The server's socket is full.
    ServerFull(Duration),
    /// The clock is suddenly later.
    Jump(Duration),
    /// The client is gone. If so told, another comes up at its address after this time.
    Vanish(usize, Option<Duration>),
    /// The client has another address, and connects anew from there.
    Move(usize),
}

/// One session: so many bytes each way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FlowPlan {
    pub(crate) id: u64,
    pub(crate) start: Duration,
    pub(crate) up: Direction,
    pub(crate) down: Direction,
    /// The server answers only after the client's end of data (half-close).
    pub(crate) answers_late: bool,
    /// The client leaves without a shutdown.
    pub(crate) drops: bool,
    /// The client aborts after having written everything.
    pub(crate) aborts: bool,
}

/// What goes one way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Direction {
    pub(crate) bytes: u64,
    /// As messages, of at most `write_chunk` bytes each, whose boundaries are kept.
    pub(crate) messages: bool,
    pub(crate) write_chunk: u64,
    pub(crate) write_pause: Duration,
    pub(crate) read_chunk: u64,
    pub(crate) read_pause: Duration,
}

pub(crate) const SERVER: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 4_000);

pub(crate) fn client_addr(n: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::new(10, 1, n as u8, 2), 5_000))
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = Random::new(derived(seed, 1 << 32));
        let class = match random.below(100) {
            0..28 => Class::Mild,
            28..50 => Class::Harsh,
            50..60 => Class::Outage,
            60..68 => Class::Vanish,
            68..74 => Class::Moved,
            74..80 => Class::Churn,
            80..92 => Class::Stock,
            _ => Class::Flipped,
        };
        let mut plan = Self {
            seed,
            class,
            server: times(class, protocol(&mut random, class))
                .allow_shared_remote(class != Class::Stock)
                // Where more would be open, protocol.md 11.4.1 ends those that are silent for a second.
                .per_source_limit(MOST_FLOWS as usize)
                .simulation_seed(Some(derived(seed, 0))),
            clients: Vec::new(),
            events: Vec::new(),
            flip_one_in: match class {
                Class::Flipped => random.range(2, 50),
                _ => 0,
            },
        };
        let count = match class {
            Class::Outage => 1,
            Class::Churn => random.range(2, 5),
            _ => random.range(1, 4),
        };
        for n in 0..count as usize {
            let client = plan.draw_client(&mut random, n);
            plan.clients.push(client);
        }
        plan.draw_events(&mut random);
        plan
    }

    fn draw_client(&self, random: &mut Random, n: usize) -> ClientPlan {
        let class = self.class;
        let protocol = protocol(random, class);
        // A timer that doubles outruns a bad link: with 40 % loss its mean wait is infinite.
        let levels = [
            protocol.nodelay_level(),
            self.server.protocol_config().nodelay_level(),
        ];
        let backoff = [NoDelay::Off, NoDelay::Fast]
            .into_iter()
            .find(|level| levels.contains(level))
            .unwrap_or(NoDelay::Linear);
        let (up, down) = links::draw(random, class, backoff, protocol.mtu_bytes());
        let kind = match class {
            Class::Stock => match random.below(4) {
                0 => Kind::StockClient(0),
                1 | 2 => Kind::StockClient(random.range(1, u64::from(u32::MAX)) as u32),
                _ => Kind::StockServer,
            },
            _ => Kind::Ours,
        };
        let flows = match (class, kind) {
            (Class::Churn, _) if random.percent(10) => random.range(500, MOST_FLOWS),
            (Class::Churn, _) => random.range(30, 200),
            (Class::Outage, _) => 1,
            (_, Kind::Ours) => random.range(1, 3),
            _ => 1,
        };
        let addr = client_addr(n);
        let mss = protocol.mss();
        let config = times(class, protocol).allow_shared_remote(flows > 1);
        let seeded = |part| {
            let seed = derived(self.seed, part + n as u64);
            config.clone().simulation_seed(Some(seed))
        };
        ClientPlan {
            addr,
            config: seeded(1),
            config_again: seeded(1_000),
            up,
            down,
            kind,
            flows: (0..flows)
                .map(|flow| self.draw_flow(random, n as u64 * CLIENT_STRIDE + flow, mss))
                .collect(),
            again: self.draw_flow(random, (n as u64 + 1) * CLIENT_STRIDE - 1, mss),
        }
    }

    fn draw_flow(&self, random: &mut Random, id: u64, client_mss: usize) -> FlowPlan {
        let class = self.class;
        let (most, spread) = match class {
            Class::Churn => (2_000, 20_000),
            Class::Harsh | Class::Stock => (150_000, 3_000),
            _ => (300_000, 3_000),
        };
        let mut start = random.millis(0, spread);
        let mut up = direction(random, most, 1);
        let mut down = direction(random, most, 0);
        if class == Class::Outage {
            // Something must be under way all the time.
            up.bytes = 400_000;
            up.write_chunk = random.range(1_000, 4_000);
            up.write_pause = random.millis(50, 150);
            up.read_pause = Duration::ZERO;
            down.bytes = 0;
            start = Duration::ZERO;
        }
        if matches!(class, Class::Vanish | Class::Moved) {
            // How long the end takes to be noticed is measured.
            for direction in [&mut up, &mut down] {
                (direction.write_pause, direction.read_pause) = (Duration::ZERO, Duration::ZERO);
            }
        }
        // A message must fit the window that a peer shows first, whatever it has read by then. Either
        // side may be the one that the host's settings make small.
        let mss = client_mss.min(self.server.protocol_config().mss());
        for direction in [&mut up, &mut down] {
            direction.write_chunk = direction.write_chunk.min(MESSAGE_FRAGMENTS * mss as u64);
        }
        let drops = random.percent(30);
        let aborts = class == Class::Churn && random.percent(5);
        FlowPlan {
            id,
            start,
            up,
            down,
            // Who leaves without a shutdown must not be waited for.
            answers_late: !drops && random.percent(40),
            drops,
            aborts,
        }
    }

    fn draw_events(&mut self, random: &mut Random) {
        let clients = self.clients.len() as u64;
        let count = match self.class {
            Class::Mild | Class::Harsh | Class::Stock | Class::Flipped => random.below(6),
            Class::Outage => 2,
            Class::Vanish | Class::Moved => 1,
            Class::Churn => random.below(3),
        };
        for _ in 0..count {
            let client = random.below(clients) as usize;
            let at = Duration::from_millis(random.size(10, 8_000));
            let event = match self.class {
                Class::Outage => Event::Cut(0, Duration::from_millis(random.size(100, 20_000))),
                Class::Vanish => {
                    let back = random.percent(70).then(|| random.millis(100, 20_000));
                    Event::Vanish(client, back)
                }
                Class::Moved => Event::Move(client),
                _ => match random.below(6) {
                    // The generous times of these worlds survive it.
                    0 | 1 => Event::Cut(client, Duration::from_millis(random.size(20, 15_000))),
                    2 => Event::Hole(
                        client,
                        random.range(60, 900) as usize,
                        random.millis(50, 9_000),
                    ),
                    3 => Event::Full(client, random.millis(1, 3_000)),
                    4 => Event::ServerFull(random.millis(1, 3_000)),
                    _ => Event::Jump(Duration::from_millis(random.size(1, 20_000))),
                },
            };
            self.events.push((at, event));
        }
        self.events.sort_by_key(|&(at, _)| at);
    }

    pub(crate) fn client_of(&self, flow: u64) -> &ClientPlan {
        &self.clients[(flow / CLIENT_STRIDE) as usize]
    }
}

/// A seed for one part of a world.
const fn derived(seed: u64, part: u64) -> u64 {
    mix(mix(seed.wrapping_add(1)).wrapping_add(part + 1))
}

/// Every knob of the protocol, presets first.
fn protocol(random: &mut Random, class: Class) -> KcpConfig {
    let mut config = match random.below(5) {
        0 => KcpConfig::normal(),
        1 => KcpConfig::fast_mode(),
        2 => KcpConfig::turbo_mode(),
        3 => KcpConfig::gaming(),
        _ => KcpConfig::file_transfer(),
    };
    if random.percent(40) {
        config = config.mtu(random.range(200, 1_472) as usize);
    }
    if random.percent(30) {
        config = config.send_window(random.size(1, 512) as u32);
    }
    if random.percent(30) {
        config = config.receive_window(random.size(128, 512) as u32);
    }
    if random.percent(20) {
        config = config.stream_mode(random.percent(50));
    }
    if random.percent(20) {
        config = config.fast_resend(random.below(4) as u32);
    }
    if random.percent(20) {
        config = config.flush_policy(random.pick(&[FlushPolicy::Interval, FlushPolicy::Immediate]));
    }
    if random.percent(20) {
        config = config.interval(random.millis(1, 50));
    }
    if class == Class::Harsh && random.percent(70) {
        config = config.nodelay(random.pick(&[NoDelay::Fast, NoDelay::Linear]));
    }
    config
}

/// How patient endpoints are.
fn times(class: Class, protocol: KcpConfig) -> EndpointConfig {
    let secs = |n| Some(Duration::from_secs(n));
    let config = EndpointConfig::new(protocol);
    match class {
        // Nothing ends here before its time, however bad luck is: not for silence, and not because a path that
        // loses 40 % each way carries no acknowledgement for the 60 s that a close may take (protocol.md 12.9).
        Class::Harsh | Class::Stock => config
            .dead_peer_timeout(None)
            .keepalive(secs(20))
            .idle_timeout(None)
            .unproven_timeout(DAY)
            .connect_timeout(None)
            .linger(Duration::from_secs(7_200))
            .close_stall_timeout(Duration::from_secs(7_200)),
        // Six cuts and jumps of the clock, of 20 s each, may come one after the other.
        Class::Mild => config
            .dead_peer_timeout(secs(180))
            .keepalive(secs(20))
            .unproven_timeout(DAY)
            .connect_timeout(secs(180))
            .linger(DAY),
        Class::Outage => config
            .unproven_timeout(Duration::from_secs(120))
            .connect_timeout(secs(120))
            .linger(DAY),
        // Thousands of sessions: some lose each of ten acknowledgements in a row.
        Class::Churn => config
            .close_stall_timeout(Duration::from_secs(600))
            .dead_peer_timeout(secs(600))
            .keepalive(secs(20))
            .idle_timeout(secs(600))
            .unproven_timeout(DAY)
            .connect_timeout(secs(600))
            .linger(DAY),
        Class::Vanish | Class::Moved => config
            .idle_timeout(Some(PATIENCE))
            .unproven_timeout(Duration::from_secs(30))
            .connect_timeout(secs(30))
            .linger(DAY),
        Class::Flipped => config
            .dead_peer_timeout(secs(8))
            .idle_timeout(secs(20))
            .linger(Duration::from_secs(2)),
    }
}

fn direction(random: &mut Random, most: u64, least: u64) -> Direction {
    let bytes = match random.percent(20) {
        true => least,
        false => random.size(least.max(1), most),
    };
    // At most some hundred calls a flow, and at most some ten seconds of waiting in them.
    let calls = random.size(1, 300);
    let reads = random.size(1, 300);
    let pause = |random: &mut Random, calls: u64| match random.percent(30) {
        true => Duration::from_micros(random.size(100, 10_000_000) / calls),
        false => Duration::ZERO,
    };
    Direction {
        bytes,
        messages: random.percent(50),
        write_chunk: (bytes / calls).max(1),
        write_pause: pause(random, calls),
        read_chunk: (bytes / reads).max(1),
        read_pause: pause(random, reads),
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {:?}", self.seed, self.class)?;
        writeln!(f, "server: {:?}", self.server)?;
        for client in &self.clients {
            writeln!(
                f,
                "client {} ({:?}): {:?}",
                client.addr, client.kind, client.config
            )?;
            writeln!(f, "  up {:?}\n  down {:?}", client.up, client.down)?;
            for flow in client.flows.iter().take(5) {
                writeln!(f, "  {flow:?}")?;
            }
        }
        for (at, event) in &self.events {
            writeln!(f, "{at:?}: {event:?}")?;
        }
        Ok(())
    }
}

/// Flows are numbered by client.
const CLIENT_STRIDE: u64 = 10_000;
const MESSAGE_FRAGMENTS: u64 = 30;
/// Of one client, and so of one source prefix.
const MOST_FLOWS: u64 = 1_200;
/// How long a peer of a host that vanished or moved may take to notice, at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
/// Longer than any flow takes.
pub(crate) const DAY: Duration = Duration::from_secs(86_400);
