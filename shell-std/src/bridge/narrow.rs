//! What is not worth its air time on a narrow route, by stated numbers. Nothing is changed or made up:
//! a message passes or is held back.
//!
//! | message | passes |
//! |---|---|
//! | `addr`, `addrv2` | one in 10 minutes, of up to 1,000 bytes |
//! | `getaddr`, `mempool` | never: their answers would fill the line |
//! | `inv` of transactions | up to 60 announcements a minute, 60 at once |
//! | `getdata` of whole blocks | unless `bitcoin.narrow_blocks` is off; compact ones always |
//! | everything else, compact blocks too | always |

use super::message;
use blvm_mesh_core::time::{Micros, SECOND};

/// Bytes of an address message, and the pause after one.
const ADDRESSES: usize = 1000;
const ADDRESSES_PAUSE: Micros = 600 * SECOND;
/// Announcements of transactions at once, and the time for each.
const ANNOUNCEMENTS: u64 = 60;
const ANNOUNCEMENT: Micros = SECOND;

/// Types of an inventory (protocol documentation, "Inventory vectors"), without the witness flag.
const MSG_TX: u32 = 1;
const MSG_BLOCK: u32 = 2;
const MSG_WTX: u32 = 5;
const WITNESS: u32 = 1 << 30;

/// One direction of a connection on a narrow route.
#[derive(Debug, Clone, Default)]
pub(crate) struct Narrow {
    /// When the next address message passes.
    addresses_at: Micros,
    /// Until when the announcements that have passed are paid for.
    announced_until: Micros,
}

/// The types of the entries of an inventory message.
fn types(payload: &[u8]) -> impl Iterator<Item = u32> {
    let skip = match payload.first() {
        Some(0xfd) => 3,
        Some(0xfe) => 5,
        _ => 1,
    };
    let (entries, _) = payload.get(skip..).unwrap_or_default().as_chunks::<36>();
    entries.iter().map(|[a, b, c, d, ..]| u32::from_le_bytes([*a, *b, *c, *d]) & !WITNESS)
}

impl Narrow {
    /// Whether a message passes.
    pub(crate) fn lets_pass(&mut self, now: Micros, message: &[u8], blocks: bool) -> bool {
        let payload = message::payload(message);
        match message::command(message) {
            "addr" | "addrv2" => {
                let passes = payload.len() <= ADDRESSES && now >= self.addresses_at;
                if passes {
                    self.addresses_at = now.saturating_add(ADDRESSES_PAUSE);
                }
                passes
            }
            "getaddr" | "mempool" => false,
            "inv" => {
                let of_tx = |kind: &u32| matches!(*kind, MSG_TX | MSG_WTX);
                let count = types(payload).filter(of_tx).count() as u64;
                // What announces a block too is worth it.
                if count == 0 || types(payload).any(|kind| !of_tx(&kind)) {
                    return true;
                }
                let paid = self.announced_until.max(now) + count * ANNOUNCEMENT;
                let passes = paid - now <= ANNOUNCEMENTS * ANNOUNCEMENT;
                if passes {
                    self.announced_until = paid;
                }
                passes
            }
            "getdata" => blocks || types(payload).any(|kind| kind != MSG_BLOCK),
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(command: &str, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        message::write([0xfa, 0xbf, 0xb5, 0xda], command, payload, &mut out);
        out
    }

    fn inventory(command: &str, kinds: &[u32]) -> Vec<u8> {
        let entry = |kind: &u32| [&kind.to_le_bytes()[..], &[7; 32]].concat();
        let entries: Vec<u8> = kinds.iter().flat_map(entry).collect();
        message(command, &[&[kinds.len() as u8][..], &entries].concat())
    }

    #[test]
    fn what_is_not_worth_its_air_time_is_held_back_by_stated_numbers() {
        let mut narrow = Narrow::default();
        let mut passes = |now, message: &[u8]| narrow.lets_pass(now, message, true);
        let minute = 60 * SECOND;
        let addr = message("addrv2", &[1; 300]);
        assert!(passes(0, &addr) && !passes(minute, &addr) && passes(10 * minute, &addr));
        assert!(!passes(100 * minute, &message("addr", &[1; 1001])));
        assert!(!passes(0, &message("getaddr", &[])) && !passes(0, &message("mempool", &[])));
        let now = 200 * minute;
        let thirty = inventory("inv", &[MSG_WTX; 30]);
        assert!(passes(now, &thirty) && passes(now, &thirty) && !passes(now, &thirty));
        assert!(passes(now, &inventory("inv", &[MSG_BLOCK])));
        assert!(passes(now, &inventory("inv", &[MSG_TX, MSG_BLOCK])));
        assert!(!passes(now + SECOND, &inventory("inv", &[MSG_TX; 2])));
        assert!(passes(now + 2 * SECOND, &inventory("inv", &[MSG_TX; 2])));
        // More at once than there ever may be.
        assert!(!passes(now + 100 * minute, &inventory("inv", &[MSG_TX; 61])));
        for always in ["tx", "headers", "cmpctblock", "sendcmpct", "ping", "feefilter"] {
            assert!(passes(now, &message(always, &[0; 40])), "{always}");
        }
    }

    #[test]
    fn whole_blocks_are_not_fetched_where_that_is_off() {
        let mut narrow = Narrow::default();
        let compact = 4;
        for (kinds, passes) in [
            (&[MSG_BLOCK | WITNESS][..], false),
            (&[MSG_BLOCK, MSG_BLOCK], false),
            (&[compact | WITNESS], true),
            (&[MSG_TX | WITNESS], true),
            (&[MSG_BLOCK, MSG_TX], true),
        ] {
            let asked = inventory("getdata", kinds);
            assert_eq!(narrow.lets_pass(0, &asked, false), passes, "{kinds:?}");
            assert!(narrow.lets_pass(0, &asked, true));
        }
    }
}
