//! I1, I2 and I5: what is carried was paid for, once, and the shares are right.

use super::super::World;
use super::super::machine::{Action, Input, Step, Verdict};
use super::Passed;
use super::payments::behind_accounts;
use crate::payments::bank::OwnTerms;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::{Hash, sha256};
use bitcoin::p2p::Magic;
use bitcoin::p2p::message::{NetworkMessage, RawNetworkMessage};
use blvm_mesh_core::config::MeshMode;
use blvm_mesh_core::mesh::{Event, Priority};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::Record;
use blvm_mesh_core::payment::packed::PackedProof;
use blvm_mesh_core::payment::replay::{REPEAT_PAUSE, REPEATS};
use blvm_mesh_core::payment::terms::Purpose;
use blvm_mesh_core::wire::datagram::Datagram;
use blvm_mesh_core::wire::{Header, Kind};
use secp256k1::{PublicKey, schnorr};

/// What a node carries something for.
#[derive(Debug, Clone, Copy)]
pub(in crate::sim) struct Paid {
    key: [u8; 32],
    /// The shares of all parties.
    all: u64,
    share: u64,
    /// Number of nodes on the route, both ends included.
    parties: usize,
}

impl Paid {
    /// By a proof that these many share, the source among them.
    pub(super) fn of_accounts(key: [u8; 32], all: u64, share: u64, parties: usize) -> Self {
        Self { key, all, share, parties }
    }
}

/// A datagram, taken apart.
pub(in super::super) fn datagram(packet: &[u8]) -> Option<Datagram<'_>> {
    let (header, body) = Header::parse(packet).ok()?;
    Datagram::parse(header, body).ok()
}

/// Whether it is one; packets of flows are paid for otherwise.
fn is_datagram(packet: &[u8]) -> bool {
    packet.get(5) == Some(&(Kind::Datagram as u8))
}

/// Whether rust-bitcoin reads a payload as one whole message of regtest: what is
/// changed on the way may become one.
fn is_bitcoin(payload: &[u8]) -> bool {
    let message = deserialize::<RawNetworkMessage>(payload);
    message.is_ok_and(|m| {
        *m.magic() == Magic::REGTEST && !matches!(m.payload(), NetworkMessage::Unknown { .. })
    })
}

