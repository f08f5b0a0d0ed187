//! Records come back; questions are answered; what is no store is left alone.

use super::*;
use crate::rpc::types::{GetLedger, LedgerTotal, Role};
use blvm_mesh_core::id::NodeId;
use blvm_mesh_core::payment::ledger::Method;
use blvm_mesh_core::payment::replay::PaidPacket;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

pub(super) const CACHE: usize = 256 * 1024;

/// A payment that is told from others by its number.
pub(super) fn payment(n: u64, accepted_at: u64, expires_at: u64) -> Payment {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&n.to_be_bytes());
    let role = match n % 3 {
        0 => Party::Source,
        1 => Party::Intermediate((n % 16) as u8),
        _ => Party::Destination,
    };
    Payment {
        key,
        method: if n.is_multiple_of(2) { Method::Lightning } else { Method::Covenant },
        role,
        source: NodeId([7; 32]),
        destination: NodeId([8; 32]),
        amount_msat: 1_000 + n,
        share_msat: n,
        accepted_at,
        expires_at,
        packet: PaidPacket::NONE,
    }
}

fn paid(n: u64, accepted_at: u64, expires_at: u64) -> (u64, Record) {
    (n, Record::Payment(payment(n, accepted_at, expires_at)))
}

fn floor(n: u64, unix: u64) -> (u64, Record) {
    (n, Record::Floor(unix))
}

pub(super) fn restored(store: &Store) -> Vec<Record> {
    store.restore().unwrap().collect::<Result<_, _>>().unwrap()
}

#[test]
fn what_is_live_comes_back_after_the_floor() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Store::open(&path, CACHE).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(restored(&store), []);
    store.commit(&[]).unwrap();
    store.commit(&[paid(1, 10, 100), paid(2, 11, 50), paid(3, 12, 200)]).unwrap();
    store.commit(&[floor(4, 100), paid(5, 13, 101), paid(6, 14, 100)]).unwrap();
    let expected = [floor(4, 100), paid(5, 13, 101), paid(3, 12, 200)].map(|(_, r)| r);
    assert_eq!(restored(&store), expected);
    drop(store);
    let store = Store::open(&path, CACHE).unwrap();
    assert_eq!(restored(&store), expected);
    store.commit(&[floor(7, 99)]).unwrap();
    assert_eq!(restored(&store), expected, "the floor never sinks");
    store.commit(&[floor(8, u64::MAX)]).unwrap();
    assert_eq!(restored(&store), [Record::Floor(u64::MAX)]);
    assert_eq!(store.payments(None, None).unwrap().count(), 5, "the ledger keeps all");
}

#[test]
fn the_ledger_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join(STORE_FILE), CACHE).unwrap();
    let all: Vec<_> = (0..30).map(|n| paid(n, 1_000 + n, 5_000)).collect();
    store.commit(&all).unwrap();
    store.commit(&all[..10]).unwrap(); // The same again counts once.

    let ledger = store.ledger(&GetLedger::default()).unwrap();
    let times: Vec<u64> = ledger.entries.iter().map(|e| e.accepted_at).collect();
    assert_eq!(times, (1_000..1_030).rev().collect::<Vec<_>>(), "the newest first");
    let sum = |role: u64, from: u64, to: u64| {
        let of_role = (from..to).filter(|n| n % 3 == role);
        LedgerTotal {
            payments: of_role.clone().count() as u64,
            amount_msat: of_role.clone().map(|n| 1_000 + n).sum(),
            share_msat: of_role.sum(),
        }
    };
    let totals = [
        (Role::Source, sum(0, 0, 30)),
        (Role::Intermediate, sum(1, 0, 30)),
        (Role::Destination, sum(2, 0, 30)),
    ];
    assert_eq!(ledger.totals, BTreeMap::from(totals));

    let query = GetLedger {
        since: Some(1_005),
        until: Some(1_020),
        role: Some(Role::Intermediate),
        limit: 2,
        ..GetLedger::default()
    };
    let ledger = store.ledger(&query).unwrap();
    let places: Vec<_> = ledger.entries.iter().map(|e| (e.accepted_at, e.place)).collect();
    assert_eq!(places, [(1_019, Some(3)), (1_016, Some(0))]);
    assert_eq!(ledger.totals, BTreeMap::from([(Role::Intermediate, sum(1, 5, 20))]));

    let query = GetLedger { limit: 1, role: Some(Role::Source), ..GetLedger::default() };
    let ledger = store.ledger(&query).unwrap();
    assert_eq!(ledger.entries.len(), 1);
    assert_eq!(ledger.totals, BTreeMap::from([(Role::Source, sum(0, 0, 30))]));

    let upside_down = GetLedger { since: Some(9), until: Some(3), ..GetLedger::default() };
    assert_eq!(store.ledger(&upside_down).unwrap().entries, []);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Store::open(&path, CACHE).unwrap();
    let error = Store::open(&path, CACHE).unwrap_err();
    assert!(matches!(error, StoreError::InUse(_)), "{error}");
    drop(store);
    Store::open(&path, CACHE).unwrap();
}

#[test]
fn what_is_no_store_is_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let long = vec![7; 100_000];
    for content in [&b"hello"[..], &long, &[0; 4096], b"redb"] {
        fs::write(&path, content).unwrap();
        let error = Store::open(&path, CACHE).unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        assert!(error.to_string().contains("left as it is"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), content);
    }
    let error = Store::open(&dir.path().join("no/such/dir"), CACHE).unwrap_err();
    assert!(matches!(error, StoreError::Io { .. }), "{error}");
}

#[test]
fn a_later_layout_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Store::open(&path, CACHE).unwrap();
    let change = |tx: &WriteTransaction| Ok(tx.open_table(META)?.insert(LAYOUT, 2)?.is_some());
    store.write(Durability::Immediate, change).unwrap();
    drop(store);
    let error = Store::open(&path, CACHE).unwrap_err();
    assert!(error.to_string().contains("layout 2"), "{error}");
}

/// `cargo test --release -p blvm-mesh --lib store::tests::measure -- --ignored --nocapture`
#[test]
#[ignore = "a measurement"]
fn measure() {
    let dir = tempfile::tempdir_in(".").unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Store::open(&path, CACHE).unwrap();
    let mut next = 0;
    // Keys as hashes are: in no order.
    let record = |n: u64| {
        let mut p = payment(n, n / 100, 10_000_000 + n % 600_000);
        p.key[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
        (n, Record::Payment(p))
    };
    let mut commit = |size: u64, times: u64| {
        let start = std::time::Instant::now();
        for _ in 0..times {
            let batch: Vec<_> = (next..next + size).map(record).collect();
            next += size;
            store.commit(&batch).unwrap();
        }
        let each = start.elapsed() / times as u32;
        println!("{next} payments: commit of {size} takes {each:?}");
    };
    for _ in 0..2 {
        for size in [1, 10, 100] {
            commit(size, 20);
        }
        commit(10_000, 100);
    }
    drop(store);
    let start = std::time::Instant::now();
    let store = Store::open(&path, CACHE).unwrap();
    let opened = start.elapsed();
    let count = restored_count(&store);
    println!("open {opened:?}, {count} restored {:?}", start.elapsed() - opened);
    println!("file {} MiB", fs::metadata(&path).unwrap().len() >> 20);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{:?}", status.lines().find(|l| l.starts_with("VmHWM")));
}

fn restored_count(store: &Store) -> usize {
    store.restore().unwrap().filter(|r| r.is_ok()).count()
}
