//! A payment is spent once, on one packet: the replay table.
//!
//! The key is the payment hash (for covenants the funding outpoint) and nothing
//! else. Beside it stands a fingerprint of the packet, which may come again a few times: what
//! was lost on the way after it was booked here is not lost to who paid. An entry stays until its payment can no longer be accepted; what was
//! forgotten is refused for ever by the floor, wherever the clock may jump. A
//! full table refuses new payments and forgets none.

use crate::config::fixed::PAYMENTS;
use crate::id::NodeId;
use crate::tables::{List, Map, Memory, heap_pop, heap_push};
use crate::time::{Micros, SECOND};
use core::cmp::Ordering;

/// How often a paid packet may come again, so that it is carried at most one time more.
pub const REPEATS: u8 = 3;
/// The same after a restart, over which it is not known how often it came.
const REPEATS_AFTER_RESTART: u8 = 1;
/// Pause before each of them.
pub const REPEAT_PAUSE: Micros = SECOND;

/// Why a payment is not new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
pub enum ReplayError {
    /// It was used before.
    #[error("the payment was used before")]
    Used,
    /// It expires before the time up to which payments are forgotten.
    #[error("payments that expire up to {floor} (seconds since 1970) are no longer accepted here")]
    Forgotten {
        /// Seconds since 1970.
        floor: u64,
    },
    /// There is no room to remember another one.
    #[error("there is no room to remember another payment, so none is accepted")]
    TableFull,
}

/// Fingerprint, under a secret key, of a packet and of the neighbour that it came from;
/// [`Self::NONE`] matches no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidPacket(pub u64);

impl PaidPacket {
    /// Of no packet: the payment allows no repeat.
    pub const NONE: Self = Self(0);
    /// The part of a fingerprint that is kept over a restart.
    const KEPT: u64 = (1 << 48) - 1;

    /// Set in every whole one, so that it differs from what is kept of any.
    const WHOLE: u64 = 1 << 63;

    /// The fingerprint with this hash.
    pub fn of(hash: u64) -> Self {
        Self(hash | Self::WHOLE)
    }

    /// What is kept of it over a restart, at most 48 bits.
    pub fn kept(self) -> Self {
        Self(self.0 & Self::KEPT)
    }

    /// Whether a packet with this fingerprint is the one that this was kept of.
    fn is(self, packet: Self) -> bool {
        let same = match self.is_whole() {
            true => packet == self,
            false => packet.kept() == self,
        };
        same && self != Self::NONE
    }

    /// Whether the packet came in this run.
    fn is_whole(self) -> bool {
        self.0 & Self::WHOLE != 0
    }
}

/// What a packet is whose payment was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// The packet that it was used for, which may pass once more.
    Passes,
    /// The same where it ends, and it was delivered in this run.
    Delivered,
    /// The same where it ends; it would pass, but there is no room for it.
    NoRoom,
    /// The same, but it comes too soon or too often.
    Refused,
    /// Another packet.
    Other,
}

/// The packet that a payment was used for, and when it may come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Spent {
    packet: PaidPacket,
    /// Low two bits: how often it may come again. The others: when it may at the earliest,
    /// in eighths of a second of the monotonic clock. They begin anew after four years; an
    /// entry is kept for days.
    next: u32,
}

/// The same in the table: without padding, and of a type whose memory the system zeroes.
type Stored = [u8; 12];

impl Spent {
    const TICK: Micros = SECOND / 8;

    fn new(packet: PaidPacket, repeats: u8, from: Micros) -> Self {
        let ticks = from.div_ceil(Self::TICK) as u32;
        Self { packet, next: ticks << 2 | u32::from(repeats.min(REPEATS)) }
    }

    fn stored(self) -> Stored {
        let [a, b, c, d, e, f, g, h] = self.packet.0.to_le_bytes();
        let [i, j, k, l] = self.next.to_le_bytes();
        [a, b, c, d, e, f, g, h, i, j, k, l]
    }

