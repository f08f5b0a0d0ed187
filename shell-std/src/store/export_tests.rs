//! What waits to be booked comes until it is booked, and no line is lost on the way.

use super::export::{MARKS, MOST_MARKS, behind};
use super::tests::{CACHE, payment};
use super::{STORE_FILE, Store};
use crate::export::{Line, Outbox};
use crate::rpc::types::PurchaseState;
use crate::wallet::{Intent, Purchases};
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::id::{HopId, NodeId};
use blvm_mesh_core::payment::ledger::{Credit, Record};
use redb::ReadableTableMetadata;
use std::collections::BTreeMap;
use std::path::Path;

const UNIX: u64 = 1_790_000_000;

fn memory() -> Store {
    Store::with_backend(Path::new("memory"), redb::backends::InMemoryBackend::new).unwrap()
}

fn paid(n: u64, at: u64) -> (u64, Record) {
    (n, Record::Payment(payment(n, at, UNIX + 9_999)))
}

fn sold(n: u8, accepted_at: u64) -> (u64, Record) {
    let account = Account::restored(100, 0, 0, HopId([0; 8]), 0);
    let credit = Credit {
        payment_hash: [n; 32],
        run: 1,
        issued: n.into(),
        amount_msat: 5,
        accepted_at,
        source: NodeId([8; 32]),
        account,
    };
    (n.into(), Record::Credit(credit))
}

fn begin(store: &Store, n: u8) {
    let intent = Intent {
        payment_hash: [n; 32],
        node: NodeId([9; 32]),
        bytes: 80_000,
        amount_msat: 7_000,
        max_fee_msat: 700,
        begun_at: UNIX + u64::from(n),
        spent_at: 1,
        promise: [6; 49],
        expires_at: UNIX + 900,
        wallet: None,
    };
    assert!(store.begin(&intent).unwrap());
}

/// Which line it is, and how far it has come.
fn name(line: &Line) -> ([u8; 32], u64, &'static str) {
    match line {
        Line::Payment(entry) => (entry.payment, entry.accepted_at, "payment"),
        Line::Sale(sale) => (sale.payment, sale.accepted_at, "sale"),
        Line::Purchase(purchase) => (purchase.payment, purchase.begun_at, purchase.state.name()),
    }
}

/// Everything that waits, in batches, and how often each line came.
fn drain(store: &Store, most: usize) -> BTreeMap<([u8; 32], u64, &'static str), u64> {
    let mut met = BTreeMap::new();
    for number in 1.. {
        let batch = store.next(most).unwrap();
        assert!(batch.lines.len() <= most);
        if batch.is_empty {
            break;
        }
        batch.lines.iter().for_each(|line| *met.entry(name(line)).or_default() += 1);
        store.booked(&batch.booked, number).unwrap();
    }
    assert_eq!(store.pending().unwrap(), 0);
    met
}

#[test]
fn what_was_there_is_walked_over_and_what_comes_is_marked() {
    let store = memory();
    begin(&store, 60);
    begin(&store, 61);
    let old: Vec<_> = (0..40).map(|n| paid(n, UNIX + n % 3)).collect();
    store.commit(&old).unwrap();
    store.commit(&[sold(50, 0), sold(51, UNIX)]).unwrap();
    store.paid(&[60; 32], &[1; 32], 3).unwrap();
    assert_eq!((store.pending().unwrap(), store.next(9).unwrap().is_empty), (0, true));

    store.export_on().unwrap();
    assert_eq!(store.pending().unwrap(), 44);
    // What comes during the walk, also earlier and in the same second, comes too.
    let first = store.next(7).unwrap();
    assert_eq!(first.lines.len(), 7);
    store.commit(&[paid(100, 1), paid(101, UNIX)]).unwrap();
    assert_eq!(store.next(7).unwrap().booked.marks.len(), 2);
    // Nothing is lost where it was not booked.
    assert_eq!(store.next(100).unwrap().lines.len(), 47, "two of them twice");
    let met = drain(&store, 7);
    assert_eq!(met.len(), 45, "{met:?}");
    assert!(!met.keys().any(|(payment, ..)| *payment == [61; 32]), "its outcome is not known");
    // Then only what comes.
    store.commit(&[paid(102, UNIX - 5), sold(52, UNIX - 6), paid(102, UNIX - 5)]).unwrap();
    store.paid(&[61; 32], &[1; 32], 3).unwrap();
    let met = drain(&store, 2);
    assert!(met.values().all(|times| *times == 1), "{met:?}");
    let kinds: Vec<_> = met.keys().map(|(.., kind)| *kind).collect();
    assert_eq!((met.len(), kinds.contains(&"paid")), (3, true));
}

