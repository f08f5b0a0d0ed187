//! `flows`, `expose` and `forward`: streams through the mesh.

use super::answer::{lines, table};
use super::destination::Destination;
use super::global::{Global, msat};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{
    self, ExposedService, Exposing, FlowList, ForwardedPort, Forwarding, PaymentPlan, PlanPayment,
};
use clap::Args;

/// List the flows that end at the node and those that pass, its services and its forwards.
///
/// Exit code 1: there are none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh flows
  blvm-mesh flows --json")]
pub(super) struct Flows {}

/// Make a TCP port reachable for the nodes of the mesh, under a name.
///
/// It stays until it is withdrawn or the node stops; flow.expose in the configuration keeps it.
/// Whoever reaches the node pays the nodes between, and nothing here.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh expose 22 --as ssh
  blvm-mesh expose 192.168.1.5:50001 --as electrum
  blvm-mesh expose --withdraw --as ssh")]
pub(super) struct Expose {
    /// The port: of 127.0.0.1, or IP:PORT.
    #[arg(required_unless_present = "withdraw")]
    port: Option<String>,
    /// Its name in the mesh.
    #[arg(long = "as", value_name = "NAME")]
    name: String,
    /// Withdraw it; open connections stay.
    #[arg(long, conflicts_with = "port")]
    withdraw: bool,
}

/// Lead connections to a port of this host to a service of another node.
///
/// The node opens a flow when the first connection comes, and buys by itself what the nodes
/// between carry, within --max-msat and budget.max_msat_per_hour. The forward stays until it is
/// ended or the node stops; flow.forward in the configuration keeps it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh forward 2222 02ab...:ssh
  blvm-mesh forward 127.0.0.1:0 02ab...:electrum --max-msat 5000000
  blvm-mesh forward 2222 02ab...:ssh --dry-run
  blvm-mesh forward --end 2222")]
pub(super) struct Forward {
    /// Where connections are taken: a port of 127.0.0.1, or IP:PORT; port 0: any free one.
    local: String,
    /// To whom, and to which of its services: NODE:NAME.
    #[arg(value_name = "NODE:NAME", required_unless_present = "end")]
    to: Option<String>,
    /// The most that each flow of it may cost, in msat. [default: flow.max_msat]
    #[arg(long, value_name = "MSAT")]
    max_msat: Option<u64>,
    /// Show what a flow would buy at each node first, and what the budget has left, and forward
    /// nothing. Exit code 1: it would not be paid, and why.
    #[arg(long, conflicts_with = "end")]
    dry_run: bool,
    /// End the forward; open connections stay.
    #[arg(long, conflicts_with = "to")]
    end: bool,
}

impl Flows {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let list: FlowList = match global.ask(&Request::GetFlows) {
            Ok(list) => list,
            Err(e) => return e.answer(),
        };
        let parts = [
            own(&list.own),
            passing(&list.passing),
            exposed(&list.exposed),
            forwards(&list.forwards),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        match parts.is_empty() {
            true => Answer::no(
                &list,
                "no flow ends here or passes, and nothing is exposed or forwarded",
            ),
            false => Answer::yes(&list, parts.join("\n")),
        }
    }
}

impl Expose {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let target = self.port.filter(|_| !self.withdraw);
        let asked = types::Expose { name: self.name, target };
        let now: Exposing = match global.ask(&Request::Expose(asked)) {
            Ok(now) => now,
            Err(e) => return e.answer(),
        };
        let text = match now.exposed.is_empty() {
            true => "nothing is exposed".into(),
            false => exposed(&now.exposed),
        };
        Answer::yes(&now, text)
    }
}

