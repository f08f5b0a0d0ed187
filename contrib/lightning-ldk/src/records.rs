//! What became of each payment that was asked for, and when each invoice expires: durable, in the
//! database that LDK keeps its channels in.
//!
//! A payment is noted before LDK is told to make it, and its end before LDK's event of it counts as
//! handled, so that no crash in between makes a payment unknown, or known as what it is not.

use ldk_node::DynStore;
use ldk_node::lightning::io::ErrorKind;
use ldk_node::lightning::util::persist::KVStoreSync;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::Error;
use std::sync::{Arc, Mutex, PoisonError};

const OURS: &str = "blvm_mesh";
/// Payments that were begun and have not ended.
const BEGUN: &str = "begun";
const ENDED: &str = "ended";
const INVOICES: &str = "invoices";

/// A payment hash.
pub(crate) type Hash = [u8; 32];

/// What became of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub(crate) enum Payment {
    /// It may be on its way.
    Pending,
    /// It is made.
    Paid {
        /// In hex.
        preimage: String,
        /// What it cost beyond its amount.
        fee_msat: u64,
    },
    /// It is not made, and nothing of it is on its way.
    Failed {
        /// Why.
        reason: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Expiry {
    expires_at: u64,
}

/// The records.
pub(crate) struct Records {
    store: Arc<DynStore>,
    // The end of a payment is read before it is written.
    writing: Mutex<()>,
}

impl Records {
    pub(crate) fn new(store: Arc<DynStore>) -> Self {
        Self { store, writing: Mutex::new(()) }
    }

    /// What is known of a payment; `None`: it was never asked for.
    pub(crate) fn payment(&self, hash: &Hash) -> Result<Option<Payment>, Error> {
        if let Some(ended) = self.read(ENDED, &hex(hash))? {
            return Ok(Some(ended));
        }
        self.read(BEGUN, &hex(hash))
    }

    /// Notes that LDK is about to be told to pay. `false`: it was noted before.
    pub(crate) fn begin(&self, hash: &Hash) -> Result<bool, Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.payment(hash)?.is_some() {
            return Ok(false);
        }
        self.write(BEGUN, &hex(hash), &Payment::Pending)?;
        Ok(true)
    }

    /// Notes how a payment ended. What is paid stays so.
    pub(crate) fn end(&self, hash: &Hash, ended: &Payment) -> Result<(), Error> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if !matches!(self.read(ENDED, &hex(hash))?, Some(Payment::Paid { .. })) {
            self.write(ENDED, &hex(hash), ended)?;
        }
        Ok(KVStoreSync::remove(&*self.store, OURS, BEGUN, &hex(hash), false)?)
    }

    /// Ends those payments that were begun and of which LDK, which is not running yet, has never
    /// written anything: it writes a payment into its channel's record before it sends it. What it has
    /// written of stays pending until its event comes.
    ///
    /// # Errors
    /// That the store cannot be read or written.
    pub(crate) fn end_those_never_sent(&self) -> Result<usize, Error> {
        let begun = KVStoreSync::list(&*self.store, OURS, BEGUN)?;
        if begun.is_empty() {
            return Ok(0);
        }
        let mut left: Vec<Hash> = begun.iter().filter_map(|name| from_hex(name)).collect();
        self.each_of_ldk(|bytes| left.retain(|hash| !contains(bytes, hash)))?;
        for hash in &left {
            let reason = "the Lightning node was stopped before it was sent".to_owned();
            self.end(hash, &Payment::Failed { reason })?;
        }
        Ok(left.len())
    }

    /// Looks at everything that LDK has written of channels and events. What its own list of payments
    /// says was begun need not be sent: that is written beside the rest, not with it.
    fn each_of_ldk(&self, mut look: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut places: Vec<_> =
            ["", "monitors", "archived_monitors"].map(|first| (first, String::new())).into();
        for monitor in KVStoreSync::list(&*self.store, "monitors", "")? {
            places.push(("monitor_updates", monitor));
        }
        for (first, second) in places {
            for name in KVStoreSync::list(&*self.store, first, &second)? {
                // Gossip is large and tells nothing of payments.
                if first.is_empty() && !["manager", "events"].contains(&name.as_str()) {
                    continue;
                }
                look(&KVStoreSync::read(&*self.store, first, &second, &name)?);
            }
        }
        Ok(())
    }

    /// Notes until when an invoice can be paid, in Unix time.
    pub(crate) fn note_invoice(&self, hash: &Hash, expires_at: u64) -> Result<(), Error> {
        self.write(INVOICES, &hex(hash), &Expiry { expires_at })
    }

    /// Until when an invoice can be paid.
    pub(crate) fn invoice(&self, hash: &Hash) -> Result<Option<u64>, Error> {
        Ok(self.read::<Expiry>(INVOICES, &hex(hash))?.map(|noted| noted.expires_at))
    }

    /// The invoices that expired before `unix`.
    pub(crate) fn expired_before(&self, unix: u64) -> Result<Vec<Hash>, Error> {
        let mut found = Vec::new();
        for name in KVStoreSync::list(&*self.store, OURS, INVOICES)? {
            let Some(hash) = from_hex(&name) else { continue };
            if self.invoice(&hash)?.is_some_and(|expires_at| expires_at < unix) {
                found.push(hash);
            }
        }
        Ok(found)
    }

    pub(crate) fn forget_invoice(&self, hash: &Hash) -> Result<(), Error> {
        Ok(KVStoreSync::remove(&*self.store, OURS, INVOICES, &hex(hash), false)?)
    }

    fn read<T: DeserializeOwned>(&self, place: &str, name: &str) -> Result<Option<T>, Error> {
        match KVStoreSync::read(&*self.store, OURS, place, name) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn write(&self, place: &str, name: &str, value: &impl Serialize) -> Result<(), Error> {
        let bytes = serde_json::to_vec(value)?;
        Ok(KVStoreSync::write(&*self.store, OURS, place, name, bytes)?)
    }
}

