//! The boards for which there are images.

use super::Format;
use clap::ValueEnum;
use std::fmt;

/// A board.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Kind {
    /// QEMU's mps2-an386.
    Mps2,
    /// Nordic's development kit of the nRF52840.
    Nrf52840,
    /// RAK4631, with an SX1262.
    Rak4631,
}

impl Kind {
    /// Where the image looks for the configuration.
    pub(super) fn address(self) -> u32 {
        match self {
            Self::Mps2 => 0x003f_f000,
            Self::Nrf52840 => 0x000f_f000,
            Self::Rak4631 => 0x000a_c000,
        }
    }

    /// The form that what loads it takes.
    pub(super) fn format(self) -> Format {
        match self {
            Self::Mps2 => Format::Binary,
            Self::Nrf52840 | Self::Rak4631 => Format::Ihex,
        }
    }

    /// How many lines it has.
    pub(super) fn lines(self) -> usize {
        match self {
            Self::Mps2 | Self::Nrf52840 => 2,
            Self::Rak4631 => 1,
        }
    }

    /// Whether it has a radio.
    pub(super) fn has_radio(self) -> bool {
        self == Self::Rak4631
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mps2 => "an mps2",
            Self::Nrf52840 => "an nrf52840",
            Self::Rak4631 => "a rak4631",
        })
    }
}
