//! A board's radio channel, as its configuration has it.
//!
//! | size | field |
//! |---|---|
//! | 32 | the channel's key |
//! | 1 | 1 if everybody knows that key, so that neighbours on it are strangers, else 0 |
//! | 4 | centre of the channel, in hertz |
//! | 4 | bandwidth, in hertz |
//! | 1 | spreading factor, 7 to 12 |
//! | 1 | coding rate 4/5 to 4/8: 5 to 8 |
//! | 1 | power at the antenna connector in dBm, -9 to 22, as two's complement |
//! | 2 | symbols of the preamble, 8 to 1,024 |
//! | 2 | how much of an hour it may send, in thousandths, 1 to 1,000 |
//! | 2 | shortest pause behind a frame, in milliseconds |
//! | 1 | from this power on the channel counts as taken, in dBm, -128 to -1; 0: only LoRa counts |
//!
//! What of this the law of a region allows the tool knows that writes it; the board knows what its
//! chip can do.

use super::BoardConfigError::{self, Field};
use super::Fields;
use crate::config::Config;
use crate::link::channel::frame::KEY_LEN;
use crate::link::channel::lora::{BANDWIDTHS_HZ, MAX_FRAME, Modem};
use crate::link::channel::timing_on_air;
use core::fmt;
use core::ops::RangeInclusive;

/// What an SX1262 can be tuned to, in hertz (datasheet, table 3-6).
pub const FREQUENCIES_HZ: RangeInclusive<u32> = 150_000_000..=960_000_000;
/// What its amplifier can be set to, in dBm (section 13.4.4).
pub const POWERS_DBM: RangeInclusive<i8> = -9..=22;
/// Symbols of a preamble.
pub const PREAMBLES: RangeInclusive<u16> = 8..=1_024;

/// The radio channel of a board.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RadioConfig {
    /// The channel's key.
    pub key: [u8; KEY_LEN],
    /// Whether everybody knows that key: then neighbours on the channel are strangers.
    pub is_public: bool,
    /// Centre of the channel, in hertz, within [`FREQUENCIES_HZ`].
    pub frequency_hz: u32,
    /// Power at the antenna connector, in dBm, within [`POWERS_DBM`].
    pub power_dbm: i8,
    /// What all nodes of the channel set their modems to. Its bandwidth is one of [`BANDWIDTHS_HZ`],
    /// its spreading factor at least 7, its preamble within [`PREAMBLES`].
    pub modem: Modem,
    /// Shortest pause behind a frame, in milliseconds.
    pub pause_ms: u16,
    /// From this power on the channel counts as taken, in dBm, below 0; `None`: only LoRa that the
    /// chip recognises counts.
    pub listen_dbm: Option<i8>,
}

impl RadioConfig {
    /// Bytes of it in a configuration.
    pub const LEN: usize = KEY_LEN + 1 + 4 + 4 + 3 + 3 * 2 + 1;

    /// Has searches wait as long as the air takes.
    pub fn suit(&self, config: &mut Config) {
        let frame = self.modem.airtime_of_frame(MAX_FRAME);
        config.timing = timing_on_air(frame, config.timing);
    }

    /// Reads a channel.
    ///
    /// # Errors
    /// [`BoardConfigError::Field`]: something of it no chip can do.
    pub fn read(bytes: &[u8; Self::LEN]) -> Result<Self, BoardConfigError> {
        let f = &mut Fields(bytes);
        let key = *f.array()?;
        let is_public = match f.u8()? {
            0 => false,
            1 => true,
            _ => return Err(Field("radio key")),
        };
        let (frequency_hz, bandwidth) = (f.u32()?, f.u32()?);
        let [spreading, coding, power] = *f.array()?;
        let [p0, p1, d0, d1, q0, q1, listen] = *f.array()?;
        let preamble = u16::from_le_bytes([p0, p1]);
        let duty = u16::from_le_bytes([d0, d1]);
        let (power_dbm, listen_dbm) = (i8::from_le_bytes([power]), i8::from_le_bytes([listen]));
        if !FREQUENCIES_HZ.contains(&frequency_hz)
            || !BANDWIDTHS_HZ.contains(&bandwidth)
            || !(7..=12).contains(&spreading)
            || !(5..=8).contains(&coding)
            || !POWERS_DBM.contains(&power_dbm)
            || !PREAMBLES.contains(&preamble)
            || !(1..=1_000).contains(&duty)
            || listen_dbm > 0
        {
            return Err(Field("radio channel"));
        }
        Ok(Self {
            key,
            is_public,
            frequency_hz,
            power_dbm,
            modem: Modem {
                spreading: spreading.into(),
                bandwidth,
                coding: u32::from(coding) - 4,
                preamble: preamble.into(),
                duty_permille: duty.into(),
            },
            pause_ms: u16::from_le_bytes([q0, q1]),
            listen_dbm: Some(listen_dbm).filter(|dbm| *dbm < 0),
        })
    }

