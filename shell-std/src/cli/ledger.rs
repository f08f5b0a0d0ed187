//! `ledger`: what a node has earned, sold, bought and paid.

use super::answer::table;
use super::export::Export;
use super::global::{Global, msat};
use super::sums::{self, By};
use super::{Answer, Failure};
use crate::date::{date, parse};
use crate::rpc::Request;
use crate::rpc::types::{self, GetLedger, LedgerKind, Role};
use crate::store::{STORE_FILE, Store};
use clap::{Args, Subcommand, ValueEnum};

/// Most of each kind that a node lists.
const MOST_LISTED: usize = 10_000;

/// List accepted payments and what this node earned with them, and bytes that it sold and bought.
///
/// Where no node runs the store is read directly.
#[derive(Debug, Args)]
#[command(
    after_help = "\
Examples:
  blvm-mesh ledger --limit 10
  blvm-mesh ledger --role intermediate --since 2026-01-31
  blvm-mesh ledger --kind purchases --json
  blvm-mesh ledger --by day --since 2026-01-01
  blvm-mesh ledger --csv > ledger.csv
  blvm-mesh ledger export --check",
    args_conflicts_with_subcommands = true
)]
pub(super) struct Ledger {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only what was accepted or begun at or after this time: seconds since 1970, or 2026-01-31,
    /// or 2026-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = parse)]
    since: Option<u64>,
    /// Only what was accepted or begun before this time.
    #[arg(long, value_name = "TIME", value_parser = parse)]
    until: Option<u64>,
    /// Only payments in which this node was this: no sales, no purchases.
    #[arg(long, value_enum)]
    role: Option<RoleName>,
    /// Only this.
    #[arg(long, value_enum)]
    kind: Option<KindName>,
    /// Most of each kind to list, the newest first; the totals count all. [default: 100; 10000
    /// with --by and --csv, which count what is listed]
    #[arg(long)]
    limit: Option<usize>,
    /// Sums for each other node or day in the place of the list: earned, paid, fees.
    #[arg(long, value_enum, value_name = "node|day")]
    by: Option<By>,
    /// Print comma-separated values, the oldest first.
    #[arg(long, conflicts_with = "by")]
    csv: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    Export(Export),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum RoleName {
    Source,
    Intermediate,
    Destination,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KindName {
    Payments,
    Sales,
    Purchases,
}

impl Ledger {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        if let Some(Command::Export(export)) = self.command {
            return export.run(global);
        }
        let role = self.role.map(|role| match role {
            RoleName::Source => Role::Source,
            RoleName::Intermediate => Role::Intermediate,
            RoleName::Destination => Role::Destination,
        });
        let kind = self.kind.map(|kind| match kind {
            KindName::Payments => LedgerKind::Payments,
            KindName::Sales => LedgerKind::Sales,
            KindName::Purchases => LedgerKind::Purchases,
        });
        let usual = if self.csv || self.by.is_some() { MOST_LISTED } else { 100 };
        let (since, until, limit) = (self.since, self.until, self.limit.unwrap_or(usual));
        let query = GetLedger { since, until, role, kind, limit };
        let ledger = match global.ask(&Request::GetLedger(query.clone())) {
            Ok(ledger) => ledger,
            Err(e) if e.is_not_running() => {
                let settings = global.settings(Vec::new())?;
                let path = settings.data_dir.join(STORE_FILE);
                if !path.exists() {
                    return e.answer();
                }
                Store::open(&path, settings.shell.store_cache_bytes)?.ledger(&query)?
            }
            Err(e) => return e.answer(),
        };
        if let Some(by) = self.by {
            let sums = sums::sums(&ledger, by);
            let text = sums::sums_table(&sums, by) + &left_out(&ledger);
            return Answer::yes(&sums, text);
        }
        if self.csv && !global.json {
            return Answer::yes(&ledger, sums::csv(&ledger));
        }
        let mut text = payments(&ledger) + &sales(&ledger) + &owed(&ledger) + &purchases(&ledger);
        if text.is_empty() {
            text = "no payment was accepted, and nothing was sold or bought".into();
        }
        Answer::yes(&ledger, text)
    }
}

/// Says so where not all is listed.
fn left_out(ledger: &types::Ledger) -> String {
    let payments: u64 = ledger.totals.values().map(|total| total.payments).sum();
    let all = [
        (payments, ledger.entries.len()),
        (ledger.sold.sales, ledger.sales.len()),
        (ledger.bought.purchases, ledger.purchases.len()),
    ];
    match all.iter().all(|(all, listed)| *all == *listed as u64) {
        true => String::new(),
        false => format!(
            "only the newest {MOST_LISTED} of each kind are counted: give --since and --until\n"
        ),
    }
}

fn payments(ledger: &types::Ledger) -> String {
    let row = |e: &types::LedgerEntry| {
        [
            e.accepted_at.to_string(),
            date(e.accepted_at),
            e.method.clone(),
            e.role.name().into(),
            msat(e.amount_msat),
            msat(e.share_msat),
            e.source.hop().to_string(),
            e.destination.hop().to_string(),
            hex::encode(e.payment),
        ]
    };
    let rows: Vec<_> = ledger.entries.iter().map(row).collect();
    let heading = [
        "accepted",
        "date",
        "method",
        "role",
        "amount",
        "share",
        "source",
        "destination",
        "payment",
    ];
    let mut text = if rows.is_empty() { String::new() } else { table(heading, &rows) };
    for (of, total) in &ledger.totals {
        let (payments, share) = (total.payments, msat(total.share_msat));
        text.push_str(&format!("as {}: {payments} payments, {share}\n", of.name()));
    }
    text
}

fn sales(ledger: &types::Ledger) -> String {
    let types::Sold { sales, amount_msat } = ledger.sold;
    if sales == 0 {
        return String::new();
    }
    let row = |sale: &types::Sale| {
        [
            sale.accepted_at.to_string(),
            date(sale.accepted_at),
            msat(sale.amount_msat),
            sale.account_bytes.to_string(),
            sale.source.hop().to_string(),
            hex::encode(sale.payment),
        ]
    };
    let rows: Vec<_> = ledger.sales.iter().map(row).collect();
    let heading = ["sold", "date", "amount", "account's bytes in all", "source", "payment"];
    let text = if rows.is_empty() { String::new() } else { table(heading, &rows) };
    text + &format!("sold: {sales} times bytes, {}\n", msat(amount_msat))
}

fn owed(ledger: &types::Ledger) -> String {
    let line = |owed: &types::Owed| format!("{} owes {} bytes\n", owed.source.hop(), owed.bytes);
    ledger.owed.iter().map(line).collect()
}

fn purchases(ledger: &types::Ledger) -> String {
    let types::Bought { purchases, amount_msat, fee_msat, bytes } = ledger.bought;
    if purchases == 0 {
        return String::new();
    }
    let row = |purchase: &types::Purchase| {
        [
            purchase.begun_at.to_string(),
            date(purchase.begun_at),
            purchase.state.name().into(),
            msat(purchase.amount_msat),
            msat(purchase.fee_msat),
            purchase.bytes.to_string(),
            purchase.node.hop().to_string(),
            hex::encode(purchase.payment),
        ]
    };
    let rows: Vec<_> = ledger.purchases.iter().map(row).collect();
    let heading = ["bought", "date", "state", "amount", "fee", "bytes", "node", "payment"];
    let text = if rows.is_empty() { String::new() } else { table(heading, &rows) };
    let (amount, fee) = (msat(amount_msat), msat(fee_msat));
    text + &format!("bought: {bytes} bytes, {purchases} invoices of {amount}, fees {fee}\n")
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use crate::store::{STORE_FILE, Store};
    use crate::wallet::{Intent, Purchases};
    use blvm_mesh_core::flow::accounts::Account;
    use blvm_mesh_core::id::{HopId, NodeId};
    use blvm_mesh_core::payment::ledger::{Credit, Record};
    use serde_json::json;

    const UNIX: u64 = 1_790_000_000;

    #[test]
    fn sales_and_purchases_are_listed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&dir.path().join(STORE_FILE), 65_536).unwrap();
        let credit = |n: u8, bought| {
            Record::Credit(Credit {
                payment_hash: [n; 32],
                run: 1,
                issued: 1,
                amount_msat: 5_000,
                accepted_at: UNIX + u64::from(n),
                source: NodeId([8; 32]),
                account: Account::restored(bought, 0, 0, HopId([0; 8]), 0),
            })
        };
        store.commit(&[(1, credit(1, 70_000)), (2, credit(2, 150_000))]).unwrap();
        for n in [3, 4, 5, 6] {
            let intent = Intent {
                payment_hash: [n; 32],
                node: NodeId([9; 32]),
                bytes: 80_000,
                amount_msat: 7_000,
                max_fee_msat: 700,
                begun_at: UNIX + u64::from(n),
                spent_at: 1,
                promise: [6; 49],
                expires_at: UNIX + 900,
                wallet: None,
            };
            assert!(store.begin(&intent).unwrap());
        }
        store.paid(&[3; 32], &[13; 32], 20).unwrap();
        store.credited(&[3; 32], 80_000).unwrap();
        store.paid(&[4; 32], &[14; 32], 10).unwrap();
        store.not_paid(&[5; 32]).unwrap();
        drop(store);

