//! Whether a neighbour is alive: what was exchanged with it, and what that makes due.
//!
//! Each end says in its hello how soon it answers a datagram (its keep-alive). The sender of a
//! datagram waits three times as long for an answer, then takes the link for dead. Any packet is
//! an answer, even one sent just before. Hellos are repeated now and then, so that a neighbour
//! without traffic is known to be alive as well.

use crate::time::{MILLISECOND, Micros, SECOND};

/// An answer is awaited for this many times the neighbour's keep-alive.
const PATIENCE: u64 = 3;
/// The part of a keep-alive during which a packet just heard counts as an answer. Whoever waits
/// for an answer is owed one: what was heard that long ago was sent even earlier.
const RECENTLY: u64 = 2;
/// A hello is repeated after this many keep-alives, and after this time at the latest.
const HELLO_EVERY: u64 = 120;
const HELLO_AT_LATEST: Micros = 60 * SECOND;

/// How long after a hello the next one comes from a node with this keep-alive; [`Micros::MAX`]:
/// never.
#[inline(never)]
fn hello_pause(keepalive: Micros) -> Micros {
    match keepalive {
        0 => Micros::MAX,
        keepalive => keepalive.saturating_mul(HELLO_EVERY).min(HELLO_AT_LATEST).max(keepalive),
    }
}

/// The times of a neighbour, in monotonic microseconds.
#[derive(Debug, Clone)]
pub struct Liveness {
    /// When something was last received.
    heard: Micros,
    /// When something was last sent.
    sent: Micros,
    /// When the next hello to it is due.
    greet_at: Micros,
    /// When it must be sent something because it sent a datagram; [`Micros::MAX`]: nothing is
    /// owed.
    owed: Micros,
    /// When it is taken for dead if it does not answer what it was sent; [`Micros::MAX`]: no
    /// answer is awaited.
    overdue: Micros,
    /// How soon it answers a datagram, by its hello, in microseconds; 0: no promise.
    theirs: Micros,
    /// How soon this node answers one on the link, by its own hello, in milliseconds; 0: no
    /// promise.
    ours_ms: u32,
}

impl Liveness {
    /// For a link that comes up now, on which this node answers within `ours_ms` milliseconds (0:
    /// no promise). Nothing is due.
    pub const fn new(now: Micros, ours_ms: u32) -> Self {
        let never = Micros::MAX;
        Self {
            heard: now,
            sent: now,
            greet_at: never,
            owed: never,
            overdue: never,
            theirs: 0,
            ours_ms,
        }
    }

    /// When something was last received.
    pub fn heard(&self) -> Micros {
        self.heard
    }

    /// How soon the neighbour answers a datagram, by its hello, in microseconds; 0: no promise.
    pub fn theirs(&self) -> Micros {
        self.theirs
    }

    /// How soon this node answers a datagram on the link, in milliseconds; 0: no promise.
    pub fn ours_ms(&self) -> u32 {
        self.ours_ms
    }

    fn ours(&self) -> Micros {
        u64::from(self.ours_ms).saturating_mul(MILLISECOND)
    }

    /// The neighbour's hello says how soon it answers.
    pub fn set_theirs(&mut self, milliseconds: u32) {
        self.theirs = u64::from(milliseconds).saturating_mul(MILLISECOND);
    }

    /// A packet came.
    pub fn hear(&mut self, now: Micros) {
        (self.heard, self.overdue) = (now, Micros::MAX);
    }

    /// Part of a packet came, or another sign of life: the deadline for the neighbour's answer
    /// moves. Returns the new deadline if an answer is awaited.
    pub fn hear_part(&mut self, now: Micros) -> Option<Micros> {
        self.heard = now;
        self.awaits_answer().then(|| self.await_answer(now))
    }

