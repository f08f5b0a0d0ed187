//! The messages that one end sends: numbered, kept until the other end has them, sent again if
//! they were lost.
//!
//! Loss detection, time-outs and congestion control follow RFC 9002, with messages in the place of
//! bytes: each transmission of a datagram has a number of its own.

use super::{Message, PLACE};
use blvm_mesh_core::time::{MILLISECOND, Micros, SECOND};
use std::collections::VecDeque;

/// Messages and their bytes that may wait to be sent or acknowledged, before no more are taken;
/// one more message always fits.
const BUFFER: usize = 4 * 1024 * 1024;
pub(super) const MOST: usize = 16 * 1024;
/// Bytes of messages that are put into one datagram, if the first is no larger by itself.
const DATAGRAM: usize = 64 * 1024;
/// Congestion window at the start, in datagrams, and its bounds in bytes. One datagram always goes,
/// however large.
const FIRST_WINDOW: usize = 10;
const LEAST_WINDOW: usize = 2 * 1024;
const LARGEST_WINDOW: usize = 8 * 1024 * 1024;
/// Bytes from which on they tell how wide the way is.
const LEAST_SAMPLE: u64 = 4096;
/// RFC 9002, 6.1: a datagram is lost when one sent so many later has come.
const REORDERED: u64 = 3;
/// RFC 9002, 6.2.2: the round trip before one is known, here for radio too.
const FIRST_ROUND_TRIP: Micros = SECOND;
/// Time in which the other end acknowledges, and the least variation that is allowed for.
pub(super) const ACK_DELAY: Micros = 25 * MILLISECOND;
const GRANULARITY: Micros = 20 * MILLISECOND;
/// The longest pause before something is sent again.
const LONGEST_PAUSE: Micros = 30 * SECOND;

/// What a message's transmission has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Sent {
        transmission: u64,
    },
    Lost,
    /// It has come, but something before it has not.
    Come,
}

#[derive(Debug)]
struct Item {
    message: Message,
    state: State,
    sent_at: Micros,
    /// When it was first sent, and the bytes that had come in all by then.
    first: (Micros, u64),
    again: bool,
}

/// A datagram's messages, by number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) number: u32,
    pub(super) bytes: Vec<u8>,
    pub(super) end: bool,
    pub(super) part: bool,
    pub(super) transmission: u64,
}

/// The sending half.
#[derive(Debug)]
pub(super) struct Outgoing {
    items: VecDeque<Item>,
    /// Number of the first of them.
    base: u32,
    /// Place of the first that was never sent.
    unsent: usize,
    /// Bytes of all of them, with their places, and of those that were sent.
    held: usize,
    sent: usize,
    /// Bytes sent and neither come nor lost.
    in_flight: usize,
    lost: usize,
    /// Whether the last one is the end.
    finished: bool,
    /// What the other end takes beyond `base`.
    peer_window: usize,
    transmissions: u64,
    newest_come: u64,
    window: usize,
    threshold: usize,
    recovery_since: Micros,
    /// Bytes that have come in all, and how many a second do.
    come: u64,
    rate: Option<u64>,
    smoothed: Option<Micros>,
    variation: Micros,
    backoff: u32,
    last_sent: Micros,
    /// Messages sent again.
    pub(super) repeated: u64,
}

impl Outgoing {
    pub(super) fn new() -> Self {
        Self {
            items: VecDeque::new(),
            base: 0,
            unsent: 0,
            held: 0,
            sent: 0,
            in_flight: 0,
            lost: 0,
            finished: false,
            peer_window: super::BUFFER,
            transmissions: 0,
            newest_come: 0,
            window: 0,
            threshold: usize::MAX,
            recovery_since: 0,
            come: 0,
            rate: None,
            smoothed: None,
            variation: 0,
            backoff: 0,
            last_sent: 0,
            repeated: 0,
        }
    }

    /// Whether another message is taken.
    pub(super) fn has_room(&self) -> bool {
        self.held < BUFFER && self.items.len() < MOST && !self.finished
    }

    pub(super) fn push(&mut self, message: Message) {
        self.finished |= message == Message::End;
        self.held += message.held();
        let (state, sent_at, first, again) = (State::Waiting, 0, (0, 0), false);
        self.items.push_back(Item { message, state, sent_at, first, again });
    }

    pub(super) fn is_finished(&self) -> bool {
        self.finished
    }

    /// Whether the other end has everything.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Number of the next message that was never sent.
    pub(super) fn next(&self) -> u32 {
        self.base.wrapping_add(self.unsent as u32)
    }

    /// Bytes per second that have come at the other end, once it was seen.
    pub(super) fn rate(&self) -> Option<u64> {
        self.rate
    }

    pub(super) fn round_trip(&self) -> Option<Micros> {
        self.smoothed
    }

