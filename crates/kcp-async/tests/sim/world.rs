//! One world: endpoints, peers, events, and what must be true of them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use kcp_async::{ConnectionError, EndpointConfig, KcpEndpoint, KcpError, KcpStream};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, timeout};

use crate::events;
use crate::flow::{Bounds, Promise, Side, Tally, key};
use crate::net::{Net, SimSocket};
use crate::plan::{Class, ClientPlan, DAY, Event, FlowPlan, Kind, PATIENCE, Plan, SERVER};
use crate::report::Seed;
use crate::stock::Stock;

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) net: Net,
    pub(crate) tally: Arc<Tally>,
    /// Flows that have connected and were not accepted yet, by conversation.
    expected: Mutex<HashMap<u32, FlowPlan>>,
    endpoints: Mutex<Vec<(SocketAddr, KcpEndpoint)>>,
    sockets: Mutex<Vec<Weak<SimSocket>>>,
    /// Events end the sessions of this client, at that moment.
    pub(crate) broken: Option<(usize, Duration)>,
    pub(crate) outages: AtomicU64,
    began: Instant,
}

/// Runs a world to its end.
pub(crate) async fn run(plan: Plan) -> Seed {
    let links = kcp_netem::LinkConfig::new().delay(Duration::from_millis(10));
    let net = Net::new(links, plan.seed, plan.flip_one_in);
    for client in &plan.clients {
        let mut net = net.lock();
        net.network.set_link(&client.addr, &SERVER, client.up);
        net.network.set_link(&SERVER, &client.addr, client.down);
    }
    let broken = plan.events.iter().find_map(|&(at, event)| match event {
        Event::Vanish(client, _) | Event::Move(client) => Some((client, at)),
        _ => None,
    });
    let tasks_before = Handle::current().metrics().num_alive_tasks();
    let world = Arc::new(World {
        net,
        tally: Arc::default(),
        expected: Mutex::default(),
        endpoints: Mutex::default(),
        sockets: Mutex::default(),
        broken,
        outages: AtomicU64::new(0),
        began: Instant::now(),
        plan,
    });
    world.live().await;
    let report = world.seed();
    world.end(tasks_before).await;
    report
}

impl World {
    async fn live(self: &Arc<Self>) {
        let server = self.endpoint(SERVER, &self.plan.server);
        let acceptor = tokio::spawn(self.clone().accept(server.clone()));
        let watcher = tokio::spawn(self.clone().watch());
        let events = tokio::spawn(events::run(self.clone()));
        let mut flows = JoinSet::new();
        let (mut stocks, mut exchanges) = (Vec::new(), Vec::new());
        for client in &self.plan.clients {
            match client.kind {
                Kind::Ours => self.start_client(client, &mut flows),
                Kind::StockClient(conv) => {
                    let mut expected = self.expected.lock().unwrap();
                    expected.insert(stock_key(client.addr), client.flows[0]);
                    let (task, done) = self.start_stock(client, Some(conv));
                    stocks.push(task);
                    exchanges.push(done);
                }
                Kind::StockServer => {
                    let (task, done) = self.start_stock(client, None);
                    stocks.push(task);
                    exchanges.push(done);
                    let world = self.clone();
                    let (to, flow) = (client.addr, client.flows[0]);
                    flows.spawn(
                        async move { world.connect(world.endpoint_at(SERVER), to, flow).await },
                    );
                }
            }
        }
        while let Some(ended) = flows.join_next().await {
            ended.expect("a flow");
        }
        for exchange in exchanges {
            exchange.await.expect("a stock peer");
        }
        events.await.expect("the events");
        self.all_have_come().await;
        server.close();
        drop(server);
        acceptor.await.expect("the server's sides");
        self.all_late_ends_were_read();
        self.all_is_forgotten().await;
        for task in stocks.into_iter().chain([watcher]) {
            task.abort();
            let _ = task.await;
        }
    }

    pub(crate) fn endpoint(&self, addr: SocketAddr, config: &EndpointConfig) -> KcpEndpoint {
        let socket = self.net.socket(addr, true);
        self.sockets.lock().unwrap().push(socket.weak());
        let endpoint = KcpEndpoint::with_socket(socket, config).expect("a valid configuration");
        let mut endpoints = self.endpoints.lock().unwrap();
        endpoints.push((addr, endpoint.clone()));
        endpoint
    }

