//! Recognises the protocol of a payload at the mesh's edge, in the clear.

use super::cost::{Class, FreeCost, OwnNetwork};
use super::protocol::DetectedProtocol;
use super::reason::{Reason, Unrecognised};
use super::{bitcoin, stratum, stratum_tlv};
use crate::id::Network;

/// First bytes of every mesh packet.
pub const MESH_MAGIC: [u8; 4] = *b"MESH";

/// A payload's protocol, and the classes of its bytes if it goes free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Classified {
    /// Protocol of the whole payload.
    pub protocol: DetectedProtocol,
    /// Its bytes by class.
    pub cost: FreeCost,
}

impl Classified {
    /// All bytes of one class.
    pub const fn of(protocol: DetectedProtocol, class: Class, bytes: usize) -> Self {
        Self { protocol, cost: FreeCost::of(class, bytes) }
    }
}

/// What to recognise beyond the rules that always hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// The node's own network: its messages are recognised in any case, and its proof of
    /// work counts.
    pub own: OwnNetwork,
    /// Recognise messages of no other network.
    pub own_network_only: bool,
    /// Also recognise blvm-node's private TLV as Stratum V2.
    pub private_stratum_tlv: bool,
}

impl Default for Scope {
    /// Messages of all networks, from the main one, and no private TLV.
    fn default() -> Self {
        let own = OwnNetwork::new(Network::Mainnet);
        Self { own, own_network_only: false, private_stratum_tlv: false }
    }
}

/// The protocol of a payload, or why it is of none and where that shows.
///
/// Never gives `Ok(Unknown)`. Takes no memory; the work is one pass over the
/// bytes for structure and one for the checksum, and for blocks two more for
/// the two Merkle trees.
///
/// # Errors
/// [`Unrecognised`]: the first rule that is broken, and its offset.
pub fn explain(bytes: &[u8], scope: Scope) -> Result<DetectedProtocol, Unrecognised> {
    classify(bytes, scope).map(|found| found.protocol)
}

/// As [`explain`], with the classes of the bytes.
///
/// # Errors
/// As [`explain`].
pub fn classify(bytes: &[u8], scope: Scope) -> Result<Classified, Unrecognised> {
    let plain = |protocol| Ok(Classified::of(protocol, Class::Plain, bytes.len()));
    if bytes.is_empty() {
        return Err(Reason::Empty.at(0));
    }
    if let Some(magic) = bytes.first_chunk::<4>() {
        if *magic == MESH_MAGIC {
            return plain(DetectedProtocol::MeshPacket);
        }
        if let Some(chain) = scope.own.chain_of(magic) {
            if scope.own_network_only && *magic != scope.own.magic {
                let (found, allowed) = (chain.network, scope.own.network);
                return Err(Reason::OtherNetwork { found, allowed }.at(0));
            }
            return bitcoin::recognise(bytes, chain, &scope.own);
        }
    }
    // No magic is also a known extension type or a possible TLV length.
    match stratum::check(bytes) {
        Ok(()) => plain(DetectedProtocol::StratumV2),
        Err(_) if scope.private_stratum_tlv && stratum_tlv::is_private_tlv(bytes) => {
            plain(DetectedProtocol::StratumV2)
        }
        Err(why) => Err(why),
    }
}
