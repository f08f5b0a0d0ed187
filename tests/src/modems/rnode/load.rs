//! How much RNode's firmware has sent and sensed, by which it limits itself and chooses its
//! contention window.

use blvm_mesh_core::time::Micros;
use std::collections::VecDeque;

/// Length of a bin: 2,500 samples of 3 ms (`AIRTIME_BINLEN_MS`).
const BIN: Micros = 7_500_000;
/// Bins of an hour.
const BINS: usize = 480;

/// Shares of time, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Shares {
    /// Sent in this bin and the one before it.
    pub(super) airtime_short: f64,
    /// Sent in the last hour.
    pub(super) airtime_long: f64,
    /// Sent, or heard in the last 7.5 s.
    pub(super) load_short: f64,
    /// The mean of the bins' highest loads in the last hour.
    pub(super) load_long: f64,
}

#[derive(Debug, Clone)]
pub(super) struct Load {
    bin: u64,
    /// What was sent in each bin, in microseconds.
    airtime: VecDeque<Micros>,
    loads: VecDeque<f64>,
    /// When others were heard, in the last 7.5 s.
    heard: VecDeque<(Micros, Micros)>,
    hearing: Option<Micros>,
}

impl Load {
    pub(super) fn new(now: Micros) -> Self {
        Self {
            bin: now / BIN,
            airtime: vec![0; BINS].into(),
            loads: vec![0.0; BINS].into(),
            heard: VecDeque::new(),
            hearing: None,
        }
    }

    fn advance(&mut self, now: Micros) {
        let bins = (now / BIN).saturating_sub(self.bin);
        for _ in 0..bins.min(BINS as u64) {
            self.airtime.pop_back();
            self.airtime.push_front(0);
            self.loads.pop_back();
            self.loads.push_front(0.0);
        }
        self.bin += bins;
        while self.heard.front().is_some_and(|(_, end)| end + BIN <= now) {
            self.heard.pop_front();
        }
    }

    /// A frame went on the air that lasts so long.
    pub(super) fn sends(&mut self, airtime: Micros, now: Micros) {
        self.advance(now);
        self.airtime[0] += airtime;
    }

    /// Whether somebody is heard from now on.
    pub(super) fn carrier(&mut self, carrier: bool, now: Micros) {
        self.advance(now);
        match (self.hearing, carrier) {
            (None, true) => self.hearing = Some(now),
            (Some(since), false) => {
                self.heard.push_back((since, now));
                self.hearing = None;
            }
            _ => {}
        }
    }

    /// The shares now. Asking counts for the long-term load, as the firmware's updates do.
    pub(super) fn shares(&mut self, now: Micros) -> Shares {
        self.advance(now);
        let from = now.saturating_sub(BIN);
        let running = self.hearing.map(|since| (since, now));
        let heard = self.heard.iter().copied().chain(running);
        let heard: Micros = heard.map(|(start, end)| end - start.max(from).min(end)).sum();
        let airtime_short = (self.airtime[0] + self.airtime[1]) as f64 / (2 * BIN) as f64;
        let load_short = (heard as f64 / BIN as f64 + airtime_short).min(1.0);
        self.loads[0] = self.loads[0].max(load_short);
        Shares {
            airtime_short,
            airtime_long: self.airtime.iter().sum::<Micros>() as f64 / (BINS as u64 * BIN) as f64,
            load_short,
            load_long: self.loads.iter().sum::<f64>() / BINS as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_last_bins_and_of_the_hour() {
        let mut load = Load::new(0);
        load.sends(3_000_000, 1_000_000);
        load.carrier(true, 5_000_000);
        load.carrier(false, 6_500_000);
        let shares = load.shares(7_000_000);
        assert_eq!((shares.airtime_short, shares.load_short), (0.2, 0.4));
        assert_eq!(shares.airtime_long, 3.0 / 3600.0);
        assert_eq!(shares.load_long, 0.4 / 480.0);
        assert_eq!(load.shares(14_000_000).airtime_short, 0.2);
        assert_eq!(load.shares(16_000_000).load_short, 0.0);
        assert_eq!(load.shares(3_000_000_000).airtime_long, 3.0 / 3600.0);
        assert_eq!(load.shares(3_700_000_000), Shares::default());
    }

    #[test]
    fn what_is_still_heard_counts() {
        let mut load = Load::new(0);
        load.carrier(true, 10_000_000);
        load.carrier(true, 11_000_000);
        assert_eq!(load.shares(13_750_000).load_short, 0.5);
        assert_eq!(load.shares(60_000_000).load_short, 1.0);
    }
}
