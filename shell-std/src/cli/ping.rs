//! `ping`: probes to a node, one after the other, and how long their answers take.

use super::destination::Destination;
use super::global::{ClientFailure, Global};
use super::trace::us;
use super::{Answer, Failure};
use crate::probe::{LEAST, MOST};
use crate::rpc::Request;
use crate::rpc::target::Target;
use crate::rpc::types::{self, Fared, Pinged};
use async_signal::{Signal, Signals};
use clap::Args;
use serde::Serialize;
use smol::stream::StreamExt;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Send probes to a node, and show how long each answer takes.
///
/// Probes go free, by the best route; each is sent when the one before was answered or given up, and the
/// interval is over. The first may take longer, as the other node may have to look for the way back. When it ends,
/// also by Ctrl-C, statistics follow. Exit code: 0 an answer came, 1 none did, 2 bad usage, or no node runs here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh ping 0f715baf
  blvm-mesh ping $NODE -c 5 -i 0.5 -s 512
  blvm-mesh ping $NODE --count 3 --json")]
pub(super) struct Ping {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    node: Destination,
    /// Stop after so many probes. [default: when it is interrupted]
    #[arg(short, long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Seconds from one probe to the next, at least 0.1: nodes answer ten a second by one neighbour.
    #[arg(short, long, value_name = "SECONDS", default_value = "1", value_parser = seconds)]
    interval: Duration,
    /// Bytes of data in a probe, 38 to 512; the answer has as many.
    #[arg(short, long, value_name = "BYTES", default_value_t = types::USUAL as u16,
          value_parser = clap::value_parser!(u16).range(LEAST as i64..=MOST as i64))]
    size: u16,
    /// Longest wait for an answer, in seconds.
    #[arg(short = 'W', long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    wait: Duration,
}

/// Seconds, with a fraction or without.
fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("\"{text}\" is not a number of seconds from 0.1 to 600");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    let good = (0.1..=600.0).contains(&seconds);
    good.then(|| Duration::from_secs_f64(seconds)).ok_or_else(wrong)
}

/// One probe, for programs.
#[derive(Serialize)]
struct Numbered<'p> {
    seq: u64,
    #[serde(flatten)]
    pinged: &'p Pinged,
}

/// What was sent and answered so far.
#[derive(Debug, Default)]
struct Counted {
    sent: u64,
    /// Round trips, in microseconds: how many, their sum, the sum of their squares, least and most.
    answered: u64,
    sum: u64,
    squares: u128,
    least: Option<u64>,
    most: u64,
}

/// The same, for programs.
#[derive(Debug, PartialEq, Serialize)]
struct Statistics {
    destination: String,
    sent: u64,
    answered: u64,
    /// Part of the probes without an answer, 0 to 1.
    loss: f64,
    min_us: Option<u64>,
    avg_us: Option<u64>,
    max_us: Option<u64>,
    /// Standard deviation, which `ping` of iputils calls so.
    mdev_us: Option<u64>,
    time_ms: u64,
}

impl Counted {
    fn note(&mut self, round_trip_us: Option<u64>) {
        self.sent += 1;
        let Some(us) = round_trip_us else { return };
        self.answered += 1;
        self.sum = self.sum.saturating_add(us);
        self.squares = self.squares.saturating_add(u128::from(us).pow(2));
        self.least = Some(self.least.map_or(us, |least| least.min(us)));
        self.most = self.most.max(us);
    }

