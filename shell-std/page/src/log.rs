//! The last lines of the log.

use serde::Serialize;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Lines that are kept.
const MOST_LINES: usize = 500;
/// Longest text of a line, in bytes.
const LONGEST: usize = 400;

/// A line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Line {
    /// Its number; the first is 0.
    pub number: u64,
    /// When it was written, in milliseconds since 1970.
    pub at_ms: u64,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'static str,
    /// The part of the program that wrote it.
    pub from: String,
    /// What it says.
    pub text: String,
}

/// The last lines, of which the oldest make room.
#[derive(Debug, Default)]
pub struct Lines(Mutex<(u64, VecDeque<Line>)>);

impl Lines {
    /// Adds a line. What is too long of it is left out.
    pub fn add(&self, at_ms: u64, level: &'static str, from: &str, mut text: String) {
        cut(&mut text, LONGEST);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (next, lines) = &mut *kept;
        if lines.len() >= MOST_LINES {
            lines.pop_front();
        }
        lines.push_back(Line { number: *next, at_ms, level, from: from.to_owned(), text });
        *next = next.saturating_add(1);
    }

    /// The lines from a number on that are still kept.
    pub fn since(&self, number: u64) -> Vec<Line> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let behind = kept.0.saturating_sub(number);
        let skipped = kept.1.len().saturating_sub(usize::try_from(behind).unwrap_or(usize::MAX));
        kept.1.iter().skip(skipped).cloned().collect()
    }
}

/// Shortens a text to so many bytes at most, and says so.
pub(crate) fn cut(text: &mut String, longest: usize) {
    if text.len() > longest {
        let mut end = longest;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_lines_go_and_whoever_has_some_is_told_the_rest() {
        let lines = Lines::default();
        assert!(lines.since(0).is_empty());
        for number in 0..MOST_LINES + 10 {
            lines.add(5, "info", "a", number.to_string());
        }
        let numbers = |since| -> Vec<u64> { lines.since(since).iter().map(|l| l.number).collect() };
        let all = numbers(0);
        assert_eq!((all.len(), all.first(), all.last()), (MOST_LINES, Some(&10), Some(&509)));
        assert_eq!(numbers(508), [508, 509]);
        assert!(numbers(510).is_empty() && numbers(u64::MAX).is_empty());
        assert_eq!(lines.since(509)[0].text, "509");
    }

    #[test]
    fn a_long_line_is_cut_where_a_character_ends() {
        let lines = Lines::default();
        lines.add(0, "warn", "a", "ä".repeat(LONGEST));
        let text = lines.since(0).remove(0).text;
        assert!(text.len() <= LONGEST + '…'.len_utf8() && text.ends_with('…'));
    }
}
