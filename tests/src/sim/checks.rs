//! The invariants of DESIGN section 8, held against every step.

use super::machine::{Did, Given, Step};
use super::world::World;
use crate::bank::OwnTerms;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::secp256k1::{Message, PublicKey, Secp256k1, schnorr};
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Method, Record};
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::time::{Micros, SECOND};
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::{Header, Kind};
use std::collections::{BTreeMap, BTreeSet};

/// What the one who sees everything remembers.
#[derive(Debug, Default)]
pub struct Checks {
    /// Payments that each node carried something for, over all time.
    spent: BTreeSet<(usize, [u8; 32])>,
    /// Payloads that go free.
    pub free: BTreeSet<Vec<u8>>,
    /// Covenants that are funded: replay key to terms and when they expire.
    pub coins: BTreeMap<[u8; 32], OwnTerms>,
    /// How often things happened, so that no test passes because nothing did.
    pub counts: BTreeMap<String, u64>,
}

impl Checks {
    /// Counts something.
    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(n) => *n += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }
}

/// Time in which a route reply may be under way.
const REPLY_TIME: Micros = 4 * SECOND;

/// A datagram, taken apart.
fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let (header, body) = Header::parse(packet).ok()?;
    Datagram::parse(header, body).ok()
}

/// Shares by the textbook: exact fractions, the largest remainders rounded up,
/// ties to the earlier on the way. In travel order: source first.
pub(super) fn textbook(amount: u64, intermediates: usize) -> Vec<u64> {
    let n = intermediates as u128;
    let (parts, weights): (u128, Vec<u128>) = match n {
        0 => (10, vec![4, 6]),
        _ => {
            let middle = std::iter::repeat_n(3, intermediates);
            (10 * n, [n].into_iter().chain(middle).chain([6 * n]).collect())
        }
    };
    let exact = |w: &u128| u128::from(amount) * w;
    let mut shares: Vec<u128> = weights.iter().map(|w| exact(w) / parts).collect();
    let left = u128::from(amount) - shares.iter().sum::<u128>();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| std::cmp::Reverse(exact(&weights[*i]) % parts));
    order.iter().take(left as usize).for_each(|i| shares[*i] += 1);
    shares.into_iter().map(|s| s as u64).collect()
}

impl World {
    /// Holds one step against the invariants. Returns the payment for which the
    /// datagram goes on, if it is paid for.
    pub(super) fn check(
        &mut self,
        n: usize,
        given: &Given,
        step: &Step,
        path: &[usize],
    ) -> Option<[u8; 32]> {
        self.count_events(step);
        let payment = if self.nodes[n].honest {
            self.one_verdict(n, given, step);
            self.refused_without_trace(n, given, step);
            self.no_node_twice(n, given, step, path);
            self.within_capacity(n, given, step);
            self.paid_for(n, given, step)
        } else {
            None
        };
        self.one_end_per_search(n, given, step);
        payment
    }

    fn count_events(&mut self, step: &Step) {
        for did in &step.did {
            match did {
                Did::Reject { reason, .. } => {
                    // The names, without numbers.
                    let text = format!("{reason:?}");
                    let name = text.split(|c: char| c != '(' && !c.is_alphabetic()).next();
                    self.checks.count(name.unwrap_or_default());
                }
                Did::Forward { priority: Priority::Paid, relayed: true, .. } => {
                    self.checks.count("relayed for a payment");
                }
                Did::Forward { priority: Priority::Free, relayed: true, .. } => {
                    self.checks.count("relayed free");
                }
                Did::Deliver { earned_msat: 1.., .. } => self.checks.count("delivered with pay"),
                Did::Deliver { .. } => self.checks.count("delivered"),
                Did::Publish(Event::RouteDiscovered { .. }) => self.checks.count("found"),
                Did::Publish(Event::RouteFailed { .. }) => self.checks.count("not found"),
                Did::Persist { record: Record::Floor(_), .. } => self.checks.count("floors"),
                _ => {}
            }
        }
    }

