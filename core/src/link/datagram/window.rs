//! Counters of received frames: which were seen (RFC 6479), and what the two bytes on
//! the wire stand for.

/// A counter this far behind the highest one is still taken, once.
pub const WINDOW: u64 = ReplayWindow::REACH;

const WORD: u64 = u32::BITS as u64;

/// The window of a link.
pub type ReplayWindow = Window<8>;

/// Which counters were received, with room for `WORDS` times 32, a power of two. As in RFC 6479
/// the bits stand still and blocks are cleared as the window moves on.
#[derive(Debug, Clone)]
pub struct Window<const WORDS: usize> {
    /// The highest counter received, plus one.
    next: u64,
    bits: [u32; WORDS],
}

impl<const WORDS: usize> Default for Window<WORDS> {
    fn default() -> Self {
        Self { next: 0, bits: [0; WORDS] }
    }
}

impl<const WORDS: usize> Window<WORDS> {
    /// A counter this far behind the highest one is still taken, once.
    pub const REACH: u64 = WORD * (WORDS as u64 - 1);

    /// Whether a frame with this counter may be taken: it is new, and not so old that
    /// nobody knows. The last counter, `u64::MAX`, is never used.
    pub fn is_new(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        self.next - 1 - counter <= Self::REACH && !self.has(counter)
    }

    /// Remembers a counter; false, and nothing changes, if it [was not new](Self::is_new).
    pub fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter >= self.next {
            let highest = self.next.saturating_sub(1);
            let blocks = (counter / WORD - highest / WORD).min(WORDS as u64);
            for block in 1..=blocks {
                *self.word(highest.saturating_add(block * WORD)) = 0;
            }
            self.next = counter + 1;
        }
        *self.word(counter) |= bit(counter);
        true
    }

    /// The counter that is expected next: the highest received, plus one.
    pub fn expected(&self) -> u64 {
        self.next
    }

    /// The highest counter received.
    pub fn highest(&self) -> Option<u64> {
        self.next.checked_sub(1)
    }

    /// Which of the 32 counters before the highest were received: bit 0 is the one
    /// just before.
    pub fn before_highest(&self) -> u32 {
        let Some(highest) = self.highest() else { return 0 };
        (0..WORD).fold(0, |bits, i| match highest.checked_sub(1 + i) {
            Some(counter) if self.has(counter) => bits | 1 << i,
            _ => bits,
        })
    }

    /// The counter that ends in these 16 bits and is nearest to the one expected next
    /// (RFC 9000, A.3). `None` if there is none.
    pub fn expand(&self, low: u16) -> Option<u64> {
        expand(self.next, low)
    }

    fn has(&self, counter: u64) -> bool {
        self.bits[Self::index(counter)] & bit(counter) != 0
    }

    fn word(&mut self, counter: u64) -> &mut u32 {
        &mut self.bits[Self::index(counter)]
    }

    fn index(counter: u64) -> usize {
        (counter / WORD) as usize % WORDS
    }
}

/// The number nearest to `expected` that ends in these 16 bits.
pub(super) fn expand(expected: u64, low: u16) -> Option<u64> {
    nearest::<{ 1 << 16 }>(expected, low.into())
}

/// The number nearest to `expected` that is `low` modulo `PERIOD`, a power of two (RFC 9000, A.3).
pub(crate) fn nearest<const PERIOD: u64>(expected: u64, low: u64) -> Option<u64> {
    let near = (expected & !(PERIOD - 1)) | low;
    if near.saturating_add(PERIOD / 2) <= expected {
        near.checked_add(PERIOD)
    } else if near > expected.saturating_add(PERIOD / 2) {
        near.checked_sub(PERIOD).or(Some(near))
    } else {
        Some(near)
    }
}

