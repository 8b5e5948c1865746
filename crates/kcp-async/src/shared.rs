//! What an endpoint's driver and its handles share.

use std::io;
use std::mem;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use kcp_engine::{
    BufferPool, Conv, EngineOptions, Instant, KcpEngine, ReceiveMemory, Role, Sn, Validation,
};

use crate::accept_queue::AcceptQueue;
use crate::address::as_received;
use crate::clock::Clock;
use crate::config::{EndpointConfig, Times};
use crate::deadlines::SessionId;
use crate::error::{ConnectionError, KcpError};
use crate::mutex::Mutex;
use crate::router::{Origin, Router};
use crate::send_share::{self, Doubt, SendShare};
use crate::session::{Lifetime, QueueLimit, Session, SessionCell};
use crate::socket::DatagramSocket;
use crate::stats::{Counters, EndpointStats};
use crate::time_wait::TimeWait;
use crate::trains::RefusedTrains;
use crate::wakers::WakeList;

/// One per socket.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) socket: Arc<dyn DatagramSocket>,
    pub(crate) local_addr: SocketAddr,
    pub(crate) clock: Clock,
    pub(crate) config: EndpointConfig,
    pub(crate) times: Times,
    /// Bytes at which a session's writers wait.
    queue_limit: QueueLimit,
    pub(crate) pool: Arc<BufferPool>,
    /// For what cannot be delivered yet.
    memory: Arc<ReceiveMemory>,
    pub(crate) counters: Counters,
    pub(crate) router: Mutex<Router<Arc<SessionCell>>>,
    /// Accepted sessions of unvalidated peers. Only the driver changes it.
    pub(crate) unvalidated: Arc<AtomicUsize>,
    pub(crate) accepted: Mutex<AcceptQueue<Arc<SessionCell>>>,
    /// Only the driver changes it. Locked after the router, and nothing is locked after it.
    pub(crate) time_wait: Mutex<TimeWait>,
    /// A train waits for room. Until the driver has sent it, writers leave their data in the
    /// engine instead of asking the full socket again.
    pub(crate) socket_is_full: AtomicBool,
    pub(crate) trains: RefusedTrains,
    /// Locked after a session, and nothing is locked after it.
    send_share: Mutex<SendShare>,
    /// What is left of this endpoint is only a TIME-WAIT, and its descriptor is needed.
    unwanted: AtomicBool,
    inbox: Mutex<Inbox>,
    next_id: AtomicU64,
    /// Random numbers drawn so far, where they come from a seed.
    draws: AtomicU64,
}

/// What handles leave for the driver.
#[derive(Debug, Default)]
struct Inbox {
    dirty: Vec<Arc<SessionCell>>,
    driver: Option<Waker>,
    /// The driver waits to be woken; the first to find this set does it.
    asleep: bool,
    /// No handle can accept or connect any more.
    released: bool,
    /// The driver has ended, for this reason.
    ended: Option<ConnectionError>,
}

impl Shared {
    pub(crate) fn new(
        socket: Arc<dyn DatagramSocket>,
        config: EndpointConfig,
        accepts: bool,
    ) -> Result<Self, KcpError> {
        config.validate()?;
        let local_addr = socket.local_addr()?;
        if let Some(buffers) = socket.buffers().filter(|buffers| buffers.is_short()) {
            crate::log::warn!(%buffers, "the system granted less than was asked");
            let _ = buffers;
        }
        Ok(Self {
            socket,
            local_addr,
            clock: Clock::start(),
            times: config.times(),
            queue_limit: config.queue_limit(),
            pool: default_pool(),
            memory: Arc::new(
                ReceiveMemory::with_limit(config.receive_memory_bytes())
                    .shared_by(config.session_limit()),
            ),
            counters: Counters::default(),
            router: Mutex::new(Router::new()),
            unvalidated: Arc::default(),
            accepted: Mutex::new(AcceptQueue::new(accepts && config.backlog() > 0)),
            time_wait: Mutex::new(TimeWait::default()),
            socket_is_full: AtomicBool::new(false),
            trains: RefusedTrains::new(),
            send_share: Mutex::new(SendShare::default()),
            unwanted: AtomicBool::new(false),
            inbox: Mutex::new(Inbox {
                released: !accepts,
                ..Inbox::default()
            }),
            next_id: AtomicU64::new(0),
            draws: AtomicU64::new(0),
            config,
        })
    }