    fn read([a, b, c, d, e, f, g, h, i, j, k, l]: Stored) -> Self {
        let packet = PaidPacket(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
        Self { packet, next: u32::from_le_bytes([i, j, k, l]) }
    }

    /// How often it may come again, if it may now.
    fn repeats(self, now: Micros) -> u8 {
        let ticks = (now / Self::TICK) as u32;
        // Of two times within four years the later one is less than half of them ahead.
        let early = (self.next & !3).wrapping_sub(ticks << 2) as i32 > 0;
        if early { 0 } else { self.next as u8 & 3 }
    }
}

/// When a payment expires, in seconds since 1970. It lies beside a handle of bytes: without padding.
#[derive(Debug, Clone, Copy)]
struct Expiry<H> {
    at: [u8; 8],
    handle: H,
}

impl<H> Expiry<H> {
    fn at(&self) -> u64 {
        u64::from_be_bytes(self.at)
    }
}

impl<H> Ord for Expiry<H> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at().cmp(&other.at())
    }
}

impl<H> PartialOrd for Expiry<H> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<H> PartialEq for Expiry<H> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<H> Eq for Expiry<H> {}

/// What stands for a payment in the order of expiry.
type Handle<M> = <<M as Memory>::LargeMap<Stored, PAYMENTS> as Map<Stored>>::Handle;

/// The replay table.
pub struct ReplayPrevention<M: Memory> {
    /// Live payments: key to what it was used for.
    live: M::LargeMap<Stored, PAYMENTS>,
    /// When they expire, as a heap with the earliest expiry on top.
    order: M::List<Expiry<Handle<M>>, PAYMENTS>,
    floor: u64,
}

impl<M: Memory> ReplayPrevention<M> {
    /// An empty table without room.
    pub const EMPTY: Self = Self { live: M::LargeMap::EMPTY, order: M::List::EMPTY, floor: 0 };

    /// Makes room for `capacity` live payments; `key` is secret, so that nobody can
    /// choose payment hashes that collide in it. Call it once, first.
    pub fn prepare(&mut self, capacity: usize, key: [u8; 16]) {
        self.live.prepare(capacity, key);
        self.order.set_capacity(capacity);
    }

    /// Whether a payment is new. `source` and `sequence` name the packet that
    /// spends it and take no part in the decision: under another name or number
    /// the payment is the same.
    ///
    /// # Errors
    /// [`ReplayError`]: the payment was used before.
    pub fn check_replay(
        &self,
        proof: &[u8; 32],
        _source: &NodeId,
        _sequence: u64,
    ) -> Result<(), ReplayError> {
        match self.live.get(proof) {
            Some(_) => Err(ReplayError::Used),
            None => Ok(()),
        }
    }

    /// Records a payment that was verified. It is kept until `expires_at`
    /// (seconds since 1970). No packet may come again for it.
    ///
    /// # Errors
    /// [`ReplayError`]: it is known, forgotten, or there is no room.
    pub fn accept(&mut self, proof: [u8; 32], expires_at: u64) -> Result<(), ReplayError> {
        self.accept_for(proof, expires_at, PaidPacket::NONE, 0)
    }

    /// The same for a packet that is carried at `now` and may come again.
    ///
    /// # Errors
    /// As [`accept`](Self::accept).
    pub fn accept_for(
        &mut self,
        proof: [u8; 32],
        expires_at: u64,
        packet: PaidPacket,
        now: Micros,
    ) -> Result<(), ReplayError> {
        let spent = Spent::new(packet, REPEATS, now.saturating_add(REPEAT_PAUSE));
        self.insert(proof, expires_at, spent)
    }

    /// Records a payment that was read back from the store, with what was
    /// [kept](PaidPacket::kept) of its packet.
    ///
    /// # Errors
    /// [`ReplayError`]: it is known, forgotten, or there is no room.
    pub fn restore(
        &mut self,
        proof: [u8; 32],
        expires_at: u64,
        packet: PaidPacket,
    ) -> Result<(), ReplayError> {
        self.insert(proof, expires_at, Spent::new(packet.kept(), REPEATS_AFTER_RESTART, 0))
    }

