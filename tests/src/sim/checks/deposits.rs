//! Proofs that several nodes share: each that is paid credits its part to its source's account,
//! once, and what nobody paid for is on no account.

use super::super::World;
use super::super::machine::{Action, Input, Step, Verdict};
use super::paid::{Paid, datagram};
use super::payments::behind_accounts;
use crate::payments::bank::OwnTerms;
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::flow::accounts::receiving;
use blvm_mesh_core::mesh::Event;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::payment::terms::Purpose;
use blvm_mesh_core::wire::datagram::Datagram;

/// Whether a datagram pays for accounts, and then whether for the destination's too.
pub(super) fn for_accounts(d: &Datagram<'_>) -> Option<bool> {
    match d.signed?.proof {
        [3, receives @ 0..=1, rest @ ..] if rest.len() >= 8 => Some(*receives != 0),
        _ => None,
    }
}

/// Bytes that a part of an amount buys.
fn bytes_for(msat: u64, base_msat: u32, per_kib_msat: u32) -> u64 {
    let left = msat - u64::from(base_msat);
    match per_kib_msat {
        0 => u64::MAX,
        per_kib => left / u64::from(per_kib) * 1024,
    }
}

impl World {
    /// Somebody has paid for the accounts of these terms: what each party owes for it.
    pub(in crate::sim) fn deposit_paid(&mut self, terms: &OwnTerms, receives: bool, amount: u64) {
        let ends = receives.then_some(terms.destination.hop());
        let parties: Vec<_> = terms.hops.iter().copied().chain(ends).collect();
        let count = parties.len() as u64;
        for (at, hop) in (0..).zip(&parties) {
            let Some(n) = self.by_hop.get(hop).copied() else { continue };
            let (config, end) = (&self.nodes[n].config, at == terms.hops.len() as u64);
            let tariff = if end { config.flows.receive } else { config.payment.tariff };
            let part = amount / count + u64::from(at < amount % count);
            if part < tariff.price(1) || (end && tariff.price(1) == 0) {
                continue;
            }
            let bytes = bytes_for(part, tariff.base_msat, tariff.per_kib_msat);
            let owner = if end { receiving(&terms.source) } else { terms.source };
            let between = self.flows.truth.between.entry((n, owner)).or_default();
            between.paid = between.paid.saturating_add(bytes);
            between.paid_msat += part;
        }
    }

    /// The payment that a node's own packet shows, if that is for accounts.
    pub(super) fn deposit_in(&self, packet: &[u8]) -> Option<[u8; 32]> {
        let d = datagram(packet)?;
        for_accounts(&d)?;
        self.payment_in(behind_accounts(d.signed?.proof))
    }

    /// I3: who is told that a proof has come to its destination learns that all have credited it.
    pub(super) fn relays_credited(&mut self, n: usize, key: [u8; 32], way: &[Option<usize>]) {
        let relays = way.iter().flatten().take(way.len() - 1);
        for relay in relays.filter(|m| self.nodes[**m].config.mode == MeshMode::PaymentGated) {
            let has = self.checks.spent.contains(&(*relay, key));
            assert!(has, "I3: node {n} is told that {relay} has credited {key:x?}, and it has not");
        }
        self.checks.count("deposits that arrived");
    }

    /// I1, I2, I5, I11: what a node books for accounts was paid for it, is credited by its own tariff in
    /// the same record, and serves nothing else. `None`: it books nothing.
    pub(super) fn deposit_holds(
        &mut self,
        n: usize,
        input: &Input,
        step: &Step,
        booked: &[([u8; 32], u64, u64)],
    ) -> Option<Paid> {
        let packet = match input {
            Input::MessageReceived { packet, .. } | Input::Resumed { packet, .. } => packet.clone(),
            Input::Send { .. } | Input::Repeat { .. } => {
                step.actions.iter().find_map(|did| match did {
                    Action::Verdict(Verdict::Originate { packet, .. }) => Some(packet.clone()),
                    _ => None,
                })?
            }
            _ => return None,
        };
        let d = datagram(&packet)?;
        let receives = for_accounts(&d)?;
        let [(key, amount, share)] = booked[..] else { return None };
        let hops = d.route().len();
        let own = matches!(input, Input::Send { .. });
        let place = if own { None } else { Some(hops - usize::from(d.hop_limit)) };
        assert!(d.payload.is_empty(), "I1: node {n} carries a payload for accounts: {input:?}");
        let purpose = Purpose::Accounts { receives };
        self.terms_hold(n, &d, (key, purpose), amount, input);
        let parties = hops as u64 + u64::from(receives);
        let part = |at: usize| {
            let at = at as u64;
            amount / parties + u64::from(at < amount % parties)
        };
        let record = step.actions.iter().find_map(|did| match did {
            Action::Persist { number, record } => Some((*number, *record)),
            _ => None,
        });
        let after = step.actions.iter().find_map(|did| match did {
            Action::Publish(Event::PaymentVerified { after, .. }) => Some(*after),
            _ => None,
        });
        let sent = step.actions.iter().find_map(|did| match did {
            Action::Verdict(Verdict::Forward { after, .. } | Verdict::Originate { after, .. }) => {
                Some(*after)
            }
            _ => None,
        });
        let number = record.map(|(number, _)| number);
        assert_eq!(after, Some(number), "I2: told of before it is durable");
        assert!(sent.is_none_or(|after| after == number), "I2: sent before it is durable");
        if let Some(place) = place {
            let (end, volatile) = (place == hops, self.nodes[n].config.payment.volatile);
            assert!(place < hops || (receives && end), "I1: node {n} is not paid: {input:?}");
            assert_eq!(share, part(place), "I5: node {n} has another part of {input:?}");
            let tariff = match end {
                true => self.nodes[n].config.flows.receive,
                false => self.nodes[n].config.payment.tariff,
            };
            assert!(share >= tariff.price(1), "I1: node {n} sells for {share} msat: {input:?}");
            let owner = if end { receiving(&d.source) } else { d.source };
            match record {
                None => assert!(volatile, "I2: no record of {input:?}"),
                Some((_, Record::Deposit(deposit))) => {
                    let kept = deposit.payment;
                    let index = place as u8;
                    let role = if end { Party::Destination } else { Party::Intermediate(index) };
                    let found = (kept.key, kept.share_msat, kept.source, kept.role);
                    assert_eq!(found, (key, share, owner, role), "I2: another record");
                }
                Some(other) => panic!("I2: node {n} writes {other:?} for {input:?}"),
            }
            self.checks.count("deposits credited");
        }
        if !own {
            self.passes_first(n, &d);
        }
        Some(Paid::of_accounts(key, amount, share, 1 + parties as usize))
    }
}
