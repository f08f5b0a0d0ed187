//! What this node buys, for the ledger and for the limit of what it spends.
//!
//! | table | key | value |
//! |---|---|---|
//! | `purchases` | begun at, payment hash | what was bought, see [`Row`]; kept for ever |
//! | `purchase_times` | payment hash | when it began, by the system's clock and by that of `spent` |
//! | `promises` | begun at, payment hash | the seller's ticket; kept while it is valid |
//! | `spent` | when, payment hash | amount and fee in millisatoshi; an hour of it is kept |
//! | `spent` | when, payment hash | amount and fee in millisatoshi; a day of it is kept |
//! | `open_payments` | payment hash | when its invoice expires, whose wallet was asked; until its outcome is known |
//!
//! A purchase is there before it is paid, and is removed if nothing was paid for it. `meta` has the
//! latest times at which one began, by both clocks: that of `spent` never goes back.

use super::{Key, META, Store, StoreError, export};
use crate::wallet::{DAY_S, Intent, Kept, OpenPayment, Promise, Purchases, Recent, SpentAmount};
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::id::NodeId;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

type Hash = [u8; 32];
/// Node, bytes, amount and fee in millisatoshi, state, preimage. The fee is the most that it may
/// be until it is known, the preimage zeros.
pub(super) type Row = (Hash, u64, u64, u64, u8, Hash);

pub(super) const PURCHASES: TableDefinition<'_, Key, Row> = TableDefinition::new("purchases");
const TIMES: TableDefinition<'_, Hash, (u64, u64)> = TableDefinition::new("purchase_times");
const PROMISES: TableDefinition<'_, Key, Promise> = TableDefinition::new("promises");
const SPENT: TableDefinition<'_, Key, u64> = TableDefinition::new("spent");
/// The wallet's key is zeros where it has none.
const OPEN: TableDefinition<'_, Hash, (u64, [u8; 33])> = TableDefinition::new("open_payments");
/// Most open payments that are looked up at once.
const MOST_OPEN: usize = 1_000;
const SPENT_AT: &str = "spent_at";
const SPENT_UNIX: &str = "spent_unix";

/// States of a purchase: it was begun, it is paid, its bytes are credited.
pub(super) const BEGUN: u8 = 0;
pub(super) const PAID: u8 = 1;
pub(super) const CREDITED: u8 = 2;

/// Makes the tables where they are not there.
pub(super) fn prepare(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(PURCHASES)?;
    tx.open_table(TIMES)?;
    tx.open_table(PROMISES)?;
    tx.open_table(SPENT)?;
    tx.open_table(OPEN)?;
    Ok(())
}

impl Store {
    /// Changes a purchase; false if it is not there.
    fn change(&self, hash: &Hash, change: impl FnOnce(&mut Row)) -> Result<bool, StoreError> {
        self.write_again(|tx| {
            let Some((begun_at, spent_at)) = tx.open_table(TIMES)?.get(hash)?.map(|v| v.value())
            else {
                return Ok(false);
            };
            let mut purchases = tx.open_table(PURCHASES)?;
            let Some(mut row) = purchases.get((begun_at, *hash))?.map(|v| v.value()) else {
                return Ok(false);
            };
            change(&mut row);
            purchases.insert((begun_at, *hash), row)?;
            if row.4 != BEGUN {
                tx.open_table(OPEN)?.remove(hash)?;
                if let Some(mut marks) = export::Marks::open(tx)? {
                    marks.note(export::PURCHASE, (begun_at, *hash))?;
                }
            }
            let mut spent = tx.open_table(SPENT)?;
            let still = spent.get((spent_at, *hash))?.is_some();
            if still {
                spent.insert((spent_at, *hash), row.2.saturating_add(row.3))?;
            }
            Ok(true)
        })
    }
}