    /// I9.
    fn one_verdict(&self, n: usize, given: &Given, step: &Step) {
        let verdict = |did: &&Did| match did {
            Did::Forward { relayed, sequence, .. } => *relayed || sequence.is_some(),
            Did::Reject { ticket, .. } => ticket.is_none(),
            Did::Deliver { .. } | Did::Absorbed | Did::Parked { .. } => true,
            _ => false,
        };
        let verdicts = step.did.iter().filter(verdict).count();
        assert_eq!(verdicts, 1, "I9: node {n} had {given:?} and did {:#?}", step.did);
    }

    /// I3.
    fn refused_without_trace(&self, n: usize, given: &Given, step: &Step) {
        let refused = |d: &Did| matches!(d, Did::Reject { ticket: None, .. });
        if step.changed && step.did.iter().any(refused) {
            panic!("I3: node {n} refused and remembers {given:?}: {:#?}", step.did);
        }
    }

    /// I4.
    fn no_node_twice(&self, n: usize, given: &Given, step: &Step, path: &[usize]) {
        let kind = match given {
            Given::Received { bytes, .. } | Given::Resumed { bytes, .. } => bytes.get(5),
            _ => return,
        };
        let floods = kind == Some(&(Kind::RouteRequest as u8));
        let goes_on = |d: &Did| match d {
            Did::Forward { relayed, bytes, .. } => *relayed || floods && bytes.get(5) == kind,
            Did::Deliver { .. } => true,
            _ => false,
        };
        if step.did.iter().any(goes_on) {
            assert!(!path.contains(&n), "I4: node {n} again on {path:?}: {given:?}");
            assert!(path.len() <= 17, "I4: too long a way: {path:?}");
        }
    }

    /// I6.
    fn within_capacity(&self, n: usize, given: &Given, step: &Step) {
        let node = &self.nodes[n];
        let c = node.config.capacities;
        let (live, parked, routes, neighbours, searches, requests) = crate::either!(&node.machine, m => (
            m.live_payments(), m.parked(), m.table().routes().len(),
            m.table().neighbours.len(), m.searches(), m.relayed_requests(),
        ));
        let used = [live, parked, routes, neighbours, searches, requests];
        let most = [c.payments, c.parked, c.routes, c.neighbours, c.searches, c.relayed_requests];
        assert!(used.iter().zip(most).all(|(u, m)| *u <= m), "I6: node {n}: {used:?} of {most:?}");
        if step.did.iter().any(|d| matches!(d, Did::Parked { .. })) {
            let link = match given {
                Given::Received { link, .. } => Some(*link),
                _ => None,
            };
            let own = node.parked.values().filter(|h| h.link == link).count() + 1;
            assert!(own <= c.parked.div_ceil(2), "I6: node {n}: {link:?} has {own} places");
        }
    }

