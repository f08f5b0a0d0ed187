//! `send`, `recv` and `find-route`.

use super::answer::lines;
use super::destination::Destination;
use super::global::{Global, msat};
use super::input::{Bytes, Format, Input, bytes, fixed};
use super::{Answer, Failure};
use crate::rpc::Request;
use crate::rpc::types::{
    self, CovenantProof, FoundRoute, LightningProof, Outcome, PlanPayment, PollReceived, Proof,
    Received, SendPacket, Sent, Stopped,
};
use clap::Args;
use std::io::{self, Write};
use std::path::PathBuf;

/// Send data to a node.
///
/// A route is looked for where none is known. What goes free needs no proof; for
/// everything else give one (see `quote`), or have the node pay by itself (--pay). Exit code 0: it was delivered, as the destination says of what
/// is paid for; or the neighbour has it, and no node on the route refused it in the time that
/// this takes, which is no receipt. 1: it was refused, and why. 3: what became of it is not known.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh send $NODE block.bin
  echo hello | blvm-mesh send $NODE --invoice lnbcrt... --preimage 00ff...
  blvm-mesh send $NODE report.pdf --pay --max-msat 200000
  blvm-mesh send $NODE report.pdf --pay --dry-run
  blvm-mesh send $NODE --text hello --unchecked --wait-ms 500")]
pub(super) struct Send {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    destination: Destination,
    /// File with the data; `-` or none: standard input.
    #[arg(conflicts_with_all = ["hex", "text"])]
    file: Option<PathBuf>,
    /// The data in hex.
    #[arg(long, value_parser = bytes, conflicts_with = "text")]
    hex: Option<Bytes>,
    /// The data as text.
    #[arg(long)]
    text: Option<String>,
    /// How the data in the file is written.
    #[arg(long, value_enum, default_value_t = Format::Binary)]
    format: Format,
    /// A paid invoice as proof of payment.
    #[arg(long, requires = "preimage")]
    invoice: Option<String>,
    /// The invoice's preimage, in hex.
    #[arg(long, requires = "invoice", value_parser = fixed::<32>)]
    preimage: Option<[u8; 32]>,
    /// A covenant proof in hex, in the place of an invoice.
    #[arg(long, value_name = "HEX", value_parser = bytes, conflicts_with = "invoice")]
    covenant: Option<Bytes>,
    /// Have the node pay by itself, within its budget: over a flow, each node of the route for
    /// itself. What goes free is not paid for.
    #[arg(long, conflicts_with_all = ["invoice", "covenant", "unchecked"])]
    pay: bool,
    /// The most that the route may cost. [default: flow.max_msat]
    #[arg(long, value_name = "MSAT", requires = "pay")]
    max_msat: Option<u64>,
    /// Show what it would cost at each node, and what the budget has left, and send nothing.
    /// Exit code 1: it would not be paid, and why.
    #[arg(long, requires = "pay")]
    dry_run: bool,
    /// Send even what this node itself would refuse, to try a relay.
    #[arg(long)]
    unchecked: bool,
    /// How long to wait at most for the receipt of what is paid for, or for a relay's report
    /// that it refused the data. What is free is waited for no longer than such a report takes;
    /// with 0 nobody knows, which is exit code 3. [default: 5000; with --pay 120000]
    #[arg(long, value_name = "MS")]
    wait_ms: Option<u64>,
}

/// Fetch data that was sent to this node.
///
/// Each datagram is handed out once. Exit code 1: there is none.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh recv --wait-ms 5000
  blvm-mesh recv --max 1 --raw > payload.bin
  blvm-mesh recv --follow --json")]
pub(super) struct Recv {
    /// Most datagrams to fetch.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..))]
    max: u32,
    /// How long to wait for the first where there is none.
    #[arg(long, value_name = "MS", default_value_t = 0)]
    wait_ms: u64,
    /// Print the payloads alone, as they are.
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Go on until interrupted; with --json one object a line.
    #[arg(long)]
    follow: bool,
}

/// Look for a route to a node, even where one is known.
///
/// Exit code 1: there is none.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  blvm-mesh find-route $NODE")]
pub(super) struct FindRoute {
    /// To whom: identity or its first digits, public key, or PUBKEY@HOST:PORT.
    destination: Destination,
}

