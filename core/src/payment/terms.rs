//! What a payment is for: the terms that an invoice or a template commits to.

use crate::hash::tagged;
use crate::id::{HopId, Network, NodeId};
use sha2::Digest;

/// Version of the 60/30/10 split that this crate computes.
pub const SPLIT_VERSION: u8 = 1;

/// The terms that a payment commits to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms<'a> {
    /// Network on which the payment is made.
    pub network: Network,
    /// Who sends, and pays.
    pub source: NodeId,
    /// Who receives.
    pub destination: NodeId,
    /// Intermediate nodes in travel order, at most [`crate::config::MAX_HOPS`].
    pub hops: &'a [HopId],
    /// Payload bytes that the payment buys, at most.
    pub quota: u64,
}

impl Terms<'_> {
    /// The commitment: a tagged hash (BIP 340) of all terms and the split version.
    /// Changing any field, or moving a byte from one to the next, changes it.
    pub fn hash(&self) -> [u8; 32] {
        let mut h = tagged(b"blvm-mesh/terms");
        h.update([SPLIT_VERSION, self.network as u8]);
        h.update(self.source.0);
        h.update(self.destination.0);
        h.update(self.quota.to_le_bytes());
        h.update((self.hops.len() as u64).to_le_bytes());
        for hop in self.hops {
            h.update(hop.0);
        }
        h.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_bound() {
        let hops = [HopId([1; 8]), HopId([2; 8])];
        let t = Terms {
            network: Network::Regtest,
            source: NodeId([3; 32]),
            destination: NodeId([4; 32]),
            hops: &hops,
            quota: 4096,
        };
        let swapped = [hops[1], hops[0]];
        let variants = [
            Terms { network: Network::Mainnet, ..t },
            Terms { source: t.destination, destination: t.source, ..t },
            Terms { destination: NodeId([5; 32]), ..t },
            Terms { hops: &hops[..1], ..t },
            Terms { hops: &swapped, ..t },
            Terms { quota: 4097, ..t },
        ];
        for v in variants {
            assert_ne!(v.hash(), t.hash(), "{v:?}");
        }
        assert_eq!(t.hash(), t.hash());
    }
}
