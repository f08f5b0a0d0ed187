//! What this node buys, for the ledger and for the limit of what it spends.
//!
//! | table | key | value |
//! |---|---|---|
//! | `purchases` | begun at, payment hash | what was bought, see [`Row`]; kept for ever |
//! | `purchase_times` | payment hash | when it began, by the system's clock and by that of `spent` |
//! | `spent` | when, payment hash | amount and fee in millisatoshi; a day of it is kept |
//! | `open_payments` | payment hash | when its invoice expires, whose wallet was asked; until its outcome is known |
//!
//! A purchase is there before it is paid, and is removed if nothing was paid for it. `meta` has the
//! latest times at which one began, by both clocks: that of `spent` never goes back.

use super::{Key, META, Store, StoreError};
use crate::wallet::{DAY_S, Intent, OpenPayment, Purchases, Recent, SpentAmount};
use blvm_mesh_core::id::NodeId;
use redb::{ReadableTable, TableDefinition, WriteTransaction};

type Hash = [u8; 32];
/// Node, bytes, amount and fee in millisatoshi, state, preimage. The fee is the most that it may
/// be until it is known, the preimage zeros.
pub(super) type Row = (Hash, u64, u64, u64, u8, Hash);

pub(super) const PURCHASES: TableDefinition<'_, Key, Row> = TableDefinition::new("purchases");
const TIMES: TableDefinition<'_, Hash, (u64, u64)> = TableDefinition::new("purchase_times");
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
        let Intent { begun_at, spent_at, expires_at, wallet, .. } = *intent;
        let written = self.write_again(|tx| {
            let mut times = tx.open_table(TIMES)?;
            if times.get(payment_hash)?.is_some() {
                return Ok(false);
            }
            times.insert(payment_hash, (begun_at, spent_at))?;
            let row = (node.0, bytes, amount_msat, max_fee_msat, BEGUN, [0; 32]);
            tx.open_table(PURCHASES)?.insert((begun_at, payment_hash), row)?;
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