    /// Whether a packet that shows a used payment is the one that it was used for and may
    /// pass once more, which is counted then. Nothing but its payment's expiry is left to be
    /// checked: it is the same in every byte. Where it ends (`end`, and whether there is no
    /// room for it) it passes only if it came in an earlier run: what that had not handed over
    /// died with it.
    pub fn again(
        &mut self,
        proof: &[u8; 32],
        packet: PaidPacket,
        now: Micros,
        end: Option<bool>,
    ) -> Again {
        let Some(stored) = self.live.get_mut(proof) else { return Again::Other };
        let spent = Spent::read(*stored);
        let mut known = spent.packet;
        if !known.is(packet) {
            return Again::Other;
        }
        match end {
            Some(_) if known.is_whole() => return Again::Delivered,
            Some(true) => return Again::NoRoom,
            Some(false) => known = packet,
            None => {}
        }
        let Some(left) = spent.repeats(now).checked_sub(1) else { return Again::Refused };
        *stored = Spent::new(known, left, now.saturating_add(REPEAT_PAUSE)).stored();
        Again::Passes
    }

    /// What was paid for by this and ended here was not handed over, as after a restart.
    pub fn not_delivered(&mut self, proof: &[u8; 32]) {
        if let Some(stored) = self.live.get_mut(proof) {
            let kept = Spent::read(*stored).packet.kept();
            *stored = Spent::new(kept, REPEATS_AFTER_RESTART, 0).stored();
        }
    }

    fn insert(
        &mut self,
        proof: [u8; 32],
        expires_at: u64,
        spent: Spent,
    ) -> Result<(), ReplayError> {
        if self.live.get(&proof).is_some() {
            return Err(ReplayError::Used);
        }
        self.check_room(expires_at)?;
        if self.order.is_empty() {
            self.order.reserve();
        }
        self.live.try_insert(proof, spent.stored()).map_err(|_| ReplayError::TableFull)?;
        let handle = self.live.handle(&proof).ok_or(ReplayError::TableFull)?;
        if heap_push(&mut self.order, Expiry { at: expires_at.to_be_bytes(), handle }).is_err() {
            self.live.remove(&proof);
            return Err(ReplayError::TableFull);
        }
        Ok(())
    }

    /// Whether [`Self::accept`] would take a new payment that is to be kept until
    /// `expires_at` (seconds since 1970). Looks nothing up and changes nothing.
    ///
    /// # Errors
    /// [`ReplayError`]: it would be forgotten already, or there is no room.
    pub fn check_room(&self, expires_at: u64) -> Result<(), ReplayError> {
        if expires_at <= self.floor {
            return Err(ReplayError::Forgotten { floor: self.floor });
        }
        if self.live.len() >= self.live.capacity() {
            return Err(ReplayError::TableFull);
        }
        Ok(())
    }

    /// Forgets at most `limit` payments that expired at or before `unix`, the
    /// earliest first, and returns how many. The floor rises to the latest of
    /// them: it must be made durable with it.
    pub fn cleanup_expired(&mut self, unix: u64, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit && self.order.first().is_some_and(|e| e.at() <= unix) {
            let Some(expiry) = heap_pop(&mut self.order) else { break };
            self.live.remove_by(expiry.handle);
            self.floor = self.floor.max(expiry.at());
            removed += 1;
        }
        removed
    }

    /// When the earliest live payment expires.
    pub fn next_expiry(&self) -> Option<u64> {
        self.order.first().map(Expiry::at)
    }

    /// Payments that expire at or before this time are refused.
    pub fn floor(&self) -> u64 {
        self.floor
    }

    /// Raises the floor, as read back from the store.
    pub fn restore_floor(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
    }

    /// Live payments.
    pub fn len(&self) -> usize {
        self.live.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.live.len() == 0
    }
}

#[cfg(test)]
mod tests;
