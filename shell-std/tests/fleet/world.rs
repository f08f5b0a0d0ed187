//! Stores with a ledger in them, and what books them.

use super::server::{PASSWORD, Server};
use blvm_mesh::export::{ExportSettings, Target};
use blvm_mesh::store::{STORE_FILE, Store};
use blvm_mesh::wallet::{Intent, Purchases};
use blvm_mesh_core::flow::accounts::Account;
use blvm_mesh_core::id::{HopId, Network, NodeId};
use blvm_mesh_core::payment::fee::Party;
use blvm_mesh_core::payment::ledger::{Credit, Method, Payment, Record};
use blvm_mesh_core::payment::replay::PaidPacket;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) const UNIX: u64 = 1_790_000_000;
pub(crate) const NODE: (NodeId, Network) = (NodeId([1; 32]), Network::Regtest);

pub(crate) fn hash(n: u64) -> [u8; 32] {
    let mut hash = [0x5a; 32];
    hash[..8].copy_from_slice(&n.to_le_bytes());
    hash
}

/// A payment that is told from others by its number, and lies anywhere in four days.
pub(crate) fn payment(n: u64) -> Payment {
    Payment {
        key: hash(n),
        method: if n.is_multiple_of(2) { Method::Lightning } else { Method::Covenant },
        role: match n % 3 {
            0 => Party::Source,
            1 => Party::Intermediate((n % 7) as u8),
            _ => Party::Destination,
        },
        source: NodeId([7; 32]),
        destination: NodeId([8; 32]),
        amount_msat: 1_000 + n,
        share_msat: 100 + n,
        accepted_at: UNIX + n.wrapping_mul(7_919) % 345_600,
        expires_at: UNIX + 999_999,
        packet: PaidPacket::NONE,
    }
}

pub(crate) fn pay(store: &Store, numbers: impl Iterator<Item = u64>) {
    let records: Vec<_> = numbers.map(|n| (n, Record::Payment(payment(n)))).collect();
    store.commit(&records).unwrap();
}

pub(crate) fn sell(store: &Store, n: u64, accepted_at: u64, amount_msat: u64) {
    let credit = Credit {
        payment_hash: hash(n),
        run: 1,
        issued: 1,
        amount_msat,
        accepted_at,
        source: NodeId([7; 32]),
        account: Account::restored(70_000, 0, 0, HopId([0; 8]), 0),
    };
    store.commit(&[(n, Record::Credit(credit))]).unwrap();
}

/// Begins to buy; the fee that it may have is 700.
pub(crate) fn buy(store: &Store, n: u64, amount_msat: u64) {
    let intent = Intent {
        payment_hash: hash(n),
        node: NodeId([9; 32]),
        bytes: 80_000,
        amount_msat,
        max_fee_msat: 700,
        begun_at: UNIX + n % 86_400,
        spent_at: 1,
        promise: [6; 49],
        expires_at: UNIX + 900,
        wallet: None,
    };
    assert!(store.begin(&intent).unwrap());
}

pub(crate) fn store(dir: &Path) -> Store {
    fs::create_dir_all(dir).unwrap();
    let store = Store::open(&dir.join(STORE_FILE), 1 << 20).unwrap();
    store.export_on().unwrap();
    store
}

/// Settings by which this database is reached, without a password.
pub(crate) fn settings(url: &str) -> ExportSettings {
    let target: Target = url.parse().unwrap();
    let step = Duration::from_secs(30);
    ExportSettings { target, password: None, certificate: None, step }
}

/// A file with a password that only its owner reads.
pub(crate) fn password_file(dir: &Path, password: &str) -> PathBuf {
    let path = dir.join(format!("password-{}", password.len()));
    fs::write(&path, format!("{password}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// The same with the password that roles have.
pub(crate) fn with_password(url: &str, dir: &Path) -> ExportSettings {
    ExportSettings { password: Some(password_file(dir, PASSWORD)), ..settings(url) }
}

/// How many payments are booked, and how many different ones: none before there is a table.
pub(crate) fn counted(server: &Server, database: &str) -> (u64, u64) {
    if server.ask(database, "SELECT to_regclass('blvm_mesh.payments') IS NULL") == "t" {
        return (0, 0);
    }
    let sql = "SELECT count(*) || ' ' || count(DISTINCT (node, payment)) FROM blvm_mesh.payments";
    let answer = server.ask(database, sql);
    let (all, different) = answer.split_once(' ').unwrap();
    (all.parse().unwrap(), different.parse().unwrap())
}
