//! A connect beside an accepted session of the same peer and conversation id (`docs/protocol.md` 13.5).

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use kcp_engine::Conv;
use tokio::time::timeout;

use crate::address::as_received;
use crate::router::Origin;
use crate::session::SessionCell;
use crate::shared::Shared;

impl Shared {
    /// Asks the peer of an unvalidated accepted session of this name, and waits until the session is validated
    /// or over, for a second at most.
    ///
    /// Its peer may have had ACKs for data that a session in its place would never deliver. Or its first datagram
    /// is forged: then no one answers.
    pub(crate) async fn ask_namesake(self: &Arc<Self>, peer: SocketAddr, conv: Conv) {
        let peer = as_received(peer, self.local_addr.is_ipv6());
        if self.namesake(peer, conv).is_none() {
            return;
        }
        let asked = async {
            while let Some(cell) = self.namesake(peer, conv) {
                cell.state.lock("ask").engine.ask_for_validation();
                self.call_driver(&cell);
                let settled = poll_fn(|cx| poll_settled(&cell, cx));
                let _ = timeout(ASK_AGAIN, settled).await;
            }
        };
        let _ = timeout(WAIT, asked).await;
    }

    /// One that may have acknowledged data, but is not validated.
    fn namesake(&self, peer: SocketAddr, conv: Conv) -> Option<Arc<SessionCell>> {
        let router = self.router.lock("namesake");
        let found = router.find(peer, conv)?;
        let cell = found.session;
        let session = cell.state.lock("namesake");
        let is_open = session.end().is_none() && session.embryo.is_none();
        let asks = is_open && cell.origin == Origin::Accepted && !session.engine.is_proven();
        asks.then(|| Arc::clone(cell))
    }
}

/// Writers are woken whenever the session was served and has room, and when it ends.
fn poll_settled(cell: &SessionCell, cx: &Context<'_>) -> Poll<()> {
    let mut session = cell.state.lock("settled");
    if session.engine.is_proven() || session.end().is_some() {
        return Poll::Ready(());
    }
    session.writers.register(cx.waker());
    Poll::Pending
}

/// As long as an unvalidated session is protected (protocol.md 11.4.1).
const WAIT: Duration = Duration::from_secs(1);
/// The question or its answer may be lost.
const ASK_AGAIN: Duration = Duration::from_millis(300);