    /// The newest endpoint at this address.
    pub(crate) fn endpoint_at(&self, addr: SocketAddr) -> KcpEndpoint {
        let endpoints = self.endpoints.lock().unwrap();
        let newest = endpoints.iter().rev().find(|(at, _)| *at == addr);
        newest.expect("an endpoint there").1.clone()
    }

    fn start_client(self: &Arc<Self>, client: &ClientPlan, flows: &mut JoinSet<()>) {
        let endpoint = self.endpoint(client.addr, &client.config);
        for &flow in &client.flows {
            let (world, endpoint) = (self.clone(), endpoint.clone());
            flows.spawn(async move {
                sleep(flow.start).await;
                world.connect(endpoint, SERVER, flow).await;
            });
        }
    }

    fn start_stock(
        &self,
        client: &ClientPlan,
        conv: Option<u32>,
    ) -> (JoinHandle<()>, oneshot::Receiver<()>) {
        let socket = self.net.socket(client.addr, false);
        self.sockets.lock().unwrap().push(socket.weak());
        let flow = client.flows[0];
        let up = (key(self.plan.seed, flow.id, false), flow.up);
        let down = (key(self.plan.seed, flow.id, true), flow.down);
        let (out, inward) = match conv {
            Some(_) => (up, down),
            None => (down, up),
        };
        let stock = Stock {
            name: format!("seed {} stock peer {}", self.plan.seed, client.addr),
            socket,
            config: client.config.protocol_config().clone(),
            out,
            inward,
            conv,
        };
        let (done, exchange) = oneshot::channel();
        (tokio::spawn(stock.run(done)), exchange)
    }

    /// The connecting side of a flow, from its beginning to its end.
    pub(crate) async fn connect(&self, endpoint: KcpEndpoint, to: SocketAddr, flow: FlowPlan) {
        let mut stream = endpoint.connect(to).await.expect("a session");
        if to == SERVER {
            // What an accepted session should carry is found by its conversation id: of thousands of
            // clients two may draw the same one.
            while self.is_expected(&stream) {
                // Its endpoint may have one session with the server at a time.
                stream.abort();
                sleep(Duration::from_millis(1)).await;
                stream = endpoint.connect(to).await.expect("a session");
            }
            let mut expected = self.expected.lock().unwrap();
            expected.insert(stream.conv().get(), flow);
        }
        drop(endpoint);
        self.run_side(stream, flow, false).await;
    }

    fn is_expected(&self, stream: &KcpStream) -> bool {
        let expected = self.expected.lock().unwrap();
        expected.contains_key(&stream.conv().get())
    }

    async fn accept(self: Arc<Self>, server: KcpEndpoint) {
        let mut sides = JoinSet::new();
        loop {
            let (stream, peer) = match server.accept().await {
                Ok(accepted) => accepted,
                Err(KcpError::Connection(ConnectionError::EndpointClosed)) => break,
                Err(error) => panic!("accept: {error}"),
            };
            let found = {
                let mut expected = self.expected.lock().unwrap();
                let conv = stream.conv().get();
                let by_conv = match expected.get(&conv).copied() {
                    // To the server a client that has moved is another one; if it had heard
                    // nothing yet, what it repeats is the beginning of a session.
                    Some(flow) if self.plan.class == Class::Moved && !self.is_kept(&flow) => {
                        Some(flow)
                    }
                    _ => expected.remove(&conv),
                };
                by_conv.or_else(|| expected.remove(&stock_key(peer)))
            };
            let flow = match found {
                Some(flow) => flow,
                None if self.plan.class == Class::Flipped => self.plan.clients[0].again,
                None => panic!("a ghost session of {peer}: conv {}", stream.conv()),
            };
            let world = self.clone();
            sides.spawn(async move { world.run_side(stream, flow, true).await });
        }
        while let Some(ended) = sides.join_next().await {
            ended.expect("a side of the server");
        }
    }

