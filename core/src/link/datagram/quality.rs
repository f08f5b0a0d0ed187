//! How good a link is, from what was sent and what of it was sent again.

use super::Sent;

/// The quality of a link that loses nothing, in 1/256 transmissions.
const PERFECT: u16 = 256;
/// Chunks after which it is worked out anew.
const CHUNKS: u64 = 32;
/// Part that the latest of them have in it.
const LATEST: u64 = 4;

/// Transmissions per chunk that was sent, smoothed.
#[derive(Debug, Clone)]
pub struct LinkQuality {
    before: Sent,
    quality: u16,
}

impl LinkQuality {
    /// Of a session that begins when so much was sent.
    pub const fn new(before: Sent) -> Self {
        Self { before, quality: PERFECT }
    }

    /// Gives the quality in 1/256 (256: nothing was lost) if it has changed with what was
    /// sent until now.
    pub fn update(&mut self, sent: Sent) -> Option<u16> {
        let chunks = sent.chunks.saturating_sub(self.before.chunks);
        if chunks < CHUNKS {
            return None;
        }
        let again = sent.again.saturating_sub(self.before.again);
        self.before = sent;
        let latest = chunks.saturating_add(again).saturating_mul(PERFECT.into()) / chunks;
        let old = (LATEST - 1).saturating_mul(self.quality.into());
        let quality = old.saturating_add(latest).saturating_add(LATEST / 2) / LATEST;
        let quality = u16::try_from(quality).unwrap_or(u16::MAX);
        (core::mem::replace(&mut self.quality, quality) != quality).then_some(quality)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_what_was_sent_again() {
        let sent = |chunks, again| Sent { chunks, again, given_up: 0 };
        let mut quality = LinkQuality::new(sent(10, 90));
        assert_eq!(quality.update(sent(41, 99)), None);
        assert_eq!(quality.update(sent(42, 90)), None, "nothing was lost");
        // Each of 32 chunks twice: from 256 a quarter of the way to 512.
        assert_eq!(quality.update(sent(74, 122)), Some(320));
        let last = (3..40).filter_map(|n| quality.update(sent(10 + 32 * n, 90 + 32 * (n - 1))));
        assert!(last.last().is_some_and(|last| (509..=512).contains(&last)));
        // Absurd numbers wrap nothing.
        quality.update(sent(u64::MAX, u64::MAX));
        assert_eq!(quality.update(sent(0, 0)), None);
    }
}
