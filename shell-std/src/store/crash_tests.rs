//! No committed payment is ever lost, and none is ever half there: processes
//! killed, power cut, bits flipped.

use super::tests::{CACHE, payment, restored};
use super::*;
use proptest::prelude::*;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

const DIR: &str = "STORE_CRASH_TEST_DIR";

/// The killed process: commits payments and says so, until it is killed.
#[test]
#[ignore = "run by killed_processes_lose_nothing"]
fn child() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = Store::open(&Path::new(&dir).join(STORE_FILE), CACHE).unwrap();
    let first = store.payments(None, None).unwrap().count() as u64;
    let mut next = first;
    loop {
        let batch: Vec<_> = (next..next + 1 + next % 7)
            .map(|n| (n, Record::Payment(payment(n, n, 1_000_000))))
            .collect();
        next += batch.len() as u64;
        store.commit(&batch).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "committed {next}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn killed_processes_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let mut promised = 0;
    for round in 0..12 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "store::crash_tests::child", "--ignored", "--nocapture"])
            .env(DIR, dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while seen < 2 + round {
            let line = lines.next().expect("the child goes on until killed").unwrap();
            if let Some((_, n)) = line.split_once("committed ") {
                promised = n.parse().unwrap();
                seen += 1;
            }
        }
        std::thread::sleep(std::time::Duration::from_micros(round * 150));
        child.kill().unwrap();
        child.wait().unwrap();
        for line in lines.map_while(Result::ok) {
            if let Some((_, n)) = line.split_once("committed ") {
                promised = n.parse().unwrap();
            }
        }
        check(&Store::open(&path, CACHE).unwrap(), promised, u64::MAX);
    }
}

/// At least the promised payments and at most those begun are there, whole, in
/// every table.
fn check(store: &Store, promised: u64, begun: u64) {
    let live = restored(store);
    let n = live.len() as u64;
    assert!((promised..=begun).contains(&n), "{promised} were promised, {n} are there");
    let expected: BTreeSet<_> = (0..n).map(|n| payment(n, n, 1_000_000).key).collect();
    for record in live {
        let Record::Payment(p) = record else { panic!("{record:?}") };
        assert!(expected.contains(&p.key));
        assert_eq!(p, payment(p.accepted_at, p.accepted_at, 1_000_000));
    }
    let ledger: Vec<_> = store.payments(None, None).unwrap().map(Result::unwrap).collect();
    assert_eq!(ledger, (0..n).map(|n| payment(n, n, 1_000_000)).collect::<Vec<_>>());
    let sums = store.ledger(&Default::default()).unwrap().totals;
    assert_eq!(sums.values().map(|t| t.payments).sum::<u64>(), n);
    assert_eq!(sums.values().map(|t| t.share_msat).sum::<u64>(), (0..n).sum::<u64>());
}

/// A disk whose power can be cut: what was not synced may be there or not, each
/// sector by itself.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    now: Vec<u8>,
    synced: Vec<u8>,
    /// Writes and new lengths since the last sync.
    pending: Vec<(u64, Vec<u8>)>,
    /// Operations until the power is cut.
    left: Option<usize>,
}

