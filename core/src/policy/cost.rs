//! What the bytes of a free payload cost their maker: this decides which free allowances they
//! use.

use super::command::Command;
use super::work::Chain;
use crate::config::{MAINNET_MIN_DIFFICULTY, min_difficulty};
use crate::id::Network;

/// Bytes of a payload by class, message by message, headers included. They sum to the length of
/// the payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FreeCost {
    /// Bytes that are bound to proof of work: `headers`, `block` and `merkleblock` of
    /// sufficient difficulty ([`OwnNetwork::min_difficulty`]).
    pub worked: usize,
    /// Bytes that anybody can make up.
    pub plain: usize,
    /// The same, in commands that are seldom sent.
    pub rare: usize,
}

impl FreeCost {
    /// All bytes of one class.
    pub const fn of(class: Class, bytes: usize) -> Self {
        let (mut worked, mut plain, mut rare) = (0, 0, 0);
        match class {
            Class::Worked => worked = bytes,
            Class::Plain => plain = bytes,
            Class::Rare => rare = bytes,
        }
        Self { worked, plain, rare }
    }

    /// Sum of all classes, in bytes.
    pub const fn total(&self) -> usize {
        self.worked.saturating_add(self.plain).saturating_add(self.rare)
    }

    /// Adds a message.
    pub(super) fn add(&mut self, class: Class, bytes: usize) {
        let count = match class {
            Class::Worked => &mut self.worked,
            Class::Plain => &mut self.plain,
            Class::Rare => &mut self.rare,
        };
        *count = count.saturating_add(bytes);
    }
}

/// Class of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Every byte is bound to proof of work that costs real money.
    Worked,
    /// No work is behind it.
    Plain,
    /// No work is behind it, and it is seldom sent.
    Rare,
}

/// A node's own network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OwnNetwork {
    /// Which one it is.
    pub network: Network,
    /// First bytes of its messages: [`Network::magic`] or [`Network::signet_magic`].
    pub magic: [u8; 4],
    /// Lowest difficulty of work that counts there; 0 for whatever the network allows.
    pub min_difficulty: u64,
}

impl OwnNetwork {
    /// A network with its usual settings.
    pub fn new(network: Network) -> Self {
        Self { network, magic: network.magic(), min_difficulty: min_difficulty(network) }
    }

    /// The chain whose messages begin with this magic. On networks other than the node's own,
    /// work counts only where it costs money, which is mainnet: otherwise anybody with worthless
    /// blocks of a test network would have the whole allowance everywhere.
    pub(super) fn chain_of(&self, magic: &[u8; 4]) -> Option<Chain> {
        if *magic == self.magic {
            let min_difficulty = Some(self.min_difficulty);
            return Some(Chain { network: self.network, magic: *magic, min_difficulty });
        }
        let network = Network::ALL.into_iter().find(|network| network.magic() == *magic)?;
        let main = matches!(network, Network::Mainnet);
        let min_difficulty = main.then_some(MAINNET_MIN_DIFFICULTY);
        Some(Chain { network, magic: *magic, min_difficulty })
    }
}

impl Command {
    /// Class of a message of this command. `worked`: its proof of work counts.
    ///
    /// Worked are those whose every byte hangs on the header's hash: `headers`
    /// (80 bytes each and a zero), `block` (transactions by the Merkle root,
    /// witnesses and the reserved value by the coinbase's commitment) and
    /// `merkleblock` (hashes and flags by the root, no bits left over; free are only
    /// the choice of branches and the number of transactions, under 2 % of its
    /// bytes). `cmpctblock` is not: its short ids, nonce and transactions hang on
    /// nothing, and any header ever mined may stand before them.
    ///
    /// | rare | how often a node sends it |
    /// |---|---|
    /// | `banlist`, `getbanlist` | when an operator's list changes, and on request |
    /// | `econreg`, `econveto`, `econstatus`, `econfork` | no current node does |
    /// | `alert` | Bitcoin Core 0.14 to 28 once, to a peer of before 2017 |
    /// | `reject` | Bitcoin Core from 0.20 on does not; before, once per refusal |
    ///
    /// What opens a connection (`version` and so on) is little too, but waiting
    /// for it would let one source keep others behind the same neighbour from
    /// connecting; it is plain.
    pub(super) const fn class(self, worked: bool) -> Class {
        match self {
            Self::Headers | Self::Block | Self::MerkleBlock if worked => Class::Worked,
            Self::Alert
            | Self::BanList
            | Self::EconFork
            | Self::EconReg
            | Self::EconStatus
            | Self::EconVeto
            | Self::GetBanList
            | Self::Reject => Class::Rare,
            _ => Class::Plain,
        }
    }
}
