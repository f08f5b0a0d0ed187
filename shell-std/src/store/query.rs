//! Questions to the ledger.

use super::purchases::{CREDITED, PAID, PURCHASES, Row};
use super::{Key, LEDGER, Store, StoreError, Sum, TOTALS, add, flows};
use crate::rpc::types::{
    Bought, GetLedger, Ledger, LedgerEntry, LedgerKind, LedgerTotal, Purchase, PurchaseState, Role,
    Sale, Sold,
};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Credit, Method, Payment, Record};
use redb::{Range, ReadableTable, TableDefinition, Value};
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
        let mut ledger = Ledger::default();
        if query.wants(LedgerKind::Payments) {
            self.list_payments(query, &mut ledger)?;
        }
        if query.wants(LedgerKind::Sales) {
            self.list_sales(query, &mut ledger)?;
            ledger.owed = flows::owed(self)?;
        }
        if query.wants(LedgerKind::Purchases) {
            self.list_purchases(query, &mut ledger)?;
        }
        Ok(ledger)
    }

    fn list_payments(&self, query: &GetLedger, ledger: &mut Ledger) -> Result<(), StoreError> {
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
        ledger.totals = totals.into_iter().map(|(role, sum)| (role, total(sum))).collect();
        ledger.entries = entries;
        Ok(())
    }

    fn list_sales(&self, query: &GetLedger, ledger: &mut Ledger) -> Result<(), StoreError> {
        for row in self.rows(flows::SALES, query.since, query.until)?.rev() {
            let (_, bytes) = row.map_err(|e| self.fault(e.into()))?;
            let Some(Record::Credit(credit)) = Record::decode(&bytes.value()) else {
                return Err(self.damaged("a record cannot be read"));
            };
            let Sold { sales, amount_msat } = &mut ledger.sold;
            *sales = sales.saturating_add(1);
            *amount_msat = amount_msat.saturating_add(credit.amount_msat);
            if ledger.sales.len() < query.limit.min(MAX_ENTRIES) {
                ledger.sales.push(sale(&credit));
            }
        }
        Ok(())
    }

    fn list_purchases(&self, query: &GetLedger, ledger: &mut Ledger) -> Result<(), StoreError> {
        for row in self.rows(PURCHASES, query.since, query.until)?.rev() {
            let (key, row) = row.map_err(|e| self.fault(e.into()))?;
            let purchase = purchase(key.value(), row.value());
            let Bought { purchases, amount_msat, fee_msat, bytes } = &mut ledger.bought;
            *purchases = purchases.saturating_add(1);
            *amount_msat = amount_msat.saturating_add(purchase.amount_msat);
            *fee_msat = fee_msat.saturating_add(purchase.fee_msat);
            if purchase.state == PurchaseState::Credited {
                *bytes = bytes.saturating_add(purchase.bytes);
            }
            if ledger.purchases.len() < query.limit.min(MAX_ENTRIES) {
                ledger.purchases.push(purchase);
            }
        }
        Ok(())
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
        Ok(self.rows(LEDGER, since, until)?.map(|row| {
            let (_, bytes) = row.map_err(|e| self.fault(e.into()))?;
            self.decode(&bytes.value())
        }))
    }

    /// The rows of a table from `since` on and before `until`, in seconds since 1970.
    fn rows<V: Value + 'static>(
        &self,
        table: TableDefinition<'_, Key, V>,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Result<Range<'static, Key, V>, StoreError> {
        let from: Key = (since.unwrap_or(0), [0; 32]);
        self.read(|tx| {
            let table = tx.open_table(table)?;
            Ok(match until {
                // An upside-down range is an empty one.
                Some(until) => table.range(from..(until.max(from.0), [0; 32]))?,
                None => table.range(from..)?,
            })
        })
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

pub(super) fn purchase((begun_at, payment): Key, row: Row) -> Purchase {
    let (node, bytes, amount_msat, fee_msat, state, preimage) = row;
    let state = match state {
        PAID => PurchaseState::Paid,
        CREDITED => PurchaseState::Credited,
        _ => PurchaseState::Unknown,
    };
    let preimage = (state != PurchaseState::Unknown).then(|| hex::encode(preimage));
    let node = NodeId(node);
    Purchase { payment, node, bytes, amount_msat, fee_msat, state, preimage, begun_at }
}

pub(super) fn sale(credit: &Credit) -> Sale {
    Sale {
        payment: credit.payment_hash,
        source: credit.source,
        amount_msat: credit.amount_msat,
        account_bytes: credit.account.bought,
        accepted_at: credit.accepted_at,
    }
}

pub(super) fn entry(payment: &Payment) -> LedgerEntry {
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