    fn statistics(&self, destination: Target, since: Instant) -> Statistics {
        let average = self.sum.checked_div(self.answered);
        let deviation = average.map(|average| {
            let of_squares = self.squares / u128::from(self.answered);
            of_squares.saturating_sub(u128::from(average).pow(2)).isqrt() as u64
        });
        let lost = self.sent - self.answered;
        Statistics {
            destination: destination.to_string(),
            sent: self.sent,
            answered: self.answered,
            loss: if self.sent == 0 { 0.0 } else { lost as f64 / self.sent as f64 },
            min_us: self.least,
            avg_us: average,
            max_us: self.least.map(|_| self.most),
            mdev_us: deviation,
            time_ms: u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Statistics {
    fn in_words(&self) -> String {
        let Self { destination, sent, answered, loss, time_ms, .. } = self;
        let mut text = format!(
            "\n--- {destination} ping statistics ---\n\
             {sent} probes sent, {answered} answered, {:.0}% loss, time {time_ms} ms\n",
            100.0 * loss
        );
        if let (Some(min), Some(avg), Some(max), Some(mdev)) =
            (self.min_us, self.avg_us, self.max_us, self.mdev_us)
        {
            let ms = [min, avg, max, mdev].map(|us| format!("{}.{:03}", us / 1_000, us % 1_000));
            text.push_str(&format!("rtt min/avg/max/mdev = {} ms\n", ms.join("/")));
        }
        text
    }
}

/// One probe, for people; `known`: the software that was shown last.
fn line(seq: u64, pinged: &Pinged, known: &mut Option<String>) -> String {
    let Pinged { destination, bytes, fared } = pinged;
    let Fared { round_trip_us: Some(time), told, relays, .. } = fared else {
        let reason = fared.reason.as_deref().unwrap_or("no answer");
        return format!("seq={seq}: {reason}");
    };
    let relays = relays.map_or(String::new(), |relays| format!(" relays={relays}"));
    let software = told.as_ref().and_then(|told| told.software.clone());
    let new = software.filter(|name| known.as_ref() != Some(name));
    let shown = new.as_ref().map_or(String::new(), |name| format!(" ({name})"));
    *known = new.or(known.take());
    format!("{bytes} bytes from {destination}: seq={seq}{relays} time={}{shown}", us(*time))
}

impl Ping {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let destination = match self.node.resolve(global) {
            Ok(destination) => destination,
            // As iputils has it, who is not known is a fault.
            Err(ClientFailure::Unclear(text)) => return Err(Failure(text)),
            Err(other) => return other.answer(),
        };
        match smol::block_on(self.go(global, destination)) {
            Ok(answer) => answer,
            // Whoever closed the pipe has seen enough.
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(Answer::printed(true)),
            Err(e) => Err(e.into()),
        }
    }

    async fn go(
        &self,
        global: &Global,
        destination: Target,
    ) -> io::Result<Result<Answer, Failure>> {
        let mut signals = Signals::new([Signal::Int, Signal::Term])?;
        let (since, mut counted, mut known) = (Instant::now(), Counted::default(), None);
        if !global.json {
            say(&format!("PING {destination} {} bytes of data", self.size))?;
        }
        let wait_ms = u64::try_from(self.wait.as_millis()).unwrap_or(u64::MAX);
        let ping = types::Ping { destination, bytes: self.size.into(), wait_ms };
        for seq in 1..=self.count.unwrap_or(u64::MAX) {
            let next = Instant::now() + self.interval;
            let (global, request) = (global.clone(), Request::Ping(ping.clone()));
            let json = global.json;
            let asked = async { Some(smol::unblock(move || global.ask::<Pinged>(&request)).await) };
            let stopped = async {
                signals.next().await;
                None
            };
            // Of a probe during which it ends nobody knows what becomes: it does not count.
            let Some(answer) = smol::future::or(stopped, asked).await else { break };
            let pinged = match answer {
                Ok(pinged) => pinged,
                Err(error) => {
                    self.end(&counted, destination, since, json)?;
                    return Ok(error.answer());
                }
            };
            counted.note(pinged.fared.round_trip_us);
            say(&match json {
                true => serde_json::to_string(&Numbered { seq, pinged: &pinged })?,
                false => line(seq, &pinged, &mut known),
            })?;
            if self.count == Some(seq) {
                break;
            }
            let pause = async {
                smol::Timer::at(next).await;
                false
            };
            let stopped = async {
                signals.next().await;
                true
            };
            if smol::future::or(stopped, pause).await {
                break;
            }
        }
        self.end(&counted, destination, since, global.json)?;
        Ok(Ok(Answer::printed(counted.answered > 0)))
    }

    fn end(
        &self,
        counted: &Counted,
        destination: Target,
        since: Instant,
        json: bool,
    ) -> io::Result<()> {
        let statistics = counted.statistics(destination, since);
        match json {
            true => say(&serde_json::json!({ "statistics": statistics }).to_string()),
            false => say(&statistics.in_words()),
        }
    }
}

fn say(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{}", text.trim_end())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    #[test]
    fn statistics_are_those_of_the_round_trips() {
        let destination = Target(NodeId([7; 32]));
        let mut counted = Counted::default();
        let none = counted.statistics(destination, Instant::now());
        assert_eq!((none.sent, none.loss, none.avg_us), (0, 0.0, None));
        for round_trip in [Some(1_000), None, Some(3_000), Some(2_000)] {
            counted.note(round_trip);
        }
        let all = counted.statistics(destination, Instant::now());
        assert_eq!((all.sent, all.answered, all.loss), (4, 3, 0.25));
        assert_eq!(
            [all.min_us, all.avg_us, all.max_us, all.mdev_us],
            [1_000, 2_000, 3_000, 816].map(Some)
        );
        let text = all.in_words();
        assert!(text.contains("4 probes sent, 3 answered, 25% loss"), "{text}");
        assert!(text.contains("min/avg/max/mdev = 1.000/2.000/3.000/0.816 ms"), "{text}");
    }

    #[test]
    fn a_line_says_what_became_of_a_probe() {
        let mut pinged = Pinged {
            destination: NodeId([7; 32]),
            bytes: 64,
            fared: Fared { reason: Some("no route".into()), ..Fared::default() },
        };
        assert_eq!(line(1, &pinged, &mut None), "seq=1: no route");
        pinged.fared = Fared {
            answered: true,
            round_trip_us: Some(1_234),
            relays: Some(2),
            ..Fared::default()
        };
        let text = line(3, &pinged, &mut None);
        assert!(text.ends_with("07: seq=3 relays=2 time=1.234 ms"), "{text}");
    }

    #[test]
    fn seconds_have_bounds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "0.09", "-1", "601", "NaN", "inf", "1s", ""] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
