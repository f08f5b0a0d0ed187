//! What an end may have sent in all. The source pays for every packet both ways: its end hands a
//! part of its allowance to the destination, and both together never have more.
//!
//! Packets that are no data (acknowledgements, credit) may draw on a reserve, so that what is
//! under way can be acknowledged when no more data can be sent.

use super::packet::{Direction, OVERHEAD};
use crate::wire::HEADER_LEN;

/// What a packet counts for at least.
pub const SMALLEST: u64 = 64;
/// Bytes that data leave to other packets.
pub const RESERVE: u64 = 24 * SMALLEST;

/// First grant to the destination, and the largest.
const FIRST_STEP: u64 = 16 * 1024;
const LARGEST_STEP: u64 = 4 << 20;

/// Bytes that a packet of the mesh counts for whose body is so long.
pub fn cost(body: usize) -> u64 {
    (HEADER_LEN as u64).saturating_add(body as u64).max(SMALLEST)
}

/// Counts what an end has sent, and what it may send.
#[derive(Debug, Clone)]
pub(super) struct Credit {
    sent: u64,
    side: Side,
    /// This end's count or grant is to be told.
    due: bool,
}

#[derive(Debug, Clone)]
enum Side {
    Source {
        allowance: u64,
        /// What the destination may send in all.
        granted: u64,
        /// What the destination has sent, as far as is known.
        spent: u64,
        /// Next grant.
        step: u64,
    },
    Destination {
        granted: u64,
        /// The grant before the last one.
        before: u64,
        /// The grant whose end was reported.
        reported: u64,
    },
}

impl Credit {
    pub(super) fn new(direction: Direction) -> Self {
        let side = match direction {
            Direction::FromSource => {
                Side::Source { allowance: 0, granted: 0, spent: 0, step: FIRST_STEP }
            }
            Direction::FromDestination => Side::Destination { granted: 0, before: 0, reported: 0 },
        };
        Self { sent: 0, side, due: false }
    }

    /// Bytes sent.
    pub(super) fn sent(&self) -> u64 {
        self.sent
    }

    /// Source: bytes that the destination has sent, as far as is known.
    pub(super) fn peer_sent(&self) -> u64 {
        match &self.side {
            Side::Source { spent, .. } => *spent,
            Side::Destination { .. } => 0,
        }
    }

    /// Bytes that may still be sent.
    pub(super) fn left(&self) -> u64 {
        match &self.side {
            Side::Source { allowance, granted, .. } => {
                allowance.saturating_sub(*granted).saturating_sub(self.sent)
            }
            Side::Destination { granted, .. } => granted.saturating_sub(self.sent),
        }
    }

    /// Bytes that data may still take.
    pub(super) fn left_for_data(&self) -> u64 {
        self.left().saturating_sub(RESERVE)
    }

    /// Whether acknowledgements are to be sent as seldom as possible.
    pub(super) fn is_scarce(&self) -> bool {
        self.left() < 2 * RESERVE
    }

    /// Whether the other end is to be told.
    pub(super) fn is_due(&self) -> bool {
        self.due
    }

    /// What it is told: the grant, or what was sent.
    pub(super) fn told(&mut self) -> u64 {
        self.due = false;
        match &mut self.side {
            Side::Source { granted, .. } => *granted,
            Side::Destination { granted, reported, .. } => {
                *reported = *granted;
                self.sent
            }
        }
    }

    /// What was told is lost.
    pub(super) fn lost(&mut self) {
        self.due = true;
    }

    /// A packet was sent.
    pub(super) fn spend(&mut self, bytes: u64) {
        self.sent = self.sent.saturating_add(bytes);
        if let Side::Destination { granted, before, reported } = &self.side {
            let step = granted.saturating_sub(*before);
            let low = granted.saturating_sub(self.sent) < (step / 4).max(RESERVE);
            self.due |= low && reported != granted;
        }
    }

    /// Source: what both ends may have sent in all. It only ever rises.
    pub(super) fn set_allowance(&mut self, bytes: u64) {
        if let Side::Source { allowance, .. } = &mut self.side {
            *allowance = (*allowance).max(bytes);
            self.grant(false);
        }
    }

    /// Source: a packet of the destination came in.
    pub(super) fn received(&mut self, bytes: u64, soon: bool) {
        if let Side::Source { spent, granted, .. } = &mut self.side {
            *spent = spent.saturating_add(bytes).min(*granted);
            self.grant(soon);
        }
    }

    /// The other end tells its count or its grant. `soon`: it used its last grant quickly.
    ///
    /// False if that is impossible.
    pub(super) fn on_told(&mut self, bytes: u64, soon: bool) -> bool {
        match &mut self.side {
            Side::Source { granted, spent, .. } => {
                if bytes > *granted {
                    return false;
                }
                *spent = (*spent).max(bytes);
                self.grant(soon);
            }
            Side::Destination { granted, before, .. } if bytes > *granted => {
                (*before, *granted) = (*granted, bytes);
            }
            // An older grant that came late.
            Side::Destination { .. } => {}
        }
        true
    }

    /// Source: the destination does not answer. It may have used up its grant for packets that were
    /// lost, and then cannot say so: a few more let it.
    pub(super) fn on_silence(&mut self) {
        let few = (8 * SMALLEST).min(self.left() / 2);
        if let Side::Source { granted, .. } = &mut self.side
            && few >= SMALLEST
        {
            *granted = granted.saturating_add(few);
            self.due = true;
        }
    }

