//! Who has sent beacons on one interface, and who of them is dialled next.
//!
//! Beacons prove nothing and cost nothing, so what they can cause is bounded, by the address that
//! they come from: an address has few of the places, and is dialled rarely, whatever keys it names.
//! A place is taken from another only after it has been tried in vain, so a flood of new keys takes
//! its places from itself. A host that has many addresses, or sends from those of others, has the
//! places of them all: on a LAN nothing tells it from as many hosts.

use super::beacon::Beacon;
use blvm_mesh_core::id::Network;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

/// Candidates of an interface.
pub const MOST: usize = 32;
/// Candidates of one address.
pub const MOST_OF_ADDRESS: usize = 4;
/// Candidates of an interface that are dialled at once, each at another address.
pub const MOST_DIALLED: usize = 4;
/// Pause between two attempts at one address.
const ADDRESS_PAUSE: Duration = Duration::from_secs(2);
/// Pause after a first failure; doubled with each further one.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// Longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);
/// A candidate of which nothing was heard for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(180);
/// Who was not heard for so long and comes again is dialled at once.
const SILENCE: Duration = Duration::from_secs(15);
/// How long the other end is waited for, where it is the one that dials.
const PATIENCE: Duration = Duration::from_secs(30);
/// A link that lasted so long was a good one.
const GOOD_LINK: Duration = Duration::from_secs(60);

/// Somebody who has sent beacons: the address, and the key that it named.
pub type Who = (Ipv6Addr, [u8; 33]);

/// A candidate that is to be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dial {
    /// Who.
    pub who: Who,
    /// The TCP port that was named last.
    pub port: u16,
}

/// What became of a beacon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard {
    /// Its sender is a candidate now.
    New,
    /// It was one before.
    Known,
    /// It has no place.
    NoPlace,
    /// It is this node's own, or of another Bitcoin network.
    NotMeant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Dialled,
    /// It has a link that this node has dialled.
    Linked,
}

#[derive(Debug)]
struct Candidate {
    port: u16,
    heard: Instant,
    due: Instant,
    failures: u32,
    phase: Phase,
}

/// The candidates of one interface.
#[derive(Debug)]
pub struct Candidates {
    network: Network,
    key: [u8; 33],
    /// Whether others hear of this node.
    beacons: bool,
    by_who: BTreeMap<Who, Candidate>,
    /// When each address with a place may be dialled again.
    rest: BTreeMap<Ipv6Addr, Instant>,
}

impl Candidates {
    /// No candidates, for a node with this key which sends beacons itself or does not.
    pub fn new(network: Network, key: [u8; 33], beacons: bool) -> Self {
        Self { network, key, beacons, by_who: BTreeMap::new(), rest: BTreeMap::new() }
    }

    /// A beacon has come from an address.
    pub fn heard(&mut self, now: Instant, from: Ipv6Addr, beacon: &Beacon) -> Heard {
        if beacon.key == self.key || beacon.network != self.network {
            return Heard::NotMeant;
        }
        let who = (from, beacon.key);
        if let Some(known) = self.by_who.get_mut(&who) {
            // It was away, and what failed then need not fail now.
            if now.saturating_duration_since(known.heard) >= SILENCE {
                known.due = known.due.min(now);
            }
            (known.heard, known.port) = (now, beacon.port);
            return Heard::Known;
        }
        let of_address = || self.of(&from).map(|(who, _)| *who);
        let goes = if of_address().count() >= MOST_OF_ADDRESS {
            self.in_vain(Some(from))
        } else if self.by_who.len() >= MOST {
            self.in_vain(None)
        } else {
            None
        };
        let full = of_address().count() >= MOST_OF_ADDRESS || self.by_who.len() >= MOST;
        match goes {
            Some(goes) => drop(self.by_who.remove(&goes)),
            None if full => return Heard::NoPlace,
            None => {}
        }
        // Of two that hear each other one dials, and the other one if that fails.
        let waits = self.beacons && beacon.listens && beacon.key < self.key;
        let due = now + if waits { PATIENCE } else { Duration::ZERO };
        let new = Candidate { port: beacon.port, heard: now, due, failures: 0, phase: Phase::Idle };
        self.by_who.insert(who, new);
        Heard::New
    }

    fn of(&self, address: &Ipv6Addr) -> impl Iterator<Item = (&Who, &Candidate)> {
        let range = (*address, [0; 33])..=(*address, [0xff; 33]);
        self.by_who.range(range)
    }