    async fn run_side(&self, stream: KcpStream, flow: FlowPlan, accepted: bool) {
        let side = self.side(flow, accepted);
        if side.promise == Promise::None {
            // Long enough for every timeout; then the application loses patience.
            let _ = timeout(Duration::from_secs(120), side.run(stream)).await;
            return;
        }
        let promise = side.promise;
        let ended = timeout(DAY, side.run(stream)).await;
        let Ok(ended) = ended else {
            panic!("flow {} (accepted: {accepted}) hangs", flow.id);
        };
        if promise == Promise::MayEnd && ended.is_err() && !flow.aborts {
            self.check_patience(flow);
        }
    }

    /// protocol.md 11.4, 12.5: whatever a session waits for, it ends an idle time after the last
    /// thing heard.
    fn check_patience(&self, flow: FlowPlan) {
        let Some((_, broke)) = self.broken else {
            return;
        };
        let noticed = self.began.elapsed();
        let latest = broke.max(flow.start) + PATIENCE + UNDER_WAY;
        assert!(
            noticed <= latest,
            "flow {} ended at {noticed:?}, at the latest {latest:?}",
            flow.id
        );
    }

    fn side(&self, flow: FlowPlan, accepted: bool) -> Side {
        let client = self.plan.client_of(flow.id);
        let stock = client.kind != Kind::Ours;
        // A stock server is reached from the server's endpoint.
        let ours_is_server = accepted || stock;
        let (mine, peers) = match ours_is_server {
            true => (&self.plan.server, &client.config),
            false => (&client.config, &self.plan.server),
        };
        let up = (key(self.plan.seed, flow.id, false), flow.up);
        let down = (key(self.plan.seed, flow.id, true), flow.down);
        let (out, inward) = match accepted {
            true => (down, up),
            false => (up, down),
        };
        let promise = match self.plan.class {
            Class::Flipped => Promise::None,
            _ if self.is_kept(&flow) => Promise::Kept,
            _ => Promise::MayEnd,
        };
        let who = if accepted { "server" } else { "client" };
        Side {
            name: format!("seed {} flow {} {who}", self.plan.seed, flow.id),
            flow: flow.id,
            accepted,
            out,
            inward,
            boundaries: stock || !peers.protocol_config().is_stream_mode(),
            writes_late: accepted && flow.answers_late,
            drops: !accepted && flow.drops,
            aborts: !accepted && flow.aborts,
            stock_peer: stock,
            promise,
            bounds: Bounds::of(mine, &out.1),
            tally: self.tally.clone(),
        }
    }

    /// Nothing but the network's misery happens to this flow.
    fn is_kept(&self, flow: &FlowPlan) -> bool {
        let client = self.plan.client_of(flow.id);
        let breaks = self
            .broken
            .is_some_and(|(broken, _)| self.plan.clients[broken].addr == client.addr);
        let flipped = self.plan.class == Class::Flipped;
        !flipped && !flow.aborts && (!breaks || flow.id == client.again.id)
    }

    /// The bounds of an endpoint, at many moments.
    async fn watch(self: Arc<Self>) {
        let mut pause = Duration::from_millis(50);
        loop {
            sleep(pause).await;
            pause = (pause * 5 / 4).min(Duration::from_secs(60));
            let all: usize = self.plan.clients.iter().map(|c| c.flows.len() + 1).sum();
            for (addr, endpoint) in self.endpoints.lock().unwrap().iter() {
                let stats = endpoint.stats();
                // A flipped header may look like the beginning of yet another session.
                let most = match self.plan.class {
                    Class::Flipped => BACKLOG + all,
                    // What was never acknowledged at the old address comes once more from the new one.
                    Class::Moved => 2 * all,
                    _ => all,
                };
                assert!(
                    stats.sessions <= most && stats.embryos + stats.waiting <= BACKLOG,
                    "{addr}: {stats:?}"
                );
                assert!(stats.time_wait <= TIME_WAIT_MOST, "{addr}: {stats:?}");
            }
        }
    }

    /// A client that left at once may not have reached the server yet.
    async fn all_have_come(&self) {
        let deadline = Instant::now() + DAY;
        loop {
            let missing = {
                let expected = self.expected.lock().unwrap();
                let mut kept = expected.values().filter(|flow| self.is_kept(flow));
                kept.next().copied()
            };
            let Some(flow) = missing else { return };
            assert!(Instant::now() < deadline, "flow {} never came", flow.id);
            sleep(Duration::from_millis(500)).await;
        }
    }