    /// Writes it.
    pub fn bytes(&self) -> [u8; Self::LEN] {
        let Modem { spreading, bandwidth, coding, preamble, duty_permille } = self.modem;
        let half = |n: u32| (n as u16).to_le_bytes();
        let parts: [&[u8]; 9] = [
            &self.key,
            &[self.is_public.into()],
            &self.frequency_hz.to_le_bytes(),
            &bandwidth.to_le_bytes(),
            &[spreading as u8, coding as u8 + 4, self.power_dbm as u8],
            &half(preamble),
            &half(duty_permille),
            &self.pause_ms.to_le_bytes(),
            &[self.listen_dbm.unwrap_or(0) as u8],
        ];
        let mut out = [0; Self::LEN];
        out.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        out
    }
}

/// Without the key.
impl fmt::Debug for RadioConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RadioConfig").field("modem", &self.modem).finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::id::Network;
    use proptest::prelude::*;

    pub(in super::super) fn example() -> RadioConfig {
        RadioConfig {
            key: [6; 32],
            is_public: true,
            frequency_hz: 869_525_000,
            power_dbm: -3,
            modem: Modem { preamble: 47, ..Modem::SHORT },
            pause_ms: 50,
            listen_dbm: Some(-80),
        }
    }

    use RadioConfig as R;

    #[test]
    fn known_bytes() {
        let bytes = example().bytes();
        assert_eq!(bytes[..32], [6; 32]);
        let rest =
            [1, 0x08, 0xe6, 0xd3, 0x33, 0x90, 0xd0, 3, 0, 7, 5, 0xfd, 47, 0, 100, 0, 50, 0, 0xb0];
        assert_eq!(bytes[32..], rest);
        assert_eq!(R::read(&bytes), Ok(example()));
        let silent = RadioConfig { listen_dbm: None, ..example() };
        assert_eq!(R::read(&silent.bytes()), Ok(silent));
    }

    #[test]
    fn searches_wait_as_long_as_the_air_takes() {
        let mut config = Config::board(Network::Regtest, 1024);
        let wired = config.timing;
        example().suit(&mut config);
        let frame = example().modem.airtime_of_frame(MAX_FRAME);
        assert_eq!(config.timing.hop_round_trip, 20 * frame);
        assert!(config.timing.first_ring > wired.first_ring);
        assert_eq!(config.timing.keepalive, wired.keepalive);
    }

    #[test]
    fn what_no_chip_can_do_is_refused() {
        let wrong = |at: usize, value: u8| {
            let mut bytes = example().bytes();
            bytes[at] = value;
            R::read(&bytes).unwrap_err()
        };
        assert_eq!(wrong(32, 2), Field("radio key"));
        // Frequency, bandwidth, spreading factor, coding rate, power, preamble, duty, threshold.
        for (at, value) in
            [(36, 0x40), (37, 0x91), (41, 6), (42, 9), (43, 23), (44, 7), (46, 0), (50, 1)]
        {
            assert_eq!(wrong(at, value), Field("radio channel"), "{at}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes(bytes: [u8; 32], rest: [u8; RadioConfig::LEN - 32]) {
            let all = [&bytes[..], &rest].concat().try_into().unwrap();
            if let Ok(config) = R::read(&all) {
                prop_assert_eq!(config.bytes(), all);
            }
        }
    }
}
