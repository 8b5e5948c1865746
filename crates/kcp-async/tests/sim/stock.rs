//! A peer that speaks plain C KCP: no mark, no FIN, and ticks only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcp_async::{FlushPolicy, IKCP_OVERHEAD, KcpConfig};
use kcp_engine::{Conv, EngineOptions, Instant, KcpEngine, Validation};
use tokio::sync::oneshot;

use crate::flow::Lengths;
use crate::net::SimSocket;
use crate::plan::{Direction, SERVER};
use crate::random::{difference, fill};

pub(crate) struct Stock {
    pub(crate) name: String,
    pub(crate) socket: Arc<SimSocket>,
    pub(crate) config: KcpConfig,
    pub(crate) out: (u64, Direction),
    pub(crate) inward: (u64, Direction),
    /// It begins, with this conversation id. `None`: it waits for the first datagram.
    pub(crate) conv: Option<u32>,
}

impl Stock {
    /// Says when it has sent and received everything, and goes on for half a day.
    pub(crate) async fn run(self, done: oneshot::Sender<()>) {
        let epoch = tokio::time::Instant::now();
        let mut done = Some(done);
        let (mut peer, mut first) = (SERVER, None);
        let conv = match self.conv {
            Some(conv) => conv,
            None => {
                let (from, datagram) = self.socket.recv().await;
                peer = from;
                let conv = conv_of(&datagram);
                first = Some(datagram);
                conv
            }
        };
        let mut talk = Talk {
            engine: engine(conv, self.config.clone()),
            lengths: Lengths::new(self.out.0, self.out.1.write_chunk),
            asked_for_id: conv == 0,
            given: None,
            sent: 0,
            received: 0,
        };
        let mut turns = 0;
        let mut leaves = None;
        loop {
            turns += 1;
            assert!(
                turns < TURNS,
                "{} never rests: {:?} {:?}",
                self.name,
                talk.engine.stats(),
                talk.engine.classic_state()
            );
            let now = Instant::from_micros(epoch.elapsed().as_micros() as u64);
            if let Some(datagram) = first.take() {
                talk.hear(now, datagram);
            }
            talk.write(self.out);
            talk.read(&self.name, self.inward);
            talk.transmit(now, &self.socket, peer);
            let all = talk.sent == self.out.1.bytes && talk.received == self.inward.1.bytes;
            // Its last segment may stay unacknowledged for ever: the ACK is lost, and a peer of ours that
            // is done with a stock peer goes silent (protocol.md 12.7).
            if all && let Some(done) = done.take() {
                leaves = Some(tokio::time::Instant::now() + HALF_A_DAY);
                let _ = done.send(());
            }
            if leaves.is_some_and(|leaves| leaves <= tokio::time::Instant::now()) {
                return;
            }
            let next = talk.engine.poll_timeout();
            let heartbeat = tokio::time::Instant::now() + HEARTBEAT;
            let wake = epoch + next.unwrap_or(FAR).saturating_since(Instant::ZERO);
            tokio::select! {
                biased;
                (from, datagram) = self.socket.recv() => {
                    // It does not follow a peer that moves.
                    first = (from == peer).then_some(datagram);
                }
                () = tokio::time::sleep_until(wake.min(heartbeat)) => {
                    if wake > heartbeat && self.conv.is_some() {
                        talk.engine.keepalive();
                    }
                }
            }
        }
    }
}

struct Talk {
    engine: KcpEngine,
    lengths: Lengths,
    /// It began with conv 0.
    asked_for_id: bool,
    /// The id of the answer, which it uses from then on as tokio_kcp does. Its engine keeps conv 0.
    given: Option<u32>,
    sent: u64,
    received: u64,
}

impl Talk {
    fn hear(&mut self, now: Instant, mut datagram: Vec<u8>) {
        if self.asked_for_id {
            self.given = Some(conv_of(&datagram));
            rename(&mut datagram, 0);
        }
        self.engine
            .input(now, &datagram)
            .expect("what one of ours sends, C understands");
    }

    fn write(&mut self, (key, plan): (u64, Direction)) {
        while self.sent < plan.bytes && self.engine.wait_snd() < WRITES_BELOW {
            let len = self.lengths.next().min(plan.bytes - self.sent);
            let mut message = vec![0; len as usize];
            fill(key, self.sent, &mut message);
            self.engine.send(&message).expect("a message that fits");
            self.sent += len;
        }
    }

    fn read(&mut self, name: &str, (key, plan): (u64, Direction)) {
        while let Some(size) = self.engine.peek_size() {
            let mut message = vec![0; size];
            let len = self.engine.recv(&mut message).expect("a whole message");
            assert!(len > 0, "{name}: an empty message");
            let difference = difference(key, self.received, &message);
            assert_eq!(difference, None, "{name}: after {} bytes", self.received);
            self.received += len as u64;
            assert!(self.received <= plan.bytes, "{name}: more than was sent");
        }
    }

    fn transmit(&mut self, now: Instant, socket: &SimSocket, peer: SocketAddr) {
        self.engine.handle_timeout(now);
        let mut datagram = Vec::new();
        while self.engine.poll_transmit(now, &mut datagram, 1).is_some() {
            if let Some(given) = self.given {
                rename(&mut datagram, given);
            }
            socket.send(peer, &datagram);
            datagram.clear();
        }
    }
}

fn engine(conv: u32, config: KcpConfig) -> KcpEngine {
    let options = EngineOptions {
        validation: Validation::AsC,
        ..EngineOptions::default()
    };
    let config = config
        .flush_policy(FlushPolicy::Interval)
        .stream_mode(false);
    KcpEngine::new(Conv::new(conv), &config, options).expect("a valid configuration")
}

fn conv_of(datagram: &[u8]) -> u32 {
    u32::from_le_bytes(*datagram.first_chunk::<4>().expect("a header"))
}

/// Makes every segment one of this conversation.
fn rename(datagram: &mut [u8], conv: u32) {
    let mut rest = datagram;
    while rest.len() >= IKCP_OVERHEAD {
        rest[..4].copy_from_slice(&conv.to_le_bytes());
        let len = u32::from_le_bytes([rest[20], rest[21], rest[22], rest[23]]) as usize;
        rest = &mut rest[IKCP_OVERHEAD + len..];
    }
}

/// An answer whose every copy was lost is only sent again when the client shows that it is still
/// there (protocol.md 11.3). Applications have heartbeats for that; this one is a bare WASK.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// A peer that ticks on for ever waits for something that does not come.
const TURNS: u64 = 500_000;
/// Segments queued at which it waits.
const WRITES_BELOW: usize = 256;
const FAR: Instant = Instant::from_micros(365 * 86_400 * 1_000_000);
/// After which the program is ended. Our side gives up, or is done, long before.
const HALF_A_DAY: Duration = Duration::from_secs(43_200);