    fn all_late_ends_were_read(&self) {
        let read = self.tally.read.lock().unwrap();
        for &(flow, accepted) in self.tally.late.lock().unwrap().iter() {
            assert!(
                read.contains(&(flow, !accepted)),
                "the peer of flow {flow} (accepted: {accepted}) forgot it before its end"
            );
        }
    }

    /// Every session, embryo and farewell goes away by itself.
    async fn all_is_forgotten(&self) {
        // A stock peer may go on for half a day, and what it sent last is waited for a day.
        let deadline = Instant::now() + 2 * DAY;
        let endpoints = self.endpoints.lock().unwrap().clone();
        for (addr, endpoint) in endpoints {
            loop {
                let stats = endpoint.stats();
                if stats.sessions + stats.embryos + stats.waiting + stats.time_wait == 0 {
                    break;
                }
                assert!(Instant::now() < deadline, "{addr} keeps {stats:?}");
                sleep(Duration::from_millis(500)).await;
            }
        }
    }

    /// What was done until now.
    fn seed(&self) -> Seed {
        let net = self.net.lock();
        let (unproven, fullest) = net.ledger().before_proof();
        Seed {
            class: self.plan.class,
            virtual_time: self.began.elapsed(),
            wire_bytes: net.bytes(),
            verified: self.tally.verified.load(Ordering::Relaxed),
            completed: self.tally.completed.load(Ordering::Relaxed),
            ended_early: self.tally.ended_early.load(Ordering::Relaxed),
            outages: self.outages.load(Ordering::Relaxed),
            late: self.tally.late.lock().unwrap().len() as u64,
            dropped_corrupt: net.dropped_corrupt(),
            link: net.network.stats(),
            unproven,
            fullest_budget: fullest,
        }
    }

    /// Nothing is left: no timer, no task, no socket.
    async fn end(self: Arc<Self>, tasks_before: usize) {
        let world = Arc::into_inner(self).expect("nobody else has the world");
        let endpoints = world.endpoints.into_inner().unwrap();
        let turns = |net: &Net| -> (u64, Vec<u64>) {
            let mut net = net.lock();
            let polls = endpoints.iter().map(|&(addr, _)| net.polls(addr)).collect();
            (net.bytes(), polls)
        };
        // What is under way arrives.
        sleep(UNDER_WAY).await;
        let before = turns(&world.net);
        sleep(Duration::from_secs(3_600)).await;
        let after = turns(&world.net);
        assert_eq!(before.0, after.0, "an idle endpoint sends");
        for (n, (before, after)) in before.1.iter().zip(&after.1).enumerate() {
            // One more turn: a timer that was armed for something that came earlier.
            assert!(
                after - before <= 1,
                "the idle driver of {} woke up {} times in an hour",
                endpoints[n].0,
                after - before
            );
        }
        drop(endpoints);
        for _ in 0..SETTLE {
            tokio::task::yield_now().await;
        }
        let tasks = Handle::current().metrics().num_alive_tasks();
        assert_eq!(tasks, tasks_before, "tasks that outlive their endpoints");
        let sockets = world.sockets.into_inner().unwrap();
        let alive = sockets.iter().filter(|weak| weak.strong_count() > 0);
        assert_eq!(alive.count(), 0, "sockets that outlive their endpoints");
    }
}

/// Stock clients are known by their address: who asks for a conversation id has none yet.
fn stock_key(addr: SocketAddr) -> u32 {
    match addr {
        SocketAddr::V4(v4) => u32::from_be_bytes(v4.ip().octets()),
        SocketAddr::V6(_) => 0,
    }
}

/// What a link may hold back: 200 kB at 300 kbit/s, and its delays.
const UNDER_WAY: Duration = Duration::from_secs(6);
/// The default of `EndpointConfig`.
const BACKLOG: usize = 1_024;
/// As `time_wait.rs` has it.
const TIME_WAIT_MOST: usize = 8_192;
/// Turns of all tasks after the last endpoint is gone.
const SETTLE: usize = 10;
