//! When a radio may send: listen first, wait by chance, within the budget of air time.
//!
//! The waiting is that of DCF (IEEE 802.11, section 10.3.4.3): a number of slots is drawn and counted
//! down while the channel is free, so that whoever has waited longest is next. How many are drawn from
//! grows with the load that is heard. Whoever a frame is for acknowledges it at once, while all others still
//! wait.

use super::lora::Modem;
use crate::rng::Rng;
use crate::time::{Micros, SECOND};

/// Time over which the load is judged.
const LOAD_TIME: Micros = 30 * SECOND;
/// Slots that are drawn from on a free channel, and how many times as many on a full one.
const SLOTS: u64 = 8;
const LOADED: u64 = 7;
/// Slots that stay free behind each frame, for its acknowledgement to begin.
const GUARD: u64 = 2;
/// Frames of usual length for all, over the time of so many of which those are spread who have heard
/// the same.
const BROADCAST: usize = 80;
const AFTER_ALL: u64 = 8;
/// Time over which the budget of air time counts. Limits are by the hour (ETSI EN 300 220-2); over
/// a shorter time they hold too, and nobody is silent for the rest of an hour.
const BUDGET_TIME: Micros = 300 * SECOND;

/// One radio's access to its channel.
#[derive(Debug)]
pub struct Access {
    modem: Modem,
    /// When all that was sent is within the budget.
    even_at: Micros,
    /// Since when the channel is busy, as it is heard.
    busy_since: Option<Micros>,
    /// Since when it is free.
    free_since: Micros,
    /// Time that is still to be waited while it is free, once drawn.
    wait: Option<Micros>,
    /// Until when this node's own frame is on the air.
    sending_until: Micros,
    /// Until when an acknowledgement of what was just heard may go before all else.
    answer_until: Micros,
    /// Busy time, which fades: the load in so many microseconds of [`LOAD_TIME`].
    load: Micros,
    load_at: Micros,
    /// Air time of what was sent since the beginning.
    sent: Micros,
}

impl Access {
    /// Of a radio that hears nothing yet.
    pub const fn new(modem: Modem, now: Micros) -> Self {
        Self {
            modem,
            even_at: 0,
            busy_since: None,
            free_since: now,
            wait: None,
            sending_until: 0,
            answer_until: 0,
            load: 0,
            load_at: now,
            sent: 0,
        }
    }

    /// The modem.
    pub const fn modem(&self) -> &Modem {
        &self.modem
    }

    /// Air time of all frames that were sent, in microseconds.
    pub const fn sent(&self) -> Micros {
        self.sent
    }

    /// How much of the time the channel was busy lately, in thousandths.
    pub fn load_permille(&self, now: Micros) -> u32 {
        (self.faded(now).saturating_mul(1000) / LOAD_TIME).min(1000) as u32
    }

    fn faded(&self, now: Micros) -> Micros {
        let past = now.saturating_sub(self.load_at).min(LOAD_TIME);
        self.load.saturating_mul(LOAD_TIME - past) / LOAD_TIME
    }

    fn count(&mut self, now: Micros, busy: Micros) {
        let load = self.faded(now).saturating_add(busy).min(LOAD_TIME);
        (self.load, self.load_at) = (load, now);
    }

    /// The channel is busy now, or free again.
    pub fn carrier(&mut self, now: Micros, busy: bool) {
        match (self.busy_since, busy) {
            (None, true) => {
                self.pass(now);
                self.busy_since = Some(now);
            }
            (Some(since), false) => {
                self.busy_since = None;
                self.free_since = now.saturating_add(self.guard());
                // Whoever has nothing left to wait would begin with all others that do.
                self.wait = self.wait.filter(|wait| *wait > 0);
                self.count(now, now.saturating_sub(since));
            }
            _ => {}
        }
    }

    /// What of the waiting is over, because the channel was free.
    fn pass(&mut self, now: Micros) {
        if self.busy_since.is_none()
            && let Some(wait) = &mut self.wait
        {
            *wait = wait.saturating_sub(now.saturating_sub(self.free_since));
            self.free_since = self.free_since.max(now);
        }
    }

    /// Time in which two radios cannot hear that the other has begun: a preamble that is not
    /// recognised yet.
    fn slot(&self) -> Micros {
        self.modem.symbols(u64::from(self.modem.preamble))
    }

    /// When a frame may be sent at the earliest, as things are now; `None`: the channel must
    /// be free first.
    pub fn ready_at(&mut self, now: Micros, rng: &mut Rng) -> Option<Micros> {
        if self.busy_since.is_some() {
            return None;
        }
        if now < self.sending_until {
            return Some(self.sending_until);
        }
        self.pass(now);
        let wait = match self.wait {
            Some(wait) => wait,
            None => {
                let drawn = rng.u64() % self.span(now);
                self.free_since = self.free_since.max(now);
                *self.wait.insert(drawn)
            }
        };
        let allowed = self.even_at.saturating_sub(BUDGET_TIME);
        Some(now.max(self.free_since).saturating_add(wait).max(allowed))
    }

    /// Time that all but the receiver of a frame leave free behind it, so that its acknowledgement
    /// collides with nothing (the DIFS of IEEE 802.11, beside its SIFS).
    fn guard(&self) -> Micros {
        self.slot().saturating_mul(GUARD)
    }

    /// A frame for this node has ended: its acknowledgement may go before all else.
    pub fn heard_own(&mut self, now: Micros) {
        self.answer_until = now.saturating_add(self.slot() / 2);
    }

    /// Whether it still may.
    pub fn may_answer(&self, now: Micros) -> bool {
        let free = self.busy_since.is_none() && now >= self.sending_until;
        free && now <= self.answer_until && now >= self.even_at.saturating_sub(BUDGET_TIME)
    }

    /// Time that waiting is drawn from, at least 1 microsecond.
    fn span(&self, now: Micros) -> Micros {
        let slots = SLOTS + SLOTS * LOADED * u64::from(self.load_permille(now)) / 1000;
        self.slot().saturating_mul(slots).max(1)
    }

    /// How long to wait before something is sent that others send too, since they have heard the
    /// same.
    pub fn spread(&self, now: Micros, rng: &mut Rng) -> Micros {
        let frame = self.modem.airtime_of_frame(BROADCAST);
        rng.u64() % (self.span(now).saturating_add(frame.saturating_mul(AFTER_ALL)))
    }

    /// A frame of so many bytes begins now: until when it is on the air.
    pub fn send(&mut self, now: Micros, bytes: usize) -> Micros {
        let time = self.modem.airtime_of_frame(bytes);
        let share = time.saturating_mul(1000) / u64::from(self.modem.duty_permille.max(1));
        self.even_at = self.even_at.max(now).saturating_add(share);
        self.sending_until = now.saturating_add(time);
        self.sent = self.sent.saturating_add(time);
        self.count(now, time);
        let free_since = self.sending_until.saturating_add(self.guard());
        (self.wait, self.free_since, self.answer_until) = (None, free_since, 0);
        self.sending_until
    }

    /// The modem has sent the frame, sooner or later than was worked out.
    pub fn done(&mut self, now: Micros) {
        (self.sending_until, self.free_since) = (now, now.saturating_add(self.guard()));
    }
}
