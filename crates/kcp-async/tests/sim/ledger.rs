//! Who has said how much to whom: the rules of `docs/protocol.md` that show on the wire.

use std::collections::HashMap;
use std::net::SocketAddr;

use kcp_engine::{Command, Conv, segments};

/// Conversations as hosts of ours see them, by (host, peer, conv).
#[derive(Debug)]
pub(crate) struct Ledger {
    accounts: HashMap<(SocketAddr, SocketAddr, u32), Account>,
    /// Conversations that were opened by conv 0, and the name they got.
    renamed: HashMap<(SocketAddr, SocketAddr), u32>,
    /// Whether breaking a rule is a failure. Where headers are flipped nobody can tell.
    strict: bool,
    /// Accepted conversations whose peer had not proven itself when their host spoke, and the
    /// largest share of their budget that was used, in percent.
    unproven: u64,
    fullest: u64,
}

#[derive(Debug, Default)]
struct Account {
    /// This host began.
    connecting: bool,
    /// The peer has acknowledged something, or answered a question.
    proven: bool,
    heard: u64,
    said: u64,
}

impl Ledger {
    pub(crate) fn new(strict: bool) -> Self {
        Self {
            accounts: HashMap::new(),
            renamed: HashMap::new(),
            strict,
            unproven: 0,
            fullest: 0,
        }
    }

    /// A new host has this address.
    pub(crate) fn forget(&mut self, host: SocketAddr) {
        self.accounts.retain(|key, _| key.0 != host);
        self.renamed.retain(|key, _| key.0 != host);
    }

    /// Conversations in which something was said before the proof, and the largest share of the
    /// budget that one used, in percent.
    pub(crate) const fn before_proof(&self) -> (u64, u64) {
        (self.unproven, self.fullest)
    }

    /// A datagram arrives at `host`.
    pub(crate) fn hears(&mut self, host: SocketAddr, peer: SocketAddr, datagram: &[u8]) {
        let Some(conv) = conv_of(datagram) else {
            return;
        };
        let conv = match conv {
            0 => self.renamed.get(&(host, peer)).copied().unwrap_or(0),
            conv => conv,
        };
        let account = self.accounts.entry((host, peer, conv)).or_default();
        account.heard += datagram.len() as u64 + HEADERS;
        account.proven |= segments(datagram).map_while(Result::ok).any(|segment| {
            let header = segment.header;
            // protocol.md 11.1: a WINS that says so echoes a question.
            let echo = header.is_marked() && header.frg & 0x02 != 0;
            match header.command() {
                Some(Command::Ack) => true,
                Some(Command::Wins) => echo,
                _ => false,
            }
        });
    }

    /// A datagram leaves `host`.
    pub(crate) fn sends(
        &mut self,
        host: SocketAddr,
        peer: SocketAddr,
        datagram: &[u8],
        to_stock: bool,
    ) {
        let mut last_alone = 0;
        for segment in segments(datagram) {
            let header = segment.expect("a datagram of ours is whole").header;
            let command = header.command().expect("a command of ours is known");
            let alone = matches!(command, Command::Fin | Command::Rst);
            last_alone += usize::from(alone);
            let is_challenge = header.sn.get() == u32::MAX && header.frg == 0;
            assert!(
                command != Command::Push || (header.len == 0) == is_challenge,
                "protocol.md 3.4, 11.1: an empty PUSH, or none where one is due, from {host}"
            );
            assert!(
                !(self.strict && alone && to_stock),
                "protocol.md 12.7: {command:?} from {host} to the stock peer {peer}"
            );
        }
        assert!(last_alone <= 1, "protocol.md 12.2: two FINs or RSTs in one");

        let conv = conv_of(datagram).expect("a header");
        if !self.accounts.contains_key(&(host, peer, conv))
            && let Some(account) = self.accounts.remove(&(host, peer, 0))
        {
            self.accounts.insert((host, peer, conv), account);
            self.renamed.insert((host, peer), conv);
        }
        let account = self.accounts.entry((host, peer, conv)).or_default();
        account.connecting |= account.heard == 0;
        if account.connecting || account.proven {
            return;
        }
        self.unproven += u64::from(account.said == 0);
        account.said += datagram.len() as u64 + HEADERS;
        let budget = 3 * account.heard + BEYOND_BUDGET;
        self.fullest = self.fullest.max(account.said * 100 / budget);
        assert!(
            !self.strict || account.said <= budget,
            "protocol.md 11.3: {host} has said {} bytes to {peer} and heard {}",
            account.said,
            account.heard
        );
    }
}

fn conv_of(datagram: &[u8]) -> Option<u32> {
    let conv = datagram.first_chunk::<4>()?;
    Some(Conv::new(u32::from_le_bytes(*conv)).get())
}

/// protocol.md 11.3: beyond three times what was heard, 6 datagrams of at most 100 bytes.
const BEYOND_BUDGET: u64 = 6 * (100 + HEADERS);
/// IPv4 and UDP.
const HEADERS: u64 = 28;