    /// The candidate, of an address or of all, that was tried in vain most often.
    fn in_vain(&self, of: Option<Ipv6Addr>) -> Option<Who> {
        let its = self.by_who.iter().filter(|((address, _), _)| of.is_none_or(|of| of == *address));
        let tried = its.filter(|(_, c)| c.failures > 0 && c.phase == Phase::Idle);
        tried.max_by_key(|(_, candidate)| candidate.failures).map(|(who, _)| *who)
    }

    /// The next that is to be dialled now, if there is one: [`ended`](Self::ended) must follow. Those
    /// that are `linked` are passed over.
    pub fn next(&mut self, now: Instant, linked: impl Fn(&[u8; 33]) -> bool) -> Option<Dial> {
        self.forget(now);
        let dialled = |c: &Candidate| c.phase == Phase::Dialled;
        if self.by_who.values().filter(|c| dialled(c)).count() >= MOST_DIALLED {
            return None;
        }
        for (_, candidate) in self.by_who.iter_mut().filter(|((_, key), _)| linked(key)) {
            // After the link ends the other end may dial again first.
            candidate.due = candidate.due.max(now + FIRST_PAUSE);
        }
        let rests = |address: &Ipv6Addr| {
            self.rest.get(address).is_some_and(|until| *until > now)
                || self.of(address).any(|(_, c)| dialled(c))
        };
        let is_due = |c: &Candidate| c.phase == Phase::Idle && c.due <= now;
        let due = self.by_who.iter().filter(|((address, _), c)| is_due(c) && !rests(address));
        let who = due.min_by_key(|(_, candidate)| candidate.due).map(|(who, _)| *who)?;
        let candidate = self.by_who.get_mut(&who)?;
        candidate.phase = Phase::Dialled;
        self.rest.insert(who.0, now + ADDRESS_PAUSE);
        Some(Dial { who, port: candidate.port })
    }

    /// An attempt has led to a link.
    pub fn linked(&mut self, who: &Who) {
        if let Some(candidate) = self.by_who.get_mut(who) {
            candidate.phase = Phase::Linked;
        }
    }

    /// An attempt has ended, and the link that it led to, which `lasted` so long.
    pub fn ended(&mut self, now: Instant, who: &Who, lasted: Option<Duration>) {
        let Some(candidate) = self.by_who.get_mut(who) else { return };
        candidate.phase = Phase::Idle;
        candidate.failures = match lasted {
            Some(lasted) if lasted >= GOOD_LINK => 0,
            _ => candidate.failures.saturating_add(1),
        };
        let doubled = candidate.failures.saturating_sub(1).min(16);
        let pause = FIRST_PAUSE.saturating_mul(1 << doubled);
        candidate.due = now + pause.min(LONGEST_PAUSE);
    }

    /// Forgets those of which nothing was heard for long.
    fn forget(&mut self, now: Instant) {
        let recent = |c: &Candidate| now.saturating_duration_since(c.heard) < FORGOTTEN;
        self.by_who.retain(|_, c| c.phase != Phase::Idle || recent(c));
        self.rest.retain(|_, until| *until > now);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_who.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_who.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn key(n: u32) -> [u8; 33] {
        let mut key = [0; 33];
        key[0] = 2;
        key[29..].copy_from_slice(&n.to_be_bytes());
        key
    }

    fn address(n: u16) -> Ipv6Addr {
        Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)
    }

    fn beacon(n: u32) -> Beacon {
        Beacon { network: Network::Regtest, listens: true, port: 9, key: key(n) }
    }

    /// Of a node with the smallest key, which dials.
    fn candidates() -> Candidates {
        Candidates::new(Network::Regtest, key(0), true)
    }

    fn nobody(_: &[u8; 33]) -> bool {
        false
    }

    #[test]
    fn the_smaller_key_dials_and_the_other_only_if_it_must() {
        let now = Instant::now();
        let dials = |own: u32, beacons: bool, listens: bool, at: Instant| {
            let mut all = Candidates::new(Network::Regtest, key(own), beacons);
            all.heard(now, address(1), &Beacon { listens, ..beacon(5) });
            all.next(at, nobody).is_some()
        };
        assert!(dials(4, true, true, now));
        assert!(!dials(6, true, true, now));
        assert!(dials(6, false, true, now), "the other end does not hear this one");
        assert!(dials(6, true, false, now), "nor if it does not listen");
        assert!(dials(6, true, true, now + PATIENCE), "or cannot dial");
    }

