//! The store as the node asks for it.

use super::{Store, StoreError};
use crate::node::{Commit, Ledgers};
use crate::rpc::types::{GetLedger, Ledger};
use blvm_mesh_core::payment::ledger::Record;
use std::sync::Arc;

impl Commit for Arc<Store> {
    type Error = StoreError;

    fn commit(&mut self, records: &[(u64, Record)]) -> Result<(), StoreError> {
        Store::commit(self, records)
    }
}

impl Ledgers for Store {
    fn ledger(&self, query: &GetLedger) -> Result<Ledger, String> {
        Store::ledger(self, query).map_err(|e| e.to_string())
    }
}