    /// Something was sent, so nothing is owed to the neighbour any more. A datagram must be
    /// answered, unless something was just heard; sending more does not put the first deadline
    /// off. Returns the deadline if it is new.
    pub fn send(&mut self, now: Micros, datagram: bool) -> Option<Micros> {
        (self.sent, self.owed) = (now, Micros::MAX);
        let heard_recently = self.heard.saturating_add(self.theirs / RECENTLY) > now;
        if !datagram || self.theirs == 0 || self.awaits_answer() || heard_recently {
            return None;
        }
        Some(self.await_answer(now))
    }

    /// Whether the neighbour owes an answer.
    pub fn awaits_answer(&self) -> bool {
        self.overdue != Micros::MAX
    }

    #[inline(never)]
    fn await_answer(&mut self, now: Micros) -> Micros {
        self.overdue = now.saturating_add(self.theirs.saturating_mul(PATIENCE));
        self.overdue
    }

    /// The neighbour waits for a sign that something of its own arrived, unless it was just sent
    /// something. Returns when that is due, if this is new.
    pub fn owe(&mut self, now: Micros) -> Option<Micros> {
        let ours = self.ours();
        let sent_recently = self.sent.saturating_add(ours / RECENTLY) > now;
        if ours == 0 || self.owed != Micros::MAX || sent_recently {
            return None;
        }
        self.owed = now.saturating_add(ours);
        Some(self.owed)
    }

    /// A hello goes out. The next one follows soon if the neighbour's own is `missing`, at the
    /// earliest after `round_trip`. Returns when.
    pub fn greet(&mut self, now: Micros, missing: bool, round_trip: Micros) -> Micros {
        let pause = match missing && self.ours_ms > 0 {
            true => self.ours().max(round_trip),
            false => hello_pause(self.ours()),
        };
        self.greet_at = now.saturating_add(pause);
        self.greet_at
    }

    /// Sets when a hello is due.
    pub fn greet_at(&mut self, at: Micros) {
        self.greet_at = at;
    }

    /// The neighbour's first hello came: no need to prompt it any more.
    pub fn greeted(&mut self, now: Micros) {
        self.greet_at = now.saturating_add(hello_pause(self.ours()));
    }

    /// When something must next be sent to the neighbour.
    pub fn due(&self) -> Micros {
        self.greet_at.min(self.owed)
    }

    /// Whether that is a hello, given that something is due now.
    pub fn is_hello_due(&self, now: Micros) -> bool {
        self.greet_at <= now
    }

