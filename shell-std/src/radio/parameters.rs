//! What a LoRa modem is set to.

use blvm_mesh_core::link::channel::lora;

pub use lora::BANDWIDTHS_HZ;

/// What a modem is set to, the same for all nodes of a channel but the power.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Parameters {
    /// Centre of the channel, in hertz.
    pub frequency_hz: u32,
    /// One of [`BANDWIDTHS_HZ`].
    pub bandwidth_hz: u32,
    /// Spreading factor, 7 to 12.
    pub spreading: u8,
    /// Coding rate 4/5 to 4/8: 5 to 8.
    pub coding: u8,
    /// Power at the modem's antenna connector, in dBm, 0 to 30.
    pub power_dbm: u8,
}

/// What a modem holds to beside its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How much of an hour it may send, in thousandths; 1,000: all of it.
    pub duty_permille: u16,
    /// At this power of whatever is heard the channel counts as taken, in dBm; `None`: only LoRa that
    /// the modem recognises counts.
    pub listen_dbm: Option<i8>,
}

impl Parameters {
    /// The same in the terms of the state machine, with a preamble of so many symbols.
    pub fn modem(&self, preamble: u32, duty_permille: u16) -> lora::Modem {
        lora::Modem {
            spreading: self.spreading.into(),
            bandwidth: self.bandwidth_hz.max(1),
            coding: u32::from(self.coding.clamp(5, 8)) - 4,
            preamble,
            duty_permille: duty_permille.into(),
        }
    }

    /// Bits per second on the air while a frame's data is sent, check bits not counted.
    pub fn bits_per_second(&self) -> u32 {
        let bits = u64::from(self.spreading) * u64::from(self.bandwidth_hz) * 4;
        let rate = (bits / u64::from(self.coding.max(1))) >> self.spreading.min(32);
        u32::try_from(rate).unwrap_or(u32::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bit_rates_as_lorawan_gives_them() {
        // LoRa Alliance RP002-1.0.4, EU863-870, DR0, DR5 and DR6; both round them.
        for (spreading, khz, rate) in [(12, 125, 292), (7, 125, 5_468), (7, 250, 10_937)] {
            let parameters = Parameters {
                frequency_hz: 868_100_000,
                bandwidth_hz: khz * 1_000,
                spreading,
                coding: 5,
                power_dbm: 14,
            };
            assert_eq!(parameters.bits_per_second(), rate);
        }
    }
}
