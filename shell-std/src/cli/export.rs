//! `ledger export`: the ledger in a database of several nodes.

use super::answer::table;
use super::global::Global;
use super::{Answer, Failure};
use crate::config::Settings;
use crate::export::{Books, ExportSettings, Inspection, MIGRATIONS, Outbox, book_all};
use crate::identity::{Identity, KEY_FILE};
use crate::rpc::Request;
use crate::rpc::types::Stats;
use crate::store::{STORE_FILE, Store, StoreError};
use clap::Args;
use serde_json::json;

/// Book what is not booked yet in the database that `ledger.export` names, for a node that does not run.
///
/// A running node books by itself. With --check nothing is booked: the database is looked at.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh ledger export --check
  blvm-mesh ledger export")]
pub(super) struct Export {
    /// Connect, say what is found and how many lines wait, and change nothing. Exit code 1: something
    /// is not as it should be.
    #[arg(long)]
    check: bool,
}

impl Export {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let settings = global.settings(Vec::new())?;
        let Some(export) = &settings.export else {
            return no("the ledger is not exported: set ledger.export (docs/OPERATING.md)".into());
        };
        match self.check {
            true => check(global, &settings, export),
            false => book(&settings, export),
        }
    }
}

fn no(text: String) -> Result<Answer, Failure> {
    Answer::no(json!({"error": {"code": 1, "message": text}}), text.clone())
}

fn check(global: &Global, settings: &Settings, export: &ExportSettings) -> Result<Answer, Failure> {
    let (pending, waits) = pending(global, settings)?;
    let mut findings = Vec::new();
    let mut schema = None;
    match Books::inspect(export) {
        Err(error) => findings.push(("connection", false, error.to_string())),
        Ok(found) => {
            schema = Some(found.schema);
            findings = findings_of(found);
        }
    }
    findings.push(("pending", true, waits));
    let good = findings.iter().all(|(_, is_good, _)| *is_good);
    let mark = |good: bool| if good { "ok" } else { "WRONG" }.to_owned();
    let rows: Vec<_> = findings
        .iter()
        .map(|(about, is_good, text)| [(*about).to_owned(), mark(*is_good), text.clone()])
        .collect();
    let list: Vec<_> = findings
        .iter()
        .map(|(about, good, text)| json!({"about": about, "good": good, "text": text}))
        .collect();
    let json = json!({
        "target": export.target.to_string(),
        "good": good,
        "schema": schema,
        "pending": pending,
        "findings": list,
    });
    let text = format!("{}\n", export.target)
        + table(["", "", ""], &rows).trim_start_matches('\n')
        + if good { "the ledger can be booked\n" } else { "the ledger cannot be booked\n" };
    if good { Answer::yes(json, text) } else { Answer::no(json, text) }
}

fn findings_of(found: Inspection) -> Vec<(&'static str, bool, String)> {
    let Inspection { server, is_tls, schema, may_not_make, missing } = found;
    let tls = if is_tls { "in TLS" } else { "without TLS" };
    let known = i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX);
    let tables = match schema {
        0 => (true, format!("none yet; the first node makes version {known}")),
        old if old < known => (true, format!("version {old}; the next node makes version {known}")),
        new if new > known => {
            (false, format!("version {new}, and this program knows {known}: update this node"))
        }
        version => (true, format!("version {version}")),
    };
    let rights = match (may_not_make, missing.is_empty()) {
        (true, _) => {
            let text = "this user may not make the tables: let it own the database, or GRANT CREATE \
                        ON DATABASE to it (docs/OPERATING.md)";
            (false, text.to_owned())
        }
        (_, false) => (false, format!("this user lacks {} in blvm_mesh", missing.join(", "))),
        (_, true) => (true, "enough to book".to_owned()),
    };
    vec![
        ("connection", true, format!("PostgreSQL {server}, {tls}")),
        ("tables", tables.0, tables.1),
        ("rights", rights.0, rights.1),
    ]
}

/// How many lines wait, as the running node says, or else its store; and the same in words.
fn pending(global: &Global, settings: &Settings) -> Result<(Option<u64>, String), Failure> {
    let wait = |lines: u64| (Some(lines), format!("{lines} lines wait to be booked"));
    match global.ask::<Stats>(&Request::GetStats) {
        Ok(Stats { export: Some(export), .. }) => Ok(wait(export.pending)),
        Ok(Stats { export: None, .. }) => {
            Ok((None, "the node runs without ledger.export: start it again".into()))
        }
        Err(e) if e.is_not_running() => {
            let path = settings.data_dir.join(STORE_FILE);
            if !path.exists() {
                return Ok((None, "this node has no store yet".into()));
            }
            let store = Store::open(&path, settings.shell.store_cache_bytes)?;
            store.export_on()?;
            store.pending().map(wait).map_err(Failure)
        }
        Err(e) => Err(Failure(match e.answer() {
            Ok(answer) => answer.text,
            Err(failure) => failure.0,
        })),
    }
}

fn book(settings: &Settings, export: &ExportSettings) -> Result<Answer, Failure> {
    let (dir, cache) = (&settings.data_dir, settings.shell.store_cache_bytes);
    let path = dir.join(STORE_FILE);
    if !path.exists() {
        return no(format!("this node has no store yet ({})", path.display()));
    }
    let store = match Store::open(&path, cache) {
        Err(StoreError::InUse(_)) => {
            return no("the node runs, and books by itself: see `ledger export --check`".into());
        }
        store => store?,
    };
    let identity = Identity::load(&dir.join(KEY_FILE))?;
    store.export_on()?;
    let node = (identity.node_id(), settings.config.network);
    match book_all(export, node, &store) {
        Ok(new) => {
            let json = json!({"target": export.target.to_string(), "booked": new});
            Answer::yes(json, format!("{new} lines were new in {}", export.target))
        }
        Err(error) => no(format!("the ledger is not booked in {}: {error}", export.target)),
    }
}
