//! What waits to be told to the node. It is kept while there is no connection, within limits.

use crate::proto::{LogLevel, Published};
use std::collections::VecDeque;

/// Most events, and most lines of the log, that wait. Further ones are left out.
const MOST: usize = 256;

/// One thing to tell.
#[derive(Debug)]
pub enum Outgoing {
    /// The answer to a call of a method.
    Answer(u64, Result<Vec<u8>, String>),
    /// An event for whoever subscribed at the node.
    Event(Published),
    /// A line for the node's log.
    Log(LogLevel, String, String),
}

/// The queues, served in this order.
#[derive(Debug, Default)]
pub struct Outbox {
    answers: VecDeque<(u64, Result<Vec<u8>, String>)>,
    events: VecDeque<Published>,
    log: VecDeque<(LogLevel, String, String)>,
    left_out: u64,
}

impl Outbox {
    /// Answers a call. Their number is bounded by that of the calls under way.
    pub fn answer(&mut self, id: u64, answer: Result<Vec<u8>, String>) {
        self.answers.push_back((id, answer));
    }

    /// Publishes an event.
    pub fn event(&mut self, event: Published) {
        match self.events.len() < MOST {
            true => self.events.push_back(event),
            false => self.left_out += 1,
        }
    }

    /// Writes a line to the node's log.
    pub fn log(&mut self, level: LogLevel, target: String, line: String) {
        match self.log.len() < MOST {
            true => self.log.push_back((level, target, line)),
            false => self.left_out += 1,
        }
    }

    /// The callers of another connection wait for nothing any more.
    pub fn forget_answers(&mut self) {
        self.answers.clear();
    }

    /// The next thing to tell.
    pub fn take(&mut self) -> Option<Outgoing> {
        if let Some((id, answer)) = self.answers.pop_front() {
            return Some(Outgoing::Answer(id, answer));
        }
        if let Some(event) = self.events.pop_front() {
            return Some(Outgoing::Event(event));
        }
        if let Some((level, target, line)) = self.log.pop_front() {
            return Some(Outgoing::Log(level, target, line));
        }
        let left_out = std::mem::take(&mut self.left_out);
        (left_out > 0).then(|| {
            let line = format!("{left_out} events and lines of the log were left out");
            Outgoing::Log(LogLevel::Warn, "blvm_mesh_module".into(), line)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_takes_is_bounded_and_what_was_left_out_is_said() {
        let mut outbox = Outbox::default();
        for n in 0..2 * MOST {
            outbox.log(LogLevel::Info, "t".into(), n.to_string());
        }
        outbox.answer(7, Err("no".into()));
        assert!(matches!(outbox.take(), Some(Outgoing::Answer(7, Err(_)))));
        let lines: Vec<_> = std::iter::from_fn(|| outbox.take()).collect();
        assert_eq!(lines.len(), MOST + 1);
        assert!(matches!(&lines[MOST], Outgoing::Log(_, _, line) if line.starts_with("256 ")));
    }
}