/// Shares by the textbook: exact fractions, the largest remainders rounded up,
/// ties to the earlier on the way. In travel order: source first.
fn textbook(amount: u64, intermediates: usize) -> Vec<u64> {
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
    /// I1, I5, and the part of I2 that is about writing before sending.
    pub(super) fn paid_for(&mut self, n: usize, input: &Input, step: &Step) -> Option<Paid> {
        let booked: Vec<_> = step
            .actions
            .iter()
            .filter_map(|d| match d {
                Action::Publish(Event::PaymentVerified {
                    payment,
                    share_msat,
                    amount_msat,
                    after,
                    ..
                }) => {
                    let number = step.actions.iter().find_map(|d| match d {
                        Action::Persist {
                            number,
                            record: Record::Payment(_) | Record::Deposit(_),
                        } => Some(*number),
                        _ => None,
                    });
                    assert_eq!(*after, number, "I2: told of before it is durable");
                    Some((*payment, *amount_msat, *share_msat))
                }
                _ => None,
            })
            .collect();
        let deposit = self.deposit_holds(n, input, step, &booked);
        if deposit.is_some() {
            return deposit;
        }
        let mode = self.nodes[n].config.mode;
        let mut used = None;
        for did in &step.actions {
            // What goes on: as bytes of the whole packet, with what must be durable.
            let (packet, priority, after, earned) = match (did, input) {
                (
                    Action::Verdict(Verdict::Forward { packet: bytes, priority, after, .. })
                    | Action::Verdict(Verdict::Originate { packet: bytes, priority, after, .. }),
                    _,
                ) if *priority != Priority::Control && is_datagram(bytes) => {
                    (bytes, Some(*priority), *after, None)
                }
                (
                    Action::Verdict(Verdict::Deliver { after, earned_msat, .. }),
                    Input::MessageReceived { packet: bytes, .. }
                    | Input::Resumed { packet: bytes, .. },
                ) => (bytes, None, *after, Some(*earned_msat)),
                _ => continue,
            };
            if matches!(input, Input::Send { unchecked: true, .. } | Input::Repeat { .. }) {
                continue;
            }
            let d = datagram(packet).expect("a datagram went on");
            let signed = d.signed.is_some() && mode == MeshMode::PaymentGated;
            // What a node took while it lied was not looked at.
            let lied = self.checks.lied.contains(&n);
            let known =
                signed && (lied || self.checks.passed.contains_key(&(n, what_was_signed(&d))));
            if booked.is_empty()
                && (priority == Some(Priority::Paid) || (earned.is_some() && known))
            {
                self.passes_again(n, &d, input, earned.is_some());
                continue;
            }
            let known = self.checks.free.contains(d.payload);
            let goes_free = mode == MeshMode::Open || known || is_bitcoin(d.payload);
            if goes_free && booked.is_empty() {
                assert_ne!(priority, Some(Priority::Paid), "I1: free, and called paid");
                let unchecked = mode != MeshMode::Open && d.signed.is_some();
                assert!(!unchecked, "I1: what nobody checked rides free by {n}: {input:?}");
                assert_eq!(
                    earned.unwrap_or(0),
                    0,
                    "I2: node {n} earned with a free packet: {input:?}"
                );
                continue;
            }
            assert!(mode == MeshMode::PaymentGated, "I1: {mode} node {n} carries {input:?}");
            assert_ne!(priority, Some(Priority::Free), "I1: node {n} carries {input:?} for free");
            let [(key, amount, share)] = booked[..] else {
                panic!("I1: node {n}, {booked:?} for {input:?}");
            };
            let back = self.terms_hold(n, &d, (key, Purpose::Datagram), amount, input);
            let place = d.route().len() - usize::from(d.hop_limit);
            let party = match input {
                Input::Send { .. } => 0,
                // A relayed packet's hop limit was lowered already.
                _ if priority.is_some() => place,
                _ => place + 1,
            };
            let mut shares = textbook(amount, d.route().len());
            assert_eq!(shares.iter().sum::<u64>(), amount, "I5");
            // It pays, and may take back less.
            shares[0] = shares[0].min(back);
            let all = shares.iter().sum();
            assert_eq!(shares[party], share, "I5: node {n} is {party} of {input:?}");
            assert_eq!(earned.unwrap_or(share), share, "I5");
            let node = &self.nodes[n];
            let price = node.config.payment.tariff.price(d.payload.len() as u64);
            assert!(party == 0 || share >= price, "I1: node {n} has {share} of {price} msat");
            let record = step.actions.iter().find_map(|d| match d {
                Action::Persist { number, record: Record::Payment(p) } => Some((*number, *p)),
                _ => None,
            });
            match record {
                None => assert!(node.config.payment.volatile && after.is_none(), "I2: no record"),
                Some((number, p)) => {
                    assert_eq!(after, Some(number), "I2: sent before it is durable");
                    let recorded = (p.key, p.amount_msat, p.share_msat);
                    assert_eq!(recorded, (key, amount, share), "I2: another record");
                    let index = party.saturating_sub(1) as u8;
                    let role = match (party, party > d.route().len()) {
                        (0, _) => Party::Source,
                        (_, true) => Party::Destination,
                        _ => Party::Intermediate(index),
                    };
                    assert_eq!(p.role, role, "I5: {input:?}");
                }
            }
            if party > 0 {
                self.passes_first(n, &d);
            }
            used = Some(Paid { key, all, share, parties: d.route().len() + 2 });
        }
        assert!(used.is_some() || booked.is_empty(), "I2: booked and not carried: {input:?}");
        used
    }

    pub(super) fn passes_first(&mut self, n: usize, d: &Datagram<'_>) {
        let node = &self.nodes[n];
        let passed = Passed { boot: node.boots, times: 1, at: node.local(self.now) };
        self.checks.passed.insert((n, what_was_signed(d)), passed);
    }

    /// I2: one packet, carried at most four times, a second apart, and once more after a
    /// restart; where it ends once in each run.
    fn passes_again(&mut self, n: usize, d: &Datagram<'_>, input: &Input, ends: bool) {
        let (boot, now) = (self.nodes[n].boots, self.nodes[n].local(self.now));
        let key = (n, what_was_signed(d));
        if self.checks.lied.contains(&n) && !self.checks.passed.contains_key(&key) {
            let passed = Passed { boot, times: 1 + REPEATS, at: now };
            self.checks.passed.insert(key, passed);
            return;
        }
        let passed = self.checks.passed.get_mut(&key);
        let passed = passed.unwrap_or_else(|| panic!("I2: node {n} carries unpaid: {input:?}"));
        if passed.boot == boot {
            assert!(!ends, "I2: node {n} delivers twice: {input:?}");
            let early = now < passed.at + REPEAT_PAUSE;
            assert!(!early && passed.times <= REPEATS, "I2: node {n}: {passed:?}: {input:?}");
            passed.times += 1;
        } else {
            (passed.boot, passed.times) = (boot, 1 + REPEATS);
        }
        passed.at = now;
        self.checks.count(match ends {
            true => "delivered after a restart",
            false => "carried again for one payment",
        });
    }

    /// Whether somebody paid for exactly this. What goes back to the source at most.
    pub(super) fn terms_hold(
        &self,
        n: usize,
        d: &Datagram<'_>,
        (key, purpose): ([u8; 32], Purpose),
        amount: u64,
        input: &Input,
    ) -> u64 {
        let network = self.nodes[n].config.network;
        let signed = d.signed.expect("a paid datagram is signed");
        assert_eq!(sha256::Hash::hash(signed.public_key).to_byte_array(), d.source.0, "I1: key");
        let hash = d.sighash().expect("it is signed");
        let signature = schnorr::Signature::from_byte_array(*signed.signature);
        let key_of_source = PublicKey::from_slice(signed.public_key).expect("a key");
        let (key_of_source, _) = key_of_source.x_only_public_key();
        let holds = self.bank.secp().verify_schnorr(&signature, &hash, &key_of_source);
        assert_eq!(holds, Ok(()), "I1: its source did not sign {input:?}");
        let terms = OwnTerms {
            network,
            source: d.source,
            destination: d.destination,
            hops: d.route().to_vec(),
            quota: d.payload.len() as u64,
        };
        if let Some(coin) = self.checks.coins.get(&key) {
            assert_eq!(
                (&coin.terms, coin.amount_msat),
                (&terms, amount),
                "I1: node {n}: {input:?}"
            );
            let known = self.chain.was_confirmed_lately(&key, self.now);
            assert!(known, "I1: node {n} accepts a coin that is in no block: {input:?}");
            return coin.back_msat;
        }
        let issued = self.bank.issued.get(&key);
        let issued = issued.unwrap_or_else(|| panic!("I1: nobody issued what {input:?} shows"));
        assert!(issued.paid, "I1: nobody paid for {input:?}");
        assert_eq!(issued.purpose, purpose, "I1: paid for something else: node {n}, {input:?}");
        assert_eq!(issued.terms, terms, "I1: paid for other terms: node {n}, {input:?}");
        assert_eq!(issued.amount_msat, amount, "I1");
        let proof = behind_accounts(signed.proof);
        let preimage = *PackedProof::parse(&proof[1..]).expect("a proof").preimage();
        assert_eq!(sha256::Hash::hash(&preimage).to_byte_array(), key, "I1");
        let node = &self.nodes[n];
        let unix = node.wall.unix(node.local(self.now)).expect("it has a clock");
        let (from, until, rules) = (issued.timestamp, issued.expires_at, &node.config.payment);
        assert!(unix < until, "I1: node {n} takes what expired at {until}, now {unix}");
        assert!(from <= unix + rules.future_skew, "I1: node {n} takes what is dated ahead: {from}");
        assert!(until - from <= rules.max_lifetime, "I1: node {n} takes what lives too long");
        u64::MAX
    }

    /// I2: over all time and restarts a payment is spent once at each node; and
    /// over the whole route the parties never book more than was paid, and all of
    /// them together exactly that (I5).
    pub(in crate::sim) fn check_spent_once(&mut self, n: usize, paid: Paid) {
        let Paid { key, all, share, parties } = paid;
        if !self.nodes[n].honest {
            return;
        }
        assert!(self.checks.spent.insert((n, key)), "I2: node {n} carried twice for one payment");
        self.account.earned[n] += share;
        self.account.accepted += 1;
        let settled = self.account.settled.entry(key).or_default();
        settled.booked_msat += share;
        settled.parties += 1;
        let booked = settled.booked_msat;
        assert!(booked <= all, "I2: {booked} msat are booked of {all}");
        if settled.parties == parties {
            assert_eq!(booked, all, "I5: all parties have booked");
            self.account.paid_msat += all;
            self.account.shares_msat += booked;
        }
    }
}

/// What makes a paid packet one: all that its source signed, and the signature.
fn what_was_signed(d: &Datagram<'_>) -> Vec<u8> {
    let signature = d.signed.map(|s| s.signature.to_vec()).unwrap_or_default();
    [&d.sighash().unwrap_or_default()[..], &signature].concat()
}
