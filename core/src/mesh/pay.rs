//! Payments: what they are checked against, and what is booked.

use super::api::{Action, Event, Remedy, Ticket};
use super::error::{MeshError, NetworkReason, PaymentReason};
use super::{Awaits, Mesh, Parked};
use crate::config::MAX_HOPS;
use crate::id::{HopId, LinkId, NodeId};
use crate::payment::covenant::CovenantError;
use crate::payment::fee::Party;
use crate::payment::headers::KnownHeader;
use crate::payment::ledger::{Payment, Record};
use crate::payment::proof::PaymentProof;
use crate::payment::terms::Terms;
use crate::payment::verify::{Claim, Outcome, Verified, verify};
use crate::signature;
use crate::tables::{List, Memory};
use crate::wire::Header;
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
        if self.store_failed {
            return Err(PaymentReason::StoreFailed.into());
        }
        let proof = PaymentProof::parse(signed.proof)?;
        if NodeId::from_compressed(signed.public_key) != datagram.source {
            return Err(PaymentReason::SourceKey.into());
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
                if self.answered.is_some_and(|(asked, _)| asked == block_hash) {
                    // It was asked, and does not know the block.
                    return Err(PaymentReason::from(CovenantError::HeaderUnknown).into());
                }
                self.ask(link, block_hash)
            }
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
            not_before: self.not_before,
        };
        let is_new = |key: &[u8; 32], expires_at: u64| {
            self.replay.check_replay(key, &datagram.source, datagram.sequence)?;
            self.replay.check_room(key, expires_at)
        };
        let block = |hash: &[u8; 32]| match &self.answered {
            Some((asked, block)) if asked == hash => *block,
            _ => self.headers.get(hash),
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
        let Verified { key, method, amount_msat, share_msat, expires_at } = payment;
        self.replay.accept(key, expires_at)?;
        // It must be forgotten some day, also if nothing else wakes this node.
        self.wake_at(self.next_cleanup.max(self.now));
        let source = datagram.source;
        self.act(Action::Publish(Event::PaymentVerified {
            payment: key,
            source,
            amount_msat,
            share_msat,
        }));
        self.stats.earned_msat = self.stats.earned_msat.saturating_add(share_msat);
        if self.config.payment.volatile {
            return Ok(Admission::Paid { record: None, share_msat });
        }
        let record = Record::Payment(Payment {
            key,
            method,
            role: party,
            source,
            destination: datagram.destination,
            amount_msat,
            share_msat,
            accepted_at: self.wall.unix(self.now).unwrap_or_default(),
            expires_at,
        });
        Ok(Admission::Paid { record: Some(self.persist(record)), share_msat })
    }

    pub(super) fn persist(&mut self, record: Record) -> u64 {
        self.records = self.records.saturating_add(1);
        let number = self.records;
        self.act(Action::Persist { number, record });
        number
    }

    /// Parks the packet and asks the node for a block.
    fn ask(&mut self, link: Option<LinkId>, hash: [u8; 32]) -> Result<Admission, MeshError> {
        let ticket = self.park(Awaits::Block { link, hash })?;
        self.act(Action::Verify { ticket, block_hash: hash });
        Ok(Admission::Parked)
    }

    /// Keeps a place for a packet that waits. A neighbour, and this node itself,
    /// may take half of the places.
    pub(super) fn park(&mut self, awaits: Awaits) -> Result<Ticket, MeshError> {
        let own = awaits.link();
        let share = self.parked.iter().filter(|p| p.awaits.link() == own).count();
        if self.parked.is_full() || share >= self.parked.capacity().div_ceil(2) {
            return Err(NetworkReason::TooManyParked.into());
        }
        let ticket = Ticket(self.next_ticket);
        let until = match awaits {
            // The search ends by itself, and this comes to an end with it.
            Awaits::Route(_) => u64::MAX,
            _ => self.now.saturating_add(self.config.timing.verify_timeout),
        };
        let parked = Parked { ticket, awaits, until };
        self.parked.try_push(parked).map_err(|_| NetworkReason::TooManyParked)?;
        self.next_ticket = self.next_ticket.saturating_add(1);
        self.wake_at(until);
        self.act(Action::Parked { ticket, until });
        Ok(ticket)
    }

    /// The node answered what it knows of a block.
    pub(super) fn answer(&mut self, ticket: Ticket, block: Option<KnownHeader>) {
        let place = self.parked.iter().position(|p| p.ticket == ticket);
        let parked = place.and_then(|at| self.parked.get_mut(at).map(|p| (at, p)));
        let Some((at, Parked { awaits: Awaits::Block { link, hash }, .. })) = parked else {
            // It took too long: the packet was refused meanwhile.
            return self.act(Action::Absorbed);
        };
        let (link, hash) = (*link, *hash);
        self.act(Action::Absorbed);
        match (block, link) {
            // Also where the block is not known: the source is to learn why its
            // packet is refused.
            (block, Some(link)) => {
                if let Some(p) = self.parked.get_mut(at) {
                    p.awaits = Awaits::Return { link, hash, block };
                }
                self.act(Action::Resume { ticket });
            }
            (block @ Some(_), None) => {
                // The next input is the same `Send` once more.
                self.parked.take(at);
                self.answered = Some((hash, block));
                self.act(Action::Resume { ticket });
            }
            (None, None) => {
                self.parked.take(at);
                self.act(Action::Reject {
                    link,
                    ticket: Some(ticket),
                    reason: PaymentReason::from(CovenantError::HeaderUnknown).into(),
                    remedy: Remedy::Ignore,
                });
            }
        }
    }

    /// The answer with which a parked packet comes back.
    pub(super) fn returning(&self, ticket: Ticket) -> Option<Awaits> {
        let parked = self.parked.iter().find(|p| p.ticket == ticket)?;
        matches!(parked.awaits, Awaits::Return { .. }).then_some(parked.awaits)
    }

    /// A parked packet comes back: it is treated as if it came in just now, with
    /// what the node knows of the block.
    pub(super) fn resume(&mut self, ticket: Ticket, packet: &mut [u8]) {
        let Some(Awaits::Return { link, hash, block }) = self.returning(ticket) else { return };
        self.parked.retain(|p| p.ticket != ticket);
        if self.table.neighbours.get(link).is_none() {
            return self.reject(Some(link), NetworkReason::LinkClosed, Remedy::Ignore);
        }
        let header = match Header::parse(packet) {
            Ok((header, _)) => header,
            Err(e) => return self.reject(Some(link), e, Remedy::Ignore),
        };
        self.answered = Some((hash, block));
        self.datagram(link, header, packet);
        self.answered = None;
    }
}

impl Awaits {
    /// The neighbour that sent the packet; `None` for this node's own.
    fn link(&self) -> Option<LinkId> {
        match self {
            Self::Route(_) => None,
            Self::Block { link, .. } => *link,
            Self::Return { link, .. } => Some(*link),
        }
    }
}
