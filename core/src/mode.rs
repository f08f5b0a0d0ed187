//! The modes of a node.

use core::fmt;
use core::str::FromStr;

/// What a node lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[repr(u8)]
pub enum MeshMode {
    /// Bitcoin P2P traffic only, free.
    BitcoinOnly = 0,
    /// Bitcoin, governance and Stratum V2 free; everything else for a payment.
    PaymentGated = 1,
    /// Everything free.
    Open = 2,
}

impl MeshMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::BitcoinOnly, Self::PaymentGated, Self::Open];

    /// The mode with this number on the wire (0 to 2): its place in [`Self::ALL`].
    pub fn from_u8(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The name used in configuration files and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BitcoinOnly => "bitcoin_only",
            Self::PaymentGated => "payment_gated",
            Self::Open => "open",
        }
    }
}

impl fmt::Display for MeshMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A text that names no [`MeshMode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror_no_std::Error)]
#[error("a mode is one of bitcoin_only, payment_gated and open")]
pub struct UnknownMode;

impl FromStr for MeshMode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        Self::ALL.into_iter().find(|mode| mode.name() == text).ok_or(UnknownMode)
    }
}
