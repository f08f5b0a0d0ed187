//! The congestion window: CUBIC (RFC 9438) in the frame of RFC 9002, section 7, in whole numbers.
//! What it does not do alone is in [`queue`](super::queue).

use super::queue::Queue;
use crate::time::{MILLISECOND, Micros, SECOND};

/// Packets that may be in flight at first (RFC 9002, 7.2), and the bytes that bound them.
const INITIAL_PACKETS: u64 = 10;
const INITIAL_BYTES: u64 = 14_720;
/// The smallest window, in packets.
const MINIMUM_PACKETS: u64 = 2;
/// The largest window, in bytes.
const LARGEST: u64 = 1 << 30;
/// Longest time since a loss that the curve is worked out for: it is far above any window then.
const LONGEST: Micros = 1_000 * SECOND;

/// How much may be in flight.
#[derive(Debug, Clone)]
pub(super) struct Congestion {
    packet: u64,
    window: u64,
    threshold: u64,
    /// What was sent before this time reports no new congestion.
    recovery_start: Option<Micros>,
    /// The curve that the window follows since the last loss.
    cubic: Cubic,
    queue: Queue,
}

#[derive(Debug, Clone, Default)]
struct Cubic {
    /// Where the curve is flat: the window before the last loss.
    w_max: u64,
    /// Time from the beginning of the curve to there.
    k: Micros,
    /// The beginning, set with the first acknowledgement after a loss.
    epoch: Option<Micros>,
    /// What Reno would have, and what is not yet a byte of it.
    reno: u64,
    reno_rest: u64,
    /// Window before the last reduction.
    prior: u64,
    /// Growth that is not yet a byte.
    rest: u64,
}

impl Congestion {
    /// Of a path that is new, for packets of this size.
    pub(super) fn new(packet: u64) -> Self {
        let packet = packet.max(1);
        let window = (INITIAL_PACKETS * packet).min(INITIAL_BYTES.max(2 * packet));
        Self {
            packet,
            window,
            threshold: u64::MAX,
            recovery_start: None,
            cubic: Cubic::default(),
            queue: Queue::default(),
        }
    }

    /// Bytes that may be in flight.
    pub(super) fn window(&self) -> u64 {
        self.window
    }

    /// Packets have another size from now on.
    pub(super) fn set_packet(&mut self, packet: u64) {
        self.packet = packet.max(1);
        self.window = self.window.max(self.minimum());
    }

    fn minimum(&self) -> u64 {
        MINIMUM_PACKETS * self.packet
    }

    fn in_recovery(&self, sent: Micros) -> bool {
        self.recovery_start.is_some_and(|start| sent <= start)
    }

    /// A new measurement of the round trip by an acknowledgement of `packets`, the newest `acked`;
    /// `next` is the number of the next packet.
    pub(super) fn on_round_trip(&mut self, sample: Micros, acked: u64, next: u64, packets: u64) {
        self.queue.on_round_trip(sample, acked, next, packets);
        if self.window < self.threshold && self.queue.is_long() {
            self.threshold = self.window;
        }
    }

    /// Something is acknowledged while the window was not in use: it does not grow, and the time
    /// does not count.
    pub(super) fn on_idle_ack(&mut self) {
        self.cubic.epoch = None;
    }

    /// A packet of `bytes`, sent at `sent`, is acknowledged, while the window was in use.
    pub(super) fn on_ack(&mut self, now: Micros, sent: Micros, bytes: u64, round_trip: Micros) {
        if self.in_recovery(sent) {
            return;
        }
        if self.queue.is_long() {
            // The curve begins anew where it is flat.
            (self.cubic.epoch, self.cubic.w_max) = (None, self.window);
            return;
        }
        if self.window < self.threshold {
            let growth = if self.queue.is_filling() { bytes / 4 } else { bytes };
            self.window = self.window.saturating_add(growth).min(LARGEST);
            return;
        }
        let (window, packet) = (self.window, self.packet);
        let cubic = &mut self.cubic;
        let epoch = *cubic.epoch.get_or_insert_with(|| {
            // Without a loss before, the curve begins where it is flat.
            cubic.w_max = cubic.w_max.max(window);
            cubic.k = time_to_grow(cubic.w_max.saturating_sub(window), packet);
            cubic.reno = window;
            now
        });
        // Reno's window, which gains 9/17 of a packet in a round trip, and a whole one once it
        // is as large as before the loss (4.3).
        let gain = bytes.saturating_mul(packet);
        let gain = if cubic.reno < cubic.prior { gain.saturating_mul(9) / 17 } else { gain };
        let gain = gain.saturating_add(cubic.reno_rest);
        cubic.reno = cubic.reno.saturating_add(gain / window.max(1)).min(LARGEST);
        cubic.reno_rest = gain % window.max(1);

        let time = now.saturating_sub(epoch).saturating_add(round_trip);
        let target = curve(cubic.w_max, cubic.k, time, packet);
        let target = target.clamp(window, window.saturating_add(window / 2));
        let growth = (target - window).saturating_mul(bytes).saturating_add(cubic.rest);
        cubic.rest = growth % window.max(1);
        let grown = window.saturating_add(growth / window.max(1));
        self.window = grown.max(cubic.reno).min(LARGEST);
    }

