//! The payments that every node on a route accepts, as a search collects them.
//!
//! | size | field |
//! |---|---|
//! | 1 | confirmations that a covenant's funding needs: the most that a node asks for, 255 for more; 0: not every node accepts covenants |
//! | 1 | number of issuers n, 0 to 8; 255: any, no node checks invoices |
//! | 8 n | issuers that every node accepts: the first 8 bytes of the x coordinates of their keys |
//!
//! One of these may be [`FOR_ACCOUNTS`].

use super::{Reader, WireError, Writer};
use crate::config::MAX_ISSUERS;
use secp256k1::PublicKey;

/// The first bytes of the x coordinate of an issuer's key.
pub type IssuerId = [u8; 8];

/// Issuers by the beginnings of their keys.
pub type Issuers = heapless::Vec<IssuerId, MAX_ISSUERS>;

/// Most bytes on the wire.
pub(super) const MAX_ACCEPTED_LEN: usize = 2 + 8 * MAX_ISSUERS;

/// Stands in the list for what is no issuer: that a proof may also pay for bytes on
/// [accounts](crate::payment::proof::ForAccounts). Whoever does not know it leaves it out, as an
/// issuer that it does not accept.
pub const FOR_ACCOUNTS: IssuerId = *b"accounts";

/// Stands for the number of issuers where any is accepted.
const ANY_ISSUER: u8 = 0xff;

/// How an issuer is named.
pub fn issuer_id(key: &PublicKey) -> IssuerId {
    let mut id = IssuerId::default();
    // Behind the byte that tells which of two points it is.
    id.iter_mut().zip(key.serialize().iter().skip(1)).for_each(|(to, from)| *to = *from);
    id
}

/// Payments that every one of some nodes accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Confirmations that the funding of a covenant needs, 255 for that many or more; 0:
    /// covenants are not accepted.
    pub min_confirmations: u8,
    /// Whose invoices are accepted; `None`: anybody's, since nobody checks them.
    pub issuers: Option<Issuers>,
}

impl Accepted {
    /// What nodes accept that check no payment. A covenant's funding is in a block at least.
    pub const ANY: Self = Self { min_confirmations: 1, issuers: None };
    /// What nodes accept that carry nothing for a payment.
    pub const NOTHING: Self = Self { min_confirmations: 0, issuers: Some(Issuers::new()) };

    /// Leaves what another accepts as well; whether that is less than it was.
    #[inline(never)]
    pub fn narrow(&mut self, other: &Self) -> bool {
        let before = (self.min_confirmations, self.issuers.as_ref().map(|issuers| issuers.len()));
        self.min_confirmations = match (self.min_confirmations, other.min_confirmations) {
            (0, _) | (_, 0) => 0,
            (one, other) => one.max(other),
        };
        match (&mut self.issuers, &other.issuers) {
            (_, None) => {}
            (Some(issuers), Some(others)) => issuers.retain(|issuer| others.contains(issuer)),
            (issuers @ None, others) => issuers.clone_from(others),
        }
        before != (self.min_confirmations, self.issuers.as_ref().map(|issuers| issuers.len()))
    }

    /// Whether a proof that several nodes share may pay for bytes on accounts.
    pub fn for_accounts(&self) -> bool {
        self.issuers.as_ref().is_none_or(|issuers| issuers.contains(&FOR_ACCOUNTS))
    }

    /// Takes [`FOR_ACCOUNTS`] out of the list; whether that says so.
    pub fn take_for_accounts(&mut self) -> bool {
        let says = self.for_accounts();
        if let Some(issuers) = &mut self.issuers {
            issuers.retain(|issuer| *issuer != FOR_ACCOUNTS);
        }
        says
    }

