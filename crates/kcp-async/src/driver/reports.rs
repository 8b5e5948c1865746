//! What the network reports about our datagrams (ICMP).

use std::net::IpAddr;
use std::sync::Arc;

use kcp_engine::Instant;

use super::EndpointDriver;
use crate::router::Origin;
use crate::session::{Session, SessionCell};

impl EndpointDriver {
    /// Takes reports, up to a bound. `true` if there may be more.
    ///
    /// A refusal is remembered by the sessions that it may concern, in case nothing is ever heard.
    pub(super) fn hear_socket_errors(&mut self, now: Instant) -> bool {
        let mut refused_by = Vec::new();
        let mut taken = 0;
        while taken < REPORTS_PER_TURN {
            let Some(error) = self.shared.socket.take_error() else {
                break;
            };
            taken += 1;
            self.shared.counters.error_reports.add(1);
            crate::log::debug!(?error, "the network reports");
            let from = error.from.map(|ip| ip.to_canonical());
            let is_refusal = error.kind == std::io::ErrorKind::ConnectionRefused;
            if is_refusal && !refused_by.contains(&from) {
                refused_by.push(from);
            }
        }
        if !refused_by.is_empty() {
            self.note_refusals(&refused_by, now);
        }
        taken == REPORTS_PER_TURN
    }

    fn note_refusals(&mut self, refused_by: &[Option<IpAddr>], now: Instant) {
        let concerned = |cell: &&Arc<SessionCell>| {
            let ip = cell.peer.ip().to_canonical();
            cell.origin == Origin::Connected
                && refused_by
                    .iter()
                    .any(|from| from.is_none_or(|from| from == ip))
        };
        let cells: Vec<_> = {
            let router = self.shared.router.lock("refused");
            router.all().filter(concerned).map(Arc::clone).collect()
        };
        for cell in cells {
            let mut session = cell.state.lock("refused");
            if session.note_refusal(now) {
                self.serve(&cell, session, now);
            }
        }
    }

    /// Ends error reports once a connecting session has heard its peer: from then on they could only
    /// take the place of data.
    pub(super) fn note_heard(&mut self, cell: &SessionCell, session: &Session) {
        if cell.origin == Origin::Connected && session.engine.last_heard().is_some() {
            self.wants_reports = false;
            self.shared.socket.stop_error_reports();
        }
    }
}

/// Reports beyond it are for the next turn.
const REPORTS_PER_TURN: usize = 64;