    /// I1, I5, and the part of I2 that is about writing before sending.
    fn paid_for(&mut self, n: usize, given: &Given, step: &Step) -> Option<[u8; 32]> {
        let booked: Vec<_> = step
            .did
            .iter()
            .filter_map(|d| match d {
                Did::Publish(Event::PaymentVerified {
                    payment, share_msat, amount_msat, ..
                }) => Some((*payment, *amount_msat, *share_msat)),
                _ => None,
            })
            .collect();
        let node = &self.nodes[n];
        let mode = node.config.mode;
        let mut used = None;
        for did in &step.did {
            // What goes on: as bytes of the whole packet, with what must be durable.
            let (packet, priority, after, earned) = match (did, given) {
                (Did::Forward { relayed: true, bytes, priority, after, .. }, _)
                | (Did::Forward { sequence: Some(_), bytes, priority, after, .. }, _)
                    if *priority != Priority::Control =>
                {
                    (bytes, Some(*priority), *after, None)
                }
                (
                    Did::Deliver { after, earned_msat, .. },
                    Given::Received { bytes, .. } | Given::Resumed { bytes, .. },
                ) => (bytes, None, *after, Some(*earned_msat)),
                _ => continue,
            };
            if matches!(given, Given::Send { unchecked: true, .. }) {
                continue;
            }
            let d = datagram(packet).expect("a datagram went on");
            let goes_free = mode == MeshMode::Open || self.checks.free.contains(d.payload);
            if goes_free && booked.is_empty() {
                assert_ne!(priority, Some(Priority::Paid), "free, and called paid");
                assert_eq!(earned.unwrap_or(0), 0, "node {n} earned with a free packet: {given:?}");
                continue;
            }
            assert!(mode == MeshMode::PaymentGated, "I1: {mode} node {n} carries {given:?}");
            assert_ne!(priority, Some(Priority::Free), "I1: node {n} carries {given:?} for free");
            let [(key, amount, share)] = booked[..] else {
                panic!("I1: node {n}, {booked:?} for {given:?}");
            };
            let method = self.terms_hold(n, &d, key, amount, given);
            let place = d.route().len() - usize::from(d.hop_limit);
            let party = match given {
                Given::Send { .. } => 0,
                // A relayed packet's hop limit was lowered already.
                _ if priority.is_some() => place,
                _ => place + 1,
            };
            let shares = textbook(amount, d.route().len());
            assert_eq!(shares.iter().sum::<u64>(), amount, "I5");
            if method == Method::Lightning {
                assert_eq!(shares[party], share, "I5: node {n} is {party} of {given:?}");
            }
            assert_eq!(earned.unwrap_or(share), share, "I5");
            let record = step.did.iter().find_map(|d| match d {
                Did::Persist { number, record: Record::Payment(p) } => Some((*number, *p)),
                _ => None,
            });
            match record {
                None => assert!(node.config.payment.volatile && after.is_none(), "I2: no record"),
                Some((number, p)) => {
                    assert_eq!(after, Some(number), "I2: sent before it is durable");
                    assert_eq!((p.key, p.amount_msat, p.share_msat), (key, amount, share));
                    let index = party.saturating_sub(1) as u8;
                    let role = match (party, party > d.route().len()) {
                        (0, _) => Party::Source,
                        (_, true) => Party::Destination,
                        _ => Party::Intermediate(index),
                    };
                    assert_eq!(p.role, role, "{given:?}");
                }
            }
            used = Some(key);
        }
        assert!(used.is_some() || booked.is_empty(), "booked and not carried: {given:?}");
        used
    }

    /// Whether somebody paid for exactly this.
    fn terms_hold(
        &self,
        n: usize,
        d: &Datagram<'_>,
        key: [u8; 32],
        amount: u64,
        given: &Given,
    ) -> Method {
        let network = self.nodes[n].config.network;
        let signed = d.signed.expect("a paid datagram is signed");
        assert_eq!(sha256::Hash::hash(signed.public_key).to_byte_array(), d.source.0, "I1: key");
        let hash = Message::from_digest(d.sighash().expect("it is signed"));
        let signature = schnorr::Signature::from_slice(signed.signature).expect("64 bytes");
        let key_of_source = PublicKey::from_slice(signed.public_key).expect("a key");
        let (key_of_source, _) = key_of_source.x_only_public_key();
        let holds =
            Secp256k1::verification_only().verify_schnorr(&signature, &hash, &key_of_source);
        assert_eq!(holds, Ok(()), "I1: its source did not sign {given:?}");
        let terms = OwnTerms {
            network,
            source: d.source,
            destination: d.destination,
            hops: d.route().to_vec(),
            quota: d.payload.len() as u64,
        };
        if let Some(coin) = self.checks.coins.get(&key) {
            assert_eq!(*coin, terms, "I1: node {n}: {given:?}");
            return Method::Covenant;
        }
        let issued = self.bank.issued.get(&key);
        let issued = issued.unwrap_or_else(|| panic!("I1: nobody issued what {given:?} shows"));
        assert!(issued.paid, "I1: nobody paid for {given:?}");
        assert_eq!(issued.terms, terms, "I1: paid for other terms: node {n}, {given:?}");
        assert_eq!(issued.amount_msat, amount, "I1");
        let proof = signed.proof;
        let preimage = *PackedProof::parse(&proof[1..]).expect("a proof").preimage();
        assert_eq!(sha256::Hash::hash(&preimage).to_byte_array(), key, "I1");
        let unix = self.unix().saturating_add_signed(self.nodes[n].clock_offset);
        // Between two readings a clock counts whole seconds.
        assert!(unix <= issued.expires_at, "I1: expired at {}, now {unix}", issued.expires_at);
        Method::Lightning
    }

