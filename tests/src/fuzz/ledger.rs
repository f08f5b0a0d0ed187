//! Records as they are stored.

use blvm_mesh_core::payment::ledger::{RECORD_LEN, Record};

/// What is read is written the same.
pub fn target(data: &[u8]) -> bool {
    let mut bytes = [0; RECORD_LEN];
    let len = data.len().min(RECORD_LEN);
    bytes[..len].copy_from_slice(&data[..len]);
    let record = Record::decode(&bytes);
    if let Some(record) = record {
        assert_eq!(record.encode(), bytes);
    }
    record.is_some()
}
