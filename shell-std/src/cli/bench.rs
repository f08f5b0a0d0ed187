//! `bench`: measures the way to another node.

use super::answer::lines;
use super::destination::Destination;
use super::global::Global;
use super::{Answer, Failure};
use crate::bench::Protocol;
use crate::rpc::Request;
use crate::rpc::types::{BenchResult, BenchSink, BenchStart};
use clap::{Args, Subcommand, ValueEnum};

/// Measure the way to another node: goodput, packets per second, round trips, loss.
///
/// Both ends run a node; at the other one the sink must be on.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh bench sink on                          (at the other end)
  blvm-mesh bench start $NODE --protocol bitcoin
  blvm-mesh bench start $NODE --bytes 100 --window 0 --json")]
pub(super) struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Turn the sink of this node on or off.
    Sink {
        /// Whether anyone may measure the way here.
        state: State,
    },
    /// Send a load to a node whose sink is on.
    Start(Start),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum State {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Load {
    /// Data of no protocol, which goes free in mode open only.
    Raw,
    /// `inv` messages, which go free everywhere.
    Bitcoin,
}

#[derive(Debug, Args)]
struct Start {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    destination: Destination,
    /// What the load looks like.
    #[arg(long, value_enum, default_value = "raw")]
    protocol: Load,
    /// Bytes of payload in a packet.
    #[arg(long, default_value_t = 1400)]
    bytes: usize,
    /// How long to send, in milliseconds.
    #[arg(long, default_value_t = 5000)]
    duration_ms: u64,
    /// Bytes that may be on the way; 0 sends one packet at a time, for round trips.
    #[arg(long, default_value_t = 786_432)]
    window: usize,
}

impl Bench {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        match self.command {
            Command::Sink { state } => {
                let request = Request::BenchSink(BenchSink { on: matches!(state, State::On) });
                match global.ask::<BenchSink>(&request) {
                    Ok(sink) => Answer::yes(
                        sink,
                        format!("the sink is {}", if sink.on { "on" } else { "off" }),
                    ),
                    Err(e) => e.answer(),
                }
            }
            Command::Start(start) => start.run(global),
        }
    }
}

impl Start {
    fn run(self, global: &Global) -> Result<Answer, Failure> {
        let protocol = match self.protocol {
            Load::Raw => Protocol::Raw,
            Load::Bitcoin => Protocol::Bitcoin,
        };
        let Self { destination, bytes, duration_ms, window, .. } = self;
        let destination = match destination.resolve(global) {
            Ok(destination) => destination,
            Err(e) => return e.answer(),
        };
        let request = BenchStart { destination, protocol, bytes, duration_ms, window };
        let result: BenchResult = match global.ask(&Request::BenchStart(request)) {
            Ok(result) => result,
            Err(e) => return e.answer(),
        };
        let o = &result.outcome;
        let text = lines([
            ("goodput", format!("{:.1} Mbit/s", result.goodput_mbit)),
            ("packets", format!("{:.0} per second", result.packets_per_second)),
            ("loss", format!("{:.3} %", result.loss * 100.0)),
            (
                "round trip",
                format!(
                    "{} us median, {} us p90, {} us p99 of {}",
                    o.rtt_p50_us, o.rtt_p90_us, o.rtt_p99_us, o.rtt_samples
                ),
            ),
            (
                "sent, received",
                format!("{}, {} packets of {} bytes", o.sent, o.received, o.payload_bytes),
            ),
        ]);
        Answer::yes(&result, text)
    }
}