impl Purchases for Store {
    fn recent(&self) -> Result<Recent, String> {
        let read = self.read(|tx| {
            let meta = tx.open_table(META)?;
            let number = |name| Ok::<_, redb::Error>(meta.get(name)?.map_or(0, |v| v.value()));
            let (at, unix) = (number(SPENT_AT)?, number(SPENT_UNIX)?);
            let (table, times) = (tx.open_table(SPENT)?, tx.open_table(TIMES)?);
            let purchases = tx.open_table(PURCHASES)?;
            let mut spent = Vec::new();
            for row in table.range::<Key>((at.saturating_sub(DAY_S), [0; 32])..)? {
                let (key, msat) = row?;
                let (at, payment_hash) = key.value();
                let begun_at = times.get(payment_hash)?.map_or(0, |v| v.value().0);
                let bought = purchases.get((begun_at, payment_hash))?;
                let node = NodeId(bought.map_or([0; 32], |row| row.value().0));
                spent.push(SpentAmount { payment_hash, node, at, msat: msat.value() });
            }
            Ok(Recent { at, unix, spent })
        });
        read.map_err(|e| e.to_string())
    }

    fn begin(&self, intent: &Intent) -> Result<bool, String> {
        let Intent { payment_hash, node, bytes, amount_msat, max_fee_msat, .. } = *intent;
        let Intent { begun_at, spent_at, promise, expires_at, wallet, .. } = *intent;
        let written = self.write_again(|tx| {
            let mut times = tx.open_table(TIMES)?;
            if times.get(payment_hash)?.is_some() {
                return Ok(false);
            }
            times.insert(payment_hash, (begun_at, spent_at))?;
            let row = (node.0, bytes, amount_msat, max_fee_msat, BEGUN, [0; 32]);
            tx.open_table(PURCHASES)?.insert((begun_at, payment_hash), row)?;
            let mut promises = tx.open_table(PROMISES)?;
            let over = ..(begun_at.saturating_sub(LIFETIME_S.into()), [0; 32]);
            for row in promises.extract_from_if::<Key, _>(over, |_, _| true)? {
                row?;
            }
            promises.insert((begun_at, payment_hash), promise)?;
            let mut spent = tx.open_table(SPENT)?;
            let over = ..(spent_at.saturating_sub(DAY_S), [0; 32]);
            for row in spent.extract_from_if::<Key, _>(over, |_, _| true)? {
                row?;
            }
            spent.insert((spent_at, payment_hash), amount_msat.saturating_add(max_fee_msat))?;
            let wallet = wallet.unwrap_or([0; 33]);
            tx.open_table(OPEN)?.insert(payment_hash, (expires_at, wallet))?;
            let mut meta = tx.open_table(META)?;
            for (name, time) in [(SPENT_AT, spent_at), (SPENT_UNIX, begun_at)] {
                if meta.get(name)?.is_none_or(|known| known.value() < time) {
                    meta.insert(name, time)?;
                }
            }
            Ok(true)
        });
        written.map_err(|e| e.to_string())
    }

    fn kept(&self, since: u64) -> Result<Vec<Kept>, String> {
        let read = self.read(|tx| {
            let purchases = tx.open_table(PURCHASES)?;
            let mut kept: Vec<Kept> = Vec::new();
            for row in tx.open_table(PROMISES)?.range::<Key>((since, [0; 32])..)? {
                let (key, promise) = row?;
                let (promise, (_, payment_hash)) = (promise.value(), key.value());
                let Some(row) = purchases.get(key.value())?.map(|v| v.value()) else { continue };
                let (node, _, _, _, state, preimage) = row;
                let (node, credited) = (NodeId(node), state == CREDITED);
                if state == BEGUN {
                    continue;
                }
                if credited {
                    kept.retain(|other| !other.credited || other.node != node);
                }
                kept.push(Kept { payment_hash, node, promise, preimage, credited });
            }
            Ok(kept)
        });
        read.map_err(|e| e.to_string())
    }