impl Send {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let data = match (self.hex, self.text) {
            (Some(Bytes(data)), _) => data,
            (None, Some(text)) => text.into_bytes(),
            (None, None) => Input { file: self.file, format: self.format }.read()?,
        };
        let proof = match (self.invoice, self.preimage, self.covenant) {
            (Some(invoice), Some(preimage), _) => {
                Some(Proof::Lightning(LightningProof { invoice, preimage }))
            }
            (_, _, Some(Bytes(covenant))) => Some(Proof::Covenant(CovenantProof { covenant })),
            _ => None,
        };
        let destination = match self.destination.resolve(global) {
            Ok(destination) => destination,
            Err(e) => return e.answer(),
        };
        let (pay, max_msat) = (self.pay, self.max_msat);
        if self.dry_run {
            let bytes = data.len() as u64;
            return super::flows::dry_run(global, PlanPayment { destination, bytes, max_msat });
        }
        let wait_ms = self.wait_ms.unwrap_or(if pay { 120_000 } else { 5_000 });
        let unchecked = self.unchecked;
        let request = Request::SendPacket(SendPacket {
            destination,
            data,
            proof,
            pay,
            max_msat,
            unchecked,
            wait_ms,
        });
        let sent: Sent = match global.ask(&request) {
            Ok(sent) => sent,
            Err(e) => return e.answer(),
        };
        let text = fate(&sent, wait_ms);
        match sent.outcome {
            Outcome::Sent | Outcome::Delivered => Answer::yes(&sent, text),
            Outcome::Refused => Answer::no(&sent, text),
            Outcome::Unknown => Answer::unknown(&sent, text),
        }
    }
}

/// What became of a datagram, in words.
pub(super) fn fate(sent: &Sent, wait_ms: u64) -> String {
    let Sent { bytes, destination, hops, sequence, repeats, .. } = sent;
    if let Some(spent_msat) = sent.spent_msat {
        return fate_over_a_flow(sent, spent_msat, wait_ms);
    }
    if let Some(Stopped { reporter, cause }) = &sent.stopped {
        return match repeats {
            0 => format!("refused by {reporter}: {cause}"),
            more => format!("refused by {reporter}, also when sent again ({more} times): {cause}"),
        };
    }
    let paid = if sent.paid { "with a proof of payment" } else { "free" };
    let way = match hops {
        0 => "directly".to_owned(),
        1 => "over 1 relay".to_owned(),
        more => format!("over {more} relays"),
    };
    let what = format!("{bytes} bytes to {destination} {way}, {paid}");
    let what = format!("{what} (packet {sequence:016x})");
    match (sent.outcome, &sent.repeating) {
        (Outcome::Delivered, _) => format!("delivered {what}{}", after(*repeats)),
        (Outcome::Unknown, Some(Stopped { reporter, cause })) => format!(
            "unknown: {what}: {reporter} stopped it: {cause}. It is sent again by itself, and not \
             to be paid for again; a longer --wait-ms tells how that ends"
        ),
        (Outcome::Unknown, None) if wait_ms == 0 => {
            format!("unknown: {what}: it was not waited for (--wait-ms)")
        }
        (Outcome::Unknown, None) => {
            format!("unknown: {what}: the next node did not answer, or not within {wait_ms} ms")
        }
        _ if sent.paid => format!(
            "sent {what}; nobody refused it, and no receipt came within {wait_ms} ms: without one \
             it is sent again by itself"
        ),
        _ => format!("sent {what}; nobody refused it"),
    }
}

/// What became of a datagram that the node paid for by itself.
fn fate_over_a_flow(sent: &Sent, spent_msat: u64, wait_ms: u64) -> String {
    let Sent { bytes, destination, sequence, .. } = sent;
    let what = format!("{bytes} bytes to {destination} (packet {sequence:016x})");
    let spent = match spent_msat {
        0 => "nothing was bought for it: what was bought before was enough, or nobody asked".into(),
        more => format!("{} were paid; what is left of it serves the next", msat(more)),
    };
    match (sent.outcome, &sent.stopped) {
        (_, Some(Stopped { reporter, cause })) => {
            format!("refused by {reporter}: {cause}; {spent}")
        }
        (Outcome::Delivered, None) => format!("delivered {what}; {spent}"),
        _ => format!(
            "unknown: {what}: no answer came within {wait_ms} ms, or the flow ended before. What \
             was bought by then serves the next"
        ),
    }
}

fn after(repeats: u8) -> String {
    match repeats {
        0 => String::new(),
        1 => ", sent again once".to_owned(),
        more => format!(", sent again {more} times"),
    }
}

impl Recv {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let wait_ms = if self.follow { 60_000 } else { self.wait_ms };
        let max = self.max as usize;
        let request = Request::PollReceived(PollReceived { max, wait_ms, base64: true });
        let mut client = match global.client() {
            Ok(client) => client,
            Err(e) => return e.answer(),
        };
        loop {
            let got: Vec<Received> = match client.call::<Vec<Received>>(&request) {
                // Whoever reads the answer knows it in hex.
                Ok(got) => got.into_iter().map(|r| Received { base64: false, ..r }).collect(),
                Err(e) => return Answer::refused(e),
            };
            if !self.follow && !self.raw {
                let text: String = got.iter().map(received).collect();
                return match got.is_empty() {
                    false => Answer::yes(&got, text),
                    true => Answer::no(&got, "nothing was received"),
                };
            }
            for datagram in &got {
                match self.print(datagram, global.json) {
                    // Whoever closed the pipe has seen enough.
                    Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                        return Ok(Answer::printed(true));
                    }
                    other => other?,
                }
            }
            if !self.follow {
                return Ok(Answer::printed(!got.is_empty()));
            }
        }
    }

    fn print(&self, datagram: &Received, json: bool) -> io::Result<()> {
        let mut out = io::stdout().lock();
        match (self.raw, json) {
            (true, _) => out.write_all(&datagram.data)?,
            (false, true) => writeln!(out, "{}", serde_json::to_string(datagram)?)?,
            (false, false) => write!(out, "{}", received(datagram))?,
        }
        out.flush()
    }
}

