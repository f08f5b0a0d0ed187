//! The protocols that the policy tells apart.

/// Protocol of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum DetectedProtocol {
    /// One or more whole messages of Bitcoin's P2P protocol.
    BitcoinP2P,
    /// The same framing, with at least one governance message.
    CommonsGovernance,
    /// One or more whole Stratum V2 frames.
    StratumV2,
    /// Begins with the magic of mesh packets. The rest is not checked here.
    MeshPacket,
    /// Everything else, and anything encrypted.
    Unknown,
}

impl DetectedProtocol {
    /// Every protocol.
    pub const ALL: [Self; 5] = [
        Self::BitcoinP2P,
        Self::CommonsGovernance,
        Self::StratumV2,
        Self::MeshPacket,
        Self::Unknown,
    ];

    /// The name that users and programs see.
    pub const fn name(self) -> &'static str {
        match self {
            Self::BitcoinP2P => "BitcoinP2P",
            Self::CommonsGovernance => "CommonsGovernance",
            Self::StratumV2 => "StratumV2",
            Self::MeshPacket => "MeshPacket",
            Self::Unknown => "Unknown",
        }
    }
}