    /// The next datagram's messages, at most `most` bytes of them; `Err`: this message is larger
    /// than that.
    pub(super) fn next_batch(&mut self, now: Micros, most: usize) -> Result<Option<Batch>, usize> {
        if self.window == 0 {
            self.window = (FIRST_WINDOW * most).min(FIRST_WINDOW * DATAGRAM);
        }
        let Some(place) = self.due() else { return Ok(None) };
        let again = place < self.unsent;
        let first = self.items.get(place).map_or(0, |item| item.message.len());
        if first > most {
            return Err(first);
        }
        // Nothing in flight: one datagram always goes, however large.
        if self.in_flight > 0 && self.in_flight + first > self.window {
            return Ok(None);
        }
        let target = most.min(DATAGRAM).max(first);
        let mut room = self.peer_window;
        if !again {
            room = room.saturating_sub(self.sent);
            // An end needs none.
            if self.items.get(place).is_some_and(|item| item.message.held() > room) && first > 0 {
                return Ok(None);
            }
        }
        self.transmissions += 1;
        let transmission = self.transmissions;
        let mut batch = Batch {
            number: self.base.wrapping_add(place as u32),
            bytes: Vec::with_capacity(first),
            end: false,
            part: false,
            transmission,
        };
        let (mut flight, mut taken) = (0, 0);
        for item in self.items.range_mut(place..) {
            let message = &item.message;
            let same = match again {
                true => item.state == State::Lost,
                false => item.state == State::Waiting && message.held() <= room,
            };
            let is_part = matches!(message, Message::Part(_));
            let fits = batch.bytes.len() + message.len() <= target;
            if taken > 0 && (!same || !fits || is_part || batch.part) || batch.end {
                break;
            }
            room = room.saturating_sub(message.held());
            flight += message.held();
            self.lost -= usize::from(item.state == State::Lost);
            self.repeated += u64::from(again);
            (batch.part, batch.end) = (is_part, *message == Message::End);
            batch.bytes.extend_from_slice(message.bytes());
            item.again |= again;
            (item.state, item.sent_at) = (State::Sent { transmission }, now);
            if !again {
                item.first = (now, self.come);
            }
            taken += 1;
        }
        if !again {
            self.unsent += taken;
            self.sent += flight;
        }
        self.in_flight += flight;
        self.last_sent = now;
        Ok(Some(batch))
    }

    /// Place of the message that goes next.
    fn due(&self) -> Option<usize> {
        if self.lost > 0 {
            return self.items.range(..self.unsent).position(|item| item.state == State::Lost);
        }
        (self.unsent < self.items.len()).then_some(self.unsent)
    }

    /// The other end has all messages before a number and those of these ranges, and takes so many
    /// bytes more.
    pub(super) fn acknowledged(
        &mut self,
        now: Micros,
        ack: u32,
        window: u32,
        ranges: &[(u32, u32)],
    ) {
        let count = ack.wrapping_sub(self.base) as usize;
        // What was never sent cannot have come; what is old says nothing.
        if count > self.unsent {
            return;
        }
        let (mut come, mut newest) = (0, None::<(u64, Micros, bool, (Micros, u64))>);
        let mut arrived = |item: &Item, state: State, flight: &mut usize| {
            if let State::Sent { transmission } = state {
                *flight -= item.message.held();
                come += item.message.held();
                let seen = (transmission, item.sent_at, item.again, item.first);
                newest = newest.max(Some(seen));
            }
        };
        for item in self.items.drain(..count) {
            arrived(&item, item.state, &mut self.in_flight);
            self.lost -= usize::from(item.state == State::Lost);
            self.held -= item.message.held();
            self.sent -= item.message.held();
        }
        self.base = ack;
        self.unsent -= count;
        for (from, to) in ranges {
            let places = [from, to].map(|number| number.wrapping_sub(ack) as usize);
            let [from, to] = places.map(|place| place.min(self.unsent));
            for item in self.items.range_mut(from.min(to)..to) {
                let state = std::mem::replace(&mut item.state, State::Come);
                arrived(item, state, &mut self.in_flight);
                self.lost -= usize::from(state == State::Lost);
            }
        }
        let wider = window as usize > self.peer_window || count > 0;
        self.peer_window = window as usize;
        if come > 0 || count > 0 || wider {
            self.backoff = 0;
        }
        if let Some((transmission, sent_at, again, (first_at, come_before))) = newest {
            self.come += come as u64;
            if !again {
                self.sample(now.saturating_sub(sent_at));
            }
            // Which transmission came is not known of what was sent again: the first is the safe one.
            self.sample_rate(self.come - come_before, now.saturating_sub(first_at).max(1));
            self.newest_come = self.newest_come.max(transmission);
            self.grow(come, sent_at);
            self.find_lost(now);
        }
    }

