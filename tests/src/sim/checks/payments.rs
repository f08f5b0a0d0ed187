//! What a node must remember of payments: nothing that may still be spent is
//! forgotten, and nothing new is refused.

use super::super::World;
use super::super::machine::{Action, Input, Step, Verdict};
use super::paid::datagram;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, sha256};
use blvm_mesh_core::mesh::{Event, MeshError};
use blvm_mesh_core::payment::covenant::{CovenantProof, REORG_MARGIN_SECS, replay_key};
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::proof::{INSTANT_SETTLEMENT, LIGHTNING};
use blvm_mesh_core::payment::replay::ReplayError;
use std::collections::BTreeMap;

/// How long a covenant is accepted after its block, in seconds.
const FRESH: u64 = 86_400;

/// The payments that a node must remember since its start.
#[derive(Debug, Default)]
pub(in crate::sim) struct Remembered {
    /// Replay key, and until when it must be kept, in seconds since 1970.
    live: BTreeMap<[u8; 32], u64>,
    /// What expires up to then may be refused for ever.
    floor: u64,
}

/// A payment that a packet shows.
struct Shown {
    key: [u8; 32],
    /// Until when it must be remembered; `None` if the proof is not as it was made.
    keep_until: Option<u64>,
}

/// A proof without what stands before one that pays for accounts.
pub(in crate::sim) fn behind_accounts(proof: &[u8]) -> &[u8] {
    match proof {
        [3, _, rest @ ..] => rest.get(8..).unwrap_or_default(),
        proof => proof,
    }
}

/// The proof in what a node was given.
pub(in crate::sim) fn proof_in(input: &Input) -> Option<Vec<u8>> {
    match input {
        Input::MessageReceived { packet: bytes, .. } | Input::Resumed { packet: bytes, .. } => {
            Some(behind_accounts(datagram(bytes)?.signed?.proof).to_vec())
        }
        Input::Send { proof, .. } => Some(behind_accounts(proof).to_vec()),
        _ => None,
    }
}

impl World {
    fn shown(&self, proof: &[u8]) -> Option<Shown> {
        match proof.split_first()? {
            (&LIGHTNING, packed) => {
                let preimage = *PackedProof::parse(packed).ok()?.preimage();
                let key = sha256::Hash::hash(&preimage).to_byte_array();
                let keep_until =
                    self.bank.is_genuine(&key, proof).then(|| self.bank.issued[&key].expires_at);
                Some(Shown { key, keep_until })
            }
            (&INSTANT_SETTLEMENT, bytes) => {
                let proof = CovenantProof::parse(bytes).ok()?;
                let template: bitcoin::Transaction = deserialize(proof.template).ok()?;
                let coin = template.input.first()?.previous_output;
                let key = replay_key(&coin.txid.to_byte_array(), coin.vout);
                let time = self.chain.time_of(&proof.block_hash);
                let keep_until = time.map(|time| time + FRESH + REORG_MARGIN_SECS);
                Some(Shown { key, keep_until })
            }
            _ => None,
        }
    }

    /// The key of the payment that a proof shows.
    pub(in crate::sim) fn payment_in(&self, proof: &[u8]) -> Option<[u8; 32]> {
        self.shown(proof).map(|shown| shown.key)
    }

    /// Whether a node may refuse a payment as used, forgotten or for want of room.
    pub(super) fn refused_rightly(&mut self, n: usize, input: &Input, step: &Step) {
        let refused = step.actions.iter().find_map(|d| match d {
            Action::Verdict(Verdict::Reject { reason: MeshError::ReplayDetected(e), .. }) => {
                Some(*e)
            }
            _ => None,
        });
        let Some(refused) = refused else { return };
        let shown = proof_in(input).and_then(|proof| self.shown(&proof));
        let shown = shown.expect("a payment was refused");
        let node = &self.nodes[n];
        let Remembered { live, floor } = &node.remembered;
        let rightly = match refused {
            ReplayError::Used => live.contains_key(&shown.key),
            // What was changed on the way may say anything.
            ReplayError::Forgotten { floor: said } => {
                said == *floor && shown.keep_until.is_none_or(|until| until <= *floor)
            }
            ReplayError::TableFull => live.len() >= node.config.capacities.payments,
        };
        assert!(
            rightly,
            "liveness: node {n} refuses a payment that is new ({refused}): it remembers {} and \
             forgot up to {floor}: {input:?}",
            live.len()
        );
        self.checks.refused.insert(shown.key);
    }

    /// I2: what may still be spent is remembered, and what is no longer is refused
    /// over a restart too.
    pub(super) fn remembers(&mut self, n: usize, input: &Input, step: &Step) {
        let capacity = self.nodes[n].config.capacities.payments;
        let room = |r: &Remembered| r.live.len() < capacity;
        if let Input::Persisted { record } = input {
            let remembered = &mut self.nodes[n].remembered;
            match record {
                Record::Floor(unix) => remembered.floor = remembered.floor.max(*unix),
                Record::Payment(p) if p.expires_at > remembered.floor && room(remembered) => {
                    remembered.live.insert(p.key, p.expires_at);
                }
                Record::Deposit(d)
                    if d.payment.expires_at > remembered.floor && room(remembered) =>
                {
                    remembered.live.insert(d.payment.key, d.payment.expires_at);
                }
                _ => {}
            }
        }
        let booked = step.actions.iter().any(is_booked);
        if booked {
            let shown = proof_in(input).and_then(|proof| self.shown(&proof));
            if let Some(Shown { key, keep_until: Some(until) }) = shown {
                self.nodes[n].remembered.live.insert(key, until);
            }
        }
        let node = &mut self.nodes[n];
        let used = crate::either!(&node.machine, m => m.live_payments());
        let unix = node.wall.unix(node.local(self.now)).unwrap_or_default();
        let (volatile, Remembered { live, floor }) =
            (node.config.payment.volatile, &mut node.remembered);
        let mut forgot = false;
        while live.len() > used {
            let first = live.iter().min_by_key(|(key, until)| (**until, **key));
            let (key, until) = first.map(|(k, u)| (*k, *u)).expect("it is not empty");
            assert!(until <= unix, "I2: node {n} forgets a payment of {until} at {unix}");
            live.remove(&key);
            (*floor, forgot) = ((*floor).max(until), true);
        }
        assert_eq!(live.len(), used, "I2: node {n} remembers what nobody paid: {input:?}");
        let durable = step.actions.iter().rev().find_map(|d| match d {
            Action::Persist { record: Record::Floor(unix), .. } => Some(*unix),
            _ => None,
        });
        let expected = (forgot && !volatile).then_some(*floor);
        assert_eq!(durable, expected, "I2: what node {n} forgets is not refused over a restart");
    }
}

pub(super) fn is_booked(did: &Action) -> bool {
    matches!(did, Action::Publish(Event::PaymentVerified { .. }))
}
