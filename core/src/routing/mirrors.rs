//! What neighbours said that they accept free of charge, and how much of it is used, so that
//! nothing is sent that they would refuse.

use super::owners::WHOLE;
use crate::config::Allowance;
use crate::config::fixed::NEIGHBOURS;
use crate::policy::allowance::{Meter, Shared, span_micros};
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::hello::{FREE_CLASSES, Told};

/// The part of a second's allowance that is kept in reserve: frames that left apart may arrive
/// together.
const JITTER: u64 = 20;

/// What one neighbour accepts; before its first hello nothing.
struct Mirror<M: Memory> {
    limits: [Allowance; FREE_CLASSES],
    used: Shared<M, FREE_CLASSES>,
}

/// Who wants to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// This node itself. It sends more slowly than it may, so that relays further on with the
    /// same allowance have room whenever it has.
    Itself(u64),
    /// Somebody else, with the key of its share.
    Other(u64),
}

/// The neighbours' allowances, by their [places](super::neighbours::Neighbours::place).
pub struct Mirrors<M: Memory> {
    mirrors: M::List<Mirror<M>, NEIGHBOURS>,
    shares: usize,
}

impl<M: Memory> Mirrors<M> {
    /// An empty table without capacity.
    pub const EMPTY: Self = Self { mirrors: M::List::EMPTY, shares: 0 };

    /// Makes room for so many neighbours, each with so many that share.
    pub fn set_capacity(&mut self, neighbours: usize, shares: usize) {
        self.mirrors.set_capacity(neighbours);
        self.shares = shares;
    }

    /// A neighbour came to this place.
    pub fn insert(&mut self, place: usize) {
        let none = Allowance { rate: 0, burst: 0 };
        let mirror = Mirror { limits: [none; FREE_CLASSES], used: Shared::new(self.shares) };
        // It has as much room as the neighbours.
        let _ = self.mirrors.try_insert(place, mirror);
    }

    /// The neighbour at this place is gone.
    pub fn remove(&mut self, place: usize) {
        self.mirrors.take(place);
    }

    /// A neighbour has said what it accepts. What is left counts only in its `first` hello: later
    /// statements may be older than what is in flight.
    pub fn tell(&mut self, place: usize, told: &[Told; FREE_CLASSES], first: bool, now: Micros) {
        let Some(mirror) = self.mirrors.get_mut(place) else { return };
        mirror.limits = told.map(|t| t.limit());
        if first {
            (WHOLE..).zip(told).for_each(|(kind, told)| {
                mirror.used.set(kind, Meter::holding(told.limit(), told.left(), now));
            });
        }
    }

    /// Amounts that count, with their limits.
    fn wanted(
        limits: &[Allowance; FREE_CLASSES],
        sender: Sender,
        amounts: &[u64; FREE_CLASSES],
    ) -> impl Iterator<Item = (usize, Allowance, u64, u64)> {
        let part = move |rate: u64| match sender {
            Sender::Itself(_) => rate - rate / 16,
            Sender::Other(_) => rate,
        };
        let wanted = (WHOLE..).zip(limits.iter().zip(amounts)).filter(|(_, (_, n))| **n > 0);
        wanted.map(move |(kind, (limit, &amount))| {
            let margin = (limit.rate / JITTER).min(amount);
            let margin = match sender {
                Sender::Itself(_) => margin.saturating_mul(2),
                Sender::Other(_) => margin,
            };
            let limit = Allowance { rate: part(limit.rate), burst: limit.burst };
            (kind, limit, amount, amount.saturating_add(margin).min(limit.burst.max(amount)))
        })
    }

    /// Whether the neighbour accepts so much of each class now. Room is reserved for a sender
    /// that is refused and has taken less than its share.
    pub fn has(
        &mut self,
        place: usize,
        sender: Sender,
        amounts: &[u64; FREE_CLASSES],
        now: Micros,
    ) -> bool {
        let Some(Mirror { limits, used }) = self.mirrors.get_mut(place) else { return false };
        Self::wanted(limits, sender, amounts)
            .all(|(kind, limit, _, needed)| used.has(kind, limit, sender.key(), needed, now))
    }

    /// When it does, if nothing else is sent before; `None`: never.
    pub fn ready_at(
        &self,
        place: usize,
        sender: Sender,
        amounts: &[u64; FREE_CLASSES],
        now: Micros,
    ) -> Option<Micros> {
        let m = self.mirrors.get(place)?;
        Self::wanted(&m.limits, sender, amounts).try_fold(
            now,
            |latest, (kind, limit, _, needed)| {
                Some(latest.max(m.used.ready_at(kind, limit, sender.key(), needed, now)?))
            },
        )
    }

    /// The time that these bytes take of this node's own share.
    pub fn span(&self, place: usize, amounts: &[u64; FREE_CLASSES]) -> Micros {
        let Some(m) = self.mirrors.get(place) else { return 0 };
        let wanted = Self::wanted(&m.limits, Sender::Itself(0), amounts);
        wanted.map(|(_, limit, amount, _)| span_micros(amount, limit)).max().unwrap_or(0)
    }

    /// Counts what is sent.
    pub fn take(
        &mut self,
        place: usize,
        sender: Sender,
        amounts: &[u64; FREE_CLASSES],
        now: Micros,
    ) {
        let Some(Mirror { limits, used }) = self.mirrors.get_mut(place) else { return };
        for (kind, limit, amount, _) in Self::wanted(limits, sender, amounts) {
            used.take(kind, limit, sender.key(), amount, now);
        }
    }
}

impl Sender {
    const fn key(&self) -> u64 {
        match self {
            Self::Itself(key) | Self::Other(key) => *key,
        }
    }
}
