//! What a payment is for: the terms that an invoice or a template commits to.

use super::fee::{Party, equal_part, share};
use crate::hash::tagged;
use crate::id::{HopId, Network, NodeId};
use sha2::Digest;

/// Version of the 60/30/10 split that this crate computes.
pub const SPLIT_VERSION: u8 = 1;

/// What a payment buys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Purpose {
    /// The way of one datagram, divided by [`share`].
    #[default]
    Datagram,
    /// Bytes for the source's account at each node that is paid, whatever its tariff makes of an
    /// equal part of the amount: see [`equal_part`].
    Accounts {
        /// The destination is paid as well, for receiving.
        receives: bool,
    },
}

impl Purpose {
    /// The share of one party in an amount, in millisatoshi, on a route with so many
    /// intermediate nodes; 0 for one that is not paid.
    pub fn share(self, amount_msat: u64, intermediates: usize, party: Party) -> u64 {
        let Self::Accounts { .. } = self else { return share(amount_msat, intermediates, party) };
        let (paid, place) = (self.paid(intermediates), place(party, intermediates));
        place.map_or(0, |place| equal_part(amount_msat, paid, place))
    }

    /// How many parties must be paid, in the order of travel; the source is none of them.
    pub(crate) fn paid(self, intermediates: usize) -> usize {
        let destination = self != Self::Accounts { receives: false };
        intermediates.saturating_add(destination.into())
    }
}

/// The place of a party among those that are paid.
fn place(party: Party, intermediates: usize) -> Option<usize> {
    match party {
        Party::Source => None,
        Party::Intermediate(place) => Some(place.into()),
        Party::Destination => Some(intermediates),
    }
}

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
        self.hash_for(Purpose::Datagram)
    }

    /// The same for another purpose: a payment for one is none for another. For accounts the
    /// quota does not count.
    pub fn hash_for(&self, purpose: Purpose) -> [u8; 32] {
        let (mut h, quota) = match purpose {
            Purpose::Datagram => (tagged(b"blvm-mesh/terms"), self.quota),
            Purpose::Accounts { receives } => {
                (tagged(b"blvm-mesh/account-terms"), u64::from(receives))
            }
        };
        h.update([SPLIT_VERSION, self.network as u8]);
        h.update(self.source.0);
        h.update(self.destination.0);
        h.update(quota.to_le_bytes());
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

    #[test]
    fn a_payment_for_accounts_is_none_for_a_datagram() {
        let hops = [HopId([1; 8]), HopId([2; 8])];
        let (network, source) = (Network::Regtest, NodeId([3; 32]));
        let destination = NodeId([4; 32]);
        let mut hashes: std::vec::Vec<_> = [0, 1]
            .into_iter()
            .flat_map(|quota| {
                let t = Terms { network, source, destination, hops: &hops, quota };
                [Purpose::Datagram, RELAYS, ALL].map(|purpose| t.hash_for(purpose))
            })
            .collect();
        hashes.sort();
        hashes.dedup();
        // The quota makes a difference for a datagram only.
        assert_eq!(hashes.len(), 4);
    }

    const RELAYS: Purpose = Purpose::Accounts { receives: false };
    const ALL: Purpose = Purpose::Accounts { receives: true };

    #[test]
    fn accounts_have_equal_parts_of_the_whole_amount() {
        let shares = |purpose: Purpose, amount, hops: usize| {
            let hop = |i| Party::Intermediate(i as u8);
            let parties = (0..hops).map(hop).chain([Party::Destination, Party::Source]);
            parties.map(|p| purpose.share(amount, hops, p)).collect::<std::vec::Vec<_>>()
        };
        assert_eq!(shares(RELAYS, 10_001, 3), [3_334, 3_334, 3_333, 0, 0]);
        assert_eq!(shares(ALL, 10_001, 3), [2_501, 2_500, 2_500, 2_500, 0]);
        assert_eq!((shares(RELAYS, 9, 0), shares(ALL, 9, 0)), ([0, 0].into(), [9, 0].into()));
        assert_eq!(RELAYS.share(9, 1, Party::Intermediate(1)), 0, "it is not on the route");
        for hops in 1..=crate::config::MAX_HOPS {
            assert_eq!(shares(ALL, u64::MAX, hops).iter().sum::<u64>(), u64::MAX);
        }
        assert_eq!(Purpose::Datagram.share(10_000, 3, Party::Destination), 6_000);
    }
}
