//! What is asked and answered about accepted payments, and about bytes sold and bought.

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
    /// Only what was accepted or begun at or after this time, in seconds since 1970.
    pub since: Option<u64>,
    /// Only what was accepted or begun before this time, in seconds since 1970.
    pub until: Option<u64>,
    /// Only payments in which this node had this role: no sales, no purchases.
    pub role: Option<Role>,
    /// Only this.
    pub kind: Option<LedgerKind>,
    /// Most entries of each kind to list, the newest first. The totals count all.
    pub limit: usize,
}

/// What a ledger has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LedgerKind {
    /// Payments that came with datagrams.
    Payments,
    /// Bytes of flows that others bought here.
    Sales,
    /// Bytes of flows that this node bought.
    Purchases,
}

impl GetLedger {
    /// Whether this is asked for.
    pub fn wants(&self, kind: LedgerKind) -> bool {
        let role = self.role.is_none() || kind == LedgerKind::Payments;
        role && self.kind.is_none_or(|only| only == kind)
    }
}

impl Default for GetLedger {
    fn default() -> Self {
        Self { since: None, until: None, role: None, kind: None, limit: 100 }
    }
}

/// Answer of `getledger`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Ledger {
    /// The payments, the newest first.
    pub entries: Vec<LedgerEntry>,
    /// Sums over all that match, listed or not, by role.
    pub totals: BTreeMap<Role, LedgerTotal>,
    /// The sales, the newest first.
    pub sales: Vec<Sale>,
    /// The sum over all sales that match, listed or not.
    pub sold: Sold,
    /// The purchases, the newest first.
    pub purchases: Vec<Purchase>,
    /// The sum over all purchases that match, listed or not.
    pub bought: Bought,
    /// What neighbours owe now (`flow.credit`); with the sales.
    #[serde(default)]
    pub owed: Vec<Owed>,
}

/// Bytes of flows that a neighbour has used and not paid for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Owed {
    /// Who owes them.
    #[serde(with = "hexed::Node")]
    pub source: NodeId,
    /// How many.
    pub bytes: u64,
}

/// Bytes of flows that somebody bought here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sale {
    /// Payment hash of the invoice.
    #[serde(with = "hexed::Hex::<32>")]
    pub payment: [u8; 32],
    /// Who paid.
    #[serde(with = "hexed::Node")]
    pub source: NodeId,
    /// What was paid.
    pub amount_msat: u64,
    /// Bytes that the account of the source had bought in all from then on.
    pub account_bytes: u64,
    /// When it was accepted, in seconds since 1970; 0 if that was not known.
    pub accepted_at: u64,
}

/// Sums over sales.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sold {
    /// How many.
    pub sales: u64,
    /// What was paid.
    pub amount_msat: u64,
}

/// Bytes of flows that this node bought, or is about to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Purchase {
    /// Payment hash of the invoice.
    #[serde(with = "hexed::Hex::<32>")]
    pub payment: [u8; 32],
    /// Where.
    #[serde(with = "hexed::Node")]
    pub node: NodeId,
    /// How many; 0 where that is not known.
    pub bytes: u64,
    /// What the invoice asked.
    pub amount_msat: u64,
    /// What paying cost beyond that; where that is not known the most that it may have cost.
    pub fee_msat: u64,
    /// How far it has come.
    pub state: PurchaseState,
    /// What paying revealed, 64 hex digits: the receipt.
    pub preimage: Option<String>,
    /// When paying began, in seconds since 1970; 0 if that was not known.
    pub begun_at: u64,
}

/// How far a purchase has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PurchaseState {
    /// It is being paid, or what became of that is not known: it counts as spent.
    Unknown,
    /// It is paid, and the node has not said that it credited the bytes.
    Paid,
    /// The bytes were credited.
    Credited,
}

impl PurchaseState {
    /// The name by which it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Paid => "paid",
            Self::Credited => "credited",
        }
    }
}

/// Sums over purchases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Bought {
    /// How many.
    pub purchases: u64,
    /// What the invoices asked.
    pub amount_msat: u64,
    /// What paying cost beyond that.
    pub fee_msat: u64,
    /// Bytes that were credited.
    pub bytes: u64,
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
        let totals = BTreeMap::from([(Role::Intermediate, total)]);
        let ledger = Ledger { totals, ..Ledger::default() };
        let value = to_value(&ledger).unwrap();
        assert_eq!(value["totals"]["intermediate"]["share_msat"], 3);
        assert_eq!(from_value::<Ledger>(value).unwrap(), ledger);
    }
}