    /// When the neighbour is given up if nothing more is heard of it. Before its hello came (`up`
    /// is false) it has `for_hello`.
    pub fn silent_at(&self, up: bool, for_hello: Micros) -> Micros {
        let patience = match (up, self.theirs) {
            (false, _) => for_hello,
            (true, 0) => return Micros::MAX,
            (true, keepalive) => hello_pause(keepalive).saturating_mul(PATIENCE),
        };
        self.heard.saturating_add(patience).min(self.overdue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HELLO: Micros = 10 * SECOND;

    /// Up for a second, both answer within 500 ms.
    fn up() -> Liveness {
        let mut n = Liveness::new(0, 500);
        n.set_theirs(500);
        n.hear(SECOND);
        n
    }

    #[test]
    fn before_its_hello_a_neighbour_has_a_time_of_its_own() {
        let mut n = Liveness::new(5, 500);
        assert_eq!((n.due(), n.silent_at(false, HELLO)), (Micros::MAX, 5 + HELLO));
        // Asked for again each 500 ms, on a slow link after a round trip.
        assert_eq!(n.greet(5, true, 0), 5 + SECOND / 2);
        assert_eq!(n.greet(5, true, 4 * SECOND), 5 + 4 * SECOND);
        // Who answers nothing asks once.
        assert_eq!(Liveness::new(5, 0).greet(5, true, 4 * SECOND), Micros::MAX);
        n.greeted(7);
        assert_eq!(n.due(), 7 + 60 * SECOND);
        assert!(!n.is_hello_due(n.due() - 1) && n.is_hello_due(n.due()));
        n.greet_at(9);
        assert!(n.is_hello_due(9));
    }

    #[test]
    fn hellos_come_after_120_keep_alives_and_each_minute_at_least() {
        assert_eq!(hello_pause(0), Micros::MAX);
        assert_eq!(hello_pause(SECOND / 10), 12 * SECOND);
        assert_eq!(hello_pause(SECOND), 60 * SECOND);
        assert_eq!(hello_pause(90 * SECOND), 90 * SECOND);
    }

    #[test]
    fn a_datagram_is_to_be_answered_in_three_keep_alives() {
        let mut n = up();
        // What was heard within half a keep-alive stands for the answer.
        assert_eq!(n.send(SECOND + 249_999, true), None);
        assert_eq!(n.send(SECOND + 250_000, false), None, "no datagram");
        let overdue = SECOND + 250_000 + 3 * SECOND / 2;
        assert_eq!(n.send(SECOND + 250_000, true), Some(overdue));
        assert_eq!(n.silent_at(true, HELLO), overdue);
        // More of them do not put it off, part of a packet does, a packet ends it.
        assert_eq!(n.send(2 * SECOND, true), None);
        assert_eq!(n.silent_at(true, HELLO), overdue);
        assert_eq!(n.hear_part(2 * SECOND), Some(2 * SECOND + 3 * SECOND / 2));
        n.hear(3 * SECOND);
        assert_eq!(n.silent_at(true, HELLO), 3 * SECOND + 3 * 60 * SECOND);
        assert_eq!((n.hear_part(4 * SECOND), n.heard()), (None, 4 * SECOND));
        // One that said that it answers whenever it likes is never silent.
        n.set_theirs(0);
        assert_eq!(n.send(9 * SECOND, true), None);
        assert_eq!(n.silent_at(true, HELLO), Micros::MAX);
    }

    #[test]
    fn what_is_owed_is_paid_by_whatever_is_sent() {
        let mut n = up();
        assert_eq!(n.owe(200_000), None, "the link has just come up");
        assert_eq!(n.owe(SECOND), Some(SECOND + SECOND / 2));
        assert_eq!(n.owe(SECOND + 1), None, "it is owed already");
        assert_eq!(n.due(), SECOND + SECOND / 2);
        n.send(SECOND + 2, false);
        assert_eq!(n.due(), Micros::MAX);
        assert_eq!(n.owe(SECOND + 250_001), None, "it was just sent something");
        assert_eq!(n.owe(SECOND + 250_002), Some(SECOND + 750_002));
        assert_eq!(Liveness::new(0, 0).owe(SECOND), None);
    }

    proptest! {
        /// Two ends that do what is due, over a link that takes less than half a keep-alive: an
        /// answer always comes in time.
        #[test]
        fn who_answers_is_never_taken_for_dead(
            steps in prop::collection::vec((0..2_000_000u64, any::<bool>()), 1..60),
            delay in 0..100_000u64, ms in 400u32..5_000,
        ) {
            let mut ends = [Liveness::new(0, ms), Liveness::new(0, ms)];
            ends.iter_mut().for_each(|n| n.set_theirs(ms));
            let (mut now, mut flying) = (0, std::vec::Vec::new());
            let mut plan = std::vec::Vec::new();
            for (pause, end) in steps {
                now += pause;
                plan.push((now, usize::from(end)));
            }
            let end = now + 10 * SECOND;
            plan.reverse();
            now = 0;
            while now < end {
                while let Some((_, from)) = plan.pop_if(|(at, _)| *at <= now) {
                    ends[from].send(now, true);
                    flying.push((now + delay, 1 - from, true));
                }
                flying.retain(|(at, to, datagram)| {
                    if *at > now {
                        return true;
                    }
                    ends[*to].hear(now);
                    if *datagram {
                        ends[*to].owe(now);
                    }
                    false
                });
                for (from, n) in ends.iter_mut().enumerate() {
                    prop_assert!(n.silent_at(true, HELLO) > now);
                    if n.due() <= now {
                        n.send(now, false);
                        flying.push((now + delay, 1 - from, false));
                    }
                }
                now += 10_000;
            }
        }
    }
}
