//! `getinfo` and `status`: the running node at a glance.

use super::answer::lines;
use super::global::{Global, msat, tariff};
use super::span::in_words;
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{LanNeighbour, Overview};
use clap::Args;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// How often `--watch` looks again.
const PAUSE: Duration = Duration::from_secs(2);
/// Cursor to the upper left, and all below it erased (ECMA-48).
const REDRAW: &str = "\x1b[H\x1b[J";

/// Show the running node at a glance, with what is not as it should be and what to do about it.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh getinfo --json")]
pub(super) struct GetInfo {}

/// Show the running node at a glance; with --watch again every two seconds.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh status --watch")]
pub(super) struct Status {
    /// Go on until it is interrupted or the node ends. On a terminal the screen is drawn anew,
    /// elsewhere it follows the one before, as one line with --json.
    #[arg(long)]
    watch: bool,
}

impl GetInfo {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let overview: Overview = match global.ask(&Request::GetOverview) {
            Ok(overview) => overview,
            Err(e) => return e.answer(),
        };
        Answer::yes(&overview, screen(&overview))
    }
}

impl Status {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let mut out = io::stdout().lock();
        let redraws = out.is_terminal() && !global.json;
        loop {
            let overview: Overview = match global.ask(&Request::GetOverview) {
                Ok(overview) => overview,
                Err(e) => return e.answer(),
            };
            if !self.watch {
                return Answer::yes(&overview, screen(&overview));
            }
            let shown = match global.json {
                true => serde_json::to_string(&overview)?,
                false => screen(&overview),
            };
            match draw(&mut out, &shown, redraws) {
                // Whoever closed the pipe has seen enough.
                Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                    return Ok(Answer::printed(true));
                }
                other => other?,
            }
            std::thread::sleep(PAUSE);
        }
    }
}

fn draw(out: &mut impl Write, shown: &str, redraws: bool) -> io::Result<()> {
    let before = if redraws { REDRAW } else { "" };
    let after = if redraws || shown.starts_with('{') { "" } else { "\n" };
    writeln!(out, "{before}{}{after}", shown.trim_end())?;
    out.flush()
}

/// All of it, for people.
fn screen(o: &Overview) -> String {
    let listening = match o.listening.is_empty() {
        true => "nothing".to_owned(),
        false => o.listening.join(", "),
    };
    let today = o.today.map_or("the ledger cannot be read".to_owned(), |today| {
        format!(
            "{} payments earned {}, {} cost {} (since 0:00 UTC)",
            today.payments,
            msat(today.earned_msat),
            today.paid,
            msat(today.paid_msat)
        )
    });
    let bitcoin = o.bitcoin.as_ref().map_or("not bridged".to_owned(), |b| {
        let height = b.header_height.map_or(String::new(), |h| format!(", headers up to {h}"));
        let node = b.node.as_ref().map_or(String::new(), |node| format!(", leads to {node}"));
        let listen = match b.listen.is_empty() {
            true => String::new(),
            false => format!(", taken on {}", b.listen.join(", ")),
        };
        format!("{} connections{node}{listen}{height}", b.connections)
    });
    let disk = o.disk_free.map_or(String::new(), |free| format!(" ({} MiB free)", free >> 20));
    let mut text = lines([
        ("node", o.node_id.to_string()),
        ("public key", hex::encode(o.public_key)),
        ("version", o.version.clone()),
        ("network, mode", format!("{}, {}", o.network, o.mode)),
        ("up for", in_words(o.uptime_ms / 1000)),
        ("listening on", listening),
        ("peers", format!("{} up, {} down", o.peers_up, o.peers_down)),
        ("routes", o.routes.to_string()),
        ("flows", format!("{} end here, {} pass", o.flows_own, o.flows_passing)),
        ("tariff", tariff(&o.tariff)),
        ("today", today),
        ("bitcoin", bitcoin),
        ("lightning", o.lightning.clone().unwrap_or_else(|| "none".into())),
        ("files", format!("{}{disk}", o.data_dir)),
    ]);
    for LanNeighbour { public_key, address, trusted } in &o.lan {
        let key = hex::encode(public_key);
        let trusted = if *trusted { "trusted" } else { "not trusted with what this node pays for" };
        text.push_str(&format!("on a LAN: {key} at {address}, {trusted}\n"));
    }
    match o.warnings.is_empty() {
        true => text.push_str("no warnings\n"),
        false => text.push_str(&format!("{} WARNINGS\n", o.warnings.len())),
    }
    for warning in &o.warnings {
        text.push_str(&format!(
            "  {}: {}\n    -> {}\n",
            warning.kind.name(),
            warning.text,
            warning.remedy
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::types::{Tariff, Today, Warning, WarningKind};
    use blvm_mesh_core::id::{Network, NodeId};

    fn overview() -> Overview {
        Overview {
            node_id: NodeId([7; 32]),
            public_key: [2; 33],
            version: "1".into(),
            network: Network::Signet,
            mode: "payment_gated".into(),
            uptime_ms: 3_661_000,
            listening: vec!["[::]:8338".into(), "serial:///dev/ttyS0?baud=9600".into()],
            peers_up: 3,
            peers_down: 1,
            lan: Vec::new(),
            routes: 5,
            flows_own: 1,
            flows_passing: 2,
            tariff: Tariff { base_msat: 7, per_kib_msat: 8 },
            today: Some(Today { since: 0, payments: 9, earned_msat: 10, paid: 11, paid_msat: 12 }),
            bitcoin: None,
            lightning: Some("cln".into()),
            data_dir: "/var/lib/x".into(),
            disk_free: Some(5 << 20),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn one_screen_has_it_all() {
        let good = screen(&overview());
        assert!(good.lines().count() <= 24, "{good}");
        for part in [
            "up for         1 h 1 min",
            "3 up, 1 down",
            "[::]:8338, serial:///dev/ttyS0",
            "9 payments earned 10 msat, 11 cost 12 msat",
            "(5 MiB free)",
            "lightning      cln",
            "no warnings",
        ] {
            assert!(good.contains(part), "{part} is not in {good}");
        }
        let (public_key, address) = ([2; 33], "[fe80::1%2]:9".to_owned());
        let lan = vec![LanNeighbour { public_key, address, trusted: false }];
        let found = screen(&Overview { lan, ..overview() });
        let line = format!("on a LAN: {} at [fe80::1%2]:9, not trusted", "02".repeat(33));
        assert!(found.contains(&line), "{found}");
        let kind = WarningKind::Clock;
        let warning = Warning { kind, text: "it is late".into(), remedy: "set it".into() };
        let bad = screen(&Overview { warnings: vec![warning], ..overview() });
        assert!(bad.ends_with("1 WARNINGS\n  clock: it is late\n    -> set it\n"));
    }

    #[test]
    fn only_a_terminal_is_drawn_anew() {
        let drawn = |shown: &str, redraws| {
            let mut out = Vec::new();
            draw(&mut out, shown, redraws).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(drawn("a\nb\n", true), format!("{REDRAW}a\nb\n"));
        assert_eq!(drawn("a\nb\n", false), "a\nb\n\n", "screens are apart");
        assert_eq!(drawn("{}", false), "{}\n", "one line each");
    }
}
