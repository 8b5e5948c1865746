//! Whose datagram is it: peer address, then conversation id (`docs/protocol.md` 13.1). Pure.
//!
//! Two steps and not one key, because what a peer sends may be encrypted or coded per address,
//! and only then shows a conversation id.

use std::collections::HashMap;
use std::net::SocketAddr;

use foldhash::fast::RandomState;
use kcp_engine::Conv;

/// Finds sessions, and counts them.
#[derive(Debug)]
pub(crate) struct Router<T> {
    peers: HashMap<SocketAddr, Peer<T>, RandomState>,
    sessions: usize,
    embryos: usize,
}

#[derive(Debug)]
struct Peer<T> {
    /// Sorted by conv. One nearly always; our own peers may have thousands.
    sessions: Vec<(Conv, T)>,
    alias: Option<Alias>,
}

/// The session that a peer opened with conv 0 (`docs/protocol.md` 13.3).
#[derive(Clone, Copy, Debug)]
struct Alias {
    conv: Conv,
    /// Nothing has come under the session's own conv yet.
    opening: bool,
}

/// Who made a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Connected,
    Accepted,
}

/// A session, and whether its peer still calls it by conv 0.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found<'a, T> {
    pub(crate) session: &'a T,
    pub(crate) renamed: Option<Conv>,
    /// It was opened with conv 0, and this datagram is the first under its own conv.
    pub(crate) ends_opening: bool,
}

impl<T> Router<T> {
    pub(crate) fn new() -> Self {
        Self {
            peers: HashMap::default(),
            sessions: 0,
            embryos: 0,
        }
    }

    /// The session of a datagram.
    pub(crate) fn find(&self, addr: SocketAddr, conv: Conv) -> Option<Found<'_, T>> {
        let peer = self.peers.get(&addr)?;
        if let Ok(at) = peer.position(conv) {
            return Some(Found {
                session: &peer.sessions[at].1,
                renamed: None,
                ends_opening: peer
                    .alias
                    .is_some_and(|alias| alias.opening && alias.conv == conv),
            });
        }
        let alias = peer
            .alias
            .filter(|alias| conv.get() == 0 && alias.opening)?;
        let at = peer.position(alias.conv).ok()?;
        Some(Found {
            session: &peer.sessions[at].1,
            renamed: Some(alias.conv),
            ends_opening: false,
        })
    }

    /// All sessions of an address.
    pub(crate) fn at(&self, addr: SocketAddr) -> impl Iterator<Item = &T> {
        self.peers
            .get(&addr)
            .into_iter()
            .flat_map(|peer| peer.sessions.iter().map(|(_, s)| s))
    }

    /// Every session.
    pub(crate) fn all(&self) -> impl Iterator<Item = &T> {
        self.peers
            .values()
            .flat_map(|peer| peer.sessions.iter().map(|(_, session)| session))
    }

    /// Adds a session. `false` if there is one with that address and conv.
    pub(crate) fn insert(&mut self, addr: SocketAddr, conv: Conv, session: T) -> bool {
        let peer = self.peers.entry(addr).or_insert_with(|| Peer {
            sessions: Vec::new(),
            alias: None,
        });
        let Err(at) = peer.position(conv) else {
            return false;
        };
        peer.sessions
            .reserve_exact(usize::from(peer.sessions.is_empty()));
        peer.sessions.insert(at, (conv, session));
        self.sessions += 1;
        true
    }

    /// Makes conv 0 of this address mean `conv`, until [`end_opening`](Self::end_opening).
    pub(crate) fn set_alias(&mut self, addr: SocketAddr, conv: Conv) {
        if let Some(peer) = self.peers.get_mut(&addr) {
            peer.alias = Some(Alias {
                conv,
                opening: true,
            });
        }
    }

    /// From now on conv 0 of this address means nothing, and opens nothing.
    pub(crate) fn end_opening(&mut self, addr: SocketAddr) {
        let alias = self
            .peers
            .get_mut(&addr)
            .and_then(|peer| peer.alias.as_mut());
        if let Some(alias) = alias {
            alias.opening = false;
        }
    }

    /// The session that this address has opened with conv 0.
    pub(crate) fn alias(&self, addr: SocketAddr) -> Option<Conv> {
        Some(self.peers.get(&addr)?.alias?.conv)
    }

    /// Sessions of an address.
    pub(crate) fn count_at(&self, addr: SocketAddr) -> usize {
        self.peers.get(&addr).map_or(0, |peer| peer.sessions.len())
    }

    /// Takes a session out.
    pub(crate) fn remove(&mut self, addr: SocketAddr, conv: Conv) -> Option<T> {
        let peer = self.peers.get_mut(&addr)?;
        let at = peer.position(conv).ok()?;
        let (_, session) = peer.sessions.remove(at);
        peer.alias = peer.alias.filter(|alias| alias.conv != conv);
        if peer.sessions.is_empty() {
            self.peers.remove(&addr);
        }
        self.sessions -= 1;
        Some(session)
    }

    /// Sessions in all.
    pub(crate) const fn len(&self) -> usize {
        self.sessions
    }

    /// Sessions that wait for their first data.
    pub(crate) const fn embryos(&self) -> usize {
        self.embryos
    }

    pub(crate) const fn embryo_made(&mut self) {
        self.embryos += 1;
    }

    pub(crate) const fn embryo_gone(&mut self) {
        self.embryos = self.embryos.saturating_sub(1);
    }
}

impl<T> Peer<T> {
    fn position(&self, conv: Conv) -> Result<usize, usize> {
        self.sessions.binary_search_by_key(&conv, |&(conv, _)| conv)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn conv(value: u32) -> Conv {
        Conv::new(value)
    }

    #[test]
    fn many_conversations_share_an_address_and_many_addresses_a_conversation() {
        let mut router = Router::new();
        let (a, b) = (addr("10.0.0.1:1"), addr("10.0.0.1:2"));
        assert!(router.insert(a, conv(9), "a9"));
        assert!(router.insert(a, conv(3), "a3"));
        assert!(router.insert(b, conv(9), "b9"));
        assert!(!router.insert(b, conv(9), "again"));
        let find = |addr, value| router.find(addr, conv(value)).map(|found| *found.session);
        assert_eq!(
            (find(a, 9), find(a, 3), find(b, 9)),
            (Some("a9"), Some("a3"), Some("b9"))
        );
        assert_eq!(find(b, 3), None);
        assert_eq!(router.at(a).count(), 2);
        assert_eq!(router.len(), 3);
    }

    /// protocol.md 13.3
    #[test]
    fn conv_0_is_an_alias_until_the_session_is_called_by_its_own() {
        let mut router = Router::new();
        let a = addr("[::1]:5");
        router.insert(a, conv(77), "session");
        assert!(router.find(a, conv(0)).is_none());
        router.set_alias(a, conv(77));
        let found = router.find(a, conv(0)).unwrap();
        assert_eq!((*found.session, found.renamed), ("session", Some(conv(77))));
        let found = router.find(a, conv(77)).unwrap();
        assert_eq!((found.renamed, found.ends_opening), (None, true));
        router.end_opening(a);
        assert!(router.find(a, conv(0)).is_none());
        assert!(!router.find(a, conv(77)).unwrap().ends_opening);
        assert_eq!(router.alias(a), Some(conv(77)));
        router.remove(a, conv(77));
        assert!(router.find(a, conv(0)).is_none());
    }
}