    /// I2: over all time and restarts a payment is spent once at each node.
    pub(super) fn check_spent_once(&mut self, n: usize, payment: [u8; 32]) {
        let first = self.checks.spent.insert((n, payment));
        assert!(first || !self.nodes[n].honest, "I2: node {n} carried twice for one payment");
    }

    /// I10.
    fn one_end_per_search(&mut self, n: usize, given: &Given, step: &Step) {
        let now = self.now;
        let asked = match given {
            Given::Find { to } => Some(*to),
            Given::Send { to, .. } => {
                let parks = |d: &Did| matches!(d, Did::Parked { .. });
                let asks = |d: &Did| matches!(d, Did::Verify { .. });
                let searches = step.did.iter().any(parks) && !step.did.iter().any(asks);
                searches.then_some(*to)
            }
            _ => None,
        };
        // A neighbour is there: said at once, beside any search that is under way.
        let at_once = matches!(given, Given::Find { .. })
            && step.did.iter().any(|d| matches!(d, Did::Publish(Event::RouteDiscovered { .. })));
        if at_once {
            return;
        }
        let accepted = !step.did.iter().any(|d| matches!(d, Did::Reject { ticket: None, .. }));
        if let Some(to) = asked.filter(|_| accepted) {
            let until = now + self.nodes[n].search_time() + 1;
            self.nodes[n].searching.entry(to).or_insert(until);
        }
        for did in &step.did {
            let (to, found) = match did {
                Did::Publish(Event::RouteDiscovered { destination, .. }) => (*destination, true),
                Did::Publish(Event::RouteFailed { destination }) => (*destination, false),
                _ => continue,
            };
            let asked = self.nodes[n].searching.remove(&to);
            assert!(asked.is_some(), "I10: node {n} ends a search that nobody began: {did:?}");
            if found && self.nodes[n].honest {
                self.walkable(n, to);
            }
        }
        let late = self.nodes[n].searching.iter().find(|(_, until)| **until < now);
        assert_eq!(late, None, "I10: node {n} still searches at {now}");
    }

    /// Whether a published route could be walked when its reply came along it.
    fn walkable(&self, n: usize, to: NodeId) {
        let Some(route) = self.nodes[n].machine.path(&to, self.now) else {
            panic!("I10: node {n} published a route and has none");
        };
        let by_hop = |hop: HopId| self.nodes.iter().position(|m| m.id.hop() == hop);
        let way: Option<Vec<usize>> = [self.id(n).hop()]
            .into_iter()
            .chain(route.path())
            .chain([to.hop()])
            .map(by_hop)
            .collect();
        let Some(way) = way else { return };
        // Whoever is not honest may promise what he likes.
        if way.iter().any(|m| !self.nodes[*m].honest) {
            return;
        }
        for (i, step) in way.windows(2).enumerate() {
            let lately = |t: Micros| self.now.saturating_sub(t) < REPLY_TIME;
            let joined = self
                .conns
                .iter()
                .any(|c| c.joins(step[0], step[1]) && c.broken_at.is_none_or(lately));
            assert!(joined, "I10: no link {step:?} on {way:?}");
            assert!(!way[i + 1..].contains(&way[i]), "I10: a loop in {way:?}");
        }
    }
}
