//! A set of numbers as ranges that do not touch.

use alloc::collections::VecDeque;
use core::ops::Range;

/// Ranges in ascending order, none empty. Those at the ends are found and taken at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(VecDeque<Range<u64>>);

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn first(&self) -> Option<Range<u64>> {
        self.0.front().cloned()
    }

    /// Adds a range.
    pub(super) fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        // Those that it touches: from the first that ends at its start or later.
        let from = self.0.partition_point(|old| old.end < range.start);
        let Some(old) = self.0.get_mut(from).filter(|old| old.start <= range.end) else {
            self.0.insert(from, range);
            return;
        };
        old.start = old.start.min(range.start);
        old.end = old.end.max(range.end);
        let mut end = old.end;
        let mut behind = from.saturating_add(1);
        while let Some(next) = self.0.get(behind).filter(|next| next.start <= end) {
            end = end.max(next.end);
            behind = behind.saturating_add(1);
        }
        if let Some(merged) = self.0.get_mut(from) {
            merged.end = end;
        }
        self.0.drain(from.saturating_add(1)..behind);
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.0.partition_point(|old| old.end <= range.start);
        let to = self.0.partition_point(|old| old.start < range.end);
        if from >= to {
            return;
        }
        let before = self.0.get(from).map(|old| old.start..range.start);
        let after = to.checked_sub(1).and_then(|last| self.0.get(last));
        let after = after.map(|old| range.end..old.end);
        self.0.drain(from..to);
        for left in [after, before].into_iter().flatten().filter(|left| !left.is_empty()) {
            self.0.insert(from, left);
        }
    }

    /// Takes out everything below `end`; gives the end of the range that `end` lies in or touches,
    /// else `end`.
    pub(super) fn take_below(&mut self, end: u64) -> u64 {
        let mut end = end;
        while let Some(first) = self.0.front().filter(|first| first.start <= end) {
            end = end.max(first.end);
            self.0.pop_front();
        }
        end
    }

    /// The parts of a range that are not in the set.
    pub(super) fn gaps(&self, range: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let from = self.0.partition_point(|old| old.end <= range.start);
        let (mut at, end) = (range.start, range.end);
        let mut there = self.0.iter().skip(from);
        core::iter::from_fn(move || {
            while at < end {
                let next = there.next().map_or(end..end, |old| old.clone());
                let gap = at..next.start.min(end);
                at = next.end.max(gap.end);
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::{collections::BTreeSet, vec::Vec};

    proptest! {
        #[test]
        fn like_a_set(steps in any_vec((0u8..4, 0u64..120, 0u64..30), 1..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (what, start, len) in steps {
                let range = start..start + len;
                match what {
                    0 | 1 => {
                        ranges.insert(range.clone());
                        set.extend(range);
                    }
                    2 => {
                        ranges.remove(range.clone());
                        set.retain(|n| !range.contains(n));
                    }
                    _ if len == 0 => {
                        let mut end = start;
                        // Whatever touches the end goes with it.
                        while set.contains(&end) {
                            end += 1;
                        }
                        prop_assert_eq!(ranges.take_below(start), end);
                        set.retain(|n| *n >= end);
                    }
                    _ => {
                        let gaps: Vec<_> = ranges.gaps(range.clone()).flatten().collect();
                        let expected: Vec<_> = range.filter(|n| !set.contains(n)).collect();
                        prop_assert_eq!(gaps, expected);
                    }
                }
                prop_assert!(ranges.0.iter().cloned().flatten().eq(set.iter().copied()));
                let pairs = ranges.0.iter().zip(ranges.0.iter().skip(1));
                prop_assert!(pairs.clone().all(|(a, b)| a.end < b.start));
                prop_assert_eq!(ranges.first().map(|r| r.start), set.first().copied());
            }
        }
    }
}
