//! `detect`: what a payload is, and what becomes of it.

use super::answer::lines;
use super::input::Input;
use super::{Answer, Failure};
use crate::config::{parse_mode, parse_network, parse_signet_challenge};
use blvm_mesh_core::id::Network;
use blvm_mesh_core::policy::{
    Classified, DetectedProtocol, FreeCost, MeshMode, OwnNetwork, PolicyConfig, RoutingPolicy,
    RoutingPolicyEngine,
};
use clap::Args;
use serde_json::json;

/// Tell the protocol of a payload, and what a relay does with it.
///
/// Prints `protocol`, `policy` (Free, PaymentRequired or Refused), and `reason` where the
/// protocol is Unknown. Where it goes free, the bytes of each class: `worked` bytes are
/// bound to proof of work and may use a neighbour's whole free allowance; `plain` ones and
/// `rare` ones (commands of which a node sends little) have small parts of it. Exit code 1: Unknown. No node needs to run.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  blvm-mesh detect block.bin --mode bitcoin_only
  echo f9beb4d976657261636b000000000000000000005df6e0e2 | blvm-mesh detect")]
pub(super) struct Detect {
    #[command(flatten)]
    input: Input,
    /// The relay's mode: bitcoin_only, payment_gated or open.
    #[arg(long, value_parser = parse_mode, default_value = "payment_gated")]
    mode: MeshMode,
    /// Recognise messages of this Bitcoin network only. [default: of every network]
    #[arg(long, value_parser = parse_network)]
    network: Option<Network>,
    /// The script of a signet of its own, in hex, as for bitcoind's -signetchallenge.
    #[arg(long, value_name = "HEX", value_parser = parse_signet_challenge)]
    signet_challenge: Option<[u8; 4]>,
    /// Let blvm-node's own Stratum V2 framing count as Stratum V2.
    #[arg(long)]
    private_stratum_tlv: bool,
    /// The relay's limits.min_difficulty. [default: that of the network]
    #[arg(long, value_name = "DIFFICULTY")]
    min_difficulty: Option<u64>,
}

impl Detect {
    pub(super) fn run(self) -> Result<Answer, Failure> {
        let payload = self.input.read()?;
        if self.signet_challenge.is_some() && self.network != Some(Network::Signet) {
            return Err(Failure("--signet-challenge needs --network signet".into()));
        }
        let usual = PolicyConfig::new(self.mode, self.network.unwrap_or(Network::Mainnet));
        let engine = RoutingPolicyEngine::new(PolicyConfig {
            own: OwnNetwork {
                magic: self.signet_challenge.unwrap_or(usual.own.magic),
                min_difficulty: self.min_difficulty.unwrap_or(usual.own.min_difficulty),
                ..usual.own
            },
            own_network_only: self.network.is_some(),
            private_stratum_tlv: self.private_stratum_tlv,
            ..usual
        });
        let (Classified { protocol, cost }, reason) = match engine.classify(&payload) {
            Ok(found) => (found, None),
            Err(why) => (engine.unread(payload.len()), Some(why.to_string())),
        };
        let policy = engine.determine_policy(protocol);
        let FreeCost { worked, plain, rare } = cost;
        let classes = [("worked", worked), ("plain", plain), ("rare", rare)];
        let free = policy == RoutingPolicy::Free;
        let policy = policy_name(policy);
        let name = protocol.name();
        let mut rows = vec![
            ("protocol", name.to_owned()),
            ("policy", policy.to_owned()),
            ("mode", self.mode.to_string()),
            ("bytes", payload.len().to_string()),
        ];
        if free {
            rows.extend(classes.map(|(class, bytes)| (class, bytes.to_string())));
        }
        rows.extend(reason.clone().map(|reason| ("reason", reason)));
        let mut json = json!({
            "protocol": name,
            "policy": policy,
            "mode": self.mode.name(),
            "bytes": payload.len(),
            "reason": reason,
        });
        if free {
            json["free_bytes"] = json!({ "worked": worked, "plain": plain, "rare": rare });
        }
        match protocol {
            DetectedProtocol::Unknown => Answer::no(json, lines(rows)),
            _ => Answer::yes(json, lines(rows)),
        }
    }
}

fn policy_name(policy: RoutingPolicy) -> &'static str {
    match policy {
        RoutingPolicy::Free => "Free",
        RoutingPolicy::PaymentRequired => "PaymentRequired",
        RoutingPolicy::Refused => "Refused",
    }
}
