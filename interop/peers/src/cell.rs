//! One cell of the matrix: two programs, one link, two sessions.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use kcp_netem::{Jitter, LinkConfig, Loss, Probability, Relay};
use tokio::time::{Instant, sleep};

use crate::child::{Child, Failure, Launch};
use crate::peer::Peer;
use crate::program::settings::{Mode, Role};

/// Content bytes of the first session, each way.
const BYTES: usize = 4 << 20;
/// Content bytes of the second session: enough for several windows.
const SECOND_BYTES: usize = 1 << 20;
/// How long nothing is done, so that whatever a closed session still sends can arrive. A
/// retransmission of ours would come within a few RTOs of at most 100 ms here.
const QUIET: Duration = Duration::from_millis(400);
/// The linger time of a stream, 5 s, and some.
const LINGER: Duration = Duration::from_secs(6);
/// How often a program that lingers is asked.
const POLL: Duration = Duration::from_millis(20);
/// A cell over a clean link is over by then.
const CLEAN_DEADLINE: Duration = Duration::from_secs(30);
/// A cell over a bad link is over by then.
const LOSSY_DEADLINE: Duration = Duration::from_secs(90);

/// The path between the two programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path {
    /// Loopback.
    Clean,
    /// A relay with 5 % loss each way, 5 +- 3 ms, and reordering.
    Lossy,
}

impl Path {
    /// The word in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Lossy => "lossy",
        }
    }
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cell {
    /// The implementation under test, or a stand-in for it.
    pub(crate) ours: Peer,
    /// The other side.
    pub(crate) peer: Peer,
    /// The peer's side of the session.
    pub(crate) role: Role,
    /// Message or stream mode.
    pub(crate) mode: Mode,
    /// The path.
    pub(crate) path: Path,
    /// Decides content, conversation ids and the fate of datagrams.
    pub(crate) seed: u32,
}

/// The result of a cell that ran to its end.
#[derive(Debug)]
pub(crate) struct Passed {
    /// From the connect to both confirmations, first session.
    pub(crate) transfer: Duration,
    /// How long our close took.
    pub(crate) close: Duration,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = match self.role {
            Role::Server => "server",
            Role::Client => "client",
        };
        write!(
            f,
            "{:<16} {role:<7} {:<8} {:<6}",
            self.peer.name(),
            self.mode.name(),
            self.path.name()
        )
    }
}

/// The running parts of a cell.
struct Running {
    server: Child,
    client: Child,
    relay: Option<Relay>,
    /// Where the client connects to.
    address: SocketAddr,
}

impl Cell {
    /// Runs the cell. A failure comes with what the programs said.
    pub(crate) async fn run(&self, ours: &Launch, peer: &Launch) -> Result<Passed, Failure> {
        let deadline = Instant::now()
            + match self.path {
                Path::Clean => CLEAN_DEADLINE,
                Path::Lossy => LOSSY_DEADLINE,
            };
        let mut running = self.start(ours, peer, deadline).await?;
        match self.script(&mut running, deadline).await {
            Ok(passed) => {
                running.client.quit().await?;
                running.server.quit().await?;
                Ok(passed)
            }
            Err(Failure(what)) => {
                let mut report = format!("{what}\n");
                report += &running.client.diagnose().await;
                report += &running.server.diagnose().await;
                if let Some(relay) = &running.relay {
                    report += &format!("      relay: {:?}\n", relay.stats());
                }
                Err(Failure(report))
            }
        }
    }

    async fn start(
        &self,
        ours: &Launch,
        peer: &Launch,
        deadline: Instant,
    ) -> Result<Running, Failure> {
        let (server, server_launch, client, client_launch) = match self.role {
            Role::Server => (self.peer, peer, self.ours, ours),
            Role::Client => (self.ours, ours, self.peer, peer),
        };
        let name = |peer: Peer, role: &str| format!("{} {role}", peer.name());
        let flags = self.flags("server", server, client);
        let mut server = Child::spawn(name(server, "server"), server_launch, &flags)?;
        let flags = self.flags("client", client, self.server());
        let client = Child::spawn(name(client, "client"), client_launch, &flags)?;
        let listening = server.expect("listening", deadline).await?;
        let target: SocketAddr = listening
            .parse()
            .map_err(|_| Failure(format!("listening where? {listening}")))?;
        let relay = match self.path {
            Path::Clean => None,
            Path::Lossy => Some(self.relay(target)?),
        };
        let address = relay.as_ref().map_or(target, Relay::local_addr);
        Ok(Running {
            server,
            client,
            relay,
            address,
        })
    }

