//! Lies about proofs that several nodes share.

use super::super::World;
use super::super::bytes::Bytes;
use super::super::checks::{behind_accounts, datagram};
use super::super::machine::Input;
use super::Parts;
use crate::payments::bank::OwnTerms;
use blvm_mesh_core::payment::proof::ForAccounts;
use blvm_mesh_core::payment::terms::Purpose;
use secp256k1::SecretKey;

impl World {
    /// A proof that a node has paid for, for the accounts on this route.
    fn deposit_of(&mut self, parts: &Parts, via: usize, accounts: ForAccounts) -> Vec<u8> {
        let terms = parts.terms(&self.nodes[via].config);
        let amount = self.rng.within(1, 200_000);
        let (purpose, unix) = (accounts.purpose(), self.unix());
        self.deposit_paid(&terms, accounts.receives, amount);
        let hash = self.bank.issue_for(purpose, terms, amount, unix, 60);
        [&accounts.bytes()[..], &self.bank.pay(&hash)].concat()
    }

    /// His own proof once as it may be, and in all ways in which it must not count.
    pub(super) fn deposits(&mut self, m: usize, via: usize) -> Vec<Vec<u8>> {
        let key = self.nodes[m].key;
        let mut parts = self.own(m, via);
        parts.payload.clear();
        let (receives, open_number) = (self.rng.one_in(4), self.rng.below(4));
        let accounts = ForAccounts { receives, open_number };
        parts.proof = self.deposit_of(&parts, via, accounts);
        let good = parts.sign(&key);
        let mut out = vec![good.clone(), good];
        let with = |world: &mut Self, change: &dyn Fn(&mut Parts)| {
            let mut other = parts.clone();
            other.sequence = world.rng.draw();
            change(&mut other);
            other
        };
        // In another packet, with another number, and for other parties.
        out.push(with(self, &|_| ()).sign(&key));
        let later = ForAccounts { open_number: u64::MAX, ..accounts }.bytes();
        let others = ForAccounts { receives: !receives, ..accounts }.bytes();
        for prefix in [later, others] {
            let proof = [&prefix[..], behind_accounts(&parts.proof)].concat();
            out.push(with(self, &|other| other.proof = proof.clone()).sign(&key));
        }
        // For a datagram, with its prefix and without.
        let payload = self.rng.vec(50);
        let bare = behind_accounts(&parts.proof).to_vec();
        out.push(with(self, &|other| other.payload = payload.clone()).sign(&key));
        for payload in [payload, Vec::new()] {
            let change = |other: &mut Parts| {
                (other.proof, other.payload) = (bare.clone(), payload.clone());
            };
            out.push(with(self, &change).sign(&key));
        }
        // At another node, and over another route.
        let other = self.own(m, via);
        let change = |parts: &mut Parts| {
            (parts.hops, parts.destination) = (other.hops.clone(), other.destination);
            parts.hop_limit = other.hop_limit;
        };
        out.push(with(self, &change).sign(&key));
        // In the name of somebody who never paid.
        let name = SecretKey::from_byte_array(self.rng.bytes32()).expect("a key");
        out.push(with(self, &|_| ()).sign(&name));
        // A datagram's payment for accounts.
        let mut paid = self.own(m, via);
        let terms = paid.terms(&self.nodes[via].config);
        let unix = self.unix();
        let proof = self.bank.proof(terms, 100_000, unix, 60);
        paid.proof = [&accounts.bytes()[..], &proof].concat();
        out.push(paid.sign(&key));
        paid.payload.clear();
        out.push(paid.sign(&key));
        // What others have paid for, which came by.
        let seen: Vec<_> = self.nodes[m].tap.iter().cloned().collect();
        for seen in seen {
            if let Some(signed) = datagram(&seen).and_then(|d| d.signed)
                && matches!(ForAccounts::split(signed.proof), Ok((Some(_), _)))
            {
                let proof = signed.proof.to_vec();
                out.push(with(self, &|other| other.proof = proof.clone()).sign(&key));
            }
        }
        out
    }

    /// An honest node has one payment made for the accounts at all relays of its best route to
    /// another, and shows it; false if it knows no route with a relay on it.
    pub fn deposit(&mut self, n: usize, to: usize, bytes: u64) -> bool {
        let destination = self.id(to);
        let quote = crate::either!(&self.nodes[n].machine, m => m.quote_accounts(&destination, bytes, false));
        let Some(quote) = quote.filter(|quote| !quote.hops.is_empty()) else { return false };
        let terms = OwnTerms {
            network: self.nodes[n].config.network,
            source: self.id(n),
            destination,
            hops: quote.hops.to_vec(),
            quota: 0,
        };
        let (purpose, unix) = (Purpose::Accounts { receives: false }, self.unix());
        let amount = quote.amount_msat.max(1);
        self.deposit_paid(&terms, false, amount);
        let hash = self.bank.issue_for(purpose, terms, amount, unix, 60);
        let proof = [&quote.accounts[..], &self.bank.pay(&hash)].concat();
        self.checks.count("deposits made");
        let (payload, proof) = (Bytes::from(Vec::new()), Bytes::from(proof));
        let input = Input::Send { destination, payload, proof, unchecked: false };
        self.input(n, input);
        true
    }
}
