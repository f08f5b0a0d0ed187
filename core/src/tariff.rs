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
    /// The most bytes whose price is not above `msat` millisatoshi, in whole KiB; `u64::MAX` where
    /// bytes cost nothing. `None` if that does not buy a KiB.
    pub fn bytes_for(&self, msat: u64) -> Option<u64> {
        let kibs =
            match msat.checked_sub(self.base_msat.into())?.checked_div(self.per_kib_msat.into()) {
                None => return Some(u64::MAX),
                Some(kibs) => kibs,
            };
        Some(kibs.saturating_mul(KIB)).filter(|bytes| *bytes > 0)
    }

    /// Price in millisatoshi of `bytes` bytes of payload; `u64::MAX` where the
    /// true price is larger than that.
    pub fn price(&self, bytes: u64) -> u64 {
        let per_kib = u64::from(self.per_kib_msat);
        bytes.div_ceil(KIB).saturating_mul(per_kib).saturating_add(u64::from(self.base_msat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bytes_cost_what_they_were_bought_for(base_msat: u32, per_kib_msat: u32, msat: u64) {
            let tariff = Tariff { base_msat, per_kib_msat };
            match tariff.bytes_for(msat) {
                None => prop_assert!(tariff.price(1) > msat),
                Some(u64::MAX) => prop_assert!(tariff.price(1) <= msat),
                Some(bytes) => {
                    prop_assert!(tariff.price(bytes) <= msat);
                    prop_assert!(tariff.price(bytes + 1) > msat);
                }
            }
        }
    }

    #[test]
    fn nothing_is_bought_for_less_than_a_kib() {
        let tariff = Tariff { base_msat: 100, per_kib_msat: 10 };
        let bytes = [99, 100, 109, 110, 129].map(|msat| tariff.bytes_for(msat));
        assert_eq!(bytes, [None, None, None, Some(1024), Some(2048)]);
        assert_eq!(Tariff { base_msat: 5, per_kib_msat: 0 }.bytes_for(5), Some(u64::MAX));
        assert_eq!(Tariff { base_msat: 5, per_kib_msat: 0 }.bytes_for(4), None);
    }
}
