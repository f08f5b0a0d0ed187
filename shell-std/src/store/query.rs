//! Questions to the ledger.

use super::{Key, LEDGER, Store, StoreError, Sum, TOTALS, add};
use crate::rpc::types::{GetLedger, Ledger, LedgerEntry, LedgerTotal, Role};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Method, Payment};
use redb::{Range, ReadableTable};
use std::collections::BTreeMap;

/// Most entries in one answer.
const MAX_ENTRIES: usize = 10_000;

impl Store {
    /// Answers `getledger`. Without a range of time the totals are looked up;
    /// with one they are summed over it.
    ///
    /// # Errors
    /// [`StoreError`]: the store cannot be read.
    pub fn ledger(&self, query: &GetLedger) -> Result<Ledger, StoreError> {
        let limit = query.limit.min(MAX_ENTRIES);
        let whole = query.since.is_none() && query.until.is_none();
        let wanted = |role: Role| query.role.is_none_or(|r| r == role);
        let mut entries = Vec::new();
        let mut totals: BTreeMap<Role, Sum> = BTreeMap::new();
        for payment in self.payments(query.since, query.until)?.rev() {
            let payment = payment?;
            let role = Role::from(payment.role);
            if !wanted(role) {
                continue;
            }
            if entries.len() < limit {
                entries.push(entry(&payment));
            } else if whole {
                break;
            }
            if !whole {
                let sum = totals.entry(role).or_default();
                *sum = add(*sum, &payment);
            }
        }
        if whole {
            totals = self.totals()?;
            totals.retain(|role, _| wanted(*role));
        }
        let total = |(count, amount_msat, share_msat)| LedgerTotal {
            payments: count,
            amount_msat,
            share_msat,
        };
        let totals = totals.into_iter().map(|(role, sum)| (role, total(sum))).collect();
        Ok(Ledger { entries, totals })
    }

    /// Payments accepted from `since` on and before `until` (seconds since
    /// 1970), the oldest first.
    ///
    /// # Errors
    /// [`StoreError`]: the store cannot be read.
    pub fn payments(
        &self,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Result<impl DoubleEndedIterator<Item = Result<Payment, StoreError>> + use<'_>, StoreError>
    {
        let from: Key = (since.unwrap_or(0), [0; 32]);
        let rows: Range<'static, Key, _> = self.read(|tx| {
            let table = tx.open_table(LEDGER)?;
            Ok(match until {
                // An upside-down range is an empty one.
                Some(until) => table.range(from..(until.max(from.0), [0; 32]))?,
                None => table.range(from..)?,
            })
        })?;
        Ok(rows.map(|row| {
            let (_, bytes) = row.map_err(|e| self.fault(e.into()))?;
            self.decode(&bytes.value())
        }))
    }

    fn totals(&self) -> Result<BTreeMap<Role, Sum>, StoreError> {
        self.read(|tx| {
            let mut totals = BTreeMap::new();
            for row in tx.open_table(TOTALS)?.iter()? {
                let (role, sum) = row?;
                let role = match role.value() {
                    0 => Role::Source,
                    1 => Role::Intermediate,
                    _ => Role::Destination,
                };
                totals.insert(role, sum.value());
            }
            Ok(totals)
        })
    }
}

fn entry(payment: &Payment) -> LedgerEntry {
    let method = match payment.method {
        Method::Lightning => "lightning",
        Method::Covenant => "covenant",
    };
    let place = match payment.role {
        Party::Intermediate(place) => Some(place),
        Party::Source | Party::Destination => None,
    };
    LedgerEntry {
        payment: payment.key,
        method: method.into(),
        role: payment.role.into(),
        place,
        source: payment.source,
        destination: payment.destination,
        amount_msat: payment.amount_msat,
        share_msat: payment.share_msat,
        accepted_at: payment.accepted_at,
        expires_at: payment.expires_at,
    }
}
