//! `reload` and `tariff`: what an operator changes while the node runs.

use super::answer::lines;
use super::global::{Global, tariff};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{Reloaded, SetTariff, TariffReport};
use clap::{Args, Subcommand};

/// Have the running node read its configuration again, as SIGHUP does.
///
/// Peers, prices, issuers, allowances, budgets and the log filter are applied at once; what takes a
/// restart is named. A configuration that is wrong changes nothing (exit code 1). Flags and
/// environment variables that the node was started with still come before the file.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh reload")]
pub(super) struct Reload {}

impl Reload {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let reloaded: Reloaded = match global.ask(&Request::Reload) {
            Ok(reloaded) => reloaded,
            Err(e) => return e.answer(),
        };
        Answer::yes(&reloaded, in_words(&reloaded))
    }
}

fn in_words(reloaded: &Reloaded) -> String {
    let Reloaded { file, applied, restart, notes } = reloaded;
    let mut text = match file {
        Some(file) => format!("read {file}\n"),
        None => "there is no configuration file; flags and variables were read\n".into(),
    };
    if applied.is_empty() && restart.is_empty() {
        text.push_str("nothing has changed\n");
    }
    if !applied.is_empty() {
        text.push_str(&format!("in force now: {}\n", applied.join(", ")));
    }
    if !restart.is_empty() {
        text.push_str(&format!("NEEDS A RESTART: {}\n", restart.join(", ")));
    }
    for note in notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text
}

/// Show and change what the running node asks for.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh tariff show
  blvm-mesh tariff set --base-msat 500 --per-kib-msat 50
  blvm-mesh tariff reset")]
pub(super) struct Tariff {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Show(Show),
    Set(Set),
    Reset(Reset),
}

/// Show the prices in force, and those of the configuration.
#[derive(Debug, Args)]
struct Show {}

/// Set prices, in the place of those of the configuration and over restarts too.
///
/// Neighbours are told at once. What is not given stays as it is.
#[derive(Debug, Args)]
struct Set {
    /// Price of a payment.
    #[arg(long, value_name = "MSAT", required_unless_present_any = ["per_kib_msat", "receive_base_msat", "receive_per_kib_msat"])]
    base_msat: Option<u32>,
    /// Price of each started KiB.
    #[arg(long, value_name = "MSAT")]
    per_kib_msat: Option<u32>,
    /// Price of a payment for bytes of flows that end here (exposed services).
    #[arg(long, value_name = "MSAT")]
    receive_base_msat: Option<u32>,
    /// Price of each started KiB of them.
    #[arg(long, value_name = "MSAT")]
    receive_per_kib_msat: Option<u32>,
}

/// Forget the prices that were set: those of the configuration hold.
#[derive(Debug, Args)]
struct Reset {}

impl Tariff {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let request = match self.command {
            Command::Show(_) => Request::GetTariff,
            Command::Reset(_) => Request::ResetTariff,
            Command::Set(set) => {
                let Set { base_msat, per_kib_msat, receive_base_msat, receive_per_kib_msat } = set;
                Request::SetTariff(SetTariff {
                    base_msat,
                    per_kib_msat,
                    receive_base_msat,
                    receive_per_kib_msat,
                })
            }
        };
        let report: TariffReport = match global.ask(&request) {
            Ok(report) => report,
            Err(e) => return e.answer(),
        };
        let mut text =
            lines([("relaying", tariff(&report.relay)), ("receiving", tariff(&report.receive))]);
        if !report.set.is_empty() {
            text.push_str(&format!(
                "{} set at run time, and kept until `tariff reset`; the configuration says {} and {}\n",
                report.set.join(", "),
                tariff(&report.configured),
                tariff(&report.configured_receive),
            ));
        }
        Answer::yes(&report, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_says_what_holds_and_what_does_not() {
        let nothing = Reloaded::default();
        assert!(in_words(&nothing).ends_with("nothing has changed\n"));
        let reloaded = Reloaded {
            file: Some("a/mesh.toml".into()),
            applied: vec!["log".into(), "mesh.peers".into()],
            restart: vec!["limits.seen".into()],
            notes: vec!["a price".into()],
        };
        let expected = "read a/mesh.toml\nin force now: log, mesh.peers\n\
                        NEEDS A RESTART: limits.seen\nnote: a price\n";
        assert_eq!(in_words(&reloaded), expected);
    }
}
