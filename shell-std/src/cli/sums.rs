//! What the ledger comes to, for each node or day, and as a table for other programs.

use super::answer::table;
use super::global::msat;
use crate::date::date;
use crate::rpc::types::{Ledger, PurchaseState, Role};
use blvm_mesh_core::id::NodeId;
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;

/// Seconds of a day; days are those of UTC.
const DAY_S: u64 = 86_400;

/// What sums are made over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// The other node.
    Node,
    /// The day, in UTC.
    Day,
}

/// Something that was earned or paid.
struct Line {
    kind: &'static str,
    unix: u64,
    node: NodeId,
    earned_msat: u64,
    paid_msat: u64,
    fee_msat: u64,
    bytes: u64,
    state: &'static str,
    payment: [u8; 32],
}

/// A sum.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Sum {
    /// What this node received, in millisatoshi.
    earned_msat: u64,
    /// What it paid, or may have, in millisatoshi, without fees.
    paid_msat: u64,
    /// What that cost beyond it, or may have.
    fee_msat: u64,
    /// How many payments these were.
    payments: u64,
}

/// All lines, the oldest first.
fn lines(ledger: &Ledger) -> Vec<Line> {
    let payments = ledger.entries.iter().map(|e| {
        let is_own = e.role == Role::Source;
        Line {
            kind: "datagram",
            unix: e.accepted_at,
            node: if is_own { e.destination } else { e.source },
            earned_msat: if is_own { 0 } else { e.share_msat },
            paid_msat: if is_own { e.amount_msat } else { 0 },
            fee_msat: 0,
            bytes: 0,
            state: e.role.name(),
            payment: e.payment,
        }
    });
    let sales = ledger.sales.iter().map(|sale| Line {
        kind: "sale",
        unix: sale.accepted_at,
        node: sale.source,
        earned_msat: sale.amount_msat,
        paid_msat: 0,
        fee_msat: 0,
        bytes: 0,
        state: "paid",
        payment: sale.payment,
    });
    let purchases = ledger.purchases.iter().map(|purchase| Line {
        kind: "purchase",
        unix: purchase.begun_at,
        node: purchase.node,
        earned_msat: 0,
        paid_msat: purchase.amount_msat,
        fee_msat: purchase.fee_msat,
        bytes: match purchase.state {
            PurchaseState::Credited => purchase.bytes,
            PurchaseState::Paid | PurchaseState::Unknown => 0,
        },
        state: purchase.state.name(),
        payment: purchase.payment,
    });
    let mut lines: Vec<_> = payments.chain(sales).chain(purchases).collect();
    lines.sort_by_key(|line| line.unix);
    lines
}

/// Each line as comma-separated values (RFC 4180), under a heading.
pub(super) fn csv(ledger: &Ledger) -> String {
    let mut text =
        "kind,unix,date,node,earned_msat,paid_msat,fee_msat,bytes_credited,state,payment\r\n"
            .to_owned();
    for line in lines(ledger) {
        let Line { kind, unix, node, earned_msat, paid_msat, fee_msat, bytes, state, payment } =
            line;
        let (date, payment) = (date(unix), hex::encode(payment));
        text.push_str(&format!(
            "{kind},{unix},{date},{node},{earned_msat},{paid_msat},{fee_msat},{bytes},{state},\
             {payment}\r\n"
        ));
    }
    text
}

/// The sums, by the name of what they are over.
pub(super) fn sums(ledger: &Ledger, by: By) -> BTreeMap<String, Sum> {
    let mut sums = BTreeMap::<String, Sum>::new();
    for line in lines(ledger) {
        let name = match by {
            By::Node => line.node.to_string(),
            By::Day => date(line.unix - line.unix % DAY_S).chars().take(10).collect(),
        };
        let sum = sums.entry(name).or_default();
        sum.earned_msat = sum.earned_msat.saturating_add(line.earned_msat);
        sum.paid_msat = sum.paid_msat.saturating_add(line.paid_msat);
        sum.fee_msat = sum.fee_msat.saturating_add(line.fee_msat);
        sum.payments += 1;
    }
    sums
}

/// The same for people.
pub(super) fn sums_table(sums: &BTreeMap<String, Sum>, by: By) -> String {
    let row = |(name, sum): (&String, &Sum)| {
        let Sum { earned_msat, paid_msat, fee_msat, payments } = sum;
        [name.clone(), msat(*earned_msat), msat(*paid_msat), msat(*fee_msat), payments.to_string()]
    };
    let rows: Vec<_> = sums.iter().map(row).collect();
    let over = match by {
        By::Node => "node",
        By::Day => "day (UTC)",
    };
    table([over, "earned", "paid", "fees", "payments"], &rows)
}
