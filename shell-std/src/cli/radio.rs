//! `radio`: LoRa modems, before a node uses them and while it does.

use super::answer::{lines, table};
use super::global::Global;
use super::{Answer, Failure};
use crate::address::{HostPort, LoraAddress, SerialLine};
use crate::node::{CheckedModem, check_modem};
use crate::radio::{Dialect, Identity, Parameters, Region, rows};
use crate::rpc::Request;
use crate::rpc::types::{RadioState, RadioStats, Stats};
use clap::{Args, Subcommand};
use serde_json::json;
use std::time::Duration;

/// How long opening a line may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// See what LoRa modem is attached and whether it serves, and how long frames are on the air.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh radio check /dev/ttyUSB0
  blvm-mesh radio check \"lora+rnode:///dev/ttyUSB0?region=EU868\"
  blvm-mesh radio airtime --region EU868")]
pub(super) struct Radio {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    Airtime(Airtime),
}

/// Ask what is attached to a device, and with a whole address whether it takes its settings.
///
/// If the running node uses the device, it is asked instead. Exit code 1: something is not as it
/// should be.
#[derive(Debug, Args)]
struct Check {
    /// A device (/dev/ttyUSB0), HOST:PORT of a TCP server that passes one on, or a radio's whole
    /// address as in mesh.listen_addr.
    #[arg(value_name = "DEVICE|ADDRESS")]
    target: String,
}

/// Show for each spreading factor and bandwidth how fast it is, how long frames of 50, 100 and 235
/// bytes are on the air, and how many of the longest an hour's share holds.
#[derive(Debug, Args)]
struct Airtime {
    /// Region whose limits count, on its usual channel.
    #[arg(long, value_name = "REGION", default_value = "EU868")]
    region: Region,
    /// Coding rate 4/5 to 4/8: 5 to 8.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u8).range(5..=8))]
    coding_rate: u8,
}

impl Radio {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        match self.command {
            Command::Check(check) => check.run(global),
            Command::Airtime(airtime) => airtime.run(),
        }
    }
}

/// What is to be checked.
enum Target {
    /// A line, to find out what is there.
    Line(SerialLine),
    /// A radio with its settings.
    Radio(LoraAddress),
}

impl Target {
    fn parse(text: &str) -> Result<Self, Failure> {
        if LoraAddress::is_meant(text) {
            return text
                .parse()
                .map(Self::Radio)
                .map_err(|e: crate::address::LoraError| Failure(e.to_string()));
        }
        let line = if text.starts_with('/') {
            format!("serial://{text}").parse().ok()
        } else if SerialLine::is_meant(text) {
            text.parse().ok()
        } else {
            text.parse::<HostPort>().ok().map(SerialLine::Tcp)
        };
        line.map(Self::Line).ok_or_else(|| {
            Failure(format!(
                "\"{text}\" is neither a device (/dev/ttyUSB0), nor HOST:PORT, nor a radio \
                 (lora+rnode:///dev/ttyUSB0?region=EU868)"
            ))
        })
    }

    fn line(&self) -> &SerialLine {
        match self {
            Self::Line(line) => line,
            Self::Radio(radio) => &radio.line,
        }
    }
}

