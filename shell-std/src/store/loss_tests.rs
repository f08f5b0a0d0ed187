//! A lost store is not a new one, and one that could not be made whole is not there.

use super::tests::{CACHE, payment, restored};
use super::*;
use std::fs;
use std::process::Command;

const ME: NodeId = NodeId([1; 32]);

fn paid(n: u64) -> (u64, Record) {
    (n, Record::Payment(payment(n, n, 1_000_000)))
}

#[test]
fn a_store_that_is_gone_empty_or_anothers_is_lost_until_the_time_is_known() {
    let lose: [fn(&Path); 2] =
        [|path| fs::remove_file(path).unwrap(), |path| fs::write(path, []).unwrap()];
    for lose in lose {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        let open = || Store::open_of(&path, CACHE, &ME, false).unwrap();
        let store = Store::open_of(&path, CACHE, &ME, true).unwrap();
        assert_eq!(restored(&store), [], "an identity that is new has lost nothing");
        store.commit(&[paid(1)]).unwrap();
        drop(store);
        assert_eq!(restored(&open()).len(), 1);
        lose(&path);
        assert_eq!(restored(&open()), [Record::StoreLost(None)]);
        // Also where it was stopped before it knew the time.
        let store = open();
        assert_eq!(restored(&store), [Record::StoreLost(None)]);
        store.commit(&[(1, Record::StoreLost(Some(100)))]).unwrap();
        store.commit(&[(2, Record::StoreLost(Some(99)))]).unwrap();
        drop(store);
        assert_eq!(restored(&open()), [Record::StoreLost(Some(100))]);
    }
}

#[test]
fn a_store_of_another_node_is_taken_over_and_knows_nothing_of_this_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let store = Store::open(&path, CACHE).unwrap();
    store.commit(&[paid(1)]).unwrap();
    drop(store);
    // One without a name in it is of whoever opens it.
    let open = |id, is_new| Store::open_of(&path, CACHE, &NodeId([id; 32]), is_new).unwrap();
    assert_eq!(restored(&open(1, false)), [paid(1).1]);
    assert_eq!(restored(&open(2, true)), [paid(1).1], "a new key never had a store");
    for _ in 0..2 {
        assert_eq!(restored(&open(3, false)), [Record::StoreLost(None), paid(1).1]);
    }
}

#[test]
fn what_an_earlier_start_left_half_made_is_made_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    fs::write(dir.path().join("mesh.redb.new"), [1; 5000]).unwrap();
    let store = Store::open(&path, CACHE).unwrap();
    assert_eq!(restored(&store), []);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn of_many_that_make_a_store_at_once_one_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let opened: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(&path, CACHE))).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    let errors = opened.iter().filter_map(|o| o.as_ref().err());
    errors.for_each(|e| assert!(matches!(e, StoreError::InUse(_)), "{e}"));
    assert_eq!(opened.iter().filter(|o| o.is_ok()).count(), 1);
}

const DIR: &str = "STORE_FULL_DISK_TEST_DIR";

/// In a mount namespace of its own, as root of a user namespace if need be.
#[test]
#[ignore = "run by a_full_disk_at_the_first_start_leaves_nothing_behind"]
fn on_a_small_disk() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let dir = Path::new(&dir);
    let path = dir.join(STORE_FILE);
    let filler = dir.join("filler");
    let (mut refused, mut made) = (0, 0);
    // However much is free, from nothing on.
    for free_kib in (0..4096).step_by(16) {
        let _ = fs::write(&filler, vec![1; (4096 - free_kib) * 1024]);
        match Store::open_of(&path, CACHE, &ME, true) {
            Ok(store) => {
                made += 1;
                drop(store);
                fs::remove_file(&path).unwrap();
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, StoreError::Io { .. }), "{error}");
                assert!(!path.exists(), "{free_kib}");
            }
        }
        fs::remove_file(&filler).unwrap();
        assert_eq!(fs::read_dir(dir).unwrap().count(), 0, "{free_kib}");
    }
    assert!(refused > 0 && made > 1, "{refused} {made}");

    // Full while it is written to, and then not any more: all is there, once.
    let store = Store::open_of(&path, CACHE, &ME, true).unwrap();
    let _ = fs::write(&filler, vec![1; 4 << 20]);
    let mut next = 0;
    let failed = loop {
        let batch: Vec<_> = (next..next + 20).map(paid).collect();
        match store.commit(&batch) {
            Ok(()) => next += 20,
            Err(error) => break (batch, error),
        }
    };
    assert!(store.commit(&failed.0).is_err(), "{}", failed.1);
    fs::remove_file(&filler).unwrap();
    store.commit(&failed.0).unwrap();
    assert_eq!(store.payments(None, None).unwrap().count() as u64, next + 20);
    drop(store);
    let store = Store::open_of(&path, CACHE, &ME, false).unwrap();
    assert_eq!(restored(&store).len() as u64, next + 20);
}

#[test]
fn a_full_disk_at_the_first_start_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        "mount -t tmpfs -o size=4m none {0} && exec env {DIR}={0} {1} --exact \
         store::loss_tests::on_a_small_disk --ignored",
        dir.path().display(),
        std::env::current_exe().unwrap().display(),
    );
    let run = |program: &str, args: &[&str]| {
        Command::new(program).args(args).args(["sh", "-c", &script]).output()
    };
    let may = Command::new("unshare").args(["-rm", "true"]).output();
    if !may.is_ok_and(|o| o.status.success()) {
        eprintln!("not tried: this system lets nobody make a mount namespace");
        return;
    }
    let out = run("unshare", &["-rm"]).unwrap();
    let told = String::from_utf8_lossy(&out.stdout).into_owned();
    assert!(out.status.success(), "{told}{}", String::from_utf8_lossy(&out.stderr));
    assert!(told.contains("1 passed"), "{told}");
}
