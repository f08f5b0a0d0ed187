//! Invoices for datagrams that this node had its operator's Lightning node write. That node's key may
//! sign for others too: a shop, or a wallet's customers, who could pay themselves. So of its invoices
//! only those count that are here.

use alloc::collections::BTreeMap;

/// Most invoices that are remembered.
pub const MOST_ASKED: usize = 65_536;

/// Payment hashes that this node asked for.
#[derive(Debug)]
pub struct Asked {
    /// Each with the time at which its invoice expires, in seconds since 1970.
    until: BTreeMap<[u8; 32], u64>,
}

impl Asked {
    /// None.
    pub const EMPTY: Self = Self { until: BTreeMap::new() };

    /// Remembers one; where there is no room, those go first that have expired by `unix`. False:
    /// there is no room.
    pub fn insert(&mut self, payment_hash: [u8; 32], expires_at: u64, unix: u64) -> bool {
        if self.until.len() >= MOST_ASKED {
            self.until.retain(|_, expires_at| *expires_at > unix);
        }
        let has_room = self.until.len() < MOST_ASKED;
        if has_room {
            self.until.insert(payment_hash, expires_at);
        }
        has_room
    }

    /// Whether it is one of them.
    pub fn contains(&self, payment_hash: &[u8; 32]) -> bool {
        self.until.contains_key(payment_hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn when_it_is_full_what_has_expired_goes_and_nothing_else() {
        let mut asked = Asked::EMPTY;
        let hash = |n: usize| {
            let mut hash = [0; 32];
            hash.iter_mut().zip((n as u64).to_le_bytes()).for_each(|(h, n)| *h = n);
            hash
        };
        for n in 0..MOST_ASKED {
            assert!(asked.insert(hash(n), 100 + n as u64 % 2, 0));
        }
        assert!(!asked.insert(hash(MOST_ASKED), 200, 99));
        assert!(asked.contains(&hash(0)) && !asked.contains(&hash(MOST_ASKED)));
        assert!(asked.insert(hash(MOST_ASKED), 200, 100));
        assert!(!asked.contains(&hash(0)) && asked.contains(&hash(1)));
        assert!(asked.contains(&hash(MOST_ASKED)));
    }
}
