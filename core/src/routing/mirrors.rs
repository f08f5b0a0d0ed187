//! What neighbours said that they accept free of charge, and how much of it is used, so that
//! nothing is sent that they would refuse.

use super::owners::{PLAIN, WHOLE};
use crate::config::Allowance;
use crate::config::fixed::NEIGHBOURS;
use crate::id::LinkId;
use crate::policy::allowance::{Meter, Shared, span_micros};
use crate::tables::{List, Memory};
use crate::time::Micros;
use crate::wire::hello::{FREE_CLASSES, Told};

/// The part of a second's allowance that is kept in reserve: frames that left apart may arrive
/// together.
const JITTER: u64 = 20;

/// What one neighbour accepts.
struct Mirror<M: Memory> {
    link: LinkId,
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

/// The neighbours' allowances, sorted by link.
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

    fn place(&self, link: LinkId) -> Result<usize, usize> {
        self.mirrors.binary_search_by_key(&link, |m| m.link)
    }

    /// A neighbour has said what it accepts. What is left counts only the first time: later
    /// statements may be older than what is in flight.
    pub fn tell(&mut self, link: LinkId, told: &[Told; FREE_CLASSES], now: Micros) {
        let limits = told.map(|t| t.limit());
        match self.place(link) {
            Ok(at) => {
                if let Some(mirror) = self.mirrors.get_mut(at) {
                    mirror.limits = limits;
                }
            }
            Err(at) => {
                let mut used = Shared::new(self.shares);
                (WHOLE..).zip(told).for_each(|(kind, told)| {
                    used.set(kind, Meter::holding(told.limit(), told.left(), now));
                });
                let _ = self.mirrors.try_insert(at, Mirror { link, limits, used });
            }
        }
    }

    /// A link is gone.
    pub fn forget(&mut self, link: LinkId) {
        if let Ok(at) = self.place(link) {
            self.mirrors.take(at);
        }
    }

    /// Amounts that count, with their limits.
    fn wanted(
        limits: [Allowance; FREE_CLASSES],
        sender: Sender,
        amounts: [u64; FREE_CLASSES],
    ) -> impl Iterator<Item = (usize, Allowance, u64, u64)> {
        let part = move |rate: u64| match sender {
            Sender::Itself(_) => rate - rate / 16,
            Sender::Other(_) => rate,
        };
        let wanted = (WHOLE..).zip(limits).zip(amounts).filter(|(_, amount)| *amount > 0);
        wanted.map(move |((kind, limit), amount)| {
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
        link: LinkId,
        sender: Sender,
        amounts: [u64; FREE_CLASSES],
        now: Micros,
    ) -> bool {
        let mirror = self.place(link).ok().and_then(|at| self.mirrors.get_mut(at));
        mirror.is_some_and(|m| {
            let mut wanted = Self::wanted(m.limits, sender, amounts);
            wanted
                .all(|(kind, limit, _, needed)| m.used.has(kind, limit, sender.key(), needed, now))
        })
    }

    /// When it does, if nothing else is sent before; `None`: never.
    pub fn ready_at(
        &self,
        link: LinkId,
        sender: Sender,
        amounts: [u64; FREE_CLASSES],
        now: Micros,
    ) -> Option<Micros> {
        let m = self.mirrors.get(self.place(link).ok()?)?;
        Self::wanted(m.limits, sender, amounts).try_fold(now, |latest, (kind, limit, _, needed)| {
            Some(latest.max(m.used.ready_at(kind, limit, sender.key(), needed, now)?))
        })
    }

    /// The time that these bytes take of this node's own share.
    pub fn span(&self, link: LinkId, amounts: [u64; FREE_CLASSES]) -> Micros {
        let Some(m) = self.place(link).ok().and_then(|at| self.mirrors.get(at)) else { return 0 };
        let wanted = Self::wanted(m.limits, Sender::Itself(0), amounts);
        wanted.map(|(_, limit, amount, _)| span_micros(amount, limit)).max().unwrap_or(0)
    }

    /// Counts what is sent.
    pub fn take(
        &mut self,
        link: LinkId,
        sender: Sender,
        amounts: [u64; FREE_CLASSES],
        now: Micros,
    ) {
        let Some(m) = self.place(link).ok().and_then(|at| self.mirrors.get_mut(at)) else { return };
        Self::wanted(m.limits, sender, amounts)
            .for_each(|(kind, limit, n, _)| m.used.take(kind, limit, sender.key(), n, now));
    }

    /// What is left of the free bytes for this neighbour: of all, and of those without work.
    pub fn left(&self, link: LinkId, now: Micros) -> Option<[u64; 2]> {
        let m = self.mirrors.get(self.place(link).ok()?)?;
        let [whole, plain, _] = m.limits;
        Some([m.used.left(WHOLE, whole, now), m.used.left(PLAIN, plain, now)])
    }
}

impl Sender {
    const fn key(&self) -> u64 {
        match self {
            Self::Itself(key) | Self::Other(key) => *key,
        }
    }
}