    /// Source: grants more when half of the last grant is used, so that the destination never has
    /// more than a quarter of what is left for both: a grant is not taken back, and this end could
    /// not go on if the destination kept it. `soon`: the next grant is twice as large.
    fn grant(&mut self, soon: bool) {
        let left = self.left();
        let Side::Source { granted, spent, step, .. } = &mut self.side else { return };
        let unused = granted.saturating_sub(*spent);
        let first = *granted == 0;
        if !first && unused >= *step / 2 {
            return;
        }
        if soon && !first {
            *step = step.saturating_mul(2).min(LARGEST_STEP);
        }
        let part = left.saturating_add(unused) / 4;
        let more = (*step).min(part.saturating_sub(unused));
        if more >= SMALLEST && (first || more > unused / 4) {
            *granted = granted.saturating_add(more);
            self.due = true;
        }
    }
}

/// The largest body that `bytes` pay for, if it has room for anything.
pub(super) fn affordable(bytes: u64) -> Option<usize> {
    let body = bytes.checked_sub(HEADER_LEN as u64)?;
    let body = usize::try_from(body).unwrap_or(usize::MAX);
    (bytes >= SMALLEST && body > OVERHEAD).then_some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};

    fn pair() -> (Credit, Credit) {
        (Credit::new(Direction::FromSource), Credit::new(Direction::FromDestination))
    }

    fn tell(from: &mut Credit, to: &mut Credit, soon: bool) {
        assert!(from.is_due());
        let told = from.told();
        assert!(to.on_told(told, soon));
    }

    #[test]
    fn grants_double_while_they_are_used_quickly() {
        let (mut source, mut destination) = pair();
        assert_eq!((source.left(), destination.left()), (0, 0));
        source.set_allowance(1 << 20);
        tell(&mut source, &mut destination, false);
        assert_eq!((destination.left(), source.left()), (16_384, (1 << 20) - 16_384));
        // What arrives is seen; half of it used, the next grant comes unasked.
        destination.spend(8_000);
        source.received(8_000, true);
        assert!(!source.is_due());
        destination.spend(200);
        source.received(200, true);
        tell(&mut source, &mut destination, false);
        assert_eq!(destination.left(), 16_384 - 8_200 + 32_768);
        // What does not arrive is told, once.
        destination.spend(33_000);
        tell(&mut destination, &mut source, false);
        destination.spend(100);
        assert!(!destination.is_due() && source.is_due());
        destination.lost();
        assert!(destination.is_due());
    }

    #[test]
    fn a_small_allowance_is_shared_and_goes_on_when_it_grows() {
        let (mut source, mut destination) = pair();
        source.set_allowance(4_000);
        tell(&mut source, &mut destination, false);
        assert_eq!((source.left(), destination.left()), (3_000, 1_000));
        assert_eq!((source.left_for_data(), source.is_scarce()), (1_464, true));
        source.spend(2_990);
        destination.spend(990);
        source.received(990, false);
        assert!(!source.is_due(), "there is nothing to give");
        source.set_allowance(3_000);
        assert_eq!(source.left(), 10, "it never shrinks");
        source.set_allowance(104_000);
        tell(&mut source, &mut destination, false);
        assert_eq!((source.left(), destination.left()), (100_010 - 16_384, 16_394));
    }

    #[test]
    fn a_destination_that_has_sent_much_does_not_keep_what_the_source_needs() {
        let (mut source, mut destination) = pair();
        source.set_allowance(1 << 20);
        for _ in 0..8 {
            tell(&mut source, &mut destination, false);
            let bytes = destination.left().min(20_000);
            destination.spend(bytes);
            source.received(bytes, true);
            if !source.is_due() {
                break;
            }
        }
        let kept = destination.left();
        assert!(kept <= (source.left() + kept) / 4 + 20_000, "{kept} of {}", source.left());
    }

    #[test]
    fn who_has_lost_all_its_grant_can_say_so() {
        let (mut source, mut destination) = pair();
        source.set_allowance(1 << 20);
        tell(&mut source, &mut destination, false);
        destination.spend(destination.left());
        destination.told();
        source.on_silence();
        tell(&mut source, &mut destination, false);
        assert_eq!(destination.left(), 512);
        destination.spend(64);
        tell(&mut destination, &mut source, false);
        tell(&mut source, &mut destination, false);
        assert!(destination.left() > 16_384);
    }

    #[test]
    fn impossible_counts_are_refused() {
        let (mut source, mut destination) = pair();
        source.set_allowance(1 << 20);
        assert!(source.on_told(16_384, false) && !source.on_told(1 << 20, false));
        // Grants may overtake each other.
        assert!(destination.on_told(100, false) && destination.on_told(50, false));
        assert_eq!(destination.left(), 100);
    }

    #[test]
    fn what_is_affordable() {
        assert_eq!(
            (affordable(63), affordable(64), affordable(1_424)),
            (None, Some(40), Some(1_400))
        );
        assert_eq!((cost(0), cost(40), cost(41)), (64, 64, 65));
    }

    proptest! {
        #[test]
        fn both_never_send_more_than_the_allowance(
            steps in any_vec((0u8..5, 0u64..60_000, any::<bool>()), 1..200),
        ) {
            let (mut source, mut destination) = pair();
            let mut allowance = 0;
            for (what, bytes, arrives) in steps {
                match what {
                    0 => {
                        allowance += bytes;
                        source.set_allowance(allowance);
                    }
                    1 if bytes <= source.left() => source.spend(bytes),
                    2 if bytes <= destination.left() => {
                        destination.spend(bytes);
                        if arrives {
                            source.received(bytes, bytes % 2 == 0);
                        }
                    }
                    3 if source.is_due() && arrives => tell(&mut source, &mut destination, false),
                    4 if destination.is_due() => tell(&mut destination, &mut source, arrives),
                    _ => {}
                }
                let all = source.sent() + destination.sent();
                prop_assert!(all + source.left() + destination.left() <= allowance);
            }
        }
    }
}