    #[test]
    fn own_beacons_and_those_of_other_networks_are_not_meant() {
        let (mut all, now) = (candidates(), Instant::now());
        assert_eq!(all.heard(now, address(1), &beacon(0)), Heard::NotMeant);
        let other = Beacon { network: Network::Signet, ..beacon(1) };
        assert_eq!(all.heard(now, address(1), &other), Heard::NotMeant);
        assert_eq!(all.heard(now, address(1), &beacon(1)), Heard::New);
        assert_eq!(all.heard(now, address(1), &Beacon { port: 10, ..beacon(1) }), Heard::Known);
        assert_eq!(all.next(now, nobody).unwrap().port, 10);
    }

    #[test]
    fn a_flood_of_keys_from_one_address_takes_nothing_from_others() {
        let (mut all, start) = (candidates(), Instant::now());
        let mut dialled = BTreeMap::<Ipv6Addr, u32>::new();
        let (mut number, mut honest) = (10, 0);
        for second in 0..600 {
            let now = start + SECOND * second;
            for _ in 0..100 {
                number += 1;
                all.heard(now, address(666), &beacon(number));
            }
            // Some are there before, and another comes later.
            let hosts = if second < 300 { 1..=20 } else { 1..=21 };
            if second % 10 == 0 {
                hosts.for_each(|n| {
                    all.heard(now, address(n), &beacon(n.into()));
                });
            }
            while let Some(dial) = all.next(now, nobody) {
                *dialled.entry(dial.who.0).or_default() += 1;
                match dial.who.0 == address(666) {
                    true => all.ended(now, &dial.who, None),
                    false => {
                        all.linked(&dial.who);
                        honest += 1;
                    }
                }
            }
            assert!(all.of(&address(666)).count() <= MOST_OF_ADDRESS && all.len() <= MOST);
        }
        assert_eq!(honest, 21);
        assert!((1..=21).all(|n| dialled[&address(n)] == 1));
        assert!(dialled[&address(666)] <= 300, "{dialled:?}");
    }

    #[test]
    fn many_addresses_are_dialled_a_few_at_a_time_and_give_way_once_tried() {
        let (mut all, now) = (candidates(), Instant::now());
        for n in 1..=1000 {
            all.heard(now, address(n), &beacon(n.into()));
        }
        assert_eq!(all.len(), MOST);
        let dials: Vec<Dial> = std::iter::from_fn(|| all.next(now, nobody)).collect();
        assert_eq!(dials.len(), MOST_DIALLED);
        assert_eq!(all.heard(now, address(2000), &beacon(2000)), Heard::NoPlace);
        all.ended(now, &dials[0].who, None);
        assert_eq!(all.heard(now, address(2000), &beacon(2000)), Heard::New);
        assert_eq!(all.len(), MOST);
        // Who has a link keeps the place.
        all.linked(&dials[1].who);
        all.ended(now, &dials[2].who, Some(GOOD_LINK));
        assert_eq!(all.heard(now, address(2001), &beacon(2001)), Heard::NoPlace);
    }

    #[test]
    fn failures_are_repeated_ever_less_often_and_silence_is_forgotten() {
        let (mut all, start) = (candidates(), Instant::now());
        let mut attempts = 0;
        for second in 0..3600 {
            let now = start + SECOND * second;
            all.heard(now, address(1), &beacon(1));
            if let Some(dial) = all.next(now, nobody) {
                attempts += 1;
                all.ended(now, &dial.who, None);
            }
        }
        assert!((8..=16).contains(&attempts), "{attempts}");
        assert!(all.next(start + SECOND * 3600 + FORGOTTEN, nobody).is_none());
        assert!(all.is_empty());
    }

    #[test]
    fn who_was_away_is_dialled_at_once_when_it_is_heard_again() {
        let (mut all, mut now) = (candidates(), Instant::now());
        for _ in 0..6 {
            all.heard(now, address(1), &beacon(1));
            let dial = all.next(now, nobody).unwrap();
            all.ended(now, &dial.who, None);
            all.heard(now, address(1), &beacon(1));
            assert_eq!(all.next(now + ADDRESS_PAUSE, nobody), None);
            now += SILENCE;
        }
    }

    #[test]
    fn who_has_a_link_already_is_not_dialled() {
        let (mut all, now) = (candidates(), Instant::now());
        all.heard(now, address(1), &beacon(1));
        assert_eq!(all.next(now, |linked| *linked == key(1)), None);
        assert_eq!(all.next(now, nobody), None, "not at once when it ends");
        assert!(all.next(now + FIRST_PAUSE, nobody).is_some());
    }
}