#[test]
fn a_line_that_changes_while_it_is_booked_comes_again() {
    let store = memory();
    store.export_on().unwrap();
    drain(&store, 5);
    begin(&store, 1);
    assert_eq!(store.pending().unwrap(), 0);
    store.paid(&[1; 32], &[1; 32], 3).unwrap();
    let batch = store.next(5).unwrap();
    store.credited(&[1; 32], 80_000).unwrap();
    store.booked(&batch.booked, 1).unwrap();
    let again = store.next(5).unwrap();
    let [Line::Purchase(purchase)] = &again.lines[..] else { panic!("{again:?}") };
    assert_eq!(purchase.state, PurchaseState::Credited);
    store.booked(&again.booked, 2).unwrap();
    assert!(store.next(5).unwrap().is_empty);
    // One that was given up is no line.
    begin(&store, 2);
    store.not_paid(&[2; 32]).unwrap();
    assert_eq!(drain(&store, 5).len(), 0);
}

#[test]
fn marks_are_bounded_and_no_line_is_lost_by_that() {
    let store = memory();
    store.export_on().unwrap();
    drain(&store, 5);
    begin(&store, 1);
    store.paid(&[1; 32], &[1; 32], 3).unwrap();
    let batch = store.next(5).unwrap();
    let many: Vec<_> = (0..MOST_MARKS + 10).map(|n| paid(n, UNIX)).collect();
    store.commit(&many).unwrap();
    let marks = store.read(|tx| Ok(tx.open_table(MARKS)?.len()?)).unwrap();
    assert!(marks <= MOST_MARKS, "{marks}");
    // What was under way then does not count: its line has changed, and its mark is gone.
    store.credited(&[1; 32], 80_000).unwrap();
    store.booked(&batch.booked, 1).unwrap();
    let met = drain(&store, 10_000);
    assert_eq!(met.len() as u64, MOST_MARKS + 11);
    assert!(met.contains_key(&([1; 32], UNIX + 1, "credited")), "the last state");
}

#[test]
fn another_database_and_one_of_yesterday_get_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Store::open(&dir.path().join(STORE_FILE), CACHE).unwrap();
    let store = open();
    store.commit(&[paid(1, UNIX), paid(2, UNIX)]).unwrap();
    store.export_on().unwrap();
    assert_eq!(store.joined([1; 16], 0), Ok(false));
    assert_eq!(drain(&store, 1).len(), 2);
    store.commit(&[paid(3, UNIX)]).unwrap();
    let batch = store.next(9).unwrap();
    store.booked(&batch.booked, 7).unwrap();
    // The same, as it was or further.
    assert_eq!((store.joined([1; 16], 7), store.joined([1; 16], 8)), (Ok(false), Ok(false)));
    assert_eq!(store.pending(), Ok(0));
    assert_eq!((store.joined([1; 16], 6), store.pending()), (Ok(true), Ok(3)));
    assert_eq!(drain(&store, 9).len(), 3);
    assert_eq!((store.joined([2; 16], 50), store.pending()), (Ok(true), Ok(3)));
    assert_eq!(drain(&store, 9).len(), 3);
    // Switched off and on again, it does not know what has come meanwhile.
    store.commit(&[paid(4, UNIX)]).unwrap();
    store.export_off().unwrap();
    store.commit(&[paid(5, UNIX)]).unwrap();
    assert_eq!((store.pending(), store.next(9).unwrap().is_empty), (Ok(0), true));
    drop(store);
    let store = open();
    store.export_on().unwrap();
    assert_eq!(drain(&store, 2).len(), 5);
}

#[test]
fn what_is_settled_is_on_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (path, copy) = (dir.path().join(STORE_FILE), dir.path().join("copy"));
    let store = Store::open(&path, CACHE).unwrap();
    store.export_on().unwrap();
    store.commit(&[paid(1, UNIX), paid(2, UNIX)]).unwrap();
    drain(&store, 5);
    // As a crash would find it.
    let crashed = || {
        std::fs::copy(&path, &copy).unwrap();
        Store::open(&copy, CACHE).unwrap().pending().unwrap()
    };
    assert_eq!(crashed(), 2, "it comes once more");
    store.settle().unwrap();
    assert_eq!(crashed(), 0);
}

#[test]
fn keys_follow_each_other() {
    assert_eq!(behind((1, [0; 32])), (1, std::array::from_fn(|i| u8::from(i == 31))));
    assert_eq!(behind((1, [0xff; 32])), (2, [0; 32]));
    let mut payment = [0xff; 32];
    payment[0] = 7;
    assert_eq!(behind((1, payment)), (1, std::array::from_fn(|i| if i == 0 { 8 } else { 0 })));
}
