//! Pairs of engines over one emulated path, in virtual time.

use std::collections::VecDeque;
use std::sync::Arc;

use kcp_engine::{BufferPool, Conv, EngineOptions, Instant, KcpConfig, KcpEngine, Role};
use kcp_netem::{Link, LinkConfig, Time};

/// What a datagram belongs to, and its bytes.
type Labelled = (usize, Vec<u8>);

/// Flows that share a link each way. Time is in microseconds.
pub(crate) struct World {
    pub(crate) flows: Vec<Flow>,
    up: Link<Labelled>,
    down: Link<Labelled>,
    now: u64,
    wire: Vec<u8>,
}

/// One session: the client sends up the path, the server down.
pub(crate) struct Flow {
    pub(crate) client: KcpEngine,
    pub(crate) server: KcpEngine,
}

impl World {
    pub(crate) fn new(config: &KcpConfig, flows: usize, path: LinkConfig, seed: u64) -> Self {
        let pool = Arc::new(BufferPool::new());
        let engine = |role, conv: usize| {
            let options = EngineOptions {
                role,
                pool: Arc::clone(&pool),
                ..EngineOptions::default()
            };
            KcpEngine::new(Conv::new(conv as u32), config, options).expect("a valid config")
        };
        Self {
            flows: (1..=flows)
                .map(|conv| Flow {
                    client: engine(Role::Connecting, conv),
                    server: engine(Role::Accepted, conv),
                })
                .collect(),
            up: Link::new(path, seed),
            down: Link::new(path, seed ^ 0x5eed),
            now: 0,
            wire: Vec::new(),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.now
    }

    /// Bytes offered to the path, both ways.
    pub(crate) fn wire_bytes(&self) -> u64 {
        self.up.stats().offered_bytes + self.down.stats().offered_bytes
    }

    /// Goes to the next event, at most to `until`.
    pub(crate) fn step(&mut self, until: u64) {
        self.transmit();
        let deadlines = self
            .flows
            .iter_mut()
            .flat_map(|flow| [flow.client.poll_timeout(), flow.server.poll_timeout()])
            .flatten()
            .map(Instant::as_micros);
        let links = [self.up.next_deadline(), self.down.next_deadline()];
        let arrivals = links.into_iter().flatten().map(Time::as_micros);
        let next = deadlines.chain(arrivals).min().unwrap_or(until).min(until);
        self.now = self.now.max(next);

        let (now, time) = (Instant::from_micros(self.now), Time::from_micros(self.now));
        while let Some((flow, datagram)) = self.up.poll(time) {
            let _ = self.flows[flow].server.input(now, &datagram);
        }
        while let Some((flow, datagram)) = self.down.poll(time) {
            let _ = self.flows[flow].client.input(now, &datagram);
        }
        for flow in &mut self.flows {
            flow.client.handle_timeout(now);
            flow.server.handle_timeout(now);
        }
    }

    fn transmit(&mut self) {
        let (now, time) = (Instant::from_micros(self.now), Time::from_micros(self.now));
        for (i, flow) in self.flows.iter_mut().enumerate() {
            for (engine, link) in [
                (&mut flow.client, &mut self.up),
                (&mut flow.server, &mut self.down),
            ] {
                while let Some(train) = engine.poll_transmit(now, &mut self.wire, 32) {
                    for datagram in self.wire.chunks(train.segment_size) {
                        link.push(time, (i, datagram.to_vec()));
                    }
                    self.wire.clear();
                }
            }
        }
    }
}

/// What a bulk transfer up the path came to.
pub(crate) struct Bulk {
    /// Bytes per second of payload read by each server.
    pub(crate) goodput: Vec<f64>,
    pub(crate) wire_per_payload: f64,
    pub(crate) resent: f64,
}

/// Every client sends as much as it may for `seconds`.
pub(crate) fn bulk(mut world: World, seconds: u64) -> Bulk {
    let data = [7; 16_384];
    let mut buffer = vec![0; 65_536];
    let mut read = vec![0_u64; world.flows.len()];
    let end = seconds * 1_000_000;
    while world.now() < end {
        for flow in &mut world.flows {
            let config = flow.client.config();
            let enough = 2 * config.send_window_segments() as usize * config.mss();
            while flow.client.queued_bytes() < enough {
                flow.client.write(&data).expect("nobody has finished");
            }
        }
        world.step(end);
        for (flow, read) in world.flows.iter_mut().zip(&mut read) {
            while let Ok(n) = flow.server.read(&mut buffer) {
                *read += n as u64;
            }
        }
    }
    let stats: Vec<_> = world.flows.iter().map(|flow| flow.client.stats()).collect();
    let sent: u64 = stats.iter().map(|stats| stats.segments_sent).sum();
    let resent: u64 = stats.iter().map(|stats| stats.resends()).sum();
    let total: u64 = read.iter().sum();
    Bulk {
        goodput: read.iter().map(|&n| n as f64 / seconds as f64).collect(),
        wire_per_payload: world.wire_bytes() as f64 / total.max(1) as f64,
        resent: resent as f64 / sent as f64,
    }
}

/// What a client's 60 messages a second came to, in milliseconds of round trip.
pub(crate) struct Echo {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
    pub(crate) answered: usize,
    pub(crate) sent: usize,
}

const MESSAGE: usize = 64;
const RATE: u64 = 60;

/// The client sends on schedule, whatever is outstanding; the server answers in kind. A round trip
/// counts from its scheduled time, and what is unanswered at the end with its age.
pub(crate) fn echo(mut world: World, seconds: u64) -> Echo {
    let mut buffer = vec![0; 65_536];
    let mut outstanding = VecDeque::new();
    let mut times = Vec::new();
    let mut answered_bytes = 0;
    let (mut sent, end) = (0, seconds * 1_000_000);
    while world.now() < end {
        let due = sent as u64 * 1_000_000 / RATE;
        let now = world.now();
        let flow = &mut world.flows[0];
        if now >= due {
            flow.client
                .write(&[7; MESSAGE])
                .expect("nobody has finished");
            outstanding.push_back(due);
            sent += 1;
        }
        while let Ok(n) = flow.server.read(&mut buffer) {
            flow.server
                .write(&buffer[..n])
                .expect("nobody has finished");
        }
        while let Ok(n) = flow.client.read(&mut buffer) {
            answered_bytes += n;
            while answered_bytes >= MESSAGE {
                answered_bytes -= MESSAGE;
                let due = outstanding
                    .pop_front()
                    .expect("one answer for each message");
                times.push(now - due);
            }
        }
        world.step(end.min(sent as u64 * 1_000_000 / RATE));
    }
    let answered = times.len();
    times.extend(outstanding.iter().map(|due| end - due));
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize] as f64 / 1_000.0;
    Echo {
        p50: at(0.50),
        p99: at(0.99),
        max: at(1.0),
        answered,
        sent,
    }
}
