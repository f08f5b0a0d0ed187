//! `lightning`: the operator's Lightning node, as this node sees it.

use super::answer::table;
use super::global::{Global, msat};
use super::invoice::Terms;
use super::ldk::Ldk;
use super::{Answer, Failure};
use crate::config::Settings;
use crate::date::time;
use crate::lightning::{self, Lightning as Node};
use crate::rpc::Request;
use crate::rpc::types::{WriteInvoice, WrittenInvoice};
use clap::{Args, Subcommand};
use secp256k1::PublicKey;
use serde_json::json;
use std::path::Path;

/// In the data directory: the key of the Lightning node that this node last knew, so that it starts
/// without it.
const KNOWN: &str = "lightning.node";

/// See whether the operator's Lightning node serves, and have it write invoices.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh lightning check
  blvm-mesh lightning invoice 5e1c...d3 --amount-msat 12000
  blvm-mesh lightning ldk init --esplora https://mempool.space/signet/api")]
pub(super) struct Lightning {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Invoice(Invoice),
    Ldk(Ldk),
}

/// Ask the Lightning node of the configuration who it is and what it can, and say what is missing.
///
/// No running node of the mesh is needed. A small invoice is written, which expires unpaid; nothing is
/// paid. Exit code 1: something is not as it should be.
#[derive(Debug, Args)]
struct Check {}

/// Have the running node's Lightning node write an invoice for what another node has quoted.
///
/// Of all invoices that its key signs, this node accepts as proofs for datagrams only those that it
/// asked for. Bytes of flows need none of this: each node sells them by itself.
#[derive(Debug, Args)]
struct Invoice {
    /// What it is for: the terms hash that `blvm-mesh quote` shows at the other node, or a file with
    /// the answer of `quote --json` there.
    #[arg(value_name = "HASH|FILE")]
    terms: String,
    /// The amount that it shows. [default: that of the quote]
    #[arg(long, value_name = "MSAT")]
    amount_msat: Option<u64>,
    /// Seconds until the invoice expires. [default: 3600]
    #[arg(long, value_name = "SECONDS")]
    expiry: Option<u64>,
}

impl Lightning {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        match self.command {
            Command::Check(_) => check(&global.settings(Vec::new())?),
            Command::Invoice(invoice) => invoice.run(global),
            Command::Ldk(ldk) => ldk.run(global),
        }
    }
}

fn check(settings: &Settings) -> Result<Answer, Failure> {
    let Some(lightning) = &settings.lightning else {
        let text = "no Lightning node is configured: set lightning.backend (docs/LIGHTNING.md)";
        return Answer::no(json!({"error": {"code": 1, "message": text}}), text);
    };
    let checkup = lightning.check(settings.config.network);
    let name = lightning.open().name();
    let findings: Vec<_> = checkup
        .findings
        .iter()
        .map(|f| json!({"about": f.about, "good": f.is_good, "text": f.text}))
        .collect();
    let good = checkup.is_good();
    let json = json!({
        "backend": name,
        "place": lightning.place(),
        "key": checkup.key.map(|key| key.to_string()),
        "good": good,
        "findings": findings,
    });
    let mark = |good: bool| if good { "ok" } else { "WRONG" }.to_owned();
    let row = |f: &lightning::Finding| [f.about.to_owned(), mark(f.is_good), f.text.clone()];
    let rows: Vec<_> = checkup.findings.iter().map(row).collect();
    let head = format!("{name} at {}\n", lightning.place());
    let end = if good { "it serves\n" } else { "it does not serve as it should\n" };
    let text = head + table(["", "", ""], &rows).trim_start_matches('\n') + end;
    if good { Answer::yes(json, text) } else { Answer::no(json, text) }
}

impl Invoice {
    fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { terms, amount_msat, expiry: expiry_s } = self;
        let Terms { terms_hash, amount_msat: quoted } = Terms::read(&terms)?;
        let amount_msat = amount_msat.or(quoted);
        let amount_msat =
            amount_msat.ok_or_else(|| Failure("give the amount with --amount-msat".into()))?;
        let request = WriteInvoice { terms_hash, amount_msat, expiry_s };
        let written: WrittenInvoice = match global.ask(&Request::WriteInvoice(request)) {
            Ok(written) => written,
            Err(e) => return e.answer(),
        };
        let text = super::answer::lines([
            ("invoice", written.invoice.clone()),
            ("payment hash", hex::encode(written.payment_hash)),
            ("issuer", hex::encode(written.issuer)),
            ("amount", msat(amount_msat)),
            ("expires at", time(written.expires_at)),
        ]);
        Answer::yes(&written, text)
    }
}