impl Forward {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let Self { local, to, max_msat, dry_run: dry, .. } = self;
        let (node, service) = match to {
            None => (None, None),
            Some(to) => {
                let Some((node, name)) = to.rsplit_once(':') else {
                    return Err(Failure(format!("\"{to}\": write NODE:NAME, as in 02ab...:ssh")));
                };
                let node: Destination = node.parse().map_err(|e| Failure(format!("{e}")))?;
                match node.resolve(global) {
                    Ok(node) => (Some(node), Some(name.to_owned())),
                    Err(e) => return e.answer(),
                }
            }
        };
        if let (true, Some(destination)) = (dry, node) {
            return dry_run(global, PlanPayment { destination, bytes: 0, max_msat });
        }
        let asked = types::Forward { local, node, service, max_msat };
        let ends = asked.node.is_none();
        let now: Forwarding = match global.ask(&Request::Forward(asked)) {
            Ok(now) => now,
            Err(e) => return e.answer(),
        };
        let text = match ends {
            true => format!("{} is no longer forwarded", now.local),
            false => format!("connections to {} are forwarded", now.local),
        };
        Answer::yes(&now, text)
    }
}

/// Shows what a flow would buy, and whether it would be paid.
pub(super) fn dry_run(global: &Global, asked: PlanPayment) -> Result<Answer, Failure> {
    let plan: PaymentPlan = match global.ask(&Request::PlanPayment(asked)) {
        Ok(plan) => plan,
        Err(e) => return e.answer(),
    };
    let mut text = match plan.hops.is_empty() {
        true => "the route is direct: there is no node between to be paid\n".into(),
        false => super::invoice::per_hop(&plan.hops),
    };
    text.push_str(&lines([
        ("amount", msat(plan.amount_msat)),
        ("fees at most", msat(plan.max_fee_msat)),
        ("may cost", msat(plan.max_msat)),
        ("left this hour", msat(plan.left_hour_msat)),
        ("left this day", msat(plan.left_day_msat)),
    ]));
    text.push_str("the destination says itself what it takes for receiving, mostly nothing\n");
    match &plan.refused {
        None => Answer::yes(&plan, text + "it would be paid"),
        Some(why) => {
            let text = format!("{text}it would not be paid: {why}");
            Answer::no(&plan, text)
        }
    }
}

fn own(flows: &[types::OwnFlow]) -> String {
    if flows.is_empty() {
        return String::new();
    }
    let row = |f: &types::OwnFlow| {
        let route = f.route.iter().map(|hop| hop.to_string()).collect::<Vec<_>>();
        [
            f.flow.clone(),
            if f.opened { "to" } else { "from" }.into(),
            f.peer.hop().to_string(),
            f.sort.clone(),
            if f.up { "up" } else { "waits" }.into(),
            f.quota.to_string(),
            f.used.to_string(),
            f.acknowledged.to_string(),
            msat(f.paid_msat),
            format!("{} s", f.age_ms / 1000),
            route.join(" "),
        ]
    };
    let heading = [
        "flow",
        "dir",
        "peer",
        "sort",
        "state",
        "quota",
        "used",
        "acknowledged",
        "paid",
        "age",
        "route",
    ];
    table(heading, &flows.iter().map(row).collect::<Vec<_>>())
}

fn passing(flows: &[types::PassingFlow]) -> String {
    if flows.is_empty() {
        return String::new();
    }
    let row = |f: &types::PassingFlow| {
        [
            f.flow.clone(),
            f.source.hop().to_string(),
            f.from.to_string(),
            f.to.to_string(),
            if f.paid { "paid" } else { "free" }.into(),
            f.reserved.to_string(),
            format!("{} s", f.idle_ms / 1000),
        ]
    };
    let heading = ["passing", "source", "from", "to", "sort", "reserved", "idle"];
    table(heading, &flows.iter().map(row).collect::<Vec<_>>())
}

fn exposed(services: &[ExposedService]) -> String {
    if services.is_empty() {
        return String::new();
    }
    let row = |s: &ExposedService| [s.name.clone(), s.target.clone()];
    table(["exposed", "port"], &services.iter().map(row).collect::<Vec<_>>())
}

fn forwards(ports: &[ForwardedPort]) -> String {
    if ports.is_empty() {
        return String::new();
    }
    let row = |p: &ForwardedPort| {
        [p.local.clone(), p.node.hop().to_string(), p.service.clone(), msat(p.max_msat)]
    };
    table(["forwarded", "node", "service", "at most"], &ports.iter().map(row).collect::<Vec<_>>())
}
