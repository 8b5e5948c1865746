//! Where a session stands in the order of eviction (`docs/protocol.md` 11.4.1).

use super::Session;
use crate::eviction::{self, Class, Rank};

impl Session {
    /// Class and silence as they are now.
    pub(crate) fn rank(&mut self) -> Rank {
        // What does not validate an address is heard from anyone; only new data counts.
        let heard = match self.engine.is_proven() {
            true => self.engine.last_heard(),
            false => self.engine.last_new_push(),
        };
        let class = self.class();
        Rank {
            class,
            level: match class {
                Class::Unvalidated => self.level(),
                _ => 0,
            },
            silent_since: heard.unwrap_or_else(|| self.life.created()),
        }
    }

    pub(crate) fn class(&mut self) -> Class {
        if !self.engine.is_proven() {
            return match self.has_delivered() {
                true => Class::Unvalidated,
                false => Class::Undelivered,
            };
        }
        match self.is_closing() {
            true => Class::Closing,
            false => Class::Idle,
        }
    }

    /// Bytes delivered, and the time from the first to the last of them.
    fn level(&self) -> u8 {
        let created = self.life.created();
        let last = self.engine.last_new_push().unwrap_or(created);
        let bytes = self.engine.stats().payload_received;
        eviction::level(bytes, last.saturating_since(created))
    }

    /// Whether the application got more than the first datagram: a forged one brings that much.
    fn has_delivered(&mut self) -> bool {
        if !self.delivered && self.life.is_accepted() {
            self.delivered = self.engine.classic_state().rcv_nxt != self.opened_until;
        }
        self.delivered
    }
}