impl State {
    fn count(&mut self) -> io::Result<()> {
        match &mut self.left {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(n) => {
                *n -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// The disk after the power came back.
    fn after_cut(&self, mut keep: impl FnMut() -> bool) -> Vec<u8> {
        let mut bytes = self.synced.clone();
        bytes.resize(self.now.len().max(bytes.len()), 0);
        for (offset, data) in &self.pending {
            for (i, sector) in data.chunks(512).enumerate() {
                let at = *offset as usize + i * 512;
                if keep() && at + sector.len() <= bytes.len() {
                    bytes[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        bytes
    }
}

fn lock(disk: &Disk) -> std::sync::MutexGuard<'_, State> {
    disk.0.lock().unwrap_or_else(|e| e.into_inner())
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(self).now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = lock(self);
        let from = offset as usize;
        let bytes = state.now.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = lock(self);
        state.count()?;
        state.now.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(self);
        state.count()?;
        state.synced = state.now.clone();
        state.pending.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = lock(self);
        state.count()?;
        let from = offset as usize;
        state.now[from..from + data.len()].copy_from_slice(data);
        state.pending.push((offset, data.to_vec()));
        Ok(())
    }
}

fn on(disk: &Disk) -> Result<Store, StoreError> {
    let disk = disk.clone();
    Store::with_backend(Path::new("disk"), move || disk.clone())
}

/// Commits until the power is cut; returns the disk, the payments promised and
/// those begun.
fn until_cut(operations: usize) -> (Disk, u64, u64) {
    let disk = Disk::default();
    drop(on(&disk).unwrap());
    let store = on(&disk).unwrap();
    lock(&disk).left = Some(operations);
    let (mut promised, mut begun) = (0, 0);
    loop {
        let batch: Vec<_> =
            (begun..begun + 3).map(|n| (n, Record::Payment(payment(n, n, 1_000_000)))).collect();
        begun += 3;
        if store.commit(&batch).is_err() {
            break;
        }
        promised = begun;
    }
    assert!(store.commit(&[(0, Record::Floor(1))]).is_err(), "a failed store stays failed");
    (disk, promised, begun)
}

#[test]
fn what_a_full_disk_did_not_take_is_booked_once_when_there_is_room() {
    let disk = Disk::default();
    let store = on(&disk).unwrap();
    let batch = |from: u64| -> Vec<_> {
        (from..from + 3).map(|n| (n, Record::Payment(payment(n, n, 1_000_000)))).collect()
    };
    store.commit(&batch(0)).unwrap();
    // Wherever in a commit the disk is full, and however often.
    for operations in 0..40 {
        lock(&disk).left = Some(operations % 13);
        let next = 3 * (operations as u64 + 1);
        let first = store.commit(&batch(next));
        if first.is_err() {
            assert!(store.commit(&batch(next)).is_err(), "there is no room yet");
        }
        lock(&disk).left = None;
        store.commit(&batch(next)).unwrap();
        check(&store, next + 3, next + 3);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn a_cut_of_power_loses_nothing(operations in 0usize..200, kept in prop::collection::vec(any::<bool>(), 1..97)) {
        let (disk, promised, begun) = until_cut(operations);
        let mut keep = kept.iter().cycle();
        let bytes = lock(&disk).after_cut(|| *keep.next().unwrap());
        let again = Disk::default();
        *lock(&again) = State { now: bytes.clone(), synced: bytes, ..State::default() };
        let store = on(&again).unwrap();
        check(&store, promised, begun);
    }

    #[test]
    fn damage_is_an_error_or_harmless(at in any::<prop::sample::Index>(), bit in 0u8..8, cut in prop::option::of(any::<prop::sample::Index>())) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let store = Store::open(&path, CACHE).unwrap();
        let batch: Vec<_> = (0..40).map(|n| (n, Record::Payment(payment(n, n, 1_000_000)))).collect();
        store.commit(&batch).unwrap();
        drop(store);
        let mut bytes = std::fs::read(&path).unwrap();
        match cut {
            Some(cut) => bytes.truncate(cut.index(bytes.len())),
            None => {
                let i = at.index(bytes.len().min(64 * 1024));
                bytes[i] ^= 1 << bit;
            }
        }
        std::fs::write(&path, &bytes).unwrap();
        match Store::open(&path, CACHE) {
            // An empty file cannot be told from a new one, and counts as a store that was lost.
            Ok(store) if bytes.is_empty() => {
                prop_assert_eq!(restored(&store), [Record::StoreLost(None)]);
            }
            Ok(store) => check(&store, 40, 40),
            Err(e) => {
                prop_assert!(matches!(e, StoreError::Damaged { .. }), "{e}");
                prop_assert_eq!(std::fs::read(&path).unwrap(), bytes, "it was left as it is");
            }
        }
    }
}