/// The Lightning node of the configuration, for a node that starts. Its key becomes an accepted
/// issuer, and the one whose invoices count only if this node asked for them.
pub(super) fn join(settings: &mut Settings) -> Result<Option<Node>, Failure> {
    let Some(lightning) = &settings.lightning else { return Ok(None) };
    for warning in lightning.warnings() {
        tracing::warn!("{warning}");
    }
    let network = settings.config.network;
    let file = settings.data_dir.join(KNOWN);
    let known = known(&file);
    let node = match (lightning::connect(lightning, network), known) {
        (Ok(node), known) => {
            if let Some(known) = known.filter(|known| known != node.public_key()) {
                let now = node.public_key();
                tracing::warn!(%known, %now, "the Lightning node is another than before");
            }
            if known != Some(*node.public_key()) {
                std::fs::write(&file, format!("{}\n", node.public_key()))?;
            }
            node
        }
        // It comes back; until then nothing is sold or bought.
        (Err(error), Some(key)) => {
            tracing::error!(%key, "the Lightning node gives no answer: {error}");
            Node::new(lightning.open(), network, key)
        }
        (Err(error), None) => {
            let place = lightning.place();
            return Err(Failure(format!(
                "the Lightning node at {place} gives no answer: {error}. For its first start this \
                 node must learn its key; see `blvm-mesh lightning check`"
            )));
        }
    };
    let (rules, key) = (&mut settings.config.payment, *node.public_key());
    rules.shared_issuer = Some(key);
    if !rules.issuers.contains(&key) {
        let full =
            |_| Failure("mesh.issuers leaves no room for the Lightning node's own key".into());
        rules.issuers.push(key).map_err(full)?;
    }
    tracing::info!(%key, "paid by and paying with the operator's Lightning node");
    Ok(Some(node))
}

fn known(file: &Path) -> Option<PublicKey> {
    std::fs::read_to_string(file).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::tests::run;
    use super::*;
    use crate::config::{Override, Sources};
    use crate::lightning::BackendSettings;
    use crate::lightning::fake::{Fake, Fault};
    use std::os::unix::fs::PermissionsExt;

    /// The configuration of a node with a phoenixd.
    fn keys(fake: &Fake, dir: &Path) -> Vec<(&'static str, String)> {
        let BackendSettings::Phoenixd { url, password } = &fake.settings.backend else {
            unreachable!()
        };
        vec![
            ("data_dir", dir.display().to_string()),
            ("mesh.network", "regtest".into()),
            ("lightning.backend", "phoenixd".into()),
            ("lightning.url", url.clone()),
            ("lightning.password_file", password.display().to_string()),
        ]
    }

    #[test]
    fn a_check_says_yes_or_what_is_wrong() {
        let (fake, dir) = (Fake::start("phoenixd"), tempfile::tempdir().unwrap());
        for (_, path) in fake.settings.credentials() {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).unwrap();
        }
        let set: Vec<_> =
            keys(&fake, dir.path()).iter().map(|(key, v)| format!("{key}={v}")).collect();
        let mut arguments = vec!["lightning", "check"];
        arguments.extend(set.iter().flat_map(|set| ["--set", set.as_str()]));
        let checked = run(&arguments).unwrap();
        assert!(checked.yes, "{}", checked.text);
        assert!(checked.text.ends_with("it serves\n"), "{}", checked.text);
        assert_eq!(checked.json["key"], fake.with(|model| model.key()).to_string());
        fake.with(|model| model.fault = ("", Fault::Proxy));
        let checked = run(&arguments).unwrap();
        assert!(!checked.yes && checked.text.contains("WRONG"), "{}", checked.text);
        assert_eq!(checked.json["good"], false);
        let none = run(&["lightning", "check", "--data-dir", dir.path().to_str().unwrap()]);
        assert!(none.unwrap().text.contains("set lightning.backend"));
    }

    #[test]
    fn a_node_learns_the_key_at_its_first_start_and_then_starts_without() {
        let (fake, dir) = (Fake::start("phoenixd"), tempfile::tempdir().unwrap());
        let join = || {
            let overrides = keys(&fake, dir.path()).into_iter();
            let overrides = overrides
                .map(|(key, value)| Override { origin: key.into(), key: key.into(), value })
                .collect();
            let sources = Sources { overrides, ..Sources::default() };
            let mut settings = sources.load().unwrap();
            let joined = join(&mut settings).map(|node| node.map(|node| *node.public_key()));
            (joined, settings.config.payment)
        };
        fake.with(|model| model.fault = ("", Fault::Proxy));
        let error = join().0.unwrap_err().to_string();
        assert!(error.contains("must learn its key"), "{error}");
        fake.with(|model| model.fault = ("", Fault::None));
        let key = fake.with(|model| model.key());
        for fault in [Fault::None, Fault::Proxy] {
            fake.with(|model| model.fault = ("", fault));
            let (joined, rules) = join();
            assert_eq!(joined, Ok(Some(key)));
            assert_eq!((&rules.issuers[..], rules.shared_issuer), (&[key][..], Some(key)));
        }
    }
}