    /// Bytes on the wire.
    pub(crate) fn wire_len(&self) -> usize {
        2 + 8 * self.issuers.as_ref().map_or(0, |issuers| issuers.len())
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, WireError> {
        let [min_confirmations, count] = *r.array()?;
        let issuers = match count {
            ANY_ISSUER => None,
            count => {
                let (ids, _) = r.slice(8 * usize::from(count))?.as_chunks();
                Some(Issuers::from_slice(ids).map_err(|_| WireError::Field("issuers"))?)
            }
        };
        Ok(Self { min_confirmations, issuers })
    }

    pub(super) fn put(&self, w: &mut Writer<'_>) {
        let count = self.issuers.as_ref().map_or(ANY_ISSUER, |issuers| issuers.len() as u8);
        w.put(&[self.min_confirmations, count]);
        w.put(self.issuers.as_deref().unwrap_or_default().as_flattened());
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    /// Any, of few issuers so that they meet.
    pub(in crate::wire) fn accepted() -> impl Strategy<Value = Accepted> {
        let issuer = (0u8..4).prop_map(|n| [n; 8]);
        let issuers = prop::option::of(prop::collection::vec(issuer, 0..=MAX_ISSUERS));
        (prop_oneof![0..4u8, any::<u8>()], issuers).prop_map(|(min_confirmations, issuers)| {
            let issuers = issuers.map(|issuers| issuers.into_iter().collect());
            Accepted { min_confirmations, issuers }
        })
    }

    fn of(min_confirmations: u8, issuers: &[u8]) -> Accepted {
        let issuers = Some(issuers.iter().map(|n| [*n; 8]).collect());
        Accepted { min_confirmations, issuers }
    }

    impl Accepted {
        fn is_within(&self, other: &Self) -> bool {
            let mut left = self.clone();
            let less = left.narrow(other);
            assert_eq!(less, left != *self, "it says whether something is left out");
            !less
        }
    }

    fn all(nodes: &[Accepted]) -> Accepted {
        let mut left = Accepted::ANY;
        for node in nodes {
            left.narrow(node);
        }
        left
    }

    #[test]
    fn what_is_left_is_accepted_by_all() {
        let (one, other) = (of(1, &[1, 2, 3]), of(6, &[4, 3, 2]));
        assert_eq!(all(&[one.clone(), other.clone()]), of(6, &[2, 3]));
        assert_eq!(all(&[one.clone(), Accepted::ANY, other.clone()]), of(6, &[2, 3]));
        assert_eq!(all(&[of(0, &[2]), one.clone()]), of(0, &[2]), "one takes no covenants");
        assert_eq!(all(&[one.clone(), of(2, &[9])]), of(2, &[]), "they differ");
        assert_eq!(all(&[one, Accepted::NOTHING, other]), Accepted::NOTHING);
        assert_eq!(all(&[Accepted::ANY, Accepted::ANY]), Accepted::ANY);
    }

    #[test]
    fn an_issuer_is_named_by_its_x_coordinate() {
        let key = secp256k1::SecretKey::from_byte_array([7; 32]).unwrap();
        let key = key.public_key(&secp256k1::Secp256k1::new());
        assert_eq!(issuer_id(&key)[..], key.serialize()[1..9]);
    }

    proptest! {
        #[test]
        fn narrowing_leaves_a_part_in_any_order(nodes in prop::collection::vec(accepted(), 0..6)) {
            let left = all(&nodes);
            for node in &nodes {
                prop_assert!(left.is_within(node));
                // Whatever is left, each of them accepts.
                let accepts = |id| node.issuers.as_ref().is_none_or(|issuers| issuers.contains(id));
                prop_assert!(left.issuers.iter().flatten().all(accepts));
                prop_assert!(left.min_confirmations == 0 || node.min_confirmations > 0);
                prop_assert!(left.min_confirmations == 0 || left.min_confirmations >= node.min_confirmations);
            }
            let back: Vec<_> = nodes.iter().rev().cloned().collect();
            let names = |a: &Accepted| a.issuers.clone().map(|issuers| {
                let mut issuers = issuers.to_vec();
                issuers.sort();
                issuers.dedup();
                issuers
            });
            prop_assert_eq!(all(&back).min_confirmations, left.min_confirmations);
            prop_assert_eq!(names(&all(&back)), names(&left));
        }

        #[test]
        fn what_is_more_than_a_node_accepts_is_seen(node in accepted(), more in 4u8..9) {
            let Some(issuers) = &node.issuers else { return Ok(()) };
            let other = Accepted { issuers: Some([[more; 8]].into_iter().collect()), ..node.clone() };
            prop_assert!(!other.is_within(&node));
            let any = Accepted { issuers: None, ..node.clone() };
            prop_assert!(!any.is_within(&node));
            if node.min_confirmations != 1 {
                let sooner = node.min_confirmations.checked_sub(1).unwrap_or(1);
                let other = Accepted { min_confirmations: sooner, issuers: Some(issuers.clone()) };
                prop_assert!(!other.is_within(&node));
            }
        }
    }
}
