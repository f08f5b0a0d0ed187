//! Payments: what they are checked against, and what is booked.

use super::Mesh;
use super::api::{Action, Event};
use super::error::{MeshError, NetworkReason, PaymentReason};
use crate::config::MAX_HOPS;
use crate::id::{HopId, LinkId, NodeId};
use crate::payment::fee::Party;
use crate::payment::ledger::{Payment, Record};
use crate::payment::proof::PaymentProof;
use crate::payment::terms::Terms;
use crate::payment::verify::{Claim, Outcome, Verified, verify};
use crate::signature;
use crate::tables::Memory;
use crate::wire::datagram::Datagram;

/// On what ground a datagram passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// Free of charge.
    Free,
    /// For a payment that was booked in this record; `None` where no records
    /// are kept.
    Paid {
        /// Number of the record.
        record: Option<u64>,
        /// This node's share, in millisatoshi.
        share_msat: u64,
    },
    /// It waits for the node's answer.
    Parked,
}

impl<M: Memory> Mesh<M> {
    /// Checks the payment in a datagram, all rules of DESIGN section 6, and
    /// books it. Until everything held, nothing is changed.
    pub(super) fn check_payment(
        &mut self,
        link: Option<LinkId>,
        party: Party,
        datagram: &Datagram<'_>,
    ) -> Result<Admission, MeshError> {
        let signed = datagram.signed.ok_or(PaymentReason::Required)?;
        if self.store_failed || self.not_restored {
            return Err(PaymentReason::StoreFailed.into());
        }
        let proof = PaymentProof::parse(signed.proof)?;
        if NodeId::from_compressed(signed.public_key) != datagram.source {
            return Err(PaymentReason::SourceKey.into());
        }
        if self.answered.is_none() && !self.may_cost_a_check(link) {
            return Err(PaymentReason::TooManyBad.into());
        }
        if let (None, PaymentProof::InstantSettlement(proof)) = (link, &proof) {
            self.answered = self.take_answer(&proof.block_hash);
        }
        let hops = datagram.route();
        match self.verify_proof(&proof, party, datagram, &hops)? {
            Outcome::Verified(payment) => {
                if party != Party::Source {
                    self.check_source(datagram)?;
                }
                self.book(party, datagram, payment)
            }
            Outcome::NeedsBlock { block_hash, .. } => {
                // The signature first: a stranger cannot make the node ask.
                if party != Party::Source {
                    self.check_source(datagram)?;
                }
                self.ask(link, datagram, block_hash)?;
                Ok(Admission::Parked)
            }
        }
    }

    /// Whether a neighbour may cause a check that costs: a signature, or a question
    /// to the node.
    fn may_cost_a_check(&self, link: Option<LinkId>) -> bool {
        let neighbour = link.and_then(|link| self.tables.routing.neighbours.get(link));
        neighbour.is_none_or(|n| n.bad_payments.available(self.now) > 0)
    }

    /// A neighbour has caused such a check in vain.
    pub(super) fn count_bad_payment(&mut self, link: LinkId) {
        let now = self.now;
        if let Some(n) = self.tables.routing.neighbours.get_mut(link) {
            n.bad_payments.try_take(1, now);
        }
    }

    fn check_source(&self, datagram: &Datagram<'_>) -> Result<(), MeshError> {
        let holds = datagram.signed.zip(datagram.sighash()).is_some_and(|(s, hash)| {
            signature::verify(&self.secp, s.public_key, &hash, s.signature)
        });
        if holds { Ok(()) } else { Err(PaymentReason::SourceSignature.into()) }
    }

    fn verify_proof(
        &self,
        proof: &PaymentProof<'_>,
        party: Party,
        datagram: &Datagram<'_>,
        hops: &heapless::Vec<HopId, MAX_HOPS>,
    ) -> Result<Outcome, MeshError> {
        let quota = datagram.payload.len() as u64;
        let terms = Terms {
            network: self.config.network,
            source: datagram.source,
            destination: datagram.destination,
            hops,
            quota,
        };
        let claim = Claim {
            terms: &terms,
            party,
            // A sender does not charge himself.
            price_msat: match party {
                Party::Source => 0,
                _ => self.config.payment.tariff.price(quota),
            },
            unix: self.wall.unix(self.now),
            not_before: self.not_before.map(|(_, unix)| unix),
        };
        let is_new = |key: &[u8; 32], expires_at: u64| {
            self.tables.replay.check_replay(key, &datagram.source, datagram.sequence)?;
            self.tables.replay.check_room(expires_at)
        };
        let block = |hash: &[u8; 32]| match &self.answered {
            Some((asked, block)) if asked == hash => Some(*block),
            _ => self.tables.headers.get(hash),
        };
        Ok(verify(proof, &claim, &self.config.payment, &self.secp, is_new, block)?)
    }

    /// Books a payment that holds. It is recorded before the packet leaves.
    fn book(
        &mut self,
        party: Party,
        datagram: &Datagram<'_>,
        payment: Verified,
    ) -> Result<Admission, MeshError> {
        if self.inbox_full && party == Party::Destination {
            return Err(NetworkReason::InboxFull.into());
        }
        let Verified { key, method, amount_msat, share_msat, expires_at } = payment;
        self.tables.replay.accept(key, expires_at)?;
        // It must be forgotten some day, also if nothing else wakes this node.
        self.wake_at(self.next_cleanup.max(self.now));
        let source = datagram.source;
        let after = (!self.config.payment.volatile).then(|| {
            self.persist(Record::Payment(Payment {
                key,
                method,
                role: party,
                source,
                destination: datagram.destination,
                amount_msat,
                share_msat,
                accepted_at: self.wall.unix(self.now).unwrap_or_default(),
                expires_at,
            }))
        });
        let payment = key;
        self.act(Action::Publish(Event::PaymentVerified {
            payment,
            source,
            amount_msat,
            share_msat,
            after,
        }));
        // What a payer keeps of his own payment is no income.
        if party != Party::Source {
            self.stats.earned_msat = self.stats.earned_msat.saturating_add(share_msat);
        }
        Ok(Admission::Paid { record: after, share_msat })
    }

    pub(super) fn persist(&mut self, record: Record) -> u64 {
        self.records = self.records.saturating_add(1);
        let number = self.records;
        self.act(Action::Persist { number, record });
        number
    }
}
