//! What the store keeps of flows: accounts, tickets that were paid, and what was sold.
//!
//! | table | key | value |
//! |---|---|---|
//! | `accounts` | source | its account; removed when it is forgotten |
//! | `tickets` | run, issued, payment hash | the ticket that was paid; removed when it has expired |
//! | `sales` | accepted at, payment hash | the same, kept for ever |

use super::{Key, META, Store, StoreError};
use crate::rpc::types::Owed;
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::flow::tickets::LIFETIME_S;
use blvm_mesh_core::payment::ledger::{AccountState, Credit, RECORD_LEN, Record};
use redb::{ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

const ACCOUNTS: TableDefinition<'_, [u8; 32], [u8; RECORD_LEN]> = TableDefinition::new("accounts");
const TICKETS: TableDefinition<'_, TicketKey, [u8; RECORD_LEN]> = TableDefinition::new("tickets");
pub(super) const SALES: TableDefinition<'_, Key, [u8; RECORD_LEN]> = TableDefinition::new("sales");
/// The latest run of tickets.
const RUN: &str = "run";

type TicketKey = (u32, u32, [u8; 32]);

/// Makes the tables where they are not there.
pub(super) fn prepare(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(ACCOUNTS)?;
    tx.open_table(TICKETS)?;
    tx.open_table(SALES)?;
    Ok(())
}

/// Writes a record about flows; others are none of its business.
pub(super) fn write(
    tx: &WriteTransaction,
    meta: &mut Table<'_, &'static str, u64>,
    record: &Record,
) -> Result<(), redb::Error> {
    match record {
        Record::Account(state) => keep_account(tx, state),
        Record::Deposit(deposit) => keep_account(tx, &deposit.account()),
        Record::Credit(credit) => {
            let Credit { payment_hash, run, issued, accepted_at, source, account, .. } = *credit;
            let bytes = record.encode();
            tx.open_table(SALES)?.insert((accepted_at, payment_hash), bytes)?;
            let mut tickets = tx.open_table(TICKETS)?;
            let expired = |key: &TicketKey| match run.checked_sub(key.0) {
                None => false,
                Some(0) => key.1.saturating_add(LIFETIME_S) <= issued,
                Some(1) => issued >= LIFETIME_S,
                Some(_) => true,
            };
            let older = ..(run, issued, [0; 32]);
            for row in tickets.extract_from_if::<TicketKey, _>(older, |key, _| expired(&key))? {
                row?;
            }
            tickets.insert((run, issued, payment_hash), bytes)?;
            keep_account(tx, &AccountState { source, account })
        }
        Record::Run(run) => {
            if meta.get(RUN)?.is_none_or(|known| known.value() < u64::from(*run)) {
                meta.insert(RUN, u64::from(*run))?;
            }
            Ok(())
        }
        Record::Payment(_) | Record::Floor(_) | Record::StoreLost(_) => Ok(()),
    }
}

fn keep_account(tx: &WriteTransaction, state: &AccountState) -> Result<(), redb::Error> {
    let mut accounts = tx.open_table(ACCOUNTS)?;
    let source = state.source.0;
    match state.account == Account::default() {
        true => accounts.remove(source)?,
        false => accounts.insert(source, Record::Account(*state).encode())?,
    };
    Ok(())
}

/// What the state machine must be told at its start, in this order: the run, tickets that were
/// paid, and accounts as they were last.
pub(super) fn restore<'a>(
    store: &'a Store,
    tx: &ReadTransaction,
) -> Result<impl Iterator<Item = Result<Record, StoreError>> + use<'a>, redb::Error> {
    let run = tx.open_table(META)?.get(RUN)?.map(|run| run.value());
    let run = run.and_then(|run| u32::try_from(run).ok()).map(|run| Ok(Record::Run(run)));
    let record = |bytes: &[u8; RECORD_LEN]| {
        Record::decode(bytes).ok_or_else(|| store.damaged("a record cannot be read"))
    };
    let tickets = tx.open_table(TICKETS)?.range::<TicketKey>(..)?;
    let tickets = tickets.map(move |row| {
        let (_, bytes) = row.map_err(|e| store.fault(e.into()))?;
        record(&bytes.value())
    });
    let accounts = tx.open_table(ACCOUNTS)?.range::<[u8; 32]>(..)?;
    let accounts = accounts.map(move |row| {
        let (_, bytes) = row.map_err(|e| store.fault(e.into()))?;
        record(&bytes.value())
    });
    Ok(run.into_iter().chain(tickets).chain(accounts))
}

/// What sources owe.
pub(super) fn owed(store: &Store) -> Result<Vec<Owed>, StoreError> {
    let records = store.read(|tx| {
        let rows = tx.open_table(ACCOUNTS)?.range::<[u8; 32]>(..)?;
        let records = rows.map(|row| Ok(Record::decode(&row?.1.value())));
        records.collect::<Result<Vec<_>, redb::Error>>()
    })?;
    let mut owed = Vec::new();
    for record in records {
        let Some(Record::Account(AccountState { source, account })) = record else {
            return Err(store.damaged("a record cannot be read"));
        };
        if account.owes() > 0 {
            owed.push(Owed { source, bytes: account.owes() });
        }
    }
    Ok(owed)
}

