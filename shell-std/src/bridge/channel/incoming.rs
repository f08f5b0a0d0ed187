//! The messages that come: put in order, joined, and handed over.

use super::{BUFFER, PLACE};
use crate::bridge::control::MOST_RANGES;
use crate::bridge::lists;
use std::collections::{BTreeMap, VecDeque};

/// Messages that may be here before one that belongs before them: each acknowledgement looks at them.
/// An honest sender has no more on their way.
const MOST_EARLY: usize = super::outgoing::MOST;

/// A message that is here before one that belongs before it.
#[derive(Debug)]
struct Early {
    bytes: Vec<u8>,
    part: bool,
}

/// The receiving half.
#[derive(Debug, Default)]
pub(super) struct Incoming {
    /// Number of the next message in order.
    next: u32,
    early: BTreeMap<u32, Early>,
    ready: VecDeque<Vec<u8>>,
    /// The beginning of a list whose rest is still to come.
    begun: Vec<Vec<u8>>,
    begun_bytes: usize,
    /// Bytes in order that were not handed over, those of them that were taken out to be, and others.
    ready_bytes: usize,
    taken_bytes: usize,
    early_bytes: usize,
    /// Number behind the last message, once it is known.
    end: Option<u32>,
    /// Something is to be acknowledged, and how much.
    pub(super) unacknowledged: u32,
    /// Something came out of order, or again.
    pub(super) urgent: bool,
    /// The room last told.
    told_window: usize,
}

impl Incoming {
    /// Messages of one datagram. What does not find room is as if it had not come.
    pub(super) fn take<'a>(
        &mut self,
        number: u32,
        messages: impl Iterator<Item = &'a [u8]>,
        part: bool,
        end: bool,
    ) {
        let mut at = number;
        for message in messages {
            if !self.take_one(at, message, part) {
                return;
            }
            at = at.wrapping_add(1);
        }
        if end && self.end.is_none() {
            self.end = Some(at);
            self.advance();
        }
        self.unacknowledged += 1;
    }

    fn take_one(&mut self, number: u32, message: &[u8], part: bool) -> bool {
        let ahead = number.wrapping_sub(self.next);
        // What lies behind looks far ahead.
        let old = ahead > u32::MAX / 2;
        if old || self.early.contains_key(&number) {
            self.urgent = true;
            return true;
        }
        if self.end.is_some_and(|end| number.wrapping_sub(end) <= u32::MAX / 2) {
            return false;
        }
        let held = message.len() + PLACE;
        // What is next always finds a place.
        let many = ahead > 0 && self.early.len() >= MOST_EARLY;
        if many || self.ready_bytes + self.early_bytes + held > BUFFER {
            self.urgent = true;
            return false;
        }
        self.urgent |= ahead > 0 || !self.early.is_empty();
        self.early_bytes += held;
        self.early.insert(number, Early { bytes: message.to_vec(), part });
        self.advance();
        true
    }

    fn advance(&mut self) {
        while let Some(Early { bytes, part }) = self.early.remove(&self.next) {
            let held = bytes.len() + PLACE;
            self.early_bytes -= held;
            self.ready_bytes += held;
            self.next = self.next.wrapping_add(1);
            match (part, self.begun.is_empty()) {
                (false, true) => self.ready.push_back(bytes),
                _ => {
                    self.begun_bytes += held;
                    self.begun.push(bytes);
                }
            }
            if !part && !self.begun.is_empty() {
                let joined = lists::join(&std::mem::take(&mut self.begun));
                self.ready_bytes -= std::mem::take(&mut self.begun_bytes);
                self.ready_bytes += joined.len() + PLACE;
                self.ready.push_back(joined);
            }
        }
        if self.end == Some(self.next) {
            self.next = self.next.wrapping_add(1);
            self.urgent = true;
        }
    }

    /// The next message in order.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let message = self.ready.pop_front()?;
        self.taken_bytes += message.len() + PLACE;
        Some(message)
    }

    /// What was taken out has been handed over.
    pub(super) fn consumed(&mut self) {
        self.ready_bytes -= std::mem::take(&mut self.taken_bytes);
    }

    /// Whether everything that the other end sends has come.
    pub(super) fn has_ended(&self) -> bool {
        self.end.is_some_and(|end| self.next == end.wrapping_add(1))
    }

    /// Whether all of it was handed over.
    pub(super) fn is_over(&self) -> bool {
        self.has_ended() && self.ready.is_empty()
    }

    /// What to acknowledge: the next number expected, the room from there, and what came early.
    pub(super) fn report(&mut self) -> (u32, u32, Vec<(u32, u32)>) {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.early.keys() {
            let full = ranges.len() == MOST_RANGES;
            match ranges.last_mut() {
                Some((_, to)) if *to == *number => *to = number.wrapping_add(1),
                _ if full => break,
                _ => ranges.push((*number, number.wrapping_add(1))),
            }
        }
        let window = self.room();
        (self.unacknowledged, self.urgent, self.told_window) = (0, false, window);
        (self.next, window as u32, ranges)
    }

    fn room(&self) -> usize {
        BUFFER.saturating_sub(self.ready_bytes)
    }

    /// Whether there is much more room than the other end knows of.
    pub(super) fn has_opened(&self) -> bool {
        self.told_window < BUFFER / 2 && self.room() >= self.told_window + BUFFER / 4
    }
}

#[cfg(test)]
impl Incoming {
    pub(super) fn held(&self) -> usize {
        self.ready_bytes + self.early_bytes
    }
}