    async fn script(&self, running: &mut Running, deadline: Instant) -> Result<Passed, Failure> {
        let started = Instant::now();
        self.session(running, 1, BYTES, deadline).await?;
        let transfer = started.elapsed();
        let close = self.end(running, 1, "close", deadline).await?;
        self.session(running, 2, SECOND_BYTES, deadline).await?;
        self.end(running, 2, "drop", deadline).await?;
        Ok(Passed { transfer, close })
    }

    /// Ends session `number` on our side, then on the peer's, and checks that nobody made
    /// another one. Returns how long our end took.
    async fn end(
        &self,
        running: &mut Running,
        number: usize,
        how: &str,
        deadline: Instant,
    ) -> Result<Duration, Failure> {
        // We go first. The peer knows no close: to it we have gone silent.
        let started = Instant::now();
        let ours = running.ours(self.role);
        ours.ask(how, "closed", deadline).await?;
        let took = started.elapsed();
        ours.settles(number, 0, deadline).await?;
        sleep(QUIET).await;
        let peer = running.peer(self.role);
        peer.sessions("after we have gone", number, 1, deadline)
            .await?;

        // From here on any datagram of ours would open a ghost at a stock server.
        peer.ask("close", "closed", deadline).await?;
        sleep(QUIET).await;
        peer.sessions("after its own close", number, 0, deadline)
            .await?;
        let ours = running.ours(self.role);
        ours.sessions("after the peer's close", number, 0, deadline)
            .await?;
        Ok(took)
    }

    /// One session until both sides have confirmed.
    async fn session(
        &self,
        running: &mut Running,
        number: u32,
        bytes: usize,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let conv = self.peer.conv(self.base_conv(), number);
        let connect = format!("connect {} {conv} {bytes}", running.address);
        running.client.say(&connect).await?;
        let done = format!("ok {number}");
        tokio::try_join!(
            running.client.expect(&done, deadline),
            running.server.expect(&done, deadline)
        )?;
        Ok(())
    }

    fn server(&self) -> Peer {
        match self.role {
            Role::Server => self.peer,
            Role::Client => self.ours,
        }
    }

    fn flags(&self, role: &str, own: Peer, other: Peer) -> Vec<String> {
        let conv = self.peer.conv(self.base_conv(), 1);
        let flags = [
            ("--role", role.to_owned()),
            ("--mode", self.mode.name().to_owned()),
            ("--conv", conv.to_string()),
            ("--send", own.sizes(self.mode).to_owned()),
            ("--expect", other.sizes(self.mode).to_owned()),
            ("--seed", self.seed.to_string()),
            ("--bytes", BYTES.to_string()),
        ];
        flags
            .into_iter()
            .flat_map(|(flag, value)| [flag.to_owned(), value])
            .collect()
    }

    /// Different for every cell, not 0, and below 2^31: the Python binding takes a C int.
    fn base_conv(&self) -> u32 {
        (self.seed.wrapping_mul(0x9e37_79b1) & 0x7fff_fff0) | 1
    }

    fn relay(&self, target: SocketAddr) -> Result<Relay, Failure> {
        let link = LinkConfig::new()
            .delay(Duration::from_millis(5))
            .jitter(Jitter::Free(Duration::from_millis(3)))
            .reorder(Probability::percent(2), Duration::from_millis(10))
            .loss(Loss::Bernoulli(Probability::percent(5)));
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Relay::bind(listen, target, link, link, u64::from(self.seed))
            .map_err(|error| Failure(format!("the relay does not start: {error}")))
    }
}

impl Running {
    fn ours(&mut self, peer: Role) -> &mut Child {
        match peer {
            Role::Server => &mut self.client,
            Role::Client => &mut self.server,
        }
    }

    fn peer(&mut self, peer: Role) -> &mut Child {
        match peer {
            Role::Server => &mut self.server,
            Role::Client => &mut self.client,
        }
    }
}

impl Child {
    /// Checks how many sessions the program has ever had, and has now.
    async fn sessions(
        &mut self,
        when: &str,
        made: usize,
        live: usize,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let counts = self.ask("sessions", "sessions", deadline).await?;
        if counts == format!("{made} {live}") {
            return Ok(());
        }
        Err(self.failure(format!(
            "{when}: sessions made and live {counts}, expected {made} {live}"
        )))
    }

    /// Waits until the program has had and has so many sessions: a dropped one lingers until
    /// its last data is acknowledged.
    async fn settles(
        &mut self,
        made: usize,
        live: usize,
        deadline: Instant,
    ) -> Result<(), Failure> {
        let patience = Instant::now() + LINGER;
        loop {
            match self.sessions("after its end", made, live, deadline).await {
                Err(_) if Instant::now() < patience => sleep(POLL).await,
                result => return result,
            }
        }
    }
}