/// One thing that was looked at: what about, whether it is good, and what was found.
type Finding = (&'static str, bool, String);

impl Check {
    fn run(self, global: &Global) -> Result<Answer, Failure> {
        let target = Target::parse(&self.target)?;
        if let Some(radio) = in_use(global, target.line()) {
            let text = format!("the running node uses it:\n{}", in_words(&radio));
            return match radio.state == RadioState::Up {
                true => Answer::yes(json!({"in_use": true, "radio": radio}), text),
                false => Answer::no(json!({"in_use": true, "radio": radio}), text),
            };
        }
        let (dialects, parameters) = match &target {
            Target::Line(_) => (Dialect::ALL.to_vec(), None),
            Target::Radio(radio) => (vec![radio.dialect], Some((radio.parameters, radio.limits()))),
        };
        let checked = check_modem(target.line(), &dialects, parameters, PATIENCE);
        let mut checked = smol::block_on(checked);
        let mut other = None;
        if let (Target::Radio(radio), None, None) = (&target, &checked.line, &checked.identity) {
            // It may be a modem of the other kind.
            let others: Vec<_> = Dialect::ALL.into_iter().filter(|d| *d != radio.dialect).collect();
            let found = smol::block_on(check_modem(target.line(), &others, None, PATIENCE));
            other = found.identity;
            checked.warnings.extend(found.warnings);
        }
        answer(&target, &checked, other.as_ref())
    }
}

/// The radio of the running node, if it uses this line.
fn in_use(global: &Global, line: &SerialLine) -> Option<RadioStats> {
    let stats: Stats = global.ask(&Request::GetStats).ok()?;
    let uses = |radio: &RadioStats| {
        radio.radio.parse::<LoraAddress>().is_ok_and(|address| address.line.is_same(line))
    };
    stats.radios.into_iter().find(uses)
}

fn answer(
    target: &Target,
    checked: &CheckedModem,
    other: Option<&Identity>,
) -> Result<Answer, Failure> {
    let findings = findings(target, checked, other);
    let good = findings.iter().all(|(_, good, _)| *good);
    let mark = |good: &bool| if *good { "ok" } else { "WRONG" }.to_owned();
    let row = |(about, good, text): &Finding| [(*about).to_owned(), mark(good), text.clone()];
    let rows: Vec<_> = findings.iter().map(row).collect();
    let table = table(["", "", ""], &rows);
    let end = match (target, &checked.identity, good) {
        (Target::Line(line), Some(found), true) => {
            let (tcp, place) = match line {
                SerialLine::Device { path, .. } => ("", path.clone()),
                SerialLine::Tcp(at) => ("+tcp", at.to_string()),
            };
            let dialect = found.dialect.name();
            format!(
                "to use it, write into [mesh] of the configuration, with the region where you are:\n  \
                 listen_addr = [\"0.0.0.0:8338\", \"lora+{dialect}{tcp}://{place}?region=EU868\"]\n"
            )
        }
        (_, _, true) => "it serves\n".into(),
        (_, _, false) => "it does not serve as it should (docs/RADIO.md)\n".into(),
    };
    let json = json!({
        "good": good,
        "modem": checked.identity.as_ref().map(|i| i.dialect.name()),
        "firmware": checked.identity.as_ref().map(|i| i.firmware.clone()),
        "board": checked.identity.as_ref().and_then(|i| i.board.clone()),
        "findings": findings
            .iter()
            .map(|(about, good, text)| json!({"about": about, "good": good, "text": text}))
            .collect::<Vec<_>>(),
    });
    let text = table.trim_start_matches('\n').to_owned() + &end;
    if good { Answer::yes(json, text) } else { Answer::no(json, text) }
}

fn findings(target: &Target, checked: &CheckedModem, other: Option<&Identity>) -> Vec<Finding> {
    let mut found: Vec<Finding> = Vec::new();
    match &checked.line {
        Some(error) => found.push(("line", false, error.clone())),
        None => found.push(("line", true, target.line().to_string())),
    }
    if let Some(Identity { dialect, firmware, board }) = &checked.identity {
        let board = board.as_deref().unwrap_or("it does not say");
        found.push(("modem", true, format!("{dialect}, firmware {firmware}")));
        found.push(("board", true, board.to_owned()));
    }
    if let Some(fault) = &checked.fault {
        let fault = match other {
            Some(other) => format!(
                "a {} answers: write lora+{} instead",
                other.dialect,
                other.dialect.name()
            ),
            None => match (target, &checked.identity) {
                (Target::Line(_), None) => "neither an RNode nor a MeshCore KISS modem answers: is one of \
                    their firmwares on the board, is it the right device, and does no other program \
                    use it?"
                    .to_owned(),
                _ => fault.to_string(),
            },
        };
        found.push(("settings", false, fault));
    }
    found.extend(checked.warnings.iter().map(|what| ("warning", false, (*what).to_owned())));
    let Target::Radio(radio) = target else { return found };
    if let Some(set) = &checked.set {
        found.push(("settings", true, settings(set)));
        if set.power_dbm < radio.parameters.power_dbm {
            let wanted = radio.parameters.power_dbm;
            let text = format!("{} dbm is what it can, not {wanted} dBm", set.power_dbm);
            found.push(("power", true, text));
        }
    }
    let plan = radio.region.plan();
    found.push(("region", true, format!("{}: {} ({})", plan.name, plan.place, plan.source)));
    let duty = f64::from(radio.duty_permille) / 10.0;
    found.push(("air time", true, format!("{duty} % of an hour: {} s", 36.0 * duty)));
    found
}

fn settings(parameters: &Parameters) -> String {
    let Parameters { frequency_hz, bandwidth_hz, spreading, coding, power_dbm } = parameters;
    format!(
        "{:.4} MHz, {} kHz, SF{spreading}, 4/{coding}, {power_dbm} dBm: {} bit/s",
        f64::from(*frequency_hz) / 1e6,
        f64::from(*bandwidth_hz) / 1e3,
        parameters.bits_per_second()
    )
}

impl Airtime {
    fn run(self) -> Result<Answer, Failure> {
        let plan = self.region.plan();
        let usual = plan.usual;
        let duty_permille = self.region.check(&usual, 2).map_err(|e| Failure(e.to_string()))?;
        let rows = rows(self.coding_rate, duty_permille);
        let ms = |us: u64| format!("{:.1}", us as f64 / 1e3);
        let table_rows: Vec<_> = rows
            .iter()
            .map(|row| {
                let [short, middle, long] = row.airtime_us.map(ms);
                let bandwidth = format!("{}", f64::from(row.bandwidth_hz) / 1e3);
                let rate = row.bits_per_second.to_string();
                let spreading = format!("SF{}", row.spreading);
                let frames = row.frames_per_hour.to_string();
                [spreading, bandwidth, rate, short, middle, long, frames]
            })
            .collect();
        let head = ["", "kHz", "bit/s", "50 bytes, ms", "100", "235", "of these in an hour"];
        let text = format!(
            "{}: {} % of an hour on {:.3} MHz ({})\n{}",
            plan.name,
            f64::from(duty_permille) / 10.0,
            f64::from(usual.frequency_hz) / 1e6,
            plan.source,
            table(head, &table_rows)
        );
        let json: Vec<_> = rows
            .iter()
            .map(|row| {
                json!({
                    "spreading_factor": row.spreading,
                    "bandwidth_hz": row.bandwidth_hz,
                    "bits_per_second": row.bits_per_second,
                    "airtime_us": {
                        "50": row.airtime_us[0], "100": row.airtime_us[1], "235": row.airtime_us[2],
                    },
                    "frames_per_hour": row.frames_per_hour,
                })
            })
            .collect();
        let json = json!({
            "region": plan.name,
            "duty_permille": duty_permille,
            "coding_rate": self.coding_rate,
            "rows": json,
        });
        Answer::yes(json, text)
    }
}

/// A radio of the running node, in words.
pub(super) fn in_words(radio: &RadioStats) -> String {
    let r = radio;
    let state = match r.state {
        RadioState::Up => "up",
        RadioState::Starting => "being set",
        RadioState::Closed => "CLOSED",
    };
    let error = r.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    let firmware = r.firmware.as_ref().map(|v| format!(" {v}")).unwrap_or_default();
    let board = r.board.as_ref().map(|board| format!(" on {board}")).unwrap_or_default();
    let parameters = Parameters {
        frequency_hz: r.frequency_hz,
        bandwidth_hz: r.bandwidth_hz,
        spreading: r.spreading_factor,
        coding: r.coding_rate,
        power_dbm: r.power_dbm,
    };
    let limit = if r.is_at_limit { ", silent until less is used" } else { "" };
    let load = r.modem_load_permille.map_or(String::new(), |load| {
        format!(" ({} % as the modem hears it)", f64::from(load) / 10.0)
    });
    let mut text = format!("radio {} {state}{error}\n", r.radio);
    text.push_str(&lines([
        ("  modem", format!("{}{firmware}{board}", r.modem)),
        ("  channel", settings(&parameters)),
        (
            "  air time",
            format!(
                "{} of {} s in the last hour{limit}; channel taken {} % of the time{load}",
                r.airtime_hour_ms / 1000,
                r.airtime_limit_ms / 1000,
                f64::from(r.load_permille) / 10.0
            ),
        ),
        (
            "  frames",
            format!(
                "{} sent, {} not sent, {} heard, {} of them for others, {} damaged",
                r.frames_sent,
                r.frames_not_sent,
                r.frames_heard,
                r.frames_ignored,
                r.frames_damaged
            ),
        ),
        (
            "  neighbours",
            format!(
                "{}, {} more heard; {} beacons sent",
                r.neighbours.len(),
                r.candidates,
                r.beacons
            ),
        ),
    ]));
    for n in &r.neighbours {
        let snr = f64::from(n.snr_quarter_db) / 4.0;
        text.push_str(&format!(
            "    {} heard {} s ago at {snr} dB, {} of {} pieces sent again\n",
            n.node_id,
            n.heard_ms_ago / 1000,
            n.sent_again,
            n.chunks
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_device_a_server_or_a_radio() {
        let line = |text: &str| match Target::parse(text) {
            Ok(target) => target.line().to_string(),
            Err(Failure(why)) => why,
        };
        assert_eq!(line("/dev/ttyUSB0"), "serial:///dev/ttyUSB0?baud=115200");
        assert_eq!(line("serial:///dev/x?baud=9600"), "serial:///dev/x?baud=9600");
        assert_eq!(line("[::1]:7"), "serial+tcp://[::1]:7");
        assert_eq!(line("lora+rnode+tcp://h:1?region=EU868"), "serial+tcp://h:1");
        assert!(line("lora+rnode:///dev/x").contains("the region is missing"));
        assert!(line("ttyUSB0").contains("neither a device"));
    }
}
