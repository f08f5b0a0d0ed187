//! What is asked and answered about accepted payments.

use super::Role;
use crate::rpc::{hexed, schema};
use blvm_mesh_core::id::NodeId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Parameters of `getledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GetLedger {
    /// Only payments accepted at or after this time, in seconds since 1970.
    pub since: Option<u64>,
    /// Only payments accepted before this time, in seconds since 1970.
    pub until: Option<u64>,
    /// Only payments in which this node had this role.
    pub role: Option<Role>,
    /// Most entries to list, the newest first. The totals count all.
    pub limit: usize,
}

impl Default for GetLedger {
    fn default() -> Self {
        Self { since: None, until: None, role: None, limit: 100 }
    }
}

/// Answer of `getledger`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// The payments, the newest first.
    pub entries: Vec<LedgerEntry>,
    /// Sums over all that match, listed or not, by role.
    pub totals: BTreeMap<Role, LedgerTotal>,
}

/// One accepted payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerEntry {
    /// Replay key: for Lightning the payment hash.
    #[serde(with = "hexed::Hex::<32>")]
    pub payment: [u8; 32],
    /// How it was made.
    #[schemars(with = "schema::Method")]
    pub method: String,
    /// What this node was on the route.
    pub role: Role,
    /// Place on the route where it was an intermediate; 0 is next to the source.
    pub place: Option<u8>,
    /// Who paid.
    #[serde(with = "hexed::Node")]
    pub source: NodeId,
    /// Where the packet went.
    #[serde(with = "hexed::Node")]
    pub destination: NodeId,
    /// The whole amount.
    pub amount_msat: u64,
    /// This node's share.
    pub share_msat: u64,
    /// When it was accepted, in seconds since 1970.
    pub accepted_at: u64,
    /// When the payment itself expires, in seconds since 1970.
    pub expires_at: u64,
}

/// Sums over payments.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LedgerTotal {
    /// How many.
    pub payments: u64,
    /// Their whole amounts.
    pub amount_msat: u64,
    /// This node's shares.
    pub share_msat: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, to_value};

    #[test]
    fn totals_have_roles_as_keys() {
        let total = LedgerTotal { payments: 1, amount_msat: 10, share_msat: 3 };
        let ledger =
            Ledger { entries: vec![], totals: BTreeMap::from([(Role::Intermediate, total)]) };
        let value = to_value(&ledger).unwrap();
        assert_eq!(value["totals"]["intermediate"]["share_msat"], 3);
        assert_eq!(from_value::<Ledger>(value).unwrap(), ledger);
    }
}
