//! How long a LoRa frame is on the air.

use crate::time::Micros;

/// Bytes that stand before each frame on the air. RNode's firmware sends one of its own there: its
/// upper four bits are random, and the lowest one is set where a frame goes in two parts, which none
/// here does. Other radios send and strip one too, so that all hear each other.
pub const HEADER_LEN: usize = 1;
/// What stands there before frames that a node's own radio sends.
pub const HEADER: u8 = 0;
/// Most bytes of a frame, without what stands before it: a LoRa modem sends 255 at once.
pub const MAX_FRAME: usize = 255 - HEADER_LEN;

/// Bandwidths of the chips SX1262 and SX1276, in hertz, as modems write them.
pub const BANDWIDTHS_HZ: [u32; 10] =
    [7_800, 10_400, 15_600, 20_800, 31_250, 41_700, 62_500, 125_000, 250_000, 500_000];

/// Whether what came off the air is a frame behind its [`HEADER_LEN`] bytes: a part of a longer one of
/// others is none.
pub fn is_frame(received: &[u8]) -> bool {
    let lower = |header: &u8| header & 0x0f;
    let follows = received.len().saturating_sub(HEADER_LEN);
    received.first().map(lower) == Some(0) && (1..=MAX_FRAME).contains(&follows)
}

/// Settings of a LoRa modem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modem {
    /// Spreading factor, 6 to 12.
    pub spreading: u32,
    /// Bandwidth in hertz: 125,000, 250,000 or 500,000.
    pub bandwidth: u32,
    /// Check bits per four bits of data, 1 to 4: coding rate 4/5 to 4/8.
    pub coding: u32,
    /// Symbols of the preamble, without the 4.25 that the modem adds.
    pub preamble: u32,
    /// How much of the time it may send, in a thousand.
    pub duty_permille: u32,
}

impl Modem {
    /// A short range preset: spreading factor 7, 250 kHz, 4/5, a tenth of the time
    /// (869.4 to 869.65 MHz in ETSI EN 300 220).
    pub const SHORT: Self =
        Self { spreading: 7, bandwidth: 250_000, coding: 1, preamble: 8, duty_permille: 100 };

    /// Time of so many symbols, in microseconds.
    pub fn symbols(&self, n: u64) -> Micros {
        (n << self.spreading) * 1_000_000 / u64::from(self.bandwidth)
    }

    /// Time on the air of a frame of the channel, with what stands before it.
    pub fn airtime_of_frame(&self, bytes: usize) -> Micros {
        self.airtime(bytes.saturating_add(HEADER_LEN))
    }

    /// Time on the air of so many bytes with explicit header and CRC (Semtech AN1200.13,
    /// "LoRa Modem Designer's Guide", section 4; the low data rate optimisation is
    /// on where a symbol takes 16 ms or more).
    pub fn airtime(&self, bytes: usize) -> Micros {
        let sf = i64::from(self.spreading);
        let slow = i64::from(self.symbols(1) >= 16_000);
        let bits = (8 * bytes as i64 - 4 * sf + 28 + 16).max(0) as u64;
        let blocks = bits.div_ceil(4 * (sf - 2 * slow) as u64);
        let payload = 8 + blocks * u64::from(self.coding + 4);
        // In quarters of a symbol, because the preamble has a fraction.
        let quarters = 4 * (u64::from(self.preamble) + payload) + 17;
        (quarters << self.spreading) * 250_000 / u64::from(self.bandwidth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_stand_behind_a_header_that_names_no_part() {
        assert!(is_frame(&[HEADER, 1]) && is_frame(&[0xf0; 1 + 1]));
        assert!(is_frame(&[0; 255]) && !is_frame(&[0; 256]));
        assert!(
            !is_frame(&[]) && !is_frame(&[0]) && !is_frame(&[0xf1, 2]) && !is_frame(&[0x08, 2])
        );
    }

    /// Published airtimes of LoRaWAN frames (The Things Network's calculator, EU868, 4/5,
    /// 8 symbols of preamble; the largest payloads of each data rate and some others), in
    /// tenths of milliseconds.
    #[test]
    fn as_published() {
        for (spreading, khz, bytes, tenths) in [
            (7, 125, 64, 1180),
            (7, 125, 235, 3689),
            (7, 250, 235, 1844),
            (8, 125, 235, 6559),
            (9, 125, 128, 6769),
            (10, 125, 24, 3707),
            (10, 125, 64, 6984),
            (11, 125, 64, 15606),
            (12, 125, 24, 14828),
            (12, 125, 64, 27935),
        ] {
            let modem = Modem { spreading, bandwidth: khz * 1000, ..Modem::SHORT };
            let got = (modem.airtime(bytes) + 50) / 100;
            assert_eq!(got, tenths, "SF{spreading}, {khz} kHz, {bytes} bytes");
        }
    }
}