    /// So many packets are lost, of which the last was sent at `sent`.
    pub(super) fn on_loss(&mut self, now: Micros, sent: Micros, packets: u64) {
        self.queue.on_loss(packets);
        if self.in_recovery(sent) || !self.queue.is_congested() {
            return;
        }
        self.recovery_start = Some(now);
        let cubic = &mut self.cubic;
        // Fast convergence (4.7): who has less than before leaves more to others.
        cubic.w_max = if self.window < cubic.w_max { self.window / 20 * 17 } else { self.window };
        cubic.prior = self.window;
        (cubic.epoch, cubic.rest, cubic.reno_rest) = (None, 0, 0);
        self.window = (self.window / 10 * 7).max(self.minimum());
        self.threshold = self.window;
    }

    /// All that was sent for a long time is lost (RFC 9002, 7.6.2).
    pub(super) fn on_persistent_congestion(&mut self) {
        self.window = self.minimum();
        self.recovery_start = None;
        self.cubic.epoch = None;
        self.queue = Queue::default();
    }
}

/// `W_cubic` (4.2): C is 0.4 packets per cubic second.
fn curve(w_max: u64, k: Micros, time: Micros, packet: u64) -> u64 {
    let from_k = u128::from(time.abs_diff(k).min(LONGEST) / MILLISECOND);
    // Milliseconds cubed are at most 10^18, and a packet is at most 2^17 bytes.
    let cubed = from_k * from_k * from_k;
    let bytes = cubed * u128::from(packet) * 4 / 10_000_000_000;
    let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
    if time < k { w_max.saturating_sub(bytes) } else { w_max.saturating_add(bytes) }
}

/// Time in which the curve rises by so many bytes to where it is flat: K (4.2).
fn time_to_grow(bytes: u64, packet: u64) -> Micros {
    let cubed = u128::from(bytes) * 10_000_000_000 / (4 * u128::from(packet));
    cube_root(u64::try_from(cubed).unwrap_or(u64::MAX)) * MILLISECOND
}

