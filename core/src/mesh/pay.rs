//! Payments: how they are checked, and what is booked.

use super::Mesh;
use super::api::{Action, Event};
use super::error::{MeshError, NetworkReason, PaymentReason, RoutingReason};
use crate::config::MAX_HOPS;
use crate::id::{HopId, LinkId, NodeId, Standing};
use crate::payment::fee::Party;
use crate::payment::ledger::{Method, Payment, Record};
#[cfg(feature = "alloc")]
use crate::payment::lightning::LightningError;
#[cfg(feature = "alloc")]
use crate::payment::proof::ForAccounts;
use crate::payment::proof::PaymentProof;
use crate::payment::replay::{Again, PaidPacket, ReplayError};
use crate::payment::terms::{Purpose, Terms};
use crate::payment::verify::{Claim, Outcome, Verified, verify};
use crate::routing::bad_payments::{BadPayments, Charged};
use crate::routing::table::RoutingTable;
use crate::signature;
use crate::tables::Memory;
use crate::tariff::Tariff;
use crate::wire::datagram::Datagram;
use core::cell::Cell;
use core::hash::Hasher;
use siphasher::sip::SipHasher13;

/// Why a datagram may pass.
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
    /// For a payment that was booked when the same packet first came.
    Again {
        /// Number of the latest record, which is not older than the payment's.
        record: Option<u64>,
    },
    /// As above, and this run of the node has already delivered it.
    Delivered {
        /// As above.
        record: Option<u64>,
    },
    /// It waits for the node's answer.
    Parked,
}

/// What the checks of a payment find out on the way.
#[derive(Debug, Default)]
struct Learnt {
    /// What the source signed, if that has been checked.
    sighash: Cell<Option<[u8; 32]>>,
    /// Replay key of the payment, if it has been used before.
    used: Cell<Option<[u8; 32]>>,
}