    /// RFC 9002, 5.3.
    fn sample(&mut self, round_trip: Micros) {
        match self.smoothed {
            None => (self.smoothed, self.variation) = (Some(round_trip), round_trip / 2),
            Some(smoothed) => {
                self.variation = (3 * self.variation + smoothed.abs_diff(round_trip)) / 4;
                self.smoothed = Some((7 * smoothed + round_trip) / 8);
            }
        }
    }

    /// How many bytes came between sending something and hearing that it came (as BBR takes it). Few
    /// bytes say more of the way's length than of its width.
    fn sample_rate(&mut self, bytes: u64, took: Micros) {
        if bytes < LEAST_SAMPLE {
            return;
        }
        let seen = bytes.saturating_mul(SECOND) / took;
        self.rate = Some(match self.rate {
            // A pause of the sender's makes it less, nothing makes it more.
            Some(rate) if seen < rate => (7 * rate + seen) / 8,
            _ => seen,
        });
    }

    /// RFC 9002, 7.3: doubled in a round trip below the threshold, above it a datagram more.
    fn grow(&mut self, come: usize, sent_at: Micros) {
        if sent_at <= self.recovery_since && self.recovery_since > 0 {
            return;
        }
        // A window that was not used need not grow.
        if self.in_flight + come < self.window / 2 {
            return;
        }
        let more = match self.window < self.threshold {
            true => come,
            // In this order the product fits a `usize` of 32 bits too.
            false => come / (self.window / DATAGRAM.min(self.window)),
        };
        self.window = (self.window + more).min(LARGEST_WINDOW);
    }

    fn find_lost(&mut self, now: Micros) {
        let newest = self.newest_come;
        let is_lost = |state: State| matches!(state, State::Sent { transmission } if transmission + REORDERED <= newest);
        self.lose(now, is_lost);
    }

    fn lose(&mut self, now: Micros, is_lost: impl Fn(State) -> bool) {
        let mut latest = None;
        for item in self.items.range_mut(..self.unsent) {
            if is_lost(item.state) {
                item.state = State::Lost;
                self.lost += 1;
                self.in_flight -= item.message.held();
                latest = latest.max(Some(item.sent_at));
            }
        }
        // RFC 9002, 7.3.2: once for all that was sent before the first loss was seen.
        if latest.is_some_and(|sent| sent > self.recovery_since || self.recovery_since == 0) {
            self.recovery_since = now;
            self.window = (self.window / 2).max(LEAST_WINDOW);
            self.threshold = self.window;
        }
    }

    /// A relay says that it stopped a datagram.
    pub(super) fn stopped(&mut self, now: Micros, transmission: u64) {
        self.lose(now, |state| state == State::Sent { transmission });
    }

    /// This node did not send a datagram after all. That says nothing of the route.
    pub(super) fn not_sent(&mut self, transmission: u64) {
        for item in self.items.range_mut(..self.unsent) {
            if item.state == (State::Sent { transmission }) {
                item.state = State::Lost;
                self.lost += 1;
                self.in_flight -= item.message.held();
            }
        }
    }

    /// When something is sent again although nothing was heard, or the other end is asked whether
    /// there is room.
    pub(super) fn timer(&self) -> Micros {
        if self.items.is_empty() || self.in_flight == 0 && self.lost > 0 {
            return Micros::MAX;
        }
        let waits = self.in_flight == 0 && self.unsent < self.items.len();
        match self.in_flight > 0 || waits {
            true => self.last_sent.saturating_add(self.pause()),
            false => Micros::MAX,
        }
    }

    fn pause(&self) -> Micros {
        let base = match self.smoothed {
            Some(smoothed) => smoothed + (4 * self.variation).max(GRANULARITY) + ACK_DELAY,
            None => 2 * FIRST_ROUND_TRIP,
        };
        base.saturating_mul(1 << self.backoff.min(16)).min(LONGEST_PAUSE)
    }

    /// Time has passed: whether the other end is to be asked what it has.
    pub(super) fn timeout(&mut self, now: Micros) -> bool {
        if now < self.timer() {
            return false;
        }
        self.backoff += 1;
        self.last_sent = now;
        if self.in_flight == 0 {
            return true;
        }
        // RFC 9002, 6.2.4: the first are a probe; that nothing comes twice in a row is a loss of
        // everything (7.6).
        match self.backoff {
            1 => {
                let oldest = self.items.range(..self.unsent).find_map(|item| match item.state {
                    State::Sent { transmission } => Some(transmission),
                    _ => None,
                });
                if let Some(transmission) = oldest {
                    self.not_sent(transmission);
                }
            }
            _ => {
                self.lose(now, |state| matches!(state, State::Sent { .. }));
                self.window = LEAST_WINDOW;
            }
        }
        false
    }
}

impl Message {
    /// Bytes that it takes at either end.
    pub(super) fn held(&self) -> usize {
        self.len() + PLACE
    }
}

#[cfg(test)]
impl Outgoing {
    pub(super) fn held(&self) -> usize {
        self.held
    }
}