fn bit(counter: u64) -> u32 {
    1 << (counter % WORD)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};
    use std::collections::BTreeSet;

    fn takes(window: &mut ReplayWindow, cases: &[(u64, bool)]) {
        for (counter, taken) in cases {
            assert_eq!(window.is_new(*counter), *taken, "{counter}");
            assert_eq!(window.accept(*counter), *taken, "{counter}");
        }
    }

    /// What WireGuard's counter test tries: repeats, steps back, the edge of the
    /// window before and after it moves by less, by more, and to the end.
    #[test]
    fn edges_of_the_window() {
        const W: u64 = WINDOW;
        let mut window = ReplayWindow::default();
        takes(&mut window, &[(0, true), (1, true), (1, false), (9, true), (8, true), (7, true)]);
        takes(&mut window, &[(7, false), (W + 1, true), (W, true), (W, false), (W - 1, true)]);
        takes(&mut window, &[(2, true), (2, false), (W + 17, true), (3, false), (W + 17, false)]);
        let far = 4 * (W + 1);
        takes(&mut window, &[(far, true), (far - W, true), (10, false), (far - W - 1, false)]);
        takes(&mut window, &[(far - W + 1, true), (far + 1, true), (far + 1 - W, false)]);
        takes(&mut window, &[(far - W, false), (0, false)]);
        let end = u64::MAX;
        takes(&mut window, &[(end, false), (end - 1, true), (end, false), (end - 1, false)]);
        takes(&mut window, &[(end - 2, true), (end - 2, false), (end - 1 - W, true), (0, false)]);
        takes(&mut window, &[(end - 2 - W, false)]);
    }

    /// Whole windows upwards and downwards, with and without their ends.
    #[test]
    fn runs_over_a_whole_window() {
        for (low, high) in [(1, WINDOW), (0, WINDOW), (2, WINDOW + 1), (500, 500 + WINDOW)] {
            let mut up = ReplayWindow::default();
            assert!((low..=high).all(|counter| up.accept(counter)));
            let mut down = ReplayWindow::default();
            assert!((low..=high).rev().all(|counter| down.accept(counter)));
            for window in [&mut up, &mut down] {
                assert!((low..=high).all(|counter| !window.is_new(counter)));
                let before = low.checked_sub(1).filter(|before| high - before <= WINDOW);
                assert!(before.is_none_or(|before| window.accept(before)));
                takes(window, &[(high + 1, true), (high - WINDOW, false)]);
            }
        }
    }

    /// What cjdns' test tries: each counter twice in an order that was shuffled within
    /// the window; late ones beyond it never.
    #[test]
    fn shuffled_and_doubled() {
        let mut window = ReplayWindow::default();
        for start in (0..100 * WINDOW).step_by(WINDOW as usize) {
            // 3 has no factor in common with 224, so this meets each place once.
            for place in (0..WINDOW).map(|i| i * 3 % WINDOW) {
                assert!(window.accept(start + place) && !window.accept(start + place));
            }
            assert!(!window.is_new(start));
        }
    }

    #[test]
    fn two_bytes_stand_for_the_nearest_counter() {
        let expanded = |next, low| ReplayWindow { next, ..Default::default() }.expand(low);
        assert_eq!(expanded(0, 0), Some(0));
        assert_eq!(expanded(0, 0xffff), Some(0xffff));
        assert_eq!(expanded(0xfffe, 1), Some(0x1_0001));
        assert_eq!(expanded(0x1_0001, 0xfffe), Some(0xfffe));
        assert_eq!(expanded(0xa82f_30eb, 0x9b32), Some(0xa82f_9b32));
        assert_eq!(expanded(u64::MAX - 1, 0), None);
    }

    proptest! {
        #[test]
        fn like_a_set_of_all_that_was_seen(
            steps in any_vec((0u64..40, 0u64..600), 1..300), start in 0u64..u64::MAX - 20_000,
        ) {
            let (mut window, mut seen, mut highest) = (ReplayWindow::default(), BTreeSet::new(), start);
            for (forth, back) in steps {
                let counter = highest.saturating_sub(back) + forth;
                let new = counter + WINDOW >= highest && !seen.contains(&counter);
                let first = seen.is_empty();
                prop_assert_eq!(window.accept(counter), new || first);
                if new || first {
                    seen.insert(counter);
                    highest = if first { counter } else { highest.max(counter) };
                }
                prop_assert_eq!(window.highest(), Some(highest));
                for i in 0..32 {
                    let there = seen.contains(&highest.wrapping_sub(1 + i));
                    prop_assert_eq!(window.before_highest() >> i & 1 == 1, there);
                }
            }
        }

        #[test]
        fn any_counter_near_the_expected_one_is_found(next: u64, away in -32_000i64..32_000) {
            if let Some(counter) = next.checked_add_signed(away) {
                let window = ReplayWindow { next, ..Default::default() };
                prop_assert_eq!(window.expand(counter as u16), Some(counter));
            }
        }
    }
}