impl<M: Memory> Mesh<M> {
    /// Checks the payment in a datagram against all rules of docs/PROTOCOL.md ("Which payments
    /// are accepted") and books it. Nothing changes until every check has passed.
    #[inline(never)]
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
        #[cfg(feature = "alloc")]
        let (accounts, proof) = ForAccounts::split(signed.proof)?;
        #[cfg(not(feature = "alloc"))]
        let proof = signed.proof;
        // What it pays for is on accounts, and nothing else is carried for it.
        #[cfg(feature = "alloc")]
        if accounts.is_some() && !datagram.payload.is_empty() {
            return Err(PaymentReason::Malformed.into());
        }
        let proof = PaymentProof::parse(proof)?;
        if NodeId::from_compressed(signed.public_key) != datagram.source {
            return Err(PaymentReason::SourceKey.into());
        }
        if let (None, PaymentProof::InstantSettlement(proof)) = (link, &proof) {
            self.answered = self.take_answer(&proof.block_hash);
        }
        let hops = datagram.route();
        let learnt = Learnt::default();
        #[cfg(feature = "alloc")]
        let purpose = accounts.map(|a| a.purpose()).unwrap_or_default();
        #[cfg(not(feature = "alloc"))]
        let purpose = Purpose::Datagram;
        match self.verify_proof((&proof, purpose), (link, party), datagram, &hops, &learnt) {
            Ok(Outcome::Verified(payment)) => {
                let packet = self.paid_packet(link, datagram, learnt.sighash.get());
                self.held(link, datagram);
                #[cfg(feature = "alloc")]
                if let (Some(accounts), Party::Source) = (&accounts, party) {
                    self.deposit_sent(datagram, accounts, payment.amount_msat);
                }
                #[cfg(feature = "alloc")]
                return self.book(party, datagram, payment, packet, accounts);
                #[cfg(not(feature = "alloc"))]
                self.book(party, datagram, payment, packet)
            }
            Ok(Outcome::NeedsBlock { block_hash, .. }) => {
                self.ask(link, datagram, block_hash)?;
                Ok(Admission::Parked)
            }
            Err(reason @ MeshError::ReplayDetected(ReplayError::Used)) => {
                let key = learnt.used.get().ok_or(reason)?;
                self.again(link, party, datagram, &key)
            }
            Err(reason) => Err(reason),
        }
    }

    /// A packet carries a payment that has been used. It passes again if it is the packet that
    /// the payment was used for.
    #[inline(never)]
    fn again(
        &mut self,
        link: Option<LinkId>,
        party: Party,
        datagram: &Datagram<'_>,
        key: &[u8; 32],
    ) -> Result<Admission, MeshError> {
        let packet = self.paid_packet(link, datagram, None);
        // Without a payload nothing is handed over.
        let no_room = || !datagram.payload.is_empty() && self.is_inbox_full(&datagram.source);
        let end = (party == Party::Destination).then(no_room);
        let again = self.tables.replay.again(key, packet, self.now, end);
        let record = self.latest_record();
        if matches!(again, Again::Passes | Again::Delivered) {
            self.stats.repeated = self.stats.repeated.wrapping_add(1);
            self.held(link, datagram);
        }
        match again {
            Again::Passes => Ok(Admission::Again { record }),
            Again::Delivered => Ok(Admission::Delivered { record }),
            Again::NoRoom => Err(NetworkReason::InboxFull.into()),
            Again::Refused => Err(RoutingReason::Duplicate.into()),
            Again::Other => Err(ReplayError::Used.into()),
        }
    }

    /// The fingerprint of a paid packet from a neighbour. It covers the signature, which
    /// therefore need not be checked again.
    fn paid_packet(
        &self,
        link: Option<LinkId>,
        datagram: &Datagram<'_>,
        sighash: Option<[u8; 32]>,
    ) -> PaidPacket {
        let from = link.and_then(|link| self.tables.routing.neighbours.get(link));
        let sighash = sighash.or_else(|| datagram.sighash());
        let (Some(from), Some(signed), Some(sighash)) = (from, datagram.signed, sighash) else {
            return PaidPacket::NONE;
        };
        let mut h = SipHasher13::new_with_key(&self.packet_key);
        h.write(&sighash);
        h.write(signed.signature);
        h.write(&from.node.0);
        PaidPacket::of(h.finish())
    }

    /// Who is charged if the payment in a neighbour's datagram is bad.
    pub(super) fn charged(
        &self,
        link: LinkId,
        source: &NodeId,
        hops: impl ExactSizeIterator<Item = HopId> + Clone,
        hop_limit: u8,
    ) -> Charged {
        let place = hops.len().saturating_sub(usize::from(hop_limit));
        let before = place.checked_sub(2).and_then(|at| hops.clone().nth(at));
        let before = before.unwrap_or(source.hop());
        let neighbour = self.tables.routing.neighbours.get(link);
        if place == 0 && neighbour.is_some_and(|n| n.standing == Standing::Own) {
            return Charged::Neighbour;
        }
        let nobody = NodeId([0; 32]);
        let name = |source, hops| self.tables.seen.name(source, &nobody, 0, hops);
        Charged::Behind {
            before: self.tables.seen.name(&nobody, &nobody, 1, core::iter::once(before)),
            source: name(source, hops.take(place)),
        }
    }

    fn charged_for(&self, link: LinkId, datagram: &Datagram<'_>) -> Charged {
        self.charged(link, &datagram.source, datagram.hops(), datagram.hop_limit)
    }

    /// Whether a neighbour's datagram may cause a costly check: a signature, or a question to the
    /// node.
    pub(super) fn may_cost_a_check(&self, link: Option<LinkId>, datagram: &Datagram<'_>) -> bool {
        let RoutingTable { neighbours, owners, .. } = &self.tables.routing;
        let owner = |link| owners.bad_payments(neighbours.get(link)?.owner);
        // It was charged when the node was asked.
        let asked = self.answered.is_some();
        let Some((link, left)) = link.and_then(|link| Some((link, owner(link)?))) else {
            return true;
        };
        asked || left.may(self.config.bad_payments, self.charged_for(link, datagram), self.now)
    }

    fn bad_payments_of(&mut self, link: LinkId) -> Option<&mut BadPayments> {
        let RoutingTable { neighbours, owners, .. } = &mut self.tables.routing;
        owners.bad_payments_mut(neighbours.get(link)?.owner)
    }

    /// A datagram caused such a check in vain, or waits for the node's answer.
    pub(super) fn charge_check(&mut self, link: LinkId, datagram: &Datagram<'_>) {
        let (now, allowed) = (self.now, self.config.bad_payments);
        let charged = self.charged_for(link, datagram);
        if let Some(left) = self.bad_payments_of(link) {
            left.charge(allowed, charged, now);
        }
    }

    /// The node was asked, and the datagram's sender is not to blame.
    pub(super) fn give_check_back(&mut self, link: LinkId, charged: Charged) {
        let (now, allowed) = (self.now, self.config.bad_payments);
        if let Some(left) = self.bad_payments_of(link) {
            left.give_back(allowed, charged, now);
        }
    }

    /// The payment in a neighbour's datagram is valid.
    fn held(&mut self, link: Option<LinkId>, datagram: &Datagram<'_>) {
        let Some(link) = link else { return };
        let (now, asked) = (self.now, self.answered.is_some());
        let charged = self.charged_for(link, datagram);
        if asked {
            self.give_check_back(link, charged);
        }
        if let Some(left) = self.bad_payments_of(link) {
            left.held(charged, now);
        }
    }

    /// A neighbour's datagram is refused for this reason. If that took a costly check, it is
    /// charged; if it was charged for a question and is not to blame, the charge is given back.
    pub(super) fn count_refusal(
        &mut self,
        link: LinkId,
        datagram: &Datagram<'_>,
        reason: &MeshError,
    ) {
        if self.answered.is_none() {
            if reason.cost_a_signature() {
                self.charge_check(link, datagram);
            }
        } else if !matches!(
            reason,
            MeshError::PaymentVerificationFailed(PaymentReason::Covenant(_))
        ) {
            self.give_check_back(link, self.charged_for(link, datagram));
        }
    }

    fn check_source(
        &self,
        datagram: &Datagram<'_>,
        sighash: &Cell<Option<[u8; 32]>>,
    ) -> Result<(), PaymentReason> {
        sighash.set(datagram.sighash());
        let holds = datagram.signed.zip(sighash.get()).is_some_and(|(s, hash)| {
            signature::verify(&self.secp, s.public_key, &hash, s.signature)
        });
        if holds { Ok(()) } else { Err(PaymentReason::SourceSignature) }
    }

    fn verify_proof(
        &self,
        (proof, purpose): (&PaymentProof<'_>, Purpose),
        (link, party): (Option<LinkId>, Party),
        datagram: &Datagram<'_>,
        hops: &heapless::Vec<HopId, MAX_HOPS>,
        learnt: &Learnt,
    ) -> Result<Outcome, MeshError> {
        let quota = match purpose {
            Purpose::Datagram => datagram.payload.len() as u64,
            // They are for a KiB at least.
            Purpose::Accounts { .. } => 1,
        };
        let terms = Terms {
            network: self.config.network,
            source: datagram.source,
            destination: datagram.destination,
            hops,
            quota,
        };
        let claim = Claim {
            terms: &terms,
            purpose,
            party,
            // A sender is not charged for its own datagrams.
            price_msat: match party {
                Party::Source => 0,
                _ => self.tariff_for(purpose, party).price(quota),
            },
            unix: self.wall.unix(self.now),
            not_before: self.not_before.map(|(_, unix)| unix),
        };
        let is_new = |key: &[u8; 32], expires_at: u64| {
            let replay = &self.tables.replay;
            replay
                .check_replay(key, &datagram.source, datagram.sequence)
                .inspect_err(|_| learnt.used.set(Some(*key)))?;
            replay.check_room(expires_at)
        };
        // Before the issuer's signature, so that nobody can use up another node's allowance in
        // its name.
        let authentic = || match party {
            Party::Source => Ok(()),
            _ if !self.may_cost_a_check(link, datagram) => Err(PaymentReason::TooManyBad),
            _ => self.check_source(datagram, &learnt.sighash),
        };
        let block = |hash: &[u8; 32]| match &self.answered {
            Some((asked, block)) if asked == hash => Some(*block),
            _ => self.tables.headers.get(hash),
        };
        let rules = &self.config.payment;
        let outcome = verify(proof, &claim, rules, &self.secp, is_new, authentic, block)?;
        #[cfg(feature = "alloc")]
        self.check_asked(&outcome)?;
        Ok(outcome)
    }

    /// Refuses an invoice that this node's own Lightning node wrote for somebody else.
    #[cfg(feature = "alloc")]
    fn check_asked(&self, outcome: &Outcome) -> Result<(), PaymentReason> {
        let Outcome::Verified(Verified { key, issuer: Some(issuer), .. }) = outcome else {
            return Ok(());
        };
        let is_shared = self.config.payment.shared_issuer == Some(*issuer);
        match is_shared && !self.tables.asked.contains(key) {
            true => Err(PaymentReason::Lightning(LightningError::NotAsked)),
            false => Ok(()),
        }
    }

    /// What this node charges on a route.
    pub(super) fn tariff_for(&self, purpose: Purpose, party: Party) -> Tariff {
        #[cfg(feature = "alloc")]
        if purpose != Purpose::Datagram && party == Party::Destination {
            return self.config.flows.receive;
        }
        #[cfg(not(feature = "alloc"))]
        let _ = (purpose, party);
        self.config.payment.tariff
    }

    /// Whether there is no room for what this source pays for.
    fn is_inbox_full(&self, source: &NodeId) -> bool {
        self.inbox_full || self.tables.full_sources.contains(source)
    }

    /// Books a valid payment. It is recorded before the packet leaves.
    fn book(
        &mut self,
        party: Party,
        datagram: &Datagram<'_>,
        payment: Verified,
        packet: PaidPacket,
        #[cfg(feature = "alloc")] accounts: Option<ForAccounts>,
    ) -> Result<Admission, MeshError> {
        // Without a payload nothing is handed over.
        let inbox = party == Party::Destination && !datagram.payload.is_empty();
        if inbox && self.is_inbox_full(&datagram.source) {
            return Err(NetworkReason::InboxFull.into());
        }
        let Verified { key, method, amount_msat, share_msat, expires_at, .. } = payment;
        let source = datagram.source;
        #[cfg(feature = "alloc")]
        let bought = match accounts.filter(|_| party != Party::Source) {
            Some(accounts) => Some(self.bytes_bought(party, &source, &accounts, share_msat)?),
            None => None,
        };
        self.tables.replay.accept_for(key, expires_at, packet, self.now)?;
        // It must be forgotten some day, even if nothing else wakes this node.
        self.wake_at(self.next_cleanup.max(self.now));
        let payment = Payment {
            key,
            method,
            role: party,
            source,
            destination: datagram.destination,
            amount_msat,
            share_msat,
            accepted_at: self.wall.unix(self.now).unwrap_or_default(),
            expires_at,
            packet: packet.kept(),
        };
        #[cfg(feature = "alloc")]
        let record = match bought {
            Some(bought) => self.credit(payment, bought),
            None => Record::Payment(payment),
        };
        #[cfg(not(feature = "alloc"))]
        let record = Record::Payment(payment);
        let after = (!self.config.payment.volatile).then(|| self.persist(record));
        self.act(Action::Publish(Event::PaymentVerified {
            payment: key,
            source,
            amount_msat,
            share_msat,
            after,
            settlement: (method == Method::Covenant && party != Party::Source)
                .then(|| datagram.proof_range()),
        }));
        // What a payer keeps of its own payment is not income.
        if party != Party::Source {
            self.stats.earned_msat = self.stats.earned_msat.saturating_add(share_msat);
        }
        #[cfg(feature = "alloc")]
        if accounts.is_some() && party == Party::Destination {
            return Ok(Admission::Delivered { record: after });
        }
        Ok(Admission::Paid { record: after, share_msat })
    }

    /// Number of the latest record, where records are kept and there is one.
    pub(super) fn latest_record(&self) -> Option<u64> {
        (!self.config.payment.volatile && self.records > 0).then_some(self.records)
    }

    pub(super) fn persist(&mut self, record: Record) -> u64 {
        self.records = self.records.saturating_add(1);
        let number = self.records;
        self.act(Action::Persist { number, record });
        number
    }
}