fn contains(bytes: &[u8], hash: &Hash) -> bool {
    bytes.windows(hash.len()).any(|window| window == hash)
}

/// In hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// 64 hex digits.
pub(crate) fn from_hex(text: &str) -> Option<Hash> {
    let digits = text.as_bytes();
    let mut hash = [0; 32];
    if digits.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ldk_node::io::sqlite_store::SqliteStore;

    fn store(dir: &std::path::Path) -> Arc<DynStore> {
        Arc::new(SqliteStore::new(dir.into(), None, None).unwrap())
    }

    fn paid() -> Payment {
        Payment::Paid { preimage: hex(&[7; 32]), fee_msat: 3 }
    }

    #[test]
    fn a_payment_is_begun_once_and_its_end_is_known_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(store(dir.path()));
        assert_eq!(records.payment(&[1; 32]).unwrap(), None);
        assert!(records.begin(&[1; 32]).unwrap());
        assert!(!records.begin(&[1; 32]).unwrap());
        assert_eq!(records.payment(&[1; 32]).unwrap(), Some(Payment::Pending));
        records.end(&[1; 32], &paid()).unwrap();
        // A late failure changes nothing.
        records.end(&[1; 32], &Payment::Failed { reason: String::new() }).unwrap();
        drop(records);
        let records = Records::new(store(dir.path()));
        assert_eq!(records.payment(&[1; 32]).unwrap(), Some(paid()));
        assert!(!records.begin(&[1; 32]).unwrap());
    }

    #[test]
    fn only_what_ldk_never_wrote_of_was_never_sent() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let records = Records::new(store.clone());
        let hash = |n: u8| [n; 32];
        let inside = |n: u8| [&[0xff; 5][..], &hash(n), &[0xee; 9]].concat();
        KVStoreSync::write(&*store, "payments", "", "p", inside(6)).unwrap();
        for n in 1..=6 {
            records.begin(&hash(n)).unwrap();
        }
        for (n, first, second, name) in [
            (1, "", "", "manager"),
            (2, "", "", "events"),
            (3, "monitors", "", "m_0"),
            (4, "monitor_updates", "m_0", "12"),
            (5, "archived_monitors", "", "n_0"),
        ] {
            KVStoreSync::write(&*store, first, second, name, inside(n)).unwrap();
        }
        assert_eq!(records.end_those_never_sent().unwrap(), 1);
        for n in 1..=5 {
            assert_eq!(records.payment(&hash(n)).unwrap(), Some(Payment::Pending), "{n}");
        }
        assert!(matches!(records.payment(&hash(6)).unwrap(), Some(Payment::Failed { .. })));
        assert_eq!(records.end_those_never_sent().unwrap(), 0);
    }

    #[test]
    fn expired_invoices_are_found_and_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::new(store(dir.path()));
        records.note_invoice(&[1; 32], 100).unwrap();
        records.note_invoice(&[2; 32], 200).unwrap();
        assert_eq!(records.expired_before(101).unwrap(), [[1; 32]]);
        records.forget_invoice(&[1; 32]).unwrap();
        assert_eq!(records.invoice(&[1; 32]).unwrap(), None);
        assert_eq!(records.invoice(&[2; 32]).unwrap(), Some(200));
    }

    #[test]
    fn hex_is_read_or_refused() {
        assert_eq!(from_hex(&hex(&[0xa5; 32])), Some([0xa5; 32]));
        for wrong in ["", "zz", &"zz".repeat(32), &"é".repeat(32), &"0".repeat(63)] {
            assert_eq!(from_hex(wrong), None);
        }
    }
}
