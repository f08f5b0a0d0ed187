//! The cost of a route: one number to compare routes by.

use crate::config::MAX_HOPS;
use crate::payment::fee::{Tariff, amount_for};
use crate::wire::route_request::Hop;

/// Expected transmissions of a link that loses nothing, in 1/256.
pub const PERFECT_LINK: u16 = 256;

/// How many millisatoshi a sender pays to save one transmission.
const MSAT_PER_TRANSMISSION: u64 = 1000;

/// Cost of a route, in 1/256 transmissions: the ETX of its links, plus the price of 1 KiB on it
/// at 1,000 msat per transmission.
pub fn cost(quality: u32, hops: &[Hop], destination: Tariff) -> u64 {
    let price = amount(hops.iter().map(|h| h.tariff), destination, 1024).unwrap_or(u64::MAX);
    let price = price.saturating_mul(u64::from(PERFECT_LINK)) / MSAT_PER_TRANSMISSION;
    price.saturating_add(u64::from(quality))
}

/// Smallest amount, in millisatoshi, that covers every tariff on a route for `bytes` of payload;
/// `None` if no amount does.
pub fn amount(hops: impl Iterator<Item = Tariff>, destination: Tariff, bytes: u64) -> Option<u64> {
    let prices: heapless::Vec<u64, MAX_HOPS> =
        hops.take(MAX_HOPS).map(|tariff| tariff.price(bytes)).collect();
    amount_for(&prices, destination.price(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::HopId;

    #[test]
    fn a_dear_short_route_can_cost_more_than_a_cheap_long_one() {
        let hop =
            |base_msat| Hop { node: HopId([0; 8]), tariff: Tariff { base_msat, per_kib_msat: 0 } };
        let free = Tariff { base_msat: 0, per_kib_msat: 0 };
        let short = cost(2 * 256, &[hop(10_000)], free);
        let long = cost(4 * 256, &[hop(10), hop(10), hop(10)], free);
        assert!(long < short);
        assert_eq!(cost(256, &[], free), 256);
        // 30 % of 999 is 299.7, which the largest remainder rounds up.
        assert_eq!(amount([hop(300).tariff].into_iter(), free, 1), Some(999));
    }
}
