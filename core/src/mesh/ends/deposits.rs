//! Own proofs that several nodes share: what they cost, and what they buy at each of those nodes
//! once the proof has come there.

use super::super::Mesh;
use super::super::view::AccountQuote;
use super::Hops;
use crate::id::{HopId, NodeId};
use crate::payment::fee::Party;
use crate::payment::proof::ForAccounts;
use crate::payment::terms::Terms;
use crate::tables::Memory;
use crate::wire::datagram::Datagram;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

/// Most proofs under way; beyond that the oldest is forgotten, and what it bought is known once
/// something else is bought there.
const MOST: usize = 64;

/// A proof that was sent.
#[derive(Debug)]
struct Deposit {
    sequence: u64,
    destination: HopId,
    /// The relays that it pays, in the order of travel, and what they credit by the tariffs known
    /// here; without those that have done it.
    left: Vec<(HopId, u64)>,
}

/// Those under way.
#[derive(Debug)]
pub(super) struct Deposits(VecDeque<Deposit>);

impl Deposits {
    pub(super) const EMPTY: Self = Self(VecDeque::new());
}

impl<M: Memory> Mesh<M> {
    /// The latest Open number of this node; 0: it has opened no flow in this run.
    pub fn open_number(&self) -> u64 {
        self.tables.ends.opens
    }

    /// What it takes to buy `bytes` at each relay of the best route to a node that is known now,
    /// and with `receives` a part as large at the node itself. `None` without a route, or if no
    /// amount pays for it.
    pub fn quote_accounts(
        &self,
        destination: &NodeId,
        bytes: u64,
        receives: bool,
    ) -> Option<AccountQuote> {
        let route = self.tables.routing.find_paid_route(destination, self.now)?;
        let (hops, network, source) = (route.path(), self.config.network, self.id());
        let accounts = ForAccounts { receives, open_number: self.tables.ends.opens };
        let part = route.hops.iter().map(|(_, tariff)| tariff.price(bytes)).max().unwrap_or(0);
        let amount_msat = part.checked_mul(accounts.purpose().paid(hops.len()) as u64)?;
        let terms = Terms { network, source, destination: *destination, hops: &hops, quota: 0 };
        let terms_hash = terms.hash_for(accounts.purpose());
        let (min_packet, accounts) = (route.min_packet, accounts.bytes());
        Some(AccountQuote { hops, min_packet, amount_msat, part_msat: part, terms_hash, accounts })
    }

    /// An own proof that several nodes share is on its way.
    pub(in crate::mesh) fn deposit_sent(
        &mut self,
        datagram: &Datagram<'_>,
        accounts: &ForAccounts,
        amount_msat: u64,
    ) {
        let path: Hops = datagram.route();
        let mut routes = self.tables.routing.routes_to(&datagram.destination, self.now);
        let Some(route) = routes.find(|route| route.path() == path) else { return };
        let part = |at: usize| {
            let party = Party::Intermediate(at as u8);
            accounts.purpose().share(amount_msat, path.len(), party)
        };
        let credit = |(at, (hop, tariff)): (usize, &(HopId, crate::tariff::Tariff))| {
            (*hop, tariff.bytes_for(part(at)).unwrap_or(0))
        };
        let left = route.hops.iter().enumerate().map(credit).collect();
        drop(routes);
        let deposits = &mut self.tables.ends.deposits.0;
        if deposits.len() >= MOST {
            deposits.pop_front();
        }
        let (sequence, destination) = (datagram.sequence, datagram.destination.hop());
        deposits.push_back(Deposit { sequence, destination, left });
    }

    /// It has come to this node, its destination, or was stopped here: the relays before have
    /// credited it.
    pub(in crate::mesh) fn deposit_reported(&mut self, sequence: u64, reporter: HopId) {
        let now = self.now;
        let ends = &mut self.tables.ends;
        let its = |deposit: &Deposit| deposit.sequence == sequence;
        let Some(at) = ends.deposits.0.iter().position(its) else { return };
        let Some(deposit) = ends.deposits.0.get_mut(at) else { return };
        let credited = match deposit.left.iter().position(|(hop, _)| *hop == reporter) {
            Some(stopped) => stopped,
            // The destination comes after all of them.
            None if reporter == deposit.destination => deposit.left.len(),
            // It has credited it before.
            None => 0,
        };
        let credited: Vec<_> = deposit.left.drain(..credited).collect();
        if deposit.left.is_empty() {
            ends.deposits.0.remove(at);
        }
        for (hop, bytes) in credited {
            ends.held.deposited(hop, bytes, now);
        }
    }
}
