//! What happens to a world while its flows run.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::net::CHECKSUM_BYTES;
use crate::plan::{Event, SERVER};
use crate::world::World;

/// Runs all events, and ends when the last of them is over.
pub(crate) async fn run(world: Arc<World>) {
    let began = Instant::now();
    let mut pending = JoinSet::new();
    for &(at, event) in &world.plan.events {
        sleep_until(began + at).await;
        match event {
            Event::Jump(by) => tokio::time::advance(by).await,
            // One after the other: how long progress takes is measured.
            Event::Cut(client, time) if world.measures_progress() => {
                world.outage(client, time).await;
            }
            _ => {
                let world = world.clone();
                pending.spawn(async move { world.happen(event).await });
            }
        }
    }
    while let Some(ended) = pending.join_next().await {
        ended.expect("an event");
    }
}

impl World {
    fn measures_progress(&self) -> bool {
        self.plan.class == crate::plan::Class::Outage
    }

    async fn happen(self: Arc<Self>, event: Event) {
        match event {
            Event::Cut(client, time) => self.cut(client, time),
            Event::Hole(client, bytes, time) => {
                let client = &self.plan.clients[client];
                let hole = Some(bytes + CHECKSUM_BYTES);
                self.set_links(
                    client.addr,
                    client.up.mtu_hole(hole),
                    client.down.mtu_hole(hole),
                );
                sleep(time).await;
                self.set_links(client.addr, client.up, client.down);
            }
            Event::Full(client, time) => self.fill(self.plan.clients[client].addr, time).await,
            Event::ServerFull(time) => self.fill(SERVER, time).await,
            Event::Vanish(client, back) => {
                let client = &self.plan.clients[client];
                self.net.vanish(client.addr);
                if let Some(time) = back {
                    sleep(time).await;
                    let endpoint = self.endpoint(client.addr, &client.config_again);
                    self.connect(endpoint, SERVER, client.again).await;
                }
            }
            Event::Move(number) => {
                let client = &self.plan.clients[number];
                let outside = crate::plan::client_addr(number + 100);
                self.net.lock().network.rebind(&client.addr, outside);
                // The old sessions of this endpoint are over by then, unless the server had acknowledged
                // nothing of one, which then begins anew from outside; a new one begins.
                sleep(AFTER_THE_MOVE).await;
                let endpoint = self.endpoint_at(client.addr);
                while endpoint.stats().sessions > 0 {
                    sleep(Duration::from_secs(1)).await;
                }
                self.connect(endpoint, SERVER, client.again).await;
            }
            Event::Jump(_) => {}
        }
    }

    fn cut(&self, client: usize, time: Duration) {
        let mut net = self.net.lock();
        let now = net.now();
        let addr = self.plan.clients[client].addr;
        net.network.black_out(&addr, &SERVER, now, now + time);
    }

    fn set_links(
        &self,
        client: std::net::SocketAddr,
        up: kcp_netem::LinkConfig,
        down: kcp_netem::LinkConfig,
    ) {
        let mut net = self.net.lock();
        net.network.set_link(&client, &SERVER, up);
        net.network.set_link(&SERVER, &client, down);
    }

    async fn fill(&self, addr: std::net::SocketAddr, time: Duration) {
        self.net.set_full(addr, true);
        sleep(time).await;
        self.net.set_full(addr, false);
    }

    /// Cuts a clean link, joins it again and waits for the next byte.
    ///
    /// The wait that is pending when the link heals is at most as long as the silence before it and
    /// the segment's first wait together, because a segment's wait at most doubles (protocol.md
    /// 6.3).
    async fn outage(&self, client: usize, time: Duration) {
        self.cut(client, time);
        sleep(time).await;
        let healed = Instant::now();
        let verified = self.tally.verified.load(Ordering::Relaxed);
        let latest = healed + time + RECOVERY;
        while !self.is_over() && self.tally.verified.load(Ordering::Relaxed) == verified {
            assert!(
                Instant::now() <= latest,
                "no progress {:?} after the end of an outage of {time:?}",
                healed.elapsed()
            );
            sleep(Duration::from_millis(20)).await;
        }
        self.outages.fetch_add(1, Ordering::Relaxed);
        // What else was lost is sent again before the next outage.
        sleep(time + RECOVERY).await;
    }

    /// Both sides of the only flow are done.
    fn is_over(&self) -> bool {
        self.tally.completed.load(Ordering::Relaxed) == 2
    }
}

/// On a path of at most 200 ms without a queue, with ticks of at most 50 ms: the age of the oldest
/// segment at the cut and its first wait are at most an RTO each, the RTO is at most three times
/// (200 + 2 x 50) ms, the wait has an eighth of grace, and then there is the way there.
const RECOVERY: Duration = Duration::from_millis(900 + 900 * 9 / 8 + 300);
/// Longer than any session of a client that moved.
const AFTER_THE_MOVE: Duration = Duration::from_secs(80);