        let ledger = |more: &[&str]| {
            let at = ["ledger", "--data-dir", dir.path().to_str().unwrap()];
            run(&[&at[..], more].concat()).unwrap()
        };
        let all = ledger(&[]);
        let states = |list: &serde_json::Value, field: &str| {
            let list = list.as_array().unwrap();
            list.iter().map(|entry| entry[field].clone()).collect::<Vec<_>>()
        };
        assert_eq!(states(&all.json["purchases"], "state"), ["unknown", "paid", "credited"]);
        assert_eq!(states(&all.json["purchases"], "fee_msat"), [700, 10, 20]);
        assert_eq!(states(&all.json["sales"], "account_bytes"), [150_000, 70_000]);
        let sold = json!({"sales": 2, "amount_msat": 10_000});
        assert_eq!(all.json["sold"], sold);
        let bought =
            json!({"purchases": 3, "amount_msat": 21_000, "fee_msat": 730, "bytes": 80_000});
        assert_eq!(all.json["bought"], bought);
        let totals = [
            "sold: 2 times bytes, 10000 msat\n",
            "bought: 80000 bytes, 3 invoices of 21000 msat, fees 730 msat\n",
        ];
        for total in totals {
            assert!(all.text.contains(total), "{}", all.text);
        }

        let some = ledger(&["--kind", "purchases", "--limit", "1"]);
        assert_eq!(states(&some.json["purchases"], "state"), ["unknown"]);
        assert_eq!((&some.json["bought"], &some.json["sales"]), (&bought, &json!([])));
        let until = (UNIX + 4).to_string();
        let some = ledger(&["--kind", "purchases", "--until", &until]);
        assert_eq!(some.json["purchases"][0]["preimage"], "0d".repeat(32));
        let by_day = ledger(&["--by", "day"]);
        let day =
            json!({"earned_msat": 10_000, "paid_msat": 21_000, "fee_msat": 730, "payments": 5});
        assert_eq!(by_day.json, json!({"2026-09-21": day}), "{}", by_day.text);
        let by_node = ledger(&["--by", "node", "--limit", "1"]);
        assert_eq!(by_node.json["08".repeat(32)]["earned_msat"], 5_000);
        assert_eq!(by_node.json["09".repeat(32)]["paid_msat"], 7_000);
        assert!(by_node.text.contains("only the newest"), "{}", by_node.text);
        let csv = ledger(&["--csv"]).text;
        assert_eq!(csv.lines().count(), 6, "{csv}");
        let sale = format!("sale,{},2026-09-21T", UNIX + 1);
        assert!(csv.lines().nth(1).unwrap().starts_with(&sale), "{csv}");
        assert!(
            csv.contains(&format!(",0,7000,20,80000,credited,{}\r\n", "03".repeat(32))),
            "{csv}"
        );

        let none = ledger(&["--role", "source"]);
        assert_eq!(none.text, "no payment was accepted, and nothing was sold or bought");
    }
}