    /// Makes a session and enters it into the router.
    pub(crate) fn open_session(
        &self,
        router: &mut Router<Arc<SessionCell>>,
        peer: SocketAddr,
        conv: Conv,
        role: Role,
        now: Instant,
    ) -> Result<Arc<SessionCell>, KcpError> {
        let options = EngineOptions {
            role,
            validation: Validation::Strict,
            ts_offset: self.random()?,
            first_sn: Sn::ZERO,
            pool: Arc::clone(&self.pool),
        };
        let mut engine = KcpEngine::new(conv, self.config.protocol_config(), options)?;
        engine.set_receive_memory(Arc::clone(&self.memory));
        let session = Session::new(engine, Lifetime::new(role, now), self.queue_limit);
        let origin = match role {
            Role::Connecting => Origin::Connected,
            _ => Origin::Accepted,
        };
        let cell = Arc::new(SessionCell {
            id: SessionId(self.next_id.fetch_add(1, Ordering::Relaxed)),
            conv,
            peer,
            origin,
            dirty: AtomicBool::new(false),
            state: Mutex::new(session),
        });
        if !router.insert(peer, conv, Arc::clone(&cell)) {
            let text = "a session with this peer and conversation id exists";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text).into());
        }
        Ok(cell)
    }

    /// Opens a connecting session. `conv` is drawn if not given.
    pub(crate) fn connect(
        &self,
        peer: SocketAddr,
        conv: Option<Conv>,
    ) -> Result<Arc<SessionCell>, KcpError> {
        let peer = as_received(peer, self.local_addr.is_ipv6());
        let now = self.clock.now();
        let mut router = self.router.lock("connect");
        if let Some(reason) = self.ended() {
            return Err(reason.into());
        }
        // Forged first datagrams fill the table: those sessions make room for the next newcomer.
        let unvalidated = self.unvalidated.load(Ordering::Relaxed);
        if router.len().saturating_sub(unvalidated) >= self.config.session_limit() {
            let text = "the endpoint has as many sessions as it may";
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, text).into());
        }
        // A forged first datagram makes an accepted session: those count only once validated.
        let counts = |cell: &Arc<SessionCell>| {
            cell.origin == Origin::Connected || cell.state.lock("connect").engine.is_proven()
        };
        if !self.config.shares_remote() && router.at(peer).any(counts) {
            // Every stock server keeps one session per address.
            let text = "the endpoint has a session with this peer (see allow_shared_remote)";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, text).into());
        }
        let conv = match conv {
            Some(conv) if self.has_ended(peer, conv) => {
                let text = "a session with this peer and conversation id has just ended: late datagrams of it \
                            may still arrive (TIME-WAIT)";
                return Err(io::Error::new(io::ErrorKind::AddrInUse, text).into());
            }
            Some(conv) => conv,
            None => self
                .draw_conv(|conv| router.find(peer, conv).is_some() || self.is_late(peer, conv))?,
        };
        let replaced = router
            .find(peer, conv)
            .map(|found| Arc::clone(found.session))
            .filter(|cell| !counts(cell));
        if let Some(cell) = &replaced {
            self.take_out(&mut router, cell);
        }
        let opened = self.open_session(&mut router, peer, conv, Role::Connecting, now);
        drop(router);
        if let Some(cell) = &replaced {
            self.replace(cell);
        }
        opened
    }

    fn take_out(&self, router: &mut Router<Arc<SessionCell>>, cell: &SessionCell) {
        router.remove(cell.peer, cell.conv);
        if cell.state.lock("take out").embryo.take().is_some() {
            router.embryo_gone();
        }
    }

    /// Ends a session that is in the router no more.
    fn replace(&self, cell: &Arc<SessionCell>) {
        self.forget_waiting(cell);
        let mut wake = WakeList::new();
        let reason = ConnectionError::Replaced;
        cell.state.lock("replace").finish(reason, &mut wake);
        wake.wake();
        self.call_driver(cell);
    }

    /// Whether this conversation ended a short while ago.
    pub(crate) fn is_late(&self, peer: SocketAddr, conv: Conv) -> bool {
        self.time_wait.lock("is late").contains(peer, conv)
    }

    /// The same, of a validated peer: a record of any other may come from a forged datagram.
    fn has_ended(&self, peer: SocketAddr, conv: Conv) -> bool {
        let time_wait = self.time_wait.lock("has ended");
        time_wait.contains_validated(peer, conv)
    }

    /// Puts a session on the driver's list and wakes it.
    pub(crate) fn call_driver(&self, cell: &Arc<SessionCell>) {
        if cell.dirty.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut inbox = self.inbox.lock("call driver");
        inbox.dirty.push(Arc::clone(cell));
        let waker = inbox.take_waker();
        drop(inbox);
        waker.wake();
    }

    /// No handle can accept or connect any more: the driver ends with its last session.
    pub(crate) fn release(&self) {
        self.stop_accepting();
        let mut inbox = self.inbox.lock("release");
        inbox.released = true;
        let waker = inbox.take_waker();
        drop(inbox);
        waker.wake();
    }

    /// Closes the accept queue. What waits in it is given up.
    pub(crate) fn stop_accepting(&self) {
        let mut wake = WakeList::new();
        let mut queue = self.accepted.lock("stop accepting");
        queue.open = false;
        let orphans = queue.take_all();
        queue.waiters.move_to(&mut wake);
        drop(queue);
        for cell in orphans {
            cell.state
                .lock("orphan")
                .finish(ConnectionError::EndpointClosed, &mut wake);
            self.call_driver(&cell);
        }
        wake.wake();
    }

    /// A session is over before anybody accepted it: its place and its memory are free again.
    pub(crate) fn forget_waiting(&self, cell: &Arc<SessionCell>) {
        let removed = self.accepted.lock("forget waiting").remove(cell.id);
        drop(removed);
    }

    /// The driver takes its list, or falls asleep if there is nothing on it.
    pub(crate) fn take_dirty(&self, cx: &Context<'_>, list: &mut Vec<Arc<SessionCell>>) -> bool {
        let mut inbox = self.inbox.lock("take dirty");
        if inbox.dirty.is_empty() {
            inbox.asleep = true;
            match &mut inbox.driver {
                Some(waker) => waker.clone_from(cx.waker()),
                none => *none = Some(cx.waker().clone()),
            }
            return false;
        }
        inbox.asleep = false;
        mem::swap(&mut inbox.dirty, list);
        true
    }

    pub(crate) fn is_released(&self) -> bool {
        self.inbox.lock("released").released
    }

    /// Ends the driver at once if it has no session any more; see `lingering.rs`.
    pub(crate) fn end_lingering(&self) {
        self.unwanted.store(true, Ordering::Release);
        let waker = self.inbox.lock("end lingering").take_waker();
        waker.wake();
    }

    pub(crate) fn is_unwanted(&self) -> bool {
        self.unwanted.load(Ordering::Acquire)
    }

    /// The driver says goodbye. Later connects and writes fail with this.
    pub(crate) fn driver_ends(&self, reason: ConnectionError) {
        let mut inbox = self.inbox.lock("driver ends");
        inbox.ended.get_or_insert(reason);
        inbox.driver = None;
        inbox.dirty.clear();
    }

    pub(crate) fn ended(&self) -> Option<ConnectionError> {
        self.inbox.lock("ended").ended
    }

    pub(crate) fn poll_accept(
        &self,
        cx: &Context<'_>,
    ) -> Poll<Result<Arc<SessionCell>, ConnectionError>> {
        let mut queue = self.accepted.lock("accept");
        while let Some(cell) = queue.pop() {
            let mut session = cell.state.lock("accept");
            if session.end().is_none() {
                session.life.accept();
                drop(session);
                return Poll::Ready(Ok(cell));
            }
        }
        if !queue.open {
            return Poll::Ready(Err(self.ended().unwrap_or(ConnectionError::EndpointClosed)));
        }
        queue.waiters.register(cx.waker());
        Poll::Pending
    }

    pub(crate) fn stats(&self) -> EndpointStats {
        let mut stats = self.counters.snapshot();
        stats.waiting = self.accepted.lock("stats").len();
        let router = self.router.lock("stats");
        stats.sessions = router.len();
        stats.embryos = router.embryos();
        stats.receive_memory = self.memory.used();
        stats.receive_memory_unvalidated = self.memory.used_unvalidated();
        stats.socket_buffers = self.socket.buffers();
        drop(router);
        let time_wait = self.time_wait.lock("stats");
        stats.time_wait = time_wait.len();
        stats.time_wait_evicted = time_wait.evicted();
        stats
    }

    /// Whether so many bytes may be sent to an address that may not exist.
    pub(crate) fn may_send(
        &self,
        now: Instant,
        doubt: Doubt,
        to: SocketAddr,
        bytes: usize,
    ) -> bool {
        let Some(queue) = self.socket.send_queue() else {
            return true;
        };
        let sent = send_share::cost_of(
            self.counters.trains_sent.get(),
            self.counters.bytes_sent.get(),
        );
        let mut share = self.send_share.lock("may send");
        share.observe(now, queue, sent);
        share.admits(now, queue, doubt, to, bytes, || self.random().ok())
    }

    /// A random conversation id that is not taken and not 0 (`docs/protocol.md` 13.3).
    pub(crate) fn draw_conv(&self, taken: impl Fn(Conv) -> bool) -> Result<Conv, KcpError> {
        loop {
            let conv = Conv::new(self.random()?);
            if conv.get() != 0 && !taken(conv) {
                return Ok(conv);
            }
        }
    }

    /// A random number, or one from the seed.
    pub(crate) fn random(&self) -> Result<u32, KcpError> {
        let Some(seed) = self.config.seed() else {
            return getrandom::u32().map_err(|error| KcpError::Io(io::Error::other(error)));
        };
        // The output function of splitmix64.
        let n = self.draws.fetch_add(1, Ordering::Relaxed);
        let mut z = seed.wrapping_add((n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok((z >> 32) as u32)
    }
}

impl Inbox {
    /// The driver's waker, if it sleeps and nobody has woken it yet.
    fn take_waker(&mut self) -> MaybeWaker {
        let asleep = mem::take(&mut self.asleep);
        MaybeWaker(self.driver.as_ref().filter(|_| asleep).cloned())
    }
}

/// A waker to use after unlocking.
#[must_use]
struct MaybeWaker(Option<Waker>);

impl MaybeWaker {
    fn wake(self) {
        if let Some(waker) = self.0 {
            waker.wake();
        }
    }
}

/// One pool for all endpoints of the process: idle buffers serve whoever is busy.
fn default_pool() -> Arc<BufferPool> {
    static POOL: OnceLock<Arc<BufferPool>> = OnceLock::new();
    Arc::clone(POOL.get_or_init(|| Arc::new(BufferPool::new())))
}
