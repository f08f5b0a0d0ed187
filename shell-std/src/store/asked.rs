//! Invoices for datagrams that this node had its Lightning node write.
//!
//! | table | key | value |
//! |---|---|---|
//! | `asked` | when it expires, payment hash | nothing; until then |

use super::{Key, Store};
use crate::lightning::AskedList;
use blvm_mesh_core::payment::asked::MOST_ASKED;
use redb::{ReadableTableMetadata, TableDefinition, WriteTransaction};

const ASKED: TableDefinition<'_, Key, ()> = TableDefinition::new("asked");

/// Makes the table where it is not there.
pub(super) fn prepare(tx: &WriteTransaction) -> Result<(), redb::Error> {
    tx.open_table(ASKED)?;
    Ok(())
}

impl AskedList for Store {
    fn note(&self, payment_hash: &[u8; 32], expires_at: u64, unix: u64) -> Result<(), String> {
        let noted = self.write_again(|tx| {
            let mut asked = tx.open_table(ASKED)?;
            let expired = ..=(unix, [0xff; 32]);
            for row in asked.extract_from_if::<Key, _>(expired, |_, ()| true)? {
                row?;
            }
            let has_room = asked.len()? < MOST_ASKED as u64;
            if has_room {
                asked.insert((expires_at, *payment_hash), ())?;
            }
            Ok(has_room)
        });
        match noted {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{MOST_ASKED} invoices wait to be used; let some expire")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn all(&self, unix: u64) -> Result<Vec<([u8; 32], u64)>, String> {
        let read = self.read(|tx| {
            let mut all = Vec::new();
            let live = (unix.saturating_add(1), [0; 32])..;
            for row in tx.open_table(ASKED)?.range::<Key>(live)?.take(MOST_ASKED) {
                let (expires_at, payment_hash) = row?.0.value();
                all.push((payment_hash, expires_at));
            }
            Ok(all)
        });
        read.map_err(|e| e.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::STORE_FILE;
    use super::super::tests::CACHE;
    use super::*;

    #[test]
    fn they_are_there_after_a_restart_and_until_they_expire() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Store::open(&dir.path().join(STORE_FILE), CACHE).unwrap();
        let store = open();
        for n in [3, 1, 2] {
            store.note(&[n; 32], 100 + u64::from(n), 100).unwrap();
        }
        drop(store);
        let store = open();
        assert_eq!(store.all(101).unwrap(), [([2; 32], 102), ([3; 32], 103)]);
        store.note(&[4; 32], 200, 102).unwrap();
        assert_eq!(store.all(0).unwrap(), [([3; 32], 103), ([4; 32], 200)], "the others are gone");
    }
}
