//! Those that have most make room first: prefixes within a network, hosts within a prefix.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use kcp_engine::Instant;

use super::class::{Class, PROTECTED, PROTECTED_VALIDATED};
use super::{EvictionOrder, Scope};
use crate::session::SessionCell;

impl EvictionOrder {
    /// A prefix that has more sessions than the newcomer's gives one up after a second of silence, the others after a
    /// minute.
    pub(super) fn idle_of_a_prefix(
        &mut self,
        network: Scope,
        newcomer: SocketAddr,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let own = self.count(Scope::prefix(newcomer));
        let found = self.idle_of_those_with_more(network, own, now);
        if found.is_some() {
            return found;
        }
        let mut before = (own + 1, Scope::TABLE);
        for _ in 0..PREFIXES {
            before = self.next_populous(network, before)?;
            let (_, prefix) = before;
            let found = self.longest_silent(prefix, Class::Idle, 0, PROTECTED_VALIDATED, now);
            if found.is_some() {
                return found;
            }
        }
        None
    }

    /// The longest silent session of the most populous scope within a full one that has more idle ones than this, and one
    /// that is silent for a second. Those that had none are asked again a second later, so that scopes whose sessions are
    /// in use hide no others and cost no more than a look each.
    pub(super) fn idle_of_those_with_more(
        &mut self,
        full: Scope,
        more_than: usize,
        now: Instant,
    ) -> Option<Arc<SessionCell>> {
        let mut turn = self.turn_of(full, now);
        turn.is_cut = false;
        let mut found = None;
        while let Some(next) = self.next_populous(full, turn.before) {
            let (idle, inner) = next;
            if idle <= more_than {
                break;
            }
            if self.checks.take(1) {
                found = self.longest_silent(inner, Class::Idle, 0, PROTECTED, now);
            }
            turn.is_cut = found.is_none() && !self.checks.are_left();
            if found.is_some() || turn.is_cut {
                break;
            }
            turn.before = next;
        }
        self.turns.insert(full, turn);
        found
    }

    /// Where the search of a full scope goes on.
    fn turn_of(&mut self, full: Scope, now: Instant) -> Turn {
        if self.turns.len() >= MOST_SCOPES {
            let counts = &self.counts;
            self.turns.retain(|scope, _| counts.contains_key(scope));
        }
        let turn = self.turns.get(&full).copied();
        let goes_on = turn.filter(|turn| turn.is_cut || now < turn.until);
        goes_on.unwrap_or(Turn {
            before: FIRST,
            until: now + ASKED_AGAIN_AFTER,
            is_cut: false,
        })
    }

    /// The most populous scope within another that comes after this one, and how many of its sessions are idle.
    pub(super) fn next_populous(
        &self,
        full: Scope,
        before: (usize, Scope),
    ) -> Option<(usize, Scope)> {
        let (idle, inner) = before;
        let range = (full, 0, Scope::TABLE)..(full, idle, inner);
        let &(_, idle, inner) = self.populous.range(range).next_back()?;
        Some((idle, inner))
    }
}

/// How far the scopes within a full one have been asked for an idle session.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// This one and those that come before it, which have more, had none.
    before: (usize, Scope),
    /// From then on they are asked again,
    until: Instant,
    /// unless the checks were used up: then the search goes on first.
    is_cut: bool,
}

/// When those that had none to give up are asked again.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Beyond so many, those that have no session any more are forgotten.
pub(super) const MOST_SCOPES: usize = 1_024;
/// Before this there is none.
pub(super) const FIRST: (usize, Scope) = (usize::MAX, Scope::LAST);
/// Prefixes with no more sessions than the newcomer's that are searched for one that is silent for a minute.
const PREFIXES: usize = 8;