fn received(datagram: &Received) -> String {
    let Received { source, sequence, protocol, earned_msat, data, .. } = datagram;
    let printable = |c: char| !c.is_control() || c == '\n' || c == '\t';
    let shown = match std::str::from_utf8(data) {
        Ok(text) if text.len() <= 200 && text.chars().all(printable) => format!("{text:?}"),
        _ if data.len() <= 100 => hex::encode(data),
        _ => format!("{}...", hex::encode(data.get(..100).unwrap_or_default())),
    };
    format!(
        "from {source} (packet {sequence:016x}): {} bytes of {protocol}, {earned_msat} msat \
         earned\n  {shown}\n",
        data.len()
    )
}

impl FindRoute {
    pub(super) fn run(self, global: &Global) -> Result<Answer, Failure> {
        let destination = match self.destination.resolve(global) {
            Ok(destination) => destination,
            Err(e) => return e.answer(),
        };
        let request = Request::FindRoute(types::FindRoute { destination });
        let found: FoundRoute = match global.ask(&request) {
            Ok(found) => found,
            Err(e) => return e.answer(),
        };
        let text = lines([
            ("destination", found.route.destination.to_string()),
            ("hops", super::report::hops(&found.route.hops)),
            ("largest packet", format!("{} bytes", found.route.min_packet)),
            ("cost", found.route.cost.to_string()),
            ("found in", format!("{} us", found.took_us)),
        ]);
        Answer::yes(&found, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use blvm_mesh_core::id::NodeId;

    #[test]
    fn what_became_of_a_datagram_is_said_in_words() {
        let stopped =
            |cause: &str| Some(Stopped { reporter: NodeId([5; 32]), cause: cause.into() });
        let sent = Sent {
            sequence: 0xab,
            destination: NodeId([4; 32]),
            hops: 1,
            bytes: 6,
            paid: true,
            outcome: Outcome::Sent,
            stopped: None,
            repeats: 0,
            repeating: None,
            spent_msat: None,
        };
        let said = fate(&sent, 5);
        assert!(
            said.starts_with("sent 6 bytes to 0404") && said.contains("over 1 relay"),
            "{said}"
        );
        assert!(said.contains("packet 00000000000000ab"), "{said}");
        assert!(said.contains("no receipt came within 5 ms"), "{said}");
        let free = fate(&Sent { paid: false, ..sent.clone() }, 5);
        assert!(free.ends_with("nobody refused it"), "{free}");
        let outcome = Outcome::Delivered;
        let said = fate(&Sent { outcome, repeats: 2, ..sent.clone() }, 5);
        assert!(said.starts_with("delivered 6") && said.ends_with("again 2 times"), "{said}");
        let outcome = Outcome::Refused;
        let refused = Sent { outcome, stopped: stopped("full"), repeats: 3, ..sent.clone() };
        let said = fate(&refused, 5);
        assert!(
            said.contains("refused by 0505") && said.contains("again (3 times): full"),
            "{said}"
        );
        let outcome = Outcome::Unknown;
        let unknown = Sent { outcome, repeating: stopped("full"), repeats: 1, ..sent.clone() };
        let said = fate(&unknown, 5);
        assert!(said.contains("not to be paid for again"), "{said}");
        let unknown = Sent { outcome, ..sent };
        assert!(fate(&unknown, 0).contains("not waited for"));
        assert!(fate(&unknown, 7).contains("within 7 ms"));
        let paid = Sent { spent_msat: Some(51_000), outcome: Outcome::Delivered, ..unknown };
        let said = fate(&paid, 5);
        assert!(said.starts_with("delivered 6 bytes") && said.contains("were paid"), "{said}");
        let refused =
            Sent { stopped: stopped("no room"), outcome: Outcome::Refused, ..paid.clone() };
        assert!(fate(&refused, 5).contains("refused by 0505"), "{}", fate(&refused, 5));
        let unknown = Sent { outcome: Outcome::Unknown, spent_msat: Some(0), ..paid };
        assert!(fate(&unknown, 5).starts_with("unknown: 6 bytes"), "{}", fate(&unknown, 5));
    }
}