    fn open_payments(&self) -> Result<Vec<OpenPayment>, String> {
        let read = self.read(|tx| {
            let (times, purchases) = (tx.open_table(TIMES)?, tx.open_table(PURCHASES)?);
            let mut open = Vec::new();
            for row in tx.open_table(OPEN)?.iter()?.take(MOST_OPEN) {
                let (hash, row) = row?;
                let (payment_hash, (expires_at, wallet)) = (hash.value(), row.value());
                let begun_at = times.get(payment_hash)?.map_or(0, |v| v.value().0);
                let Some(bought) = purchases.get((begun_at, payment_hash))? else { continue };
                let amount_msat = bought.value().2;
                let wallet = Some(wallet).filter(|wallet| *wallet != [0; 33]);
                open.push(OpenPayment { payment_hash, amount_msat, expires_at, wallet });
            }
            Ok(open)
        });
        read.map_err(|e| e.to_string())
    }

    fn paid(&self, payment_hash: &Hash, preimage: &Hash, fee_msat: u64) -> Result<(), String> {
        let change = |row: &mut Row| (row.3, row.4, row.5) = (fee_msat, PAID, *preimage);
        found(self.change(payment_hash, change))
    }

    fn not_paid(&self, payment_hash: &Hash) -> Result<(), String> {
        let removed = self.write_again(|tx| {
            let times = tx.open_table(TIMES)?.remove(payment_hash)?.map(|v| v.value());
            if let Some((begun_at, spent_at)) = times {
                tx.open_table(PURCHASES)?.remove((begun_at, *payment_hash))?;
                tx.open_table(SPENT)?.remove((spent_at, *payment_hash))?;
                tx.open_table(PROMISES)?.remove((begun_at, *payment_hash))?;
                tx.open_table(OPEN)?.remove(payment_hash)?;
            }
            Ok(times.is_some())
        });
        found(removed)
    }

    fn credited(&self, payment_hash: &Hash, bytes: u64) -> Result<(), String> {
        found(self.change(payment_hash, |row| (row.1, row.4) = (bytes, CREDITED)))
    }
}

fn found(done: Result<bool, StoreError>) -> Result<(), String> {
    match done {
        Ok(true) => Ok(()),
        Ok(false) => Err("the purchase is not in the ledger".into()),
        Err(error) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use std::path::Path;

    #[test]
    fn tickets_are_kept_while_they_are_valid() {
        let disk = redb::backends::InMemoryBackend::new;
        let store = Store::with_backend(Path::new("memory"), disk).unwrap();
        let start = 1_790_000_000;
        let begin = |n: u8, node: u8, begun_at| {
            let intent = Intent {
                payment_hash: [n; 32],
                node: NodeId([node; 32]),
                bytes: 80_000,
                amount_msat: 7_000,
                max_fee_msat: 700,
                begun_at,
                spent_at: 1,
                expires_at: u64::MAX,
                wallet: None,
                promise: [n; 49],
            };
            assert!(store.begin(&intent).unwrap());
        };
        let kept = |since| {
            let kept = store.kept(since).unwrap();
            kept.iter().map(|kept| (kept.promise[0], kept.credited)).collect::<Vec<_>>()
        };
        // Two credited by the same node and one by another, two only paid, one begun, one not paid.
        for (n, node) in [(1, 8), (2, 8), (3, 9), (4, 8), (5, 9), (6, 8), (7, 8)] {
            begin(n, node, start + u64::from(n));
        }
        (1..6).for_each(|n| store.paid(&[n; 32], &[n + 100; 32], 0).unwrap());
        (1..4).for_each(|n| store.credited(&[n; 32], 80_000).unwrap());
        store.not_paid(&[7; 32]).unwrap();
        assert_eq!(kept(start), [(2, true), (3, true), (4, false), (5, false)]);
        assert_eq!(kept(start + 4), [(4, false), (5, false)]);
        let first = store.kept(start).unwrap()[0];
        assert_eq!((first.preimage, first.node), ([102; 32], NodeId([8; 32])));
        begin(8, 8, start + 4 + u64::from(LIFETIME_S));
        assert_eq!(kept(0), [(4, false), (5, false)], "the others have expired");
    }
}
