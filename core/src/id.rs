//! Identities: nodes, hops, links and networks.

use core::fmt;
use secp256k1::PublicKey;
use sha2::{Digest, Sha256};

/// Identity of a node: SHA-256 of its compressed secp256k1 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NodeId(pub [u8; 32]);

impl NodeId {
    /// The identity that belongs to a public key.
    pub fn from_public_key(key: &PublicKey) -> Self {
        Self::from_compressed(&key.serialize())
    }

    /// The identity that belongs to a compressed public key (33 bytes).
    /// The bytes are not checked to be a point of the curve.
    pub fn from_compressed(key: &[u8; 33]) -> Self {
        Self(Sha256::digest(key).into())
    }

    /// The name of a node of which only the beginning of its identity is known: zeros follow.
    pub fn named_by(hop: HopId) -> Self {
        let mut id = [0; 32];
        id.iter_mut().zip(hop.0).for_each(|(id, hop)| *id = hop);
        Self(id)
    }

    /// Whether this is the name of a node: its identity, or the [beginning](Self::named_by) of
    /// it.
    pub fn names(&self, node: &Self) -> bool {
        self == node || *self == Self::named_by(node.hop())
    }

    /// The short form that data packets name this node by.
    pub fn hop(&self) -> HopId {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        HopId([a, b, c, d, e, f, g, h])
    }
}

/// First eight bytes of a [`NodeId`], resolved among a relay's own neighbours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HopId(pub [u8; 8]);

/// A link to one neighbour, numbered by the shell. A number is reused only after all others have
/// been used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LinkId(pub u32);

impl LinkId {
    /// The number for the next link: the next higher one that is not `taken`, wrapping around at
    /// the end of the range. There must be more numbers than taken links.
    pub fn next(self, taken: impl Fn(Self) -> bool) -> Self {
        let mut next = Self(self.0.wrapping_add(1));
        while taken(next) {
            next = Self(next.0.wrapping_add(1));
        }
        next
    }
}

/// What a neighbour is to this node. Own neighbours come before strangers wherever room or an
/// allowance is shared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Standing {
    /// Configured here, or dialled by this node; also whoever is at the other end of a serial or
    /// radio line.
    Own,
    /// Anybody else.
    Stranger {
        /// Identifies the prefix of the address that it came from: of IPv4 the first 24 bits, of
        /// IPv6 the first 48. Addresses of one prefix count as one owner's.
        prefix: u64,
    },
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

macro_rules! hex_display {
    ($($t:ty),*) => {$(
        impl fmt::Display for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
    )*};
}
hex_display!(NodeId, HopId);

/// A Bitcoin network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "lowercase"))]
#[repr(u8)]
pub enum Network {
    /// The main network.
    Mainnet = 0,
    /// Test network, version 3.
    Testnet3 = 1,
    /// Test network, version 4 (BIP 94).
    Testnet4 = 2,
    /// The default signet (BIP 325).
    Signet = 3,
    /// A private regression-test network.
    Regtest = 4,
}

impl Network {
    /// Every network, in the order of their numbers.
    pub const ALL: [Self; 5] =
        [Self::Mainnet, Self::Testnet3, Self::Testnet4, Self::Signet, Self::Regtest];

    /// The network with this number on the wire (0 to 4).
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Bitcoin P2P message start bytes, in the order in which they are sent.
    pub fn magic(self) -> [u8; 4] {
        bitcoin::Network::from(self).magic().to_bytes()
    }

    /// The same of a signet with this challenge: the first four bytes of the double
    /// SHA-256 of the challenge behind its length as a CompactSize (BIP 325).
    pub fn signet_magic(challenge: &[u8]) -> [u8; 4] {
        let mut hash = Sha256::new();
        match u16::try_from(challenge.len()) {
            Ok(short @ ..0xfd) => hash.update([short as u8]),
            Ok(length) => {
                hash.update([0xfd]);
                hash.update(length.to_le_bytes());
            }
            // No script is that long.
            Err(_) => {
                hash.update([0xfe]);
                hash.update((challenge.len() as u32).to_le_bytes());
            }
        }
        hash.update(challenge);
        let [a, b, c, d, ..]: [u8; 32] = Sha256::digest(hash.finalize()).into();
        [a, b, c, d]
    }

    /// Prefix of a BOLT 11 invoice of this network, before the amount.
    pub const fn invoice_prefix(self) -> &'static str {
        match self {
            Self::Mainnet => "lnbc",
            Self::Testnet3 | Self::Testnet4 => "lntb",
            Self::Signet => "lntbs",
            Self::Regtest => "lnbcrt",
        }
    }

    /// The name used in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mainnet => "mainnet",
            Self::Testnet3 => "testnet3",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }
}

impl From<Network> for bitcoin::Network {
    fn from(network: Network) -> Self {
        match network {
            Network::Mainnet => Self::Bitcoin,
            Network::Testnet3 => Self::Testnet,
            Network::Testnet4 => Self::Testnet4,
            Network::Signet => Self::Signet,
            Network::Regtest => Self::Regtest,
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]

    fn a_signet_has_the_magic_of_its_challenge() {
        let magic = |text: &str| Network::signet_magic(&hex::decode(text).unwrap());
        // The default signet's (BIP 325).
        let default = "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be43021\
                       0359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae";
        assert_eq!(magic(default), Network::Signet.magic());
        // Mutinynet's.
        let key = "02f7561d208dd9ae99bf497273e16f389bdbd6c4742ddb8e6b216e64fa2928ad8f";
        assert_eq!(magic(&std::format!("5121{key}51ae")), [0xa5, 0xdf, 0x2d, 0xcb]);
        // OP_TRUE; hashes computed with another implementation (coreutils sha256sum).
        assert_eq!(magic("51"), [0x54, 0xd2, 0x6f, 0xbd]);
        assert_eq!(magic(&"51".repeat(253)), [0xae, 0x28, 0x54, 0x78]);
    }

    #[test]
    fn numbers_of_links_go_round_and_pass_over_those_in_use() {
        let taken = |id: LinkId| matches!(id.0, u32::MAX | 0 | 1 | 9);
        let mut last = LinkId(u32::MAX - 2);
        let mut numbers = std::vec::Vec::new();
        for _ in 0..9 {
            last = last.next(taken);
            numbers.push(last.0);
        }
        assert_eq!(numbers, [u32::MAX - 1, 2, 3, 4, 5, 6, 7, 8, 10]);
    }

    #[test]
    fn identity_is_the_hash_of_the_compressed_key() {
        // Generator point; hash computed with another implementation (coreutils sha256sum).
        let g = hex::decode("0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798");
        let key = PublicKey::from_slice(&g.unwrap()).unwrap();
        let id = NodeId::from_public_key(&key);
        assert_eq!(
            id.to_string(),
            "0f715baf5d4c2ed329785cef29e562f73488c8a2bb9dbc5700b361d54b9b0554"
        );
        assert_eq!(id.hop().to_string(), "0f715baf5d4c2ed3");
    }

    #[test]
    fn network_numbers_are_their_positions() {
        for (i, n) in Network::ALL.iter().enumerate() {
            assert_eq!(*n as usize, i);
            assert_eq!(Network::from_u8(*n as u8), Some(*n));
        }
        assert_eq!(Network::from_u8(5), None);
    }
}