#[cfg(test)]
mod tests {
    use super::super::STORE_FILE;
    use super::super::tests::{CACHE, restored};
    use super::*;
    use blvm_mesh_core::id::{HopId, NodeId};
    use blvm_mesh_core::payment::fee::Party;
    use blvm_mesh_core::payment::ledger::{Deposit, Method, Payment};
    use blvm_mesh_core::payment::replay::PaidPacket;

    fn account(n: u8, bought: u64) -> AccountState {
        let account = Account::restored(bought, 5, 3, HopId([n; 8]), 0);
        AccountState { source: NodeId([n; 32]), account }
    }

    fn credit(n: u8, run: u32, issued: u32, bought: u64) -> Record {
        Record::Credit(Credit {
            payment_hash: [n; 32],
            run,
            issued,
            amount_msat: 1_000,
            accepted_at: 1_750_000_000 + u64::from(n),
            source: NodeId([9; 32]),
            account: account(9, bought).account,
        })
    }

    #[test]
    fn who_owes_is_listed_over_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let account = |n: u8, bought, drawn| {
            let account = Account::restored(bought, drawn, 1, HopId([n; 8]), 0);
            Record::Account(AccountState { source: NodeId([n; 32]), account })
        };
        let store = Store::open(&path, CACHE).unwrap();
        let all = [(1, account(1, 100, 100)), (2, account(2, 100, 700)), (3, account(3, 0, 5))];
        store.commit(&all).unwrap();
        drop(store);
        let store = Store::open(&path, CACHE).unwrap();
        let owed = store.ledger(&Default::default()).unwrap().owed;
        let owes = |n, bytes| Owed { source: NodeId([n; 32]), bytes };
        assert_eq!(owed, [owes(2, 600), owes(3, 5)]);
        // What is paid is owed no more.
        store.commit(&[(4, account(2, 800, 700))]).unwrap();
        assert_eq!(store.ledger(&Default::default()).unwrap().owed, [owes(3, 5)]);
    }

    #[test]
    fn accounts_come_back_as_they_were_last_and_tickets_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join(STORE_FILE), CACHE).unwrap();
        let store = open();
        let commit = |store: &Store, records: &[Record]| {
            let numbered: Vec<_> = (1..).zip(records.iter().copied()).collect();
            store.commit(&numbered).unwrap();
        };
        let kept = |n, bought| Record::Account(account(n, bought));
        commit(&store, &[Record::Run(1), credit(1, 1, 10, 100), kept(9, 90), kept(3, 7)]);
        commit(&store, &[credit(2, 1, 10 + LIFETIME_S - 1, 200), Record::Run(1)]);
        drop(store);
        let store = open();
        let expected = [
            Record::Run(1),
            credit(1, 1, 10, 100),
            credit(2, 1, 10 + LIFETIME_S - 1, 200),
            kept(3, 7),
            kept(9, 200),
        ];
        assert_eq!(restored(&store), expected);
        // The first has expired by then; one of the run before counts a little longer.
        commit(&store, &[credit(3, 1, 10 + LIFETIME_S, 300), Record::Run(2)]);
        commit(&store, &[credit(4, 2, LIFETIME_S - 1, 400)]);
        let forgotten = AccountState { account: Account::default(), ..account(3, 0) };
        commit(&store, &[Record::Account(forgotten)]);
        let expected = [
            Record::Run(2),
            credit(2, 1, 10 + LIFETIME_S - 1, 200),
            credit(3, 1, 10 + LIFETIME_S, 300),
            credit(4, 2, LIFETIME_S - 1, 400),
            kept(9, 400),
        ];
        assert_eq!(restored(&store), expected);
        // A proof that nodes share: its key and the account, once.
        let payment = Payment {
            key: [8; 32],
            method: Method::Lightning,
            role: Party::Intermediate(1),
            source: NodeId([9; 32]),
            destination: NodeId([9; 32]),
            amount_msat: 3_000,
            share_msat: 3_000,
            accepted_at: 1_750_000_000,
            expires_at: 1_750_003_600,
            packet: PaidPacket::NONE,
        };
        let deposit = Deposit { payment, account: account(9, 450).account };
        for _ in 0..2 {
            commit(&store, &[Record::Deposit(deposit)]);
            let found = restored(&store);
            assert_eq!(found[0], Record::Payment(payment));
            assert_eq!(found[1..], [&expected[..4], &[kept(9, 450)]].concat());
        }
        let ledger = store.ledger(&Default::default()).unwrap();
        let [total] = &ledger.totals.values().collect::<Vec<_>>()[..] else { panic!("{ledger:?}") };
        assert_eq!((total.payments, total.share_msat), (1, 3_000));
        commit(&store, &[Record::Floor(1_750_003_600)]);
        commit(&store, &[credit(5, 2, LIFETIME_S, 500), Record::Run(1)]);
        let expected = [
            Record::Floor(1_750_003_600),
            Record::Run(2),
            credit(4, 2, LIFETIME_S - 1, 400),
            credit(5, 2, LIFETIME_S, 500),
            kept(9, 500),
        ];
        assert_eq!(restored(&store), expected);
    }
}