/// The cube root, rounded down, a bit at a time.
fn cube_root(n: u64) -> u64 {
    let mut root = 0u64;
    for bit in (0..=21).rev() {
        let with = u128::from(root | 1 << bit);
        if with * with * with <= u128::from(n) {
            root |= 1 << bit;
        }
    }
    root
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::{collection::vec as any_vec, prelude::*};

    const PACKET: u64 = 1_200;
    const ROUND_TRIP: Micros = 100_000;

    /// One round trip in which the whole window is acknowledged.
    fn round(congestion: &mut Congestion, now: Micros) {
        let mut left = congestion.window();
        while let Some(rest) = left.checked_sub(PACKET) {
            congestion.on_ack(now, now - ROUND_TRIP, PACKET, ROUND_TRIP);
            left = rest;
        }
    }

    #[test]
    fn slow_start_doubles_and_a_loss_takes_three_tenths_once() {
        let mut congestion = Congestion::new(PACKET);
        assert_eq!(congestion.window(), 12_000);
        round(&mut congestion, ROUND_TRIP);
        assert_eq!(congestion.window(), 24_000);
        congestion.on_loss(SECOND, SECOND - 1, 8);
        assert_eq!(congestion.window(), 24_000, "a few are not congestion");
        congestion.on_loss(SECOND, SECOND - 1, 1);
        assert_eq!(congestion.window(), 16_800);
        congestion.on_loss(SECOND + 1, SECOND, 1);
        congestion.on_ack(SECOND + 1, SECOND, PACKET, ROUND_TRIP);
        assert_eq!(congestion.window(), 16_800);
        congestion.on_loss(SECOND + 2, SECOND + 1, 1);
        assert_eq!(congestion.window(), 11_760);
        // 0.85 of 16,800: fast convergence.
        assert_eq!(congestion.cubic.w_max, 14_280);
        for _ in 0..20 {
            let now = congestion.recovery_start.unwrap() + 2;
            congestion.on_loss(now, now - 1, 1);
        }
        assert_eq!(congestion.window(), 2 * PACKET);
        congestion.set_packet(2 * PACKET);
        assert_eq!(congestion.window(), 4 * PACKET);
    }

    /// RFC 9438, figure 1: concave up to the window before the loss, then convex.
    #[test]
    fn the_curve_is_flat_where_the_loss_was() {
        let mut congestion = Congestion::new(PACKET);
        congestion.window = 1_000 * PACKET;
        congestion.on_loss(0, 0, 9);
        let mut windows = std::vec![congestion.window() / PACKET];
        for n in 1..=200 {
            round(&mut congestion, n * ROUND_TRIP);
            windows.push(congestion.window() / PACKET);
        }
        // K is the cube root of 300 / 0.4: 9.08 s.
        assert_eq!(congestion.cubic.k / MILLISECOND, 9_085);
        let at = |tenths: usize| windows[tenths];
        assert!(at(0) == 700 && (995..=1_001).contains(&at(90)), "{windows:?}");
        assert!(at(30) - at(0) > at(60) - at(30) && at(60) - at(30) > at(90) - at(60));
        assert!(at(150) - at(120) > at(120) - at(90), "{windows:?}");
        // 1000 + 0.4 x (20 - 9.08)^3 = 1520.
        assert!((1_450..1_600).contains(&at(200)), "{}", at(200));
    }

    #[test]
    fn a_small_window_grows_as_renos() {
        let mut congestion = Congestion::new(PACKET);
        congestion.window = 10 * PACKET;
        congestion.on_loss(0, 0, 9);
        // At 10 ms the curve takes seconds to come back. Reno gains half a packet a round up to the
        // 10 that there were, in six rounds, and then a whole one.
        for n in 1..=20 {
            let mut left = congestion.window();
            while let Some(rest) = left.checked_sub(PACKET) {
                congestion.on_ack(n * 10_000, n * 10_000 - 1, PACKET, 10_000);
                left = rest;
            }
        }
        assert_eq!(congestion.window() / PACKET, 23);
    }

    #[test]
    fn cube_roots() {
        for (n, root) in [(0, 0), (1, 1), (7, 1), (8, 2), (26, 2), (27, 3), (u64::MAX, 2_642_245)] {
            assert_eq!(cube_root(n), root);
        }
    }

    proptest! {
        #[test]
        fn never_leaves_its_bounds(
            packet in 1u64..70_000,
            steps in any_vec((0u8..5, any::<u64>(), any::<u64>(), any::<u64>()), 1..60),
        ) {
            let mut congestion = Congestion::new(packet);
            for (what, a, b, c) in steps {
                match what {
                    0 => congestion.on_loss(a, b, c % 9),
                    1 => congestion.on_persistent_congestion(),
                    2 => congestion.on_round_trip(a, b, c, a ^ b),
                    _ => congestion.on_ack(a, b, c % 100_000, a ^ c),
                }
                prop_assert!((2 * packet..=LARGEST).contains(&congestion.window()));
            }
        }

        #[test]
        fn the_curve_is_that_of_floating_point(
            w_max in 0u64..1 << 24, k in 0u64..20_000_000, time in 0u64..40_000_000,
        ) {
            let seconds = (time as f64 - k as f64) / 1e6;
            let expected = w_max as f64 + 0.4 * seconds.powi(3) * PACKET as f64;
            let got = curve(w_max, k, time, PACKET) as f64;
            // A millisecond is 2,304 bytes where the curve is steepest.
            prop_assert!((got - expected.max(0.0)).abs() < 2_400.0, "{} {}", got, expected);
        }
    }
}
