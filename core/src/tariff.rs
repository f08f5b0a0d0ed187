//! What a node charges.

const KIB: u64 = 1024;

/// What one node charges for carrying a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Tariff {
    /// Charged once per payment, in millisatoshi.
    pub base_msat: u32,
    /// Charged per started KiB (1,024 bytes) of payload, in millisatoshi.
    pub per_kib_msat: u32,
}

impl Tariff {
    /// Price in millisatoshi of `bytes` bytes of payload; `u64::MAX` where the
    /// true price is larger than that.
    pub fn price(&self, bytes: u64) -> u64 {
        let per_kib = u64::from(self.per_kib_msat);
        bytes.div_ceil(KIB).saturating_mul(per_kib).saturating_add(u64::from(self.base_msat))
    }
}
