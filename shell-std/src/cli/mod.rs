//! The command line: one file per group of commands.
//!
//! A command gives an [`Answer`] or a [`Failure`]; here they become text or JSON
//! and an exit code: 0 yes, 1 negative result, 2 no answer.

mod answer;
mod bench;
mod board_config;
mod bridge;
mod covenant;
mod decode;
mod demo;
mod destination;
mod events;
mod export;
mod flows;
mod global;
mod headers;
mod init;
mod input;
mod inspect;
mod invite;
mod invoice;
mod join;
mod keys;
mod ldk;
mod ledger;
mod lightning;
mod notify;
mod operate;
mod overview;
mod page;
mod pages;
mod payable;
mod peer;
mod ping;
mod prepay;
mod proof;
mod radio;
mod report;
mod rpc;
mod run;
mod span;
mod sums;
mod trace;
mod traffic;
mod tx;

pub(crate) use answer::{Answer, Failure};

use clap::{Parser, Subcommand};
use global::Global;
use std::process::ExitCode;

const AFTER: &str = "\
Exit code: 0 yes, 1 negative result (refused, not verified, nothing there), 2 bad usage or no answer,
3 sent, but what became of it is not known (send).
Settings come from flags, then environment variables (BLVM_MESH_...), then the configuration
file (<data_dir>/mesh.toml), then defaults; `blvm-mesh run --help` lists them.";

/// Payment-gated Bitcoin mesh relay.
///
/// Relays Bitcoin, governance and Stratum V2 traffic for free, and everything else
/// for a proof of payment that it checks by itself.
#[derive(Debug, Parser)]
#[command(name = "blvm-mesh", version, after_help = AFTER, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Init),
    Run(run::Run),
    Demo(demo::Demo),
    Keygen(keys::Keygen),
    Id(keys::Id),
    BoardConfig(board_config::BoardConfigCommand),
    Send(traffic::Send),
    Recv(traffic::Recv),
    Events(events::Events),
    FindRoute(traffic::FindRoute),
    Ping(ping::Ping),
    Trace(trace::Trace),
    Quote(invoice::Quote),
    Credit(invoice::Credit),
    #[command(name = "getinfo")]
    GetInfo(overview::GetInfo),
    Status(overview::Status),
    Page(page::PageCommand),
    Peers(report::Peers),
    Routes(report::Routes),
    Stats(report::Stats),
    Ledger(ledger::Ledger),
    Bitcoin(bridge::Bitcoin),
    Tx(tx::Tx),
    Flows(flows::Flows),
    Expose(flows::Expose),
    Forward(flows::Forward),
    Prepay(prepay::Prepay),
    Lightning(lightning::Lightning),
    Radio(radio::Radio),
    Issuer(invoice::Issuer),
    Headers(headers::Headers),
    Reload(operate::Reload),
    Peer(peer::Peer),
    Invite(invite::Invite),
    Join(join::Join),
    Tariff(operate::Tariff),
    Rpc(rpc::Rpc),
    Bench(bench::Bench),
    Detect(inspect::Detect),
    Decode(decode::Decode),
    VerifyProof(proof::VerifyProof),
    CtvHash(proof::CtvHash),
    CovenantTemplate(covenant::CovenantTemplate),
    CovenantProof(covenant::CovenantProof),
    Completions(pages::Completions),
    Man(pages::Man),
}

/// Reads the arguments of this process, carries the command out, and prints what
/// came of it.
pub fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    // What cannot be read is answered in the form that was asked for all the same.
    let json = arguments.iter().take_while(|a| *a != "--").any(|a| a == "--json");
    match Cli::try_parse_from(arguments) {
        Ok(cli) => answer::print(cli.run(), json),
        Err(error) => answer::print_usage(&error, json),
    }
}

impl Cli {
    fn run(self) -> Result<Answer, Failure> {
        let Self { global, command } = self;
        match command {
            Command::Init(c) => c.run(&global),
            Command::Run(c) => c.run(&global),
            Command::Demo(c) => c.run(&global),
            Command::Keygen(c) => c.run(&global),
            Command::Id(c) => c.run(&global),
            Command::BoardConfig(c) => c.run(),
            Command::Send(c) => c.run(&global),
            Command::Recv(c) => c.run(&global),
            Command::Events(c) => c.run(&global),
            Command::FindRoute(c) => c.run(&global),
            Command::Ping(c) => c.run(&global),
            Command::Trace(c) => c.run(&global),
            Command::Quote(c) => c.run(&global),
            Command::Credit(c) => c.run(&global),
            Command::GetInfo(c) => c.run(&global),
            Command::Status(c) => c.run(&global),
            Command::Page(c) => c.run(&global),
            Command::Peers(c) => c.run(&global),
            Command::Routes(c) => c.run(&global),
            Command::Stats(c) => c.run(&global),
            Command::Ledger(c) => c.run(&global),
            Command::Bitcoin(c) => c.run(&global),
            Command::Tx(c) => c.run(&global),
            Command::Flows(c) => c.run(&global),
            Command::Expose(c) => c.run(&global),
            Command::Forward(c) => c.run(&global),
            Command::Prepay(c) => c.run(&global),
            Command::Lightning(c) => c.run(&global),
            Command::Radio(c) => c.run(&global),
            Command::Issuer(c) => c.run(&global),
            Command::Headers(c) => c.run(&global),
            Command::Reload(c) => c.run(&global),
            Command::Peer(c) => c.run(&global),
            Command::Invite(c) => c.run(&global),
            Command::Join(c) => c.run(&global),
            Command::Tariff(c) => c.run(&global),
            Command::Rpc(c) => c.run(),
            Command::Bench(c) => c.run(&global),
            Command::Detect(c) => c.run(),
            Command::Decode(c) => c.run(),
            Command::VerifyProof(c) => c.run(),
            Command::CtvHash(c) => c.run(),
            Command::CovenantTemplate(c) => c.run(),
            Command::CovenantProof(c) => c.run(),
            Command::Completions(c) => c.run(),
            Command::Man(c) => c.run(),
        }
    }
}

#[cfg(test)]
mod tests;
