//! What a LoRa transceiver is tuned to, how long its frames last, and how weak a signal it takes.

use blvm_mesh_core::link::channel::lora;
use blvm_mesh_core::time::Micros;

/// Symbols of a preamble after which a receiver knows that a frame is coming.
const DETECTION_SYMBOLS: u64 = 4;
/// Noise of a receiver above thermal noise, in dB (Semtech SX1276, AN1200.13 section 1).
const NOISE_FIGURE_DB: f64 = 6.0;

/// Settings of a transceiver that is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// Middle of its band in hertz.
    pub frequency_hz: u32,
    /// Bandwidth in hertz, 7,800 to 1,625,000.
    pub bandwidth_hz: u32,
    /// Spreading factor, 5 to 12.
    pub spreading: u8,
    /// Coding rate 4/n, n from 5 to 8.
    pub coding: u8,
    /// Symbols of the preamble that it sends, without the 4.25 that the modem adds.
    pub preamble: u16,
}

impl Tuning {
    /// Itself, if a transceiver can be set so.
    pub fn checked(self) -> Option<Self> {
        let fits = self.frequency_hz > 0
            && (7_800..=1_625_000).contains(&self.bandwidth_hz)
            && (5..=12).contains(&self.spreading)
            && (5..=8).contains(&self.coding)
            && self.preamble > 0;
        fits.then_some(self)
    }

    /// Time of so many symbols, in microseconds.
    pub fn symbols(&self, n: u64) -> Micros {
        (n << self.spreading) * 1_000_000 / u64::from(self.bandwidth_hz)
    }

    /// Time on the air of a frame of so many bytes, with explicit header and CRC.
    pub fn airtime(&self, bytes: usize) -> Micros {
        if self.spreading >= 7 {
            return lora::Modem {
                spreading: self.spreading.into(),
                bandwidth: self.bandwidth_hz,
                coding: u32::from(self.coding) - 4,
                preamble: self.preamble.into(),
                duty_permille: 1000,
            }
            .airtime(bytes);
        }
        // Semtech's SX1261/2 data sheet, section 6.1.4: factors 5 and 6 have two symbols more
        // after the preamble, and eight bits less in their first block.
        let spreading = u64::from(self.spreading);
        let bits = (8 * bytes as u64 + 16 + 20).saturating_sub(4 * spreading);
        let payload = 8 + bits.div_ceil(4 * spreading) * u64::from(self.coding);
        let quarters = 4 * (u64::from(self.preamble) + payload) + 25;
        (quarters << self.spreading) * 250_000 / u64::from(self.bandwidth_hz)
    }

    /// How long a frame lasts until a receiver knows that it is one.
    pub fn detection(&self) -> Micros {
        self.symbols(DETECTION_SYMBOLS)
    }

    /// How long a receiver that heard the beginning can still turn to a stronger frame.
    pub fn preamble_time(&self) -> Micros {
        self.symbols(u64::from(self.preamble) + 4)
    }

    /// Whether frames sent with the other tuning are frames to this one: equal bandwidth and
    /// spreading factor, and a frequency that differs by a quarter of the bandwidth at most, which
    /// receivers make up for (crystals differ by more than what a register rounds).
    pub fn understands(&self, other: &Self) -> bool {
        self.bandwidth_hz == other.bandwidth_hz
            && self.spreading == other.spreading
            && self.frequency_hz.abs_diff(other.frequency_hz) <= self.bandwidth_hz / 4
    }

    /// Whether the two bands have a part in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        let apart = u64::from(self.frequency_hz.abs_diff(other.frequency_hz));
        2 * apart < u64::from(self.bandwidth_hz) + u64::from(other.bandwidth_hz)
    }

    /// Noise of a receiver in its band, in dBm.
    pub fn noise_dbm(&self) -> f64 {
        -174.0 + 10.0 * f64::from(self.bandwidth_hz).log10() + NOISE_FIGURE_DB
    }

    /// The lowest signal above noise that can be received, in dB: -7.5 at spreading factor 7, 2.5
    /// less with each further one (Semtech SX1276 data sheet, table 13).
    pub fn least_snr_db(&self) -> f64 {
        10.0 - 2.5 * f64::from(self.spreading)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Tuning = Tuning {
        frequency_hz: 869_525_000,
        bandwidth_hz: 250_000,
        spreading: 7,
        coding: 5,
        preamble: 8,
    };

    /// The same published figure as in core, and Semtech's formula by hand for a factor below 7:
    /// 8 + ceil((8*20 + 16 - 24 + 20) / 24) * 5 = 48 symbols, with 8 + 6.25 before them, of 256 us.
    #[test]
    fn airtime_of_low_and_high_spreading_factors() {
        assert_eq!((SHORT.airtime(235) + 50) / 100, 1844);
        let six = Tuning { spreading: 6, ..SHORT };
        assert_eq!(six.airtime(20), (4 * 62 + 1) * 256 / 4);
    }

    #[test]
    fn only_equal_settings_are_understood() {
        assert!(SHORT.understands(&Tuning { coding: 8, preamble: 32, ..SHORT }));
        assert!(SHORT.understands(&Tuning { frequency_hz: SHORT.frequency_hz + 61, ..SHORT }));
        for other in [
            Tuning { frequency_hz: SHORT.frequency_hz + 100_000, ..SHORT },
            Tuning { bandwidth_hz: 125_000, ..SHORT },
            Tuning { spreading: 8, ..SHORT },
        ] {
            assert!(!SHORT.understands(&other), "{other:?}");
        }
        assert!(SHORT.overlaps(&Tuning { frequency_hz: SHORT.frequency_hz + 249_999, ..SHORT }));
        assert!(!SHORT.overlaps(&Tuning { frequency_hz: SHORT.frequency_hz + 250_000, ..SHORT }));
    }

    /// -174 dBm/Hz, 125 kHz and 6 dB are -117 dBm; factor 12 then takes -137 dBm.
    #[test]
    fn sensitivity_is_that_of_the_data_sheet() {
        let long = Tuning { spreading: 12, bandwidth_hz: 125_000, ..SHORT };
        let least = long.noise_dbm() + long.least_snr_db();
        assert!((-137.5..-136.5).contains(&least), "{least}");
    }
}
